// SPDX-License-Identifier: GPL-2.0
/*
 * PASIDs of a device go on, each with its own page table, and each page table is compared
 * and takes over by itself. With ilu.rid_pasid=1 in a kernel with tests/pasid/edu.patch,
 * and a QEMU that is old enough, what the edu device does is done for PASID 1: ilu.dma=1
 * says that this is so, and its DMA tells what becomes of the PASID. The page table of the
 * device itself translates none of it. What hardware walks is compared in any case.
 * ilu.second is another PASID, which should be in another PASID table, or 0.
 *
 * ilu.end=unclaimed: nothing is attached to PASID 1 in the new kernel. ilu.end=stopped:
 * nobody comes back for the device. ilu.end=damaged: nor then, and the record of the
 * domain of one of the PASIDs is damaged. ilu.next is what is added to the command line of
 * the next kernel.
 */
#include <errno.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SEED		0x91
#define PASID		1
#define OWN_IOVA	MIB(256)
#define LAND_OFF	0x201000	/* BIG */
#define SRC_OFF		0x3000		/* RAM */
#define PAGE_OFF	0x40000		/* RAM: the page that will be missing */
#define PAGE		0x1000
#define FINISHING_MARK	0x5b
#define FINISHED_MARK	0x5a

/* The VMM's page tables; ioas and hwpt are their own */
static struct vmm own, pasid, pasid2;
static uint32_t second;
static bool unclaimed, damaged, dma;

static void must(int ret, const char *what)
{
	if (ret)
		give_up("%s: %s", what, strerror(-ret));
}

static struct pasid_entry live_entry(uint32_t nr)
{
	return pasid_entry(DEV_BDF, nr);
}

static bool same(struct pasid_entry a, struct pasid_entry b)
{
	return a.text[0] && !strcmp(a.text, b.text);
}

static void map_memory(struct vmm *vmm)
{
	must(ioas_map_file(vmm, &vmm->ram, 0, RAM_IOVA, RAM_LEN), "mapping RAM");
	must(ioas_map_file(vmm, &vmm->big, 0, BIG_IOVA, BIG_LEN), "mapping BIG");
}

/* Binds the device, and makes and attaches the page table that translates none of it. */
static void attach_own(struct vmm *vmm)
{
	must(vfio_bind(vmm), "binding the device");
	must(vfio_map_bar(vmm), "mapping its BAR");
	must(ioas_alloc(vmm), "IOMMU_IOAS_ALLOC");
	must(ioas_map_file(vmm, &vmm->ram, 0, OWN_IOVA, RAM_LEN), "mapping RAM");
	must(hwpt_alloc(vmm, IOMMU_HWPT_ALLOC_PASID), "IOMMU_HWPT_ALLOC");
	works(vfio_attach(vmm, vmm->hwpt), "the device is attached");
}

static void make_pasids(void)
{
	pasid = own;
	must(ioas_alloc(&pasid), "IOMMU_IOAS_ALLOC");
	map_memory(&pasid);
	must(hwpt_alloc(&pasid, IOMMU_HWPT_ALLOC_PASID), "IOMMU_HWPT_ALLOC");
	pasid2 = pasid;
	must(hwpt_alloc(&pasid2, IOMMU_HWPT_ALLOC_PASID), "IOMMU_HWPT_ALLOC");
}

static void attach_second(const char *promise)
{
	if (second)
		works(vfio_attach_pasid(&own, second, pasid2.hwpt), promise);
}

static void check_dma(const char *promise)
{
	if (dma)
		verdict(vmm_dma_works(&own), promise, "bytes did not arrive");
}

/* ---- outgoing kernel --------------------------------------------------------- */

/* Detaching can't be refused. The PASID drops out, what it was preserved with does not. */
static void detach_one(struct keeper *k)
{
	uint32_t nr = second ?: PASID;
	struct vmm *vmm = second ? &pasid2 : &pasid;
	char text[64];

	log_mark();
	works(vfio_detach_pasid(&own, nr), "a preserved PASID can be detached");
	snprintf(text, sizeof(text), "PASID %u will not be handed over", nr);
	verdict(log_count(text, DEV_BDF), "that is logged with device and PASID",
		"it is not");
	if (second)
		check_dma("DMA with the other PASID goes on");
	works(luo_fd_unpreserve(k->luo, own.token | 3), "the device can be unpreserved");
	works(luo_fd_unpreserve(k->luo, own.token), "and the iommufd");
	works(vfio_attach_pasid(&own, nr, vmm->hwpt), "then the PASID is attached again");
	works(keep(k, own.token, own.iommufd), "the iommufd can be preserved again");
	works(keep(k, own.token | 3, own.dev), "and the device");
}

static void leave(void)
{
	char extra[256];
	struct keeper k;
	int ret;

	vmm_create(&own, "vmm", DEV_BDF, SEED);
	attach_own(&own);
	make_pasids();
	works(vfio_attach_pasid(&own, PASID, pasid.hwpt), "a PASID is attached");
	attach_second("a second PASID is attached");
	check_dma("DMA with the PASID reaches the VMM's memory");

	keeper_open(&k, NULL);
	keep_memory(&k, &own);
	must(vfio_detach(&own), "detaching the device");
	refused(keep(&k, own.token, own.iommufd), EADDRINUSE,
		"preserving a device of which only PASIDs are attached");
	must(vfio_attach(&own, own.hwpt), "attaching the device");
	works(keep(&k, own.token, own.iommufd), "the iommufd can be preserved");
	works(keep(&k, own.token | 3, own.dev), "and the device");
	refused(vfio_attach_pasid(&own, (second ?: PASID) + 1, pasid2.hwpt), EBUSY,
		"attaching another PASID of a preserved device");
	detach_one(&k);

	snprintf(extra, sizeof(extra), "ilu.first_entry=%s ilu.second_entry=%s %s",
		 live_entry(PASID).text, second ? live_entry(second).text : "",
		 param("next", ""));
	must(load_next_kernel(2, extra), "kexec_file_load");
	works(luo_prepare(k.luo), "PREPARE succeeds");
	edu_read(&own.edu, (dma ? RAM_IOVA : OWN_IOVA) + SRC_OFF, 0, EDU_BUF_LEN);
	if (dma)
		edu_start_write(&own.edu, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

/* ---- incoming kernel --------------------------------------------------------- */

static bool dma_translated(void)
{
	struct edu dev;

	log_mark();
	edu_map_raw(&dev, DEV_BDF);
	edu_read(&dev, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	edu_write(&dev, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	edu_unmap_raw(&dev);
	return !faults_of(DEV_BDF, 20);
}

/* With bus mastering forced on */
static bool dma_faults(void)
{
	struct edu dev;

	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA + LAND_OFF, FAULT_LEN);
	edu_close_raw(&dev);
	return faults_of(DEV_BDF, 200);
}

static void check_inherited(const char *when)
{
	struct pasid_entry entry;

	context(when);
	snprintf(entry.text, sizeof(entry.text), "%s", param("first_entry", ""));
	verdict(same(live_entry(PASID), entry), "the entry of the PASID is as it was",
		"%s, was %s", live_entry(PASID).text, entry.text);
	if (second) {
		snprintf(entry.text, sizeof(entry.text), "%s", param("second_entry", ""));
		verdict(same(live_entry(second), entry),
			"the entry of the second PASID is as it was", "%s, was %s",
			live_entry(second).text, entry.text);
	}
	if (dma)
		verdict(dma_translated(), "DMA with the PASID is translated", "it faults");
	context(NULL);
}

/* What nobody claims is not compared: if it's the first, the second is to be wrong. */
static void refuse_missing_page(struct keeper *k)
{
	must(ioas_unmap(&pasid, RAM_IOVA, RAM_LEN), "unmapping RAM");
	must(ioas_map_file(&pasid, &pasid.ram, 0, RAM_IOVA, PAGE_OFF), "mapping RAM");
	must(ioas_map_file(&pasid, &pasid.ram, PAGE_OFF + PAGE, RAM_IOVA + PAGE_OFF + PAGE,
			   RAM_LEN - PAGE_OFF - PAGE), "mapping RAM");
	log_mark();
	refused(keeper_finish(k), ENOENT, "FINISH with one page of a PASID missing");
	verdict(log_count("IOVA 0x1040000 is not mapped any more", "PASID "),
		"that is logged with PASID and IOVA", "it is not");
	check_inherited("after a refused FINISH");
	must(ioas_map_file(&pasid, &pasid.ram, PAGE_OFF, RAM_IOVA + PAGE_OFF, PAGE),
	     "mapping the page");
}

static void check_taken_over(uint32_t nr, const char *entry)
{
	struct pasid_entry was, is = live_entry(nr);
	char text[80];

	snprintf(was.text, sizeof(was.text), "%s", param(entry, ""));
	snprintf(text, sizeof(text), "PASID %u goes on with the page table of this kernel", nr);
	verdict(log_count(text, DEV_BDF), "the page table of a PASID took over",
		"the log does not say so");
	verdict(is.text[0] && !same(was, is), "its entry has another page table", "%s",
		is.text);
}

static void use_pasid(void)
{
	check_dma("after FINISH DMA with the PASID goes on");
	must(ioas_unmap(&pasid, BIG_IOVA, BIG_LEN), "unmapping BIG");
	if (dma) {
		log_mark();
		edu_write(&own.edu, 0, BIG_IOVA + LAND_OFF, FAULT_LEN);
		verdict(faults_of(DEV_BDF, 200),
			"and what is unmapped is not reached any more", "it is");
	}
	must(ioas_map_file(&pasid, &pasid.big, 0, BIG_IOVA, BIG_LEN), "mapping BIG");
	works(vfio_detach_pasid(&own, PASID), "the PASID can be detached");
	verdict(!live_entry(PASID).text[0], "then it has no entry", "it has");
	works(vfio_attach_pasid(&own, PASID, pasid2.hwpt), "and attached to another HWPT");
	check_dma("of which DMA uses the page table then");
}

static void check_revoked(void)
{
	verdict(log_count("inherited translation of PASID 1 is revoked", DEV_BDF),
		"a PASID for which nothing is attached is revoked",
		"the log does not say so");
	verdict(!live_entry(PASID).text[0], "it has no entry any more", "it has");
	if (dma) {
		fill_pattern(own.big.va + LAND_OFF, FAULT_LEN, own.big.seed, LAND_OFF);
		log_mark();
		edu_write(&own.edu, 0, BIG_IOVA + LAND_OFF, FAULT_LEN);
		verdict(faults_of(DEV_BDF, 200), "its DMA faults", "it does not");
		verdict(is_pattern(own.big.va + LAND_OFF, FAULT_LEN, own.big.seed, LAND_OFF),
			"its DMA changes nothing", "bytes changed");
	}
	works(vfio_attach_pasid(&own, PASID, pasid.hwpt), "it can be attached after that");
	check_dma("DMA with it works then");
}

static void arrive(void)
{
	struct keeper k;

	check_inherited("after the jump");
	keeper_reopen(&k, NULL);
	vmm_come_back(&own, &k, "vmm", DEV_BDF, SEED);
	if (dma)
		verdict(is_pattern(own.big.va + LAND_OFF, EDU_BUF_LEN, own.ram.seed, SRC_OFF),
			"the transfer that was on its way has landed",
			"the memory does not hold it");
	attach_own(&own);
	make_pasids();
	if (second)
		refused(vfio_attach_pasid(&own, PASID + 1, pasid.hwpt), EBUSY,
			"attaching a PASID that was not inherited");
	if (!unclaimed) {
		works(vfio_attach_pasid(&own, PASID, pasid2.hwpt), "the PASID is attached");
		works(vfio_detach_pasid(&own, PASID), "and detached again");
		works(vfio_attach_pasid(&own, PASID, pasid.hwpt), "and attached to another HWPT");
	}
	attach_second("the second PASID is attached");
	check_inherited("when it is attached");
	if (second || !unclaimed)
		refuse_missing_page(&k);
	log_mark();
	/* For who reads QEMU's trace */
	config_write16(OTHER_BDF, PCI_INTERRUPT_LINE, FINISHING_MARK);
	works(keeper_finish(&k), "FINISH succeeds");
	config_write16(OTHER_BDF, PCI_INTERRUPT_LINE, FINISHED_MARK);
	if (second)
		check_taken_over(second, "second_entry");
	if (unclaimed) {
		check_revoked();
	} else {
		check_taken_over(PASID, "first_entry");
		use_pasid();
	}
	verdict(!log_complaint(), "the kernel's log has no warning", "%s", log_complaint());
	vmm_close(&own);
}

static void check_damaged(void)
{
	bool lost1 = log_count("cannot take over what PASID 1 inherited", DEV_BDF);

	verdict(lost1 || (second && log_count("cannot take over what PASID ", DEV_BDF)),
		"the log names a PASID that cannot go on", "it does not");
	verdict(!!live_entry(PASID).text[0] != lost1, "it has no entry any more",
		"PASID 1 has %s", live_entry(PASID).text);
	if (second)
		verdict(!!live_entry(second).text[0] == lost1,
			"the other one has the entry that it had", "PASID %u has %s", second,
			live_entry(second).text);
	if (dma)
		verdict(dma_faults(), "DMA with it faults", "it does not");
}

static void arrive_alone(void)
{
	struct keeper k;

	if (damaged)
		check_damaged();
	else
		check_inherited("after the jump");
	keeper_reopen(&k, NULL);
	log_mark();
	works(keeper_finish(&k), "FINISH succeeds without the VMM");
	verdict(log_count("its inherited translation is revoked", DEV_BDF),
		"the device is revoked", "the log does not say so");
	verdict(!live_entry(PASID).text[0] && !(second && live_entry(second).text[0]),
		"no PASID has an entry any more", "one has");
	verdict(!(config_read16(DEV_BDF, PCI_COMMAND) & PCI_COMMAND_MASTER),
		"the device is stopped", "it is a bus master");
	if (dma)
		verdict(dma_faults(), "its DMA with a PASID faults", "it does not");
	works(bind_driver(DEV_BDF, NATIVE), "another driver can have the device");
	unbind_driver(DEV_BDF);
	close(k.luo);
}

void scen_pasid(int stage)
{
	const char *end = param("end", "finish");

	unclaimed = !strcmp(end, "unclaimed");
	damaged = !strcmp(end, "damaged");
	dma = param_nr("dma", 0);
	second = param_nr("second", 0);
	if (stage == 1)
		leave();
	if (damaged || !strcmp(end, "stopped"))
		arrive_alone();
	else
		arrive();
}
