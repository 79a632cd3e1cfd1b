// SPDX-License-Identifier: GPL-2.0
/*
 * Images whose command line would lose what is handed over. Who asks is told before
 * the jump, PREPARE and the reboot are refused, and everything works on. Once nothing
 * is preserved any more the last one is started, as an ordinary kexec.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SEED 0xa1

static struct vmm vmm;

static const struct {
	const char *next;
	int err;		/* what the check says */
	unsigned int flags;
} images[] = {
	{ "kho=off", ENOPROTOOPT },
	{ "kho=0", ENOPROTOOPT },
	{ "kho=n", ENOPROTOOPT },
	{ "kho=on kho=off", ENOPROTOOPT },
	{ "kho=off kho=junk", ENOPROTOOPT },
	{ "\"kho=off\"", ENOPROTOOPT },
	{ "kho=\"off\"", ENOPROTOOPT },
	{ "mem=512M", ENOPROTOOPT },
	{ "memmap=16M$0x10000000", ENOPROTOOPT },
	/* The last one counts, and what is no bool doesn't. */
	{ "kho=off kho=on", 0, LIVEUPDATE_IMAGE_LIVEUPDATE_ON },
	{ "kho=junk", 0, LIVEUPDATE_IMAGE_LIVEUPDATE_ON },
	{ "kho", 0, LIVEUPDATE_IMAGE_LIVEUPDATE_ON },
	/* Not the kernel's */
	{ "skho=off", 0, LIVEUPDATE_IMAGE_LIVEUPDATE_ON },
	{ "ilu.text=\"kho=on kho=off\"", 0, LIVEUPDATE_IMAGE_LIVEUPDATE_ON },
	{ "-- kho=off", 0, LIVEUPDATE_IMAGE_LIVEUPDATE_ON },
	/* As this kernel was started, see the test */
	{ "mem=4G", 0, LIVEUPDATE_IMAGE_LIVEUPDATE_ON },
	{ "liveupdate=on liveupdate=off", 0, 0 },
	{ "liveupdate", 0, 0 },
};

static void load(const char *next)
{
	int ret = load_next_kernel(2, next);

	if (ret)
		give_up("kexec_file_load with %s: %s", next, strerror(-ret));
}

static void check_works_on(struct keeper *k, int state)
{
	verdict(log_count("of the loaded kexec image", NULL), "the log has the reason",
		"it has not");
	log_mark();
	verdict(luo_state(k->luo) == state, "the state is what it was before",
		"it is '%s'", luo_state_name(luo_state(k->luo)));
	verdict(vmm_dma_works(&vmm), "DMA goes on", "bytes did not arrive");
}

static void check_image(struct keeper *k, unsigned int i)
{
	unsigned int flags = ~0;
	int ret;

	context(images[i].next);
	load(images[i].next);
	ret = luo_check_image(k->luo, &flags);
	if (images[i].err) {
		refused(ret, images[i].err, "an image with that on its command line");
		check_works_on(k, LIVEUPDATE_STATE_NORMAL);
		refused(luo_prepare(k->luo), images[i].err, "PREPARE");
		check_works_on(k, LIVEUPDATE_STATE_NORMAL);
		refused(start_next_kernel(), images[i].err, "the reboot");
		check_works_on(k, LIVEUPDATE_STATE_NORMAL);
	} else {
		verdict(!ret && flags == images[i].flags,
			"an image with that on its command line takes over",
			"%s, flags %#x", strerror(-ret), flags);
		works(luo_prepare(k->luo), "PREPARE succeeds");
		works(luo_cancel(k->luo), "and CANCEL");
	}
	context(NULL);
}

static void leave(void)
{
	struct keeper k;
	unsigned int i;

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	keeper_open(&k, NULL);
	keep_vmm(&k, &vmm);
	log_mark();
	refused(luo_check_image(k.luo, &i), ENOENT, "asking for an image when none is loaded");
	for (i = 0; i < ARRAY_SIZE(images); i++)
		check_image(&k, i);

	load("kho=on");
	works(luo_prepare(k.luo), "PREPARE succeeds with an image that takes over");
	load("kho=off");
	log_mark();
	context("prepared before");
	refused(start_next_kernel(), ENOPROTOOPT, "the reboot");
	check_works_on(&k, LIVEUPDATE_STATE_PREPARED);
	context(NULL);
	works(luo_cancel(k.luo), "CANCEL succeeds");

	works(luo_fd_unpreserve(k.luo, vmm.token), "unpreserving all of it succeeds");
	luo_fd_unpreserve(k.luo, vmm.ram.token);
	luo_fd_unpreserve(k.luo, vmm.big.token);
	say("operator", "reboots with kho=off, with nothing preserved");
	start_next_kernel();
	give_up("the reboot was refused");
}

void scen_image(int stage)
{
	if (stage == 1)
		leave();
	verdict(luo_open() == -ENOENT,
		"when nothing is preserved a kernel with kho=off is started",
		"there is a /dev/liveupdate");
}
