// SPDX-License-Identifier: GPL-2.0
/*
 * A device that goes on, and a new page table that takes over from the inherited
 * one. A transfer is on its way when the machine reboots. In the next kernel
 * nobody but its VMM gets at the device; the VMM builds an IOAS in which one page
 * is wrong, and FINISH refuses it; what is right takes over.
 *
 * ilu.end=close: what is staged stays wrong, and the session is closed. ilu.end=moved:
 * something in the next kernel is in the place of the device's BAR. ilu.dev is the device, ilu.bridge a bridge above it, ilu.api=session uses a
 * session, ilu.rounds is how often.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SESSION "vmm"

#define SRC_OFF		0x3000		/* RAM: what is on its way at the jump */
#define LAND_OFF	0x201000	/* BIG: where that lands */
#define PAGE_OFF	0x40000		/* RAM: the page that will be wrong */
#define PAGE		0x1000

static char dev_bdf[16], bridge_bdf[16];
static char how[16];
static const char *session;

static uint32_t seed_of(int round)
{
	return 0x300 + round;
}

/* ---- outgoing kernel --------------------------------------------------------- */

static uint32_t bar0(void)
{
	return config_read16(dev_bdf, PCI_BASE_ADDRESS_0) |
	       (uint32_t)config_read16(dev_bdf, PCI_BASE_ADDRESS_0 + 2) << 16;
}

static void set_bar0(uint32_t val)
{
	config_write16(dev_bdf, PCI_BASE_ADDRESS_0, val);
	config_write16(dev_bdf, PCI_BASE_ADDRESS_0 + 2, val >> 16);
}

static void check_moved_is_refused(int round, const char *extra)
{
	uint32_t bar = bar0();

	if (load_next_kernel(round + 1, extra))
		give_up("kexec_file_load");
	set_bar0(bar + MIB(1));
	log_mark();
	refused(start_next_kernel(), ESTALE, "a reboot after a BAR was moved");
	verdict(log_count("BAR 0 was", dev_bdf + 5), "the log names device and BAR",
		"it does not");
	set_bar0(bar);
}

static void leave(int round, const char *extra)
{
	static struct vmm vmm;
	struct keeper k;
	char args[160];
	int ret;

	vmm_start(&vmm, "vmm", dev_bdf, seed_of(round));
	verdict(vmm_dma_works(&vmm), "before the update the device reaches its VMM's memory",
		"bytes did not arrive");
	keeper_open(&k, session);
	keep_device(&k, &vmm);
	verdict(vmm_dma_works(&vmm), "a preserved device goes on doing DMA",
		"bytes did not arrive");

	check_moved_is_refused(round, extra);
	snprintf(args, sizeof(args), "%s", extra);
	if (!strcmp(how, "moved"))
		snprintf(args, sizeof(args), "%s reserve=%#x,0x100000", extra,
			 bar0() & ~0xf);
	ret = load_next_kernel(round + 1, args);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	if (!session)
		works(luo_prepare(k.luo), "PREPARE succeeds");
	edu_read(&vmm.edu, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	say("operator", "reboots with a transfer on its way");
	edu_start_write(&vmm.edu, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

/* ---- incoming kernel: before anybody claims ------------------------------------ */

/* The device as it runs, without its VMM. Goes to memory that is compared later. */
static bool dma_translated(void)
{
	struct edu dev;

	log_mark();
	edu_map_raw(&dev, dev_bdf);
	edu_read(&dev, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	edu_write(&dev, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	edu_unmap_raw(&dev);
	return !faults_of(dev_bdf, 20);
}

static void check_running(const char *after)
{
	context(after);
	verdict(config_read16(dev_bdf, PCI_COMMAND) & PCI_COMMAND_MASTER,
		"the device is still a bus master", "it is not");
	verdict(dma_translated(), "the device's DMA is translated",
		"it faults");
	context(NULL);
}

static void first_look(void)
{
	uint16_t cmd = config_read16(dev_bdf, PCI_COMMAND);

	verdict(cmd & PCI_COMMAND_MASTER,
		"the device has never stopped to be a bus master",
		"its command register is %#x", cmd);
	verdict(cmd & PCI_COMMAND_INTX_DISABLE,
		"the device's interrupt is off", "its command register is %#x", cmd);
	if (bridge_bdf[0]) {
		cmd = config_read16(bridge_bdf, PCI_COMMAND);
		verdict(cmd & PCI_COMMAND_MASTER,
			"the bridge above it has never stopped to be a bus master",
			"its command register is %#x", cmd);
	}
}

static void check_nobody_else(void)
{
	struct vmm other = { .name = "other" };

	verdict(bound_to(dev_bdf, "vfio-pci"), "vfio-pci is bound by itself",
		"it is not");
	log_mark();
	refused(bind_driver(dev_bdf, NATIVE), EBUSY,
		"binding a driver that uses the DMA API to a running device");
	check_running("after a native driver tried");

	snprintf(other.edu.bdf, sizeof(other.edu.bdf), "%s", dev_bdf);
	if (iommufd_open(&other) || vfio_open_device(&other))
		give_up("vfio-pci does not bind again");
	log_mark();
	refused(vfio_bind(&other), EBUSY,
		"binding a running device through a file that was not preserved");
	verdict(log_count("live update", dev_bdf + 5), "that is logged with the device's name",
		"it is not");
	close(other.dev);
	close(other.iommufd);
	check_running("after somebody else opened it");

	log_mark();
	refused(remove_device(dev_bdf), EBUSY, "removing a running device");
}

/* ---- incoming kernel: the VMM ---------------------------------------------------- */

static void check_reset(struct vmm *vmm)
{
	int ret;

	log_mark();
	ret = reset_device(dev_bdf);
	if (ret == -ENOENT) {
		skip("the device has no reset");
		return;
	}
	refused(ret, EBUSY, "a reset through sysfs");
	verdict(log_count("reset", dev_bdf + 5), "that is logged with the device's name",
		"it is not");
	refused(vfio_reset(vmm), EBUSY, "a reset through VFIO");
	check_running("after a reset was refused");
}

static void check_foreign(struct vmm *vmm)
{
	struct vmm foreign = *vmm;

	if (iommufd_open(&foreign))
		give_up("opening /dev/iommu");
	log_mark();
	refused(vfio_bind(&foreign), EPERM, "binding it to a foreign iommufd");
	verdict(log_count("iommufd that it was preserved with", dev_bdf + 5),
		"that is logged with the device's name", "it is not");
	close(foreign.iommufd);
	check_running("after a foreign iommufd tried");
}

/* RAM in three pieces, of which the second is one page. */
static void map_pieces(struct vmm *vmm)
{
	uint64_t after = PAGE_OFF + PAGE;

	if (vfio_bind(vmm) || vfio_map_bar(vmm) || ioas_alloc(vmm) ||
	    ioas_map_file(vmm, &vmm->ram, 0, RAM_IOVA, PAGE_OFF) ||
	    ioas_map_file(vmm, &vmm->ram, after, RAM_IOVA + after, RAM_LEN - after) ||
	    ioas_map_file(vmm, &vmm->big, 0, BIG_IOVA, BIG_LEN) ||
	    hwpt_alloc(vmm, 0))
		give_up("the VMM cannot build its IOAS again");
}

static void expect_refusal(struct keeper *k, struct vmm *vmm, int err,
			   const char *what)
{
	static const struct range changed[] = { { PAGE_OFF, EDU_BUF_LEN } };
	char promise[128];

	log_mark();
	snprintf(promise, sizeof(promise), "FINISH with %s", what);
	refused(keeper_finish(k), err, promise);
	snprintf(promise, sizeof(promise), "IOVA %#llx", RAM_IOVA + PAGE_OFF);
	verdict(log_count(promise, dev_bdf + 5),
		"the log names the device and the first IOVA", "it does not");

	/* Into that page, as it was in the kernel before. */
	edu_read(&vmm->edu, RAM_IOVA + LOAD_OFF, 0, EDU_BUF_LEN);
	edu_write(&vmm->edu, 0, RAM_IOVA + PAGE_OFF, EDU_BUF_LEN);
	verdict(is_pattern(vmm->ram.va + PAGE_OFF, EDU_BUF_LEN, vmm->ram.seed, LOAD_OFF) &&
			mem_first_difference(&vmm->ram, changed, 1) < 0,
		"DMA goes on into the old memory", "bytes did not arrive there");
	fill_pattern(vmm->ram.va + PAGE_OFF, EDU_BUF_LEN, vmm->ram.seed, PAGE_OFF);
}

static void check_refused_finish(struct keeper *k, struct vmm *vmm)
{
	uint64_t iova = RAM_IOVA + PAGE_OFF;

	works(ioas_map_file(vmm, &vmm->ram, PAGE_OFF + PAGE, iova, PAGE),
	      "what is staged can be mapped");
	expect_refusal(k, vmm, EXDEV, "one page mapped elsewhere");
	works(ioas_unmap(vmm, iova, PAGE), "what is staged can be unmapped after that");
	expect_refusal(k, vmm, ENOENT, "one page missing");
	works(ioas_map_file_ro(vmm, &vmm->ram, PAGE_OFF, iova, PAGE),
	      "what is staged can be mapped after that");
	expect_refusal(k, vmm, EACCES, "fewer rights to one page");
	works(ioas_unmap(vmm, iova, PAGE), "the VMM corrects it");
	works(ioas_map_file(vmm, &vmm->ram, PAGE_OFF, iova, PAGE), "the VMM maps it right");
}

static void check_stages(struct vmm *vmm)
{
	uint32_t first = vmm->hwpt;

	works(vfio_attach(vmm, vmm->hwpt), "the device can be attached to a new HWPT");
	check_running("after the first attach");
	if (hwpt_alloc(vmm, 0))
		give_up("allocating a second HWPT");
	works(vfio_attach(vmm, vmm->hwpt), "what is attached can be replaced");
	works(iommufd_destroy(vmm, first), "the first HWPT is not in use after that");
	works(vfio_detach(vmm), "the device can be detached");
	check_running("after it was detached");
	works(vfio_attach(vmm, vmm->hwpt), "and attached again");
}

/* The new page table is what hardware uses: what the VMM unmaps is not reached. */
static void check_new_table(struct vmm *vmm)
{
	unsigned int faults;

	log_mark();
	verdict(vmm_dma_works(vmm) && !faults_of(dev_bdf, 20),
		"after FINISH the device reaches its VMM's memory",
		"bytes did not arrive");
	works(ioas_unmap(vmm, RAM_IOVA + PAGE_OFF, PAGE), "after FINISH unmapping works");
	edu_write(&vmm->edu, 0, RAM_IOVA + PAGE_OFF, FAULT_LEN);
	faults = faults_of(dev_bdf, 1000);
	verdict(faults, "and what is unmapped is not reached any more",
		"no fault was logged");
	verdict(vmm_dma_works(vmm), "while the rest is", "bytes did not arrive");
	verdict(mem_first_difference(&vmm->ram, NULL, 0) < 0,
		"no byte of the memory is wrong", "RAM differs at %#lx",
		mem_first_difference(&vmm->ram, NULL, 0));
}

/* Closed with a page missing: stopped, and then attached as any device is. */
static void close_wrong(struct keeper *k, struct vmm *vmm)
{
	uint16_t cmd;

	log_mark();
	close(k->session);
	verdict(luo_state(k->luo) == LIVEUPDATE_STATE_NORMAL,
		"closing the session leads to the state normal", "it is '%s'",
		luo_state_name(luo_state(k->luo)));
	verdict(!(config_read16(dev_bdf, PCI_COMMAND) & PCI_COMMAND_MASTER),
		"a device whose page table cannot take over is stopped",
		"it is a bus master");
	verdict(log_count("is revoked", dev_bdf + 5), "that is logged with the device's name",
		"it is not");
	if (vfio_config(vmm, false, PCI_COMMAND, &cmd, 2))
		give_up("reading the command register");
	cmd |= PCI_COMMAND_MASTER;
	if (vfio_config(vmm, true, PCI_COMMAND, &cmd, 2))
		give_up("writing the command register");
	verdict(vmm_dma_works(vmm), "it uses the new page table after that",
		"bytes did not arrive");
	edu_write(&vmm->edu, 0, RAM_IOVA + PAGE_OFF, FAULT_LEN);
	verdict(faults_of(dev_bdf, 1000), "in which the page is missing",
		"no fault was logged");
	k->session = -1;
}

/* Its BAR is elsewhere, and so would be what its VMM writes to it. */
static void refuse_moved(void)
{
	struct keeper k;
	int fd;

	verdict(log_count("BAR 0 was", dev_bdf + 5), "the log names device and BAR",
		"it does not");
	verdict(!(config_read16(dev_bdf, PCI_COMMAND) & PCI_COMMAND_MASTER),
		"a device whose BAR has moved is stopped", "it is a bus master");
	keeper_reopen(&k, session);
	fd = get_back(&k, (uint64_t)seed_of(1) << 4 | 3);
	refused(fd, ESTALE, "getting the file of a device whose BAR has moved");
	works(keeper_finish(&k), "FINISH succeeds all the same");
	if (k.session >= 0)
		close(k.session);
	close(k.luo);
}

static void arrive(int round)
{
	static const struct range landed[] = { { LAND_OFF, EDU_BUF_LEN } };
	static struct vmm vmm;
	struct keeper k;

	if (!strcmp(how, "moved")) {
		refuse_moved();
		return;
	}
	first_look();
	check_running("before anything else");
	check_nobody_else();

	keeper_reopen(&k, session);
	vmm_come_back(&vmm, &k, "vmm", dev_bdf, seed_of(round));
	verdict(is_pattern(vmm.big.va + LAND_OFF, EDU_BUF_LEN, vmm.ram.seed, SRC_OFF),
		"the transfer that was on its way has landed", "it is lost");
	verdict(mem_first_difference(&vmm.big, landed, 1) < 0 &&
			mem_first_difference(&vmm.ram, NULL, 0) < 0,
		"no other byte changed", "RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(&vmm.ram, NULL, 0),
		mem_first_difference(&vmm.big, landed, 1));
	fill_pattern(vmm.big.va + LAND_OFF, EDU_BUF_LEN, vmm.big.seed, LAND_OFF);

	check_foreign(&vmm);
	map_pieces(&vmm);
	check_reset(&vmm);
	check_stages(&vmm);
	if (!strcmp(how, "close")) {
		close_wrong(&k, &vmm);
		goto out;
	}
	check_refused_finish(&k, &vmm);
	log_mark();
	works(keeper_finish(&k), "the corrected FINISH succeeds");
	say("operator", "FINISH");
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL,
		"FINISH leads to the state normal", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	verdict(log_count("goes on with the page table of this kernel", dev_bdf + 5),
		"the log says that the new page table took over", "it does not");
	check_new_table(&vmm);
out:
	if (k.session >= 0)
		close(k.session);
	close(k.luo);
	vmm_close(&vmm);
}

void scen_takeover(int stage)
{
	int rounds = param_nr("rounds", 1);
	char extra[96];

	snprintf(dev_bdf, sizeof(dev_bdf), "%s", param("dev", DEV_BDF));
	snprintf(bridge_bdf, sizeof(bridge_bdf), "%s", param("bridge", ""));
	snprintf(how, sizeof(how), "%s", param("end", "finish"));
	session = strcmp(param("api", "direct"), "session") ? NULL : SESSION;
	if (stage > 1)
		arrive(stage - 1);
	unbind_driver(dev_bdf);
	check_pages(stage, extra, sizeof(extra));
	if (stage <= rounds)
		leave(stage, extra);
}
