// SPDX-License-Identifier: GPL-2.0
/*
 * A device with ATS goes on: its buffers are filled while the kernel is replaced, ATS
 * stays enabled all the time, and with the new page table its device TLB is
 * invalidated, which QEMU's trace tells. ilu.dev is a virtio-rng-pci that fills a buffer
 * every few tenths of a second.
 *
 * ilu.end=noats: the next kernel does not use ATS, and the device is blocked.
 * ilu.end=damaged: nor does it, as the device's PASID table entry is damaged.
 * ilu.end=reset: the device's file is not preserved; VFIO resets the device before FINISH.
 */
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"

#define SEED	0x81
/* All buffers, and more */
#define WAIT_MS	60000

/* Anything that firmware and kernel do not write there */
#define FINISHED_MARK	0x5a

static const char *bdf, *how;
static bool damaged;

/* Where its control register is */
static unsigned int ats_control(void)
{
	unsigned int pos = PCI_CFG_SPACE_SIZE;
	uint16_t id, next;

	while (pos) {
		id = config_read16(bdf, pos);
		next = config_read16(bdf, pos + 2) >> 4;
		if (id == PCI_EXT_CAP_ID_ATS)
			return pos + PCI_ATS_CTRL;
		pos = next;
	}
	give_up("%s has no ATS", bdf);
}

static bool ats_enabled(void)
{
	return config_read16(bdf, ats_control()) & PCI_ATS_CTRL_ENABLE;
}

static void leave(void)
{
	static struct vmm vmm;
	struct virtio_rng rng;
	struct keeper k;
	int ret;

	vmm_start(&vmm, "vmm", bdf, SEED);
	virtio_rng_find(&rng, &vmm);
	virtio_rng_start(&rng);
	virtio_rng_post(&rng);
	verdict(virtio_rng_filled(&vmm, WAIT_MS),
		"before the update the device reaches its VMM's memory",
		"%u buffers were not filled", virtio_rng_pending(&vmm));
	verdict(ats_enabled(), "ATS is enabled", "it is not");
	keeper_open(&k, NULL);
	if (strcmp(how, "reset"))
		keep_device(&k, &vmm);
	else
		keep_vmm(&k, &vmm);
	if (load_next_kernel(2, !strcmp(how, "noats") ? "pci=noats" :
			     damaged ? "ilu.damage=vtd.table,ones,1" : NULL))
		give_up("kexec_file_load");
	works(luo_prepare(k.luo), "PREPARE succeeds");
	say("device", "%s: control register of ATS at %#x", bdf, ats_control());
	virtio_rng_post(&rng);
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

static void arrive_without_ats(void)
{
	static struct vmm vmm;
	struct keeper k;
	unsigned int n;

	verdict(log_count(damaged ? "it uses ATS, and entries of it were damaged" :
			  "it uses ATS, which this kernel does not", bdf),
		"the log says why a device with ATS is blocked", "it does not");
	keeper_reopen(&k, NULL);
	vmm_retrieve(&vmm, &k, "vmm", bdf, SEED);
	n = virtio_rng_pending(&vmm);
	verdict(n && !virtio_rng_filled(&vmm, 3000) && virtio_rng_pending(&vmm) == n,
		"it does not reach memory any more", "%u buffers are pending, were %u",
		virtio_rng_pending(&vmm), n);
	works(keeper_finish(&k), "FINISH succeeds");
	verdict(!log_complaint(), "the kernel's log has no warning", "%s", log_complaint());
}

static void arrive_to_reset(void)
{
	static struct vmm vmm;
	struct virtio_rng rng;
	struct keeper k;

	keeper_reopen(&k, NULL);
	vmm_retrieve(&vmm, &k, "vmm", bdf, SEED);
	log_mark();
	works(vfio_open_device(&vmm), "the device can be opened before FINISH");
	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "a device that was reset is attached at once");
	verdict(log_count("has been reset, it does not go on", bdf + 5),
		"that is logged with the device's name", "it is not");
	virtio_rng_find(&rng, &vmm);
	virtio_rng_start(&rng);
	virtio_rng_post(&rng);
	verdict(virtio_rng_filled(&vmm, WAIT_MS), "it fills buffers before FINISH",
		"%u buffers are not", virtio_rng_pending(&vmm));
	works(keeper_finish(&k), "FINISH succeeds");
	virtio_rng_post(&rng);
	verdict(virtio_rng_filled(&vmm, WAIT_MS), "and after FINISH",
		"%u buffers are not", virtio_rng_pending(&vmm));
	verdict(!log_complaint(), "the kernel's log has no warning", "%s", log_complaint());
	vmm_close(&vmm);
}

static void arrive(void)
{
	static struct vmm vmm;
	struct virtio_rng rng;
	struct keeper k;
	unsigned int n;

	verdict(ats_enabled(), "ATS is still enabled in the new kernel", "it is not");
	log_mark();
	keeper_reopen(&k, NULL);
	vmm_come_back(&vmm, &k, "vmm", bdf, SEED);
	n = virtio_rng_pending(&vmm);
	say("vmm", "%u of %u buffers have been filled meanwhile", RNG_BUFFERS - n,
	    RNG_BUFFERS);
	verdict(n, "the device is still filling buffers", "it was too fast for this test");
	verdict(virtio_rng_filled(&vmm, WAIT_MS),
		"all that was posted before the jump is filled",
		"%u buffers are not", virtio_rng_pending(&vmm));
	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "the device is attached to a new HWPT");
	works(keeper_finish(&k), "FINISH succeeds");
	/* For who reads QEMU's trace: from here on everything may happen */
	config_write16(OTHER_BDF, PCI_INTERRUPT_LINE, FINISHED_MARK);
	verdict(log_count("goes on with the page table of this kernel", bdf + 5),
		"the new page table took over", "the log does not say so");
	verdict(ats_enabled(), "ATS is enabled after FINISH", "it is not");
	virtio_rng_find(&rng, &vmm);
	virtio_rng_post(&rng);
	verdict(virtio_rng_filled(&vmm, WAIT_MS), "after FINISH the device fills buffers",
		"%u buffers are not", virtio_rng_pending(&vmm));
	verdict(!faults_of(bdf, 20), "the device causes no IOMMU fault", "it does");
	verdict(!log_complaint(), "the kernel's log has no warning", "%s", log_complaint());
	vmm_close(&vmm);
}

void scen_ats(int stage)
{
	static char dev[16], end[16];

	snprintf(dev, sizeof(dev), "%s", param("dev", DEV_BDF));
	bdf = dev;
	snprintf(end, sizeof(end), "%s", param("end", "finish"));
	how = end;
	damaged = !strcmp(how, "damaged");
	if (stage == 1)
		leave();
	if (!strcmp(how, "noats") || damaged)
		arrive_without_ats();
	else if (!strcmp(how, "reset"))
		arrive_to_reset();
	else
		arrive();
}
