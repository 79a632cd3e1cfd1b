// SPDX-License-Identifier: GPL-2.0
/*
 * One VMM lives through ilu.rounds live updates with a transfer on its way in each.
 * Another one comes up anew in each kernel; now it comes back, now it is killed before
 * the reboot, and now the operator cancels first, or its file is taken out and put in
 * again. What is left behind is counted in each kernel when the first VMM is the only
 * one: page table pages, memory that nobody gave back, pages that KHO has, and slabs.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define SEED		0x711
#define OTHER_SEED	0x800	/* and the round */
#define SRC_OFF		0x3000		/* RAM: what is on its way at the jump */
#define LAND_OFF	0x201000	/* BIG: where that lands */

enum way { PLAIN, CANCEL, KILLED, AGAIN, NR_WAYS };

static const char *const way_names[] = {
	"as it comes", "after a CANCEL", "with the other VMM killed", "with its file taken out once",
};

static const struct range changes[] = { { LAND_OFF, EDU_BUF_LEN } };

static enum way way_of(int round)
{
	return round % NR_WAYS;
}

/* ---- counting ------------------------------------------------------------------------ */

struct counts {
	long tables, secondary, memory, kho, slab;
};

static struct counts count_leaks(void)
{
	struct counters now;

	write_file("/proc/sys/vm/drop_caches", "3");
	now = count_all();
	return (struct counts) {
		.tables = now.pages.iommu,
		.secondary = now.pages.secondary,
		.memory = mem_total_kib() / 4,
		.kho = now.kho,
		.slab = meminfo_kib("SUnreclaim:") / 4,
	};
}

/*
 * Against the second kernel of the chain: the first one was not started by a live
 * update. Slabs differ a bit from boot to boot, so that goes by the whole chain.
 */
static void check_counts(int stage, char *extra, size_t len)
{
	struct counts now = count_leaks(), then;
	long n = stage - 2, slab;

	if (stage > 2) {
		if (sscanf(param("counts", ""), "%ld:%ld:%ld:%ld:%ld", &then.tables,
			   &then.secondary, &then.memory, &then.kho, &then.slab) != 5)
			give_up("ilu.counts is missing");
		verdict(now.tables == then.tables && now.secondary == then.secondary,
			"no page table page is left behind", "%ld+%ld, %ld+%ld before",
			now.tables, now.secondary, then.tables, then.secondary);
		verdict(now.memory == then.memory, "no page of memory is missing",
			"%ld, %ld before", now.memory, then.memory);
		verdict(now.kho == then.kho && now.kho >= 0, "KHO keeps no page",
			"%ld, %ld before", now.kho, then.kho);
		slab = now.slab - then.slab;
		verdict(slab < 64 + n / 2, "slabs do not grow", "%ld pages in %ld updates",
			slab, n);
		say("leaks", "%ld updates: %ld table pages, %ld of memory, %ld of KHO, slabs %+ld (%+.2f an update)",
		    n, now.tables + now.secondary - then.tables - then.secondary,
		    then.memory - now.memory, now.kho - then.kho, slab, (double)slab / n);
		snprintf(extra, len, "ilu.counts=%s", param("counts", ""));
	} else {
		snprintf(extra, len, "ilu.counts=%ld:%ld:%ld:%ld:%ld", now.tables,
			 now.secondary, now.memory, now.kho, now.slab);
	}
}

/* ---- outgoing kernel ------------------------------------------------------------------- */

static void leave(struct vmm *vmm, int round, const char *extra)
{
	struct keeper k, other;
	pid_t pid;
	int ret;

	keeper_open(&k, "vmm");
	keeper_create(&other, k.luo, "other");
	keep_device(&k, vmm);
	if (way_of(round) == AGAIN) {
		/* Nobody else has the session yet: closing it takes all out */
		close(k.session);
		keeper_create(&k, k.luo, "vmm");
		keep_device(&k, vmm);
	}
	pid = vmm_start_child(&other, "other", OTHER_BDF, OTHER_SEED + round);

	switch (way_of(round)) {
	case CANCEL:
		works(luo_prepare(k.luo), "PREPARE succeeds");
		works(luo_cancel(k.luo), "CANCEL succeeds");
		break;
	case KILLED:
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		break;
	default:
		break;
	}
	verdict(vmm_dma_works(vmm), "a preserved device goes on doing DMA",
		"bytes did not arrive (%s)", way_names[way_of(round)]);
	ret = load_next_kernel(round + 1, extra);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	works(luo_prepare(k.luo), "PREPARE succeeds");
	say("operator", "update %d, %s", round, way_names[way_of(round)]);
	edu_read(&vmm->edu, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	edu_start_write(&vmm->edu, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

/* ---- incoming kernel ---------------------------------------------------------------------- */

static void attach_and_finish(struct vmm *vmm, struct keeper *k)
{
	vmm_build(vmm);
	works(vfio_attach(vmm, vmm->hwpt), "the device is attached again");
	works(session_finish(k->session), "its session finishes");
	close(k->session);
	verdict(vmm_dma_works(vmm), "and it goes on", "bytes of %s did not arrive",
		vmm->edu.bdf);
}

static void check_landed(struct vmm *vmm)
{
	verdict(is_pattern(vmm->big.va + LAND_OFF, EDU_BUF_LEN, vmm->ram.seed, SRC_OFF),
		"what was on its way has landed", "it has not");
	verdict(mem_first_difference(&vmm->ram, NULL, 0) < 0 &&
			mem_first_difference(&vmm->big, changes, 1) < 0,
		"no other byte changed", "RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(&vmm->ram, NULL, 0),
		mem_first_difference(&vmm->big, changes, 1));
	fill_pattern(vmm->big.va + LAND_OFF, EDU_BUF_LEN, vmm->big.seed, LAND_OFF);
}

static void end_other(struct keeper *k, int round)
{
	static struct vmm vmm;

	if (way_of(round) == KILLED) {
		close(k->session);
		verdict(!(config_read16(OTHER_BDF, PCI_COMMAND) & PCI_COMMAND_MASTER),
			"a device that nobody claimed is stopped", "it is still a bus master");
		return;
	}
	vmm_come_back(&vmm, k, "other", OTHER_BDF, OTHER_SEED + round);
	attach_and_finish(&vmm, k);
	vmm_close(&vmm);
}

static void arrive(struct vmm *vmm, int round)
{
	struct keeper k, other;

	log_mark();
	keeper_reopen(&k, "vmm");
	keeper_retrieve(&other, k.luo, "other");
	vmm_come_back(vmm, &k, "vmm", DEV_BDF, SEED);
	check_landed(vmm);
	attach_and_finish(vmm, &k);
	end_other(&other, round);
	verdict(!faults_of(DEV_BDF, 20), "the device that lives on causes no IOMMU fault",
		"there are some in the log");
	close(k.luo);
	unbind_driver(OTHER_BDF);
}

void scen_soak(int stage)
{
	static struct vmm vmm;
	char extra[160] = "";

	if (stage == 1) {
		vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	} else {
		arrive(&vmm, stage - 1);
		check_counts(stage, extra, sizeof(extra));
	}
	if (stage <= param_nr("rounds", 4))
		leave(&vmm, stage, extra);
	vmm_close(&vmm);
	unbind_driver(DEV_BDF);
}
