// SPDX-License-Identifier: GPL-2.0
/*
 * What the subsystems hand over is damaged on the way. The next kernel finds
 * translation on and no record of it: it has to boot, the device must not reach any
 * memory, and after that everything can be used.
 */
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SEED 0x91

static void leave(void)
{
	static struct vmm vmm;
	struct keeper k;

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	keeper_open(&k, NULL);
	keep_vmm(&k, &vmm);
	if (write_file("/sys/kernel/debug/liveupdate_test/corrupt", "1"))
		give_up("this kernel cannot damage what is handed over");
	jump(2, NULL);
}

static void arrive(void)
{
	struct edu dev;
	struct mem big;
	int luo, fd;

	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA, FAULT_LEN);
	edu_close_raw(&dev);
	verdict(faults_of(DEV_BDF, 3000) > 0,
		"without a valid record the device's DMA faults",
		"no fault was logged");

	luo = luo_open();
	if (luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-luo));
	fd = luo_fd_restore(luo, SEED << 4 | 2);
	if (works(fd < 0 ? fd : 0, "the memfd comes back")) {
		mem_adopt(&big, fd, BIG_LEN, SEED | 0x8000);
		verdict(is_pattern(big.va, FAULT_LEN, big.seed, 0),
			"without a valid record the device changes nothing",
			"bytes changed");
		mem_close(&big);
	}
	works(luo_finish(luo, LUO_ABANDON), "FINISH succeeds");
	close(luo);
	check_device_is_free();
}

void scen_damaged(int stage)
{
	if (stage == 1)
		leave();
	arrive();
}
