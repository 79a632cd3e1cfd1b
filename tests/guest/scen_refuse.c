// SPDX-License-Identifier: GPL-2.0
/*
 * What preserve refuses, and what a preserved iommufd refuses. Every refusal
 * leaves the old kernel as it was: the device's DMA is checked after each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define ANON_IOVA MIB(128)

static struct vmm vmm, other;

static void check_unharmed(const char *after)
{
	context(after);
	verdict(vmm_dma_works(&vmm), "after the refusal DMA works as before",
		"bytes did not arrive");
	context(NULL);
}

static void forget_memory(struct keeper *k)
{
	luo_fd_unpreserve(k->luo, vmm.ram.token);
	luo_fd_unpreserve(k->luo, vmm.big.token);
}

/* Both memfds are preserved, but not where the iommufd is to be. */
static void other_session(struct keeper *k)
{
	struct keeper elsewhere = {
		.luo = k->luo,
		.session = session_create(k->luo, "elsewhere"),
	};

	keep_memory(&elsewhere, &vmm);
	refused(keep(k, vmm.token, vmm.iommufd), ENOENT,
		"preserving an iommufd whose memfds are preserved in another session");
	close(elsewhere.session);
	check_unharmed("other session");
}

/* The device goes on using the page that was there before the hole. */
static void punched_hole(struct keeper *k)
{
	struct mem holed;

	mem_create(&holed, MIB(1), 0x4f, false);
	if (ioas_map_file(&vmm, &holed, 0, ANON_IOVA, holed.len))
		give_up("mapping a third memfd");
	if (fallocate(holed.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      KIB(64), KIB(4)))
		give_up("punching a hole: %s", strerror(errno));
	holed.va[KIB(64)] = 1;
	if (keep(k, 0x4f4f, holed.fd))
		give_up("preserving a memfd");
	refused(keep(k, vmm.token, vmm.iommufd), EINVAL,
		"preserving an iommufd that maps pages which are not in their memfd any more");
	luo_fd_unpreserve(k->luo, 0x4f4f);
	ioas_unmap(&vmm, ANON_IOVA, holed.len);
	mem_close(&holed);
	check_unharmed("punched hole");
}

static void preserve_refusals(struct keeper *k)
{
	void *anon;

	refused(keep(k, vmm.token + 0x2000, vmm.dev), ENOENT,
		"preserving a VFIO device's file");

	refused(keep(k, vmm.token, vmm.iommufd), ENOENT,
		"preserving an iommufd whose memfds are not preserved");
	check_unharmed("no memfd");
	other_session(k);

	if (keep(k, vmm.ram.token, vmm.ram.fd))
		give_up("preserving a memfd");
	refused(keep(k, vmm.token, vmm.iommufd), ENOENT,
		"preserving an iommufd of which one memfd is not preserved");
	check_unharmed("one memfd");

	if (keep(k, vmm.big.token, vmm.big.fd))
		give_up("preserving a memfd");
	anon = mmap(NULL, KIB(64), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ioas_map_anon(&vmm, anon, ANON_IOVA, KIB(64)))
		give_up("mapping anonymous memory");
	refused(keep(k, vmm.token, vmm.iommufd), EMEDIUMTYPE,
		"preserving an iommufd that maps anonymous memory");
	check_unharmed("anonymous memory");
	ioas_unmap(&vmm, ANON_IOVA, KIB(64));
	punched_hole(k);
}

/* What is attached to a preserved HWPT would not be carried with it. */
static void second_device(void)
{
	struct vmm second = { .iommufd = vmm.iommufd };

	snprintf(second.edu.bdf, sizeof(second.edu.bdf), "%s", OTHER_BDF);
	if (vfio_open_device(&second))
		give_up("opening %s", OTHER_BDF);
	works(vfio_bind(&second),
	      "a second device can be bound to a preserved iommufd");
	refused(vfio_attach(&second, vmm.hwpt), EBUSY,
		"attaching a second device to a preserved HWPT");
	close(second.dev);
	check_unharmed("second device");
}

static void preserved_refusals(struct keeper *k)
{
	uint32_t hwpt = vmm.hwpt;
	int ret;

	works(keep(k, vmm.token, vmm.iommufd),
	      "the same iommufd is preserved once the reason is gone");
	refused(keep(k, vmm.token + 0x1000, vmm.iommufd), EBUSY,
		"preserving an iommufd twice");
	refused(ioas_map_file(&vmm, &vmm.ram, 0, ANON_IOVA, KIB(4)), EBUSY,
		"mapping a memfd into a preserved IOAS");
	refused(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), EBUSY,
		"unmapping from a preserved IOAS");
	refused(iommufd_destroy(&vmm, vmm.hwpt), EBUSY,
		"destroying a preserved HWPT");
	refused(hwpt_set_token(&vmm, vmm.hwpt, 0x77), EBUSY,
		"changing the token of a preserved HWPT");
	check_unharmed("preserved");

	/* Another HWPT on the same IOAS would be a second user of the mappings. */
	ret = hwpt_alloc(&vmm, 0);
	if (!ret) {
		refused(vfio_attach(&vmm, vmm.hwpt), EBUSY,
			"replacing the HWPT of a preserved device");
		iommufd_destroy(&vmm, vmm.hwpt);
	} else {
		refused(ret, EBUSY, "allocating an HWPT on a preserved IOAS");
	}
	vmm.hwpt = hwpt;
	check_unharmed("replace");
	second_device();
}

/* A second iommufd, with a device of its own, is preserved beside the first. */
static void two_iommufds(struct keeper *k)
{
	vmm_start(&other, "other", OTHER_BDF, 0x42);
	keep_vmm(k, &other);
	verdict(vmm_dma_works(&vmm) && vmm_dma_works(&other),
		"two iommufds can be preserved in one session",
		"bytes did not arrive");
	works(luo_prepare(k->luo), "PREPARE succeeds with both");
	works(luo_cancel(k->luo), "CANCEL succeeds with both");
	works(luo_fd_unpreserve(k->luo, other.token),
	      "one of them can be unpreserved");
	verdict(vmm_dma_works(&vmm) && vmm_dma_works(&other),
		"after that both devices do DMA", "bytes did not arrive");
	refused(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), EBUSY,
		"unmapping from the one that is still preserved");
	works(ioas_unmap(&other, BIG_IOVA, BIG_LEN),
	      "unmapping from the one that is not");
	luo_fd_unpreserve(k->luo, other.ram.token);
	luo_fd_unpreserve(k->luo, other.big.token);
	vmm_close(&other);
}

/* Detaching can't be refused: closing the device's file does it as well. */
static void detach(struct keeper *k)
{
	log_mark();
	works(vfio_detach(&vmm), "a preserved device can be detached");
	verdict(log_count("detached while it was preserved", DEV_BDF),
		"that is logged with the device's name", "it is not");
	refused(vfio_attach(&vmm, vmm.hwpt), EBUSY,
		"attaching it to the preserved HWPT again");
	works(luo_fd_unpreserve(k->luo, vmm.token),
	      "its iommufd can be unpreserved");
	works(vfio_attach(&vmm, vmm.hwpt), "then it can be attached as before");
	check_unharmed("detach");
}

static void tokens(void)
{
	uint32_t first = vmm.hwpt;

	if (hwpt_alloc(&vmm, 0))
		give_up("allocating a second HWPT");
	works(hwpt_set_token(&vmm, first, 0x5005),
	      "an HWPT's token can be set");
	refused(hwpt_set_token(&vmm, vmm.hwpt, 0x5005), EEXIST,
		"setting the same token on another HWPT");
	refused(hwpt_set_token(&vmm, vmm.ioas, 0x5006), ENOENT,
		"setting a token on what is no HWPT");
	iommufd_destroy(&vmm, vmm.hwpt);
	vmm.hwpt = first;
}

void scen_refuse(int stage)
{
	struct keeper k;

	(void)stage;
	vmm_start(&vmm, "vmm", DEV_BDF, 0x41);
	keeper_open(&k, NULL);
	tokens();
	preserve_refusals(&k);
	preserved_refusals(&k);
	two_iommufds(&k);
	detach(&k);
	forget_memory(&k);
	close(k.luo);
	vmm_close(&vmm);
}
