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
static long kho;	/* pages that KHO preserves, before what may be refused */

static void expect_kho(void)
{
	kho = kho_preserved_pages();
}

/* @kept: KHO's pages are those of expect_kho() */
static void check_kept(const char *after, bool kept)
{
	context(after);
	verdict(vmm_dma_works(&vmm), "after the refusal DMA works as before",
		"bytes did not arrive");
	if (kept)
		verdict(kho_preserved_pages() == kho,
			"after the refusal KHO preserves what it did before",
			"%ld pages, %ld before", kho_preserved_pages(), kho);
	context(NULL);
}

static void check_unharmed(const char *after)
{
	check_kept(after, false);
}

static void forget_memory(struct keeper *k)
{
	luo_fd_unpreserve(k->luo, vmm.ram.token);
	luo_fd_unpreserve(k->luo, vmm.big.token);
}

/* Both memfds are preserved, but not where the iommufd is to be. */
static void other_session(struct keeper *k)
{
	struct keeper elsewhere;

	keeper_create(&elsewhere, k->luo, "elsewhere");
	keep_memory(&elsewhere, &vmm);
	expect_kho();
	refused(keep(k, vmm.token, vmm.iommufd), ENOENT,
		"preserving an iommufd whose memfds are preserved in another session");
	check_kept("other session", true);
	close(elsewhere.session);
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
	expect_kho();
	refused(keep(k, vmm.token, vmm.iommufd), ESTALE,
		"preserving an iommufd that maps pages which are not in their memfd any more");
	check_kept("punched hole", true);
	luo_fd_unpreserve(k->luo, 0x4f4f);
	ioas_unmap(&vmm, ANON_IOVA, holed.len);
	mem_close(&holed);
}

/*
 * Found when all domains and devices have been preserved: a HWPT's token is its
 * object id unless it is set, and may have been given to another one before.
 */
static void same_tokens(struct keeper *k)
{
	struct vmm second = { .iommufd = vmm.iommufd, .ioas = vmm.ioas };
	uint32_t id;

	snprintf(second.edu.bdf, sizeof(second.edu.bdf), "%s", OTHER_BDF);
	if (vfio_open_device(&second) || vfio_bind(&second) ||
	    hwpt_alloc(&second, 0))
		give_up("a second device with a HWPT of its own");
	/* The lowest id that is free is given out next. */
	id = second.hwpt;
	if (iommufd_destroy(&second, id) || hwpt_set_token(&vmm, vmm.hwpt, id) ||
	    hwpt_alloc(&second, 0) || second.hwpt != id ||
	    vfio_attach(&second, id))
		give_up("two HWPTs of one token");
	expect_kho();
	refused(keep(k, vmm.token, vmm.iommufd), EEXIST,
		"preserving an iommufd with two HWPTs of one token");
	check_kept("two tokens", true);
	close(second.dev);
	iommufd_destroy(&second, id);
	hwpt_set_token(&vmm, vmm.hwpt, 0x5005);
}

/* A device that another part of the kernel would not let be carried. */
static void device_refused(struct keeper *k, const char *bdf, int err,
			   const char *what, const char *reason)
{
	struct vmm dev = { .name = "other" };

	snprintf(dev.edu.bdf, sizeof(dev.edu.bdf), "%s", bdf);
	if (iommufd_open(&dev) || vfio_open_device(&dev)) {
		verdict(false, what, "%s is not here", bdf);
		return;
	}
	mem_create(&dev.ram, MIB(1), 0x47, false);
	if (vfio_bind(&dev) || ioas_alloc(&dev) ||
	    ioas_map_file(&dev, &dev.ram, 0, RAM_IOVA, dev.ram.len) ||
	    hwpt_alloc(&dev, 0) || vfio_attach(&dev, dev.hwpt) ||
	    keep(k, 0x4747, dev.ram.fd))
		give_up("attaching %s", bdf);
	expect_kho();
	log_mark();
	refused(keep(k, 0x4748, dev.iommufd), err, what);
	verdict(log_count(reason, bdf), "that is logged with device and reason",
		"no line has '%s' and %s", reason, bdf);
	check_kept(bdf, true);
	luo_fd_unpreserve(k->luo, 0x4747);
	close(dev.dev);
	close(dev.iommufd);
	mem_close(&dev.ram);
	unbind_driver(bdf);
}

#define PORT_BDF	"0000:00:14.0"	/* a root port with a slot */
#define PORT_SLOT	"/sys/bus/pci/slots/1/power"
#define BELOW_BDF	"0000:01:00.0"	/* edu below it */
#define SHARED_BDF	"0000:00:12.0"
/* The ISA bridge, for which VT-d reserves memory in a kernel with a floppy driver. */
#define ISA_BDF		"0000:00:1f.0"

static void other_devices(struct keeper *k)
{
	device_refused(k, SHARED_BDF, EMLINK,
		       "preserving a device that shares its group",
		       "shares its group");
	if (param_nr("isa", 0))
		device_refused(k, ISA_BDF, EPERM,
			       "preserving a device that memory is reserved for",
			       "firmware reserved memory");
}

static void below_a_port(struct keeper *k)
{
	vmm_start(&other, "other", BELOW_BDF, 0x46);
	keep_vmm(k, &other);
	log_mark();
	refused(remove_device(PORT_BDF), EBUSY,
		"removing a port above a preserved device");
	refused(write_file(PORT_SLOT, "0"), EBUSY,
		"turning off the slot of a preserved device");
	verdict(log_count("refusing to remove", BELOW_BDF) >= 2,
		"both are logged with the device's name", "they are not");
	verdict(vmm_dma_works(&other), "after that its DMA goes on",
		"bytes did not arrive");
	luo_fd_unpreserve(k->luo, other.token);
	luo_fd_unpreserve(k->luo, other.ram.token);
	luo_fd_unpreserve(k->luo, other.big.token);
	vmm_close(&other);
	unbind_driver(BELOW_BDF);
	/* Of which lockdep complains in the kernel that the series applies to. */
	if (!param_nr("isa", 0))
		works(write_file(PORT_SLOT, "0"),
		      "when it is not preserved any more its slot can be turned off");
}

static void preserve_refusals(struct keeper *k)
{
	void *anon;

	expect_kho();
	refused(keep(k, vmm.token + 0x2000, vmm.dev), ENOENT,
		"preserving a VFIO device's file");

	refused(keep(k, vmm.token, vmm.iommufd), ENOENT,
		"preserving an iommufd whose memfds are not preserved");
	check_kept("no memfd", true);
	other_session(k);

	if (keep(k, vmm.ram.token, vmm.ram.fd))
		give_up("preserving a memfd");
	expect_kho();
	refused(keep(k, vmm.token, vmm.iommufd), ENOENT,
		"preserving an iommufd of which one memfd is not preserved");
	check_kept("one memfd", true);

	if (keep(k, vmm.big.token, vmm.big.fd))
		give_up("preserving a memfd");
	anon = mmap(NULL, KIB(64), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ioas_map_anon(&vmm, anon, ANON_IOVA, KIB(64)))
		give_up("mapping anonymous memory");
	expect_kho();
	refused(keep(k, vmm.token, vmm.iommufd), EMEDIUMTYPE,
		"preserving an iommufd that maps anonymous memory");
	check_kept("anonymous memory", true);
	ioas_unmap(&vmm, ANON_IOVA, KIB(64));
	punched_hole(k);
	same_tokens(k);
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
	refused(remove_device(DEV_BDF), EBUSY,
		"removing a preserved device from its bus");
	check_unharmed("removal");

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
	log_mark();
	works(luo_prepare(k->luo), "PREPARE succeeds with both");
	if (param_nr("isa", 0))
		verdict(log_count("will not reach its reserved memory", ISA_BDF),
			"PREPARE names the device that will lose reserved memory",
			"it does not");
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
	other_devices(&k);
	below_a_port(&k);
	forget_memory(&k);
	close(k.luo);
	vmm_close(&vmm);
}
