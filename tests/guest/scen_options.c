// SPDX-License-Identifier: GPL-2.0
/*
 * The next kernel is started with ilu.next ("liveupdate=off", "intel_iommu=off"),
 * and acts on what it was handed all the same: the preserved device's DMA doesn't
 * fault, the other's does. QEMU's trace says that translation was never off.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SEED 0x71
#define LANDS_OFF 0x201000

static void leave(void)
{
	static struct vmm vmm, other;
	struct keeper k;
	char next[64], *p;

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	vmm_start(&other, "other", OTHER_BDF, SEED + 1);
	verdict(vmm_dma_works(&vmm) && vmm_dma_works(&other),
		"before the update both devices reach their VMM's memory",
		"bytes did not arrive");
	keeper_open(&k, NULL);
	keep_vmm(&k, &vmm);
	works(luo_prepare(k.luo), "PREPARE succeeds");
	snprintf(next, sizeof(next), "%s", param("next", "liveupdate=off"));
	for (p = next; *p; p++)
		if (*p == ',')
			*p = ' ';
	jump(2, next);
}

static void arrive(void)
{
	struct edu dev, other;
	struct mem big;
	int luo, fd;

	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA + LANDS_OFF, EDU_BUF_LEN);
	edu_close_raw(&dev);
	say("device", "%s wrote %llu bytes at IOVA %#llx", DEV_BDF + 5,
	    EDU_BUF_LEN, BIG_IOVA + LANDS_OFF);
	edu_open_raw(&other, OTHER_BDF);
	edu_write(&other, 0, BIG_IOVA + LANDS_OFF, FAULT_LEN);
	edu_close_raw(&other);
	say("other", "%s tried the same", OTHER_BDF + 5);

	luo = luo_open();
	if (!strcmp(param("next", "liveupdate=off"), "liveupdate=off"))
		verdict(luo == -ENOENT, "with liveupdate=off there is no /dev/liveupdate",
			"%s", luo < 0 ? strerror(-luo) : "there is");
	if (luo < 0) {
		say("kernel",
		    "there is no /dev/liveupdate here: nobody can take the memory back");
		return;
	}
	fd = luo_fd_restore(luo, SEED << 4 | 2);
	if (!works(fd < 0 ? fd : 0, "the memfd comes back"))
		return;
	mem_adopt(&big, fd, BIG_LEN, SEED | 0x8000);
	verdict(is_pattern(big.va + LANDS_OFF, EDU_BUF_LEN, SEED, LOAD_OFF),
		"DMA of the preserved device lands in the preserved memfd",
		"the memfd does not hold it");
	works(luo_finish(luo, false), "FINISH succeeds");
	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA, FAULT_LEN);
	edu_close_raw(&dev);
	verdict(is_pattern(big.va, FAULT_LEN, big.seed, 0),
		"after FINISH an unclaimed device's DMA changes nothing",
		"bytes changed");
	close(luo);
	mem_close(&big);
}

void scen_options(int stage)
{
	if (stage == 1)
		leave();
	arrive();
}
