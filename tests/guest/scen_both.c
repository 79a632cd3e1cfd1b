// SPDX-License-Identifier: GPL-2.0
/*
 * Two VMMs in one session. FINISH finds the page table of the second one wrong when it has
 * compared that of the first: nothing is done for either. Then it is put right.
 *
 * ilu.end=crash: before FINISH the second one closes its device, as if it had crashed.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define FIRST_SEED	0xd1
#define SECOND_SEED	0xd2

static struct vmm first, second;

static void check_both(const char *promise)
{
	verdict(vmm_dma_works(&first) && vmm_dma_works(&second), promise,
		"bytes did not arrive");
}

static void leave(void)
{
	struct keeper k;

	vmm_start(&first, "first", DEV_BDF, FIRST_SEED);
	vmm_start(&second, "second", OTHER_BDF, SECOND_SEED);
	keeper_open(&k, "both");
	keep_device(&k, &first);
	keep_device(&k, &second);
	check_both("before the update both devices reach their VMM's memory");
	jump(2, NULL);
}

static unsigned int taken_over(void)
{
	return log_count("goes on with the page table of this kernel", "live update");
}

/* The file stays open until FINISH lets go of it, and with it all that was attached. */
static void crash(struct keeper *k)
{
	struct edu dev;

	vmm_close_device(&second);
	verdict(vmm_dma_works(&first), "the first device goes on", "bytes did not arrive");
	works(session_finish(k->session), "FINISH succeeds");
	verdict(taken_over() == 2 && vmm_dma_works(&first),
		"the first device goes on with its next page table", "it does not");
	verdict(!(config_read16(OTHER_BDF, PCI_COMMAND) & PCI_COMMAND_MASTER),
		"the second device is stopped", "it is a bus master");
	log_mark();
	edu_open_raw(&dev, OTHER_BDF);
	edu_write(&dev, 0, BIG_IOVA, FAULT_LEN);
	edu_close_raw(&dev);
	verdict(faults_of(OTHER_BDF, 1000) && mem_first_difference(&second.big, NULL, 0) < 0,
		"and reaches nothing any more", "no fault, or BIG differs at %#lx",
		mem_first_difference(&second.big, NULL, 0));
}

static void put_right(struct keeper *k)
{
	works(ioas_unmap(&second, BIG_IOVA, BIG_LEN), "the second VMM can unmap");
	refused(session_finish(k->session), ENOENT, "FINISH with a range of the second missing");
	verdict(!taken_over(), "neither page table has taken over", "%u have", taken_over());
	check_both("after that both devices go on with what they inherited");
	/* Which could not be done if FINISH still held on to it */
	works(ioas_unmap(&first, BIG_IOVA, BIG_LEN), "the first VMM can unmap");
	refused(session_finish(k->session), ENOENT, "FINISH with a range of both missing");
	if (ioas_map_file(&first, &first.big, 0, BIG_IOVA, BIG_LEN) ||
	    ioas_map_file(&second, &second.big, 0, BIG_IOVA, BIG_LEN))
		give_up("mapping BIG again");
	works(session_finish(k->session), "FINISH succeeds when all is mapped again");
	verdict(taken_over() == 2, "both page tables have taken over", "%u have",
		taken_over());
	check_both("both devices go on with them");
}

static void arrive(void)
{
	struct keeper k;

	keeper_reopen(&k, "both");
	vmm_come_back(&first, &k, "first", DEV_BDF, FIRST_SEED);
	vmm_come_back(&second, &k, "second", OTHER_BDF, SECOND_SEED);
	vmm_build(&first);
	vmm_build(&second);
	works(vfio_attach(&first, first.hwpt), "the first device is attached again");
	works(vfio_attach(&second, second.hwpt), "the second device is attached again");
	log_mark();
	if (!strcmp(param("end", "finish"), "crash"))
		crash(&k);
	else
		put_right(&k);
	close(k.session);
	close(k.luo);
	vmm_close(&first);
	vmm_close(&second);
	unbind_driver(DEV_BDF);
	unbind_driver(OTHER_BDF);
}

void scen_both(int stage)
{
	if (stage == 1)
		leave();
	arrive();
}
