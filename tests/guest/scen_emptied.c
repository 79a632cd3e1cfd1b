// SPDX-License-Identifier: GPL-2.0
/*
 * After PREPARE everything that was preserved is given up again. The reboot goes on,
 * as what was prepared is handed over; but no unit is kept on for it (QEMU's trace
 * tells), and the next kernel only has to be told to finish.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

static void leave(void)
{
	static struct vmm vmm;
	struct keeper k;

	vmm_start(&vmm, "vmm", DEV_BDF, 0xb1);
	keeper_open(&k, "vmm");
	keep_vmm(&k, &vmm);
	works(luo_prepare(k.luo), "PREPARE succeeds");
	close(k.session);
	say("vmm", "closed its session after PREPARE");
	verdict(vmm_dma_works(&vmm), "after that DMA works", "bytes did not arrive");
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), "and unmapping works");
	close(k.luo);
	jump(2, NULL);
}

static void arrive(void)
{
	int luo = luo_open();

	if (luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-luo));
	verdict(luo_state(luo) == LIVEUPDATE_STATE_UPDATED,
		"the state is updated, as somebody said PREPARE", "it is '%s'",
		luo_state_name(luo_state(luo)));
	works(luo_finish(luo, false), "FINISH succeeds with nothing to finish");
	verdict(luo_state(luo) == LIVEUPDATE_STATE_NORMAL,
		"FINISH leads to the state normal", "it is '%s'",
		luo_state_name(luo_state(luo)));
	close(luo);
	check_device_is_free();
}

void scen_emptied(int stage)
{
	if (stage == 1)
		leave();
	arrive();
}
