// SPDX-License-Identifier: GPL-2.0
/*
 * Reboots that fail, and after each of them everything works on: into an image that
 * carries no KHO, with a handler that fails its freeze after all IOMMU state was
 * frozen, and with every memory allocation of the reboot failing once, until one gets
 * through. What runs after that is the next kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SEED 0x81
#define LANDS_OFF 0x201000
#define MAX_FAILURES 200

static struct vmm vmm;

static void check_works_on(struct keeper *k, int state, const char *after,
			   const char *reason)
{
	context(after);
	verdict(log_count(reason, NULL), "the kernel's log has the reason",
		"no line has '%s'", reason);
	log_mark();
	verdict(vmm_dma_works(&vmm), "after the refused reboot DMA goes on",
		"bytes did not arrive");
	verdict(luo_state(k->luo) == state,
		"after the refused reboot the state is what it was before",
		"it is '%s'", luo_state_name(luo_state(k->luo)));
	refused(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), EBUSY,
		"unmapping from an IOAS that is still preserved");
	context(NULL);
}

static void image_without_kho(struct keeper *k)
{
	int ret = load_image_without_kho();

	if (ret == -ENOSYS) {
		skip("this kernel has no kexec_load()");
		return;
	}
	if (ret)
		give_up("kexec_load: %s", strerror(-ret));
	ret = start_next_kernel();
	refused(ret, ENOEXEC, "rebooting into an image that carries no KHO");
	unload_image();
	check_works_on(k, LIVEUPDATE_STATE_NORMAL, "image without KHO",
		       "carries no KHO");
}

#define TEST_FAIL "/sys/kernel/debug/liveupdate_test/fail"
#define TEST_FILE "/sys/kernel/debug/liveupdate_test/file"
#define TEST_REGISTER "/sys/kernel/debug/liveupdate_test/register"
#define TEST_TOKEN 0xf11e

/* A file that is preserved after the iommufd, and so frozen after it. */
static void file_fails(struct keeper *k)
{
	int fd = open(TEST_FILE, O_RDWR | O_CLOEXEC);

	if (fd < 0 || write(fd, "id 1", 4) != 4 || keep(k, TEST_TOKEN, fd))
		give_up("preserving a file of the test facility");
	write_file(TEST_FAIL, "f1:freeze -71");
	refused(start_next_kernel(), EPROTO,
		"a reboot for which a file fails its freeze");
	check_works_on(k, LIVEUPDATE_STATE_NORMAL, "failed freeze of a file",
		       "Freeze failed");
	write_file(TEST_FAIL, "\n");
	works(luo_fd_unpreserve(k->luo, TEST_TOKEN),
	      "after a failed reboot that file can be unpreserved");
	close(fd);
}

/* Nothing keeps the VMM from going on as if there had never been a live update. */
static void take_back_and_preserve_again(struct keeper *k, long kho)
{
	works(luo_fd_unpreserve(k->luo, vmm.token),
	      "after a failed reboot the iommufd can be unpreserved");
	works(luo_fd_unpreserve(k->luo, vmm.ram.token), "and its memory");
	works(luo_fd_unpreserve(k->luo, vmm.big.token), "all of it");
	verdict(kho_preserved_pages() == kho,
		"after that no page is left preserved in KHO", "%ld, %ld before",
		kho_preserved_pages(), kho);
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN),
	      "after a failed reboot and unpreserve unmapping works");
	works(ioas_map_file(&vmm, &vmm.big, 0, BIG_IOVA, BIG_LEN),
	      "and mapping works");
	verdict(vmm_dma_works(&vmm), "and DMA reaches what is mapped",
		"bytes did not arrive");
	keep_vmm(k, &vmm);
}

/* What was registered last is frozen last, after the IOMMU driver. */
static void handler_fails(struct keeper *k)
{
	int ret;

	if (write_file(TEST_FAIL, "b:freeze -71")) {
		skip("this kernel has no handler that fails");
		return;
	}
	if (write_file(TEST_REGISTER, "-b") || write_file(TEST_REGISTER, "+b"))
		give_up(TEST_REGISTER);
	ret = load_next_kernel(2, NULL);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	refused(start_next_kernel(), EPROTO,
		"a reboot for which a handler fails its freeze");
	check_works_on(k, LIVEUPDATE_STATE_NORMAL, "failed freeze",
		       "failed to freeze");

	works(luo_prepare(k->luo), "PREPARE succeeds after a failed reboot");
	refused(start_next_kernel(), EPROTO,
		"a reboot for which a handler fails its freeze");
	check_works_on(k, LIVEUPDATE_STATE_PREPARED,
		       "failed freeze of what was prepared",
		       "failed to freeze");
	works(luo_cancel(k->luo), "CANCEL succeeds after a failed reboot");
	write_file(TEST_FAIL, "\n");
	file_fails(k);
}

/* Ends in the next kernel, at the first reboot with fewer allocations than that. */
static void every_allocation_fails(struct keeper *k, int state)
{
	int nth, ret;

	for (nth = 1; nth <= MAX_FAILURES; nth++) {
		ret = load_next_kernel(2, NULL);
		if (ret)
			give_up("kexec_file_load: %s", strerror(-ret));
		fail_allocation(nth);
		ret = start_next_kernel();
		fail_allocation(0);
		say("refused", "reboot with allocation %d failing: %s", nth,
		    strerror(-ret));
		verdict(ret == -ENOMEM,
			"a reboot whose preparation fails returns its error",
			"%s", strerror(-ret));
		check_works_on(k, state, "failed preparation", "-12");
	}
	give_up("%d allocations failed, and there are more", MAX_FAILURES);
}

static void leave(void)
{
	struct keeper k;
	long kho;

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	kho = kho_preserved_pages();
	keeper_open(&k, NULL);
	keep_vmm(&k, &vmm);
	log_mark();
	if (!vmm_dma_works(&vmm))
		give_up("DMA does not work");
	image_without_kho(&k);
	handler_fails(&k);
	take_back_and_preserve_again(&k, kho);
	if (fault_injection())
		every_allocation_fails(&k, LIVEUPDATE_STATE_NORMAL);
	skip("this kernel has no fault injection");
	jump(2, NULL);
}

static void arrive(void)
{
	struct edu dev;
	struct mem big;
	int luo, fd;

	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA + LANDS_OFF, EDU_BUF_LEN);
	edu_close_raw(&dev);
	luo = luo_open();
	if (luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-luo));
	fd = luo_fd_restore(luo, SEED << 4 | 2);
	if (fd < 0)
		give_up("getting the memfd back: %s", strerror(-fd));
	mem_adopt(&big, fd, BIG_LEN, SEED | 0x8000);
	verdict(is_pattern(big.va + LANDS_OFF, EDU_BUF_LEN, SEED, LOAD_OFF),
		"after refused reboots a live update succeeds",
		"the DMA did not land");
	works(luo_finish(luo, false), "FINISH succeeds");
	mem_close(&big);
	close(luo);
}

void scen_freeze(int stage)
{
	if (stage == 1)
		leave();
	arrive();
}
