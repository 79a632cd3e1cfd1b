// SPDX-License-Identifier: GPL-2.0
/*
 * Several VMMs, each with a session of its own, finish at different times. One has
 * two devices that share a HWPT, one has a single device, one is killed before the
 * reboot, while somebody else holds its session, and never comes back. What one does
 * must not touch the others.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define PAIR_BDF	DEV_BDF
#define PAIR2_BDF	"0000:00:12.0"
#define SINGLE_BDF	"0000:00:13.0"
#define GONE_BDF	"0000:00:16.0"

#define PAIR_SEED	0x401
#define SINGLE_SEED	0x402
#define GONE_SEED	0x403

#define LAND_OFF	0x201000	/* BIG: where check_inherited() writes */
#define TRIED_BIT	0x40000		/* RAM: what a revoked device may not change */

/* The second device of a VMM: the same memory and iommufd. */
static void second_device(struct vmm *second, const struct vmm *vmm, const char *bdf)
{
	*second = *vmm;
	second->name = "pair's second";
	second->dev = -1;
	second->edu.bar = NULL;
	snprintf(second->edu.bdf, sizeof(second->edu.bdf), "%s", bdf);
}

/* Does the device, without anybody's help, still get from RAM to BIG? */
static bool dma_translated(const char *bdf)
{
	struct edu dev;

	log_mark();
	edu_map_raw(&dev, bdf);
	edu_read(&dev, RAM_IOVA + LOAD_OFF, 0, EDU_BUF_LEN);
	edu_write(&dev, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	edu_unmap_raw(&dev);
	return !faults_of(bdf, 20);
}

/* ---- outgoing kernel --------------------------------------------------------- */

/* A VMM that preserves what it has and is killed; @k stays with the caller. */
static void killed_vmm(struct keeper *k)
{
	pid_t pid = vmm_start_child(k, "gone", GONE_BDF, GONE_SEED);

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	say("operator", "killed a VMM that had preserved its device");
	verdict(dma_translated(GONE_BDF),
		"the device of a killed VMM goes on if somebody holds its session",
		"its DMA faults");
}

static void leave(void)
{
	static struct vmm pair, pair2, single;
	struct keeper kp, ks, kg;
	int ret;

	vmm_start(&pair, "pair", PAIR_BDF, PAIR_SEED);
	second_device(&pair2, &pair, PAIR2_BDF);
	if (vfio_open_device(&pair2) || vfio_bind(&pair2) ||
	    vfio_map_bar(&pair2) || vfio_attach(&pair2, pair.hwpt))
		give_up("two devices cannot share a HWPT");
	vmm_start(&single, "single", SINGLE_BDF, SINGLE_SEED);

	keeper_open(&kp, "pair");
	keeper_create(&ks, kp.luo, "single");
	keeper_create(&kg, kp.luo, "gone");
	keep_device(&kp, &pair);
	ret = keep(&kp, pair.token | 4, pair2.dev);
	works(ret, "a second device of an iommufd can be preserved");
	keep_device(&ks, &single);
	killed_vmm(&kg);
	verdict(vmm_dma_works(&pair) && vmm_dma_works(&pair2) &&
			vmm_dma_works(&single),
		"before the update the others reach their VMM's memory",
		"bytes did not arrive");
	jump(2, NULL);
}

/* ---- incoming kernel ----------------------------------------------------------- */

static void check_inherited(const char *const *bdfs, unsigned int nr, const char *when)
{
	unsigned int i;

	context(when);
	for (i = 0; i < nr; i++)
		verdict(dma_translated(bdfs[i]) &&
				(config_read16(bdfs[i], PCI_COMMAND) & PCI_COMMAND_MASTER),
			"devices that are not finished go on", "%s does not", bdfs[i]);
	context(NULL);
}

static void finish_single(struct keeper *k)
{
	static const char *const others[] = { PAIR_BDF, PAIR2_BDF, GONE_BDF };
	static struct vmm vmm;

	vmm_come_back(&vmm, k, "single", SINGLE_BDF, SINGLE_SEED);
	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "the single device is attached again");
	works(session_finish(k->session), "its session finishes, before the others");
	close(k->session);
	verdict(vmm_dma_works(&vmm), "and its device goes on", "bytes did not arrive");
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), "its VMM can unmap");
	check_inherited(others, ARRAY_SIZE(others), "after the first FINISH");
	vmm_close(&vmm);
	check_inherited(others, ARRAY_SIZE(others), "after the first VMM ended");
}

static void finish_pair(struct keeper *k)
{
	static const char *const others[] = { GONE_BDF };
	static struct vmm vmm, vmm2;
	uint32_t first;

	vmm_come_back(&vmm, k, "pair", PAIR_BDF, PAIR_SEED);
	vmm_build(&vmm);
	second_device(&vmm2, &vmm, PAIR2_BDF);
	vmm2.dev = session_restore(k->session, vmm.token | 4);
	if (vmm2.dev < 0 || vfio_bind(&vmm2) || vfio_map_bar(&vmm2))
		give_up("the second device does not come back");

	first = vmm.hwpt;
	works(vfio_attach(&vmm, first), "the first of the pair is attached");
	if (hwpt_alloc(&vmm, 0))
		give_up("allocating another HWPT");
	log_mark();
	refused(vfio_attach(&vmm2, vmm.hwpt), EINVAL,
		"attaching the second of the pair to another HWPT");
	verdict(log_count("domain id", PAIR2_BDF), "the log names the clash",
		"it does not");
	works(vfio_attach(&vmm2, first), "it is attached to the same HWPT");

	works(session_finish(k->session), "the session of the pair finishes");
	close(k->session);
	verdict(vmm_dma_works(&vmm) && vmm_dma_works(&vmm2),
		"and both its devices go on", "bytes did not arrive");
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), "its VMM can unmap");
	log_mark();
	edu_write(&vmm.edu, 0, BIG_IOVA, FAULT_LEN);
	edu_write(&vmm2.edu, 0, BIG_IOVA, FAULT_LEN);
	verdict(faults_of(PAIR_BDF, 1000) && faults_of(PAIR2_BDF, 1000),
		"and neither of them reaches what is unmapped", "no fault was logged");
	check_inherited(others, ARRAY_SIZE(others), "after the second FINISH");
	vmm_close_device(&vmm2);
	vmm_close(&vmm);
}

static void close_gone(struct keeper *k)
{
	struct mem ram;
	struct edu dev;
	int fd;

	/* A helper that looks after what the dead leave behind. */
	fd = session_restore(k->session, GONE_SEED << 4 | 1);
	if (fd < 0)
		give_up("getting the memory of the dead VMM back");
	mem_adopt(&ram, fd, RAM_LEN, GONE_SEED);
	close(k->session);
	verdict(!(config_read16(GONE_BDF, PCI_COMMAND) & PCI_COMMAND_MASTER),
		"a device that nobody claimed is stopped when its session is closed",
		"it is still a bus master");
	log_mark();
	edu_open_raw(&dev, GONE_BDF);
	edu_write(&dev, 0, RAM_IOVA + TRIED_BIT, FAULT_LEN);
	edu_close_raw(&dev);
	verdict(faults_of(GONE_BDF, 1000) && mem_first_difference(&ram, NULL, 0) < 0,
		"and reaches nothing any more", "no fault, or RAM differs at %#lx",
		mem_first_difference(&ram, NULL, 0));
	mem_close(&ram);
}

static void arrive(void)
{
	static const char *const all[] = {
		PAIR_BDF, PAIR2_BDF, SINGLE_BDF, GONE_BDF
	};
	struct keeper kp, ks, kg;

	check_inherited(all, ARRAY_SIZE(all), "after boot");
	keeper_reopen(&kp, "pair");
	keeper_retrieve(&ks, kp.luo, "single");
	keeper_retrieve(&kg, kp.luo, "gone");
	finish_single(&ks);
	finish_pair(&kp);
	verdict(luo_state(kp.luo) == LIVEUPDATE_STATE_UPDATED,
		"the state is 'updated' while one session is left", "it is '%s'",
		luo_state_name(luo_state(kp.luo)));
	close_gone(&kg);
	verdict(luo_state(kp.luo) == LIVEUPDATE_STATE_NORMAL,
		"and 'normal' when the last one is closed", "it is '%s'",
		luo_state_name(luo_state(kp.luo)));
	close(kp.luo);
}

void scen_many(int stage)
{
	char extra[96];

	if (stage == 1) {
		check_pages(stage, extra, sizeof(extra));
		leave();
	}
	arrive();
	unbind_driver(PAIR_BDF);
	unbind_driver(PAIR2_BDF);
	unbind_driver(SINGLE_BDF);
	unbind_driver(GONE_BDF);
}
