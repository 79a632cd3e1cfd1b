// SPDX-License-Identifier: GPL-2.0
/*
 * Devices are pulled out of their slots, and nobody was asked: while they are preserved,
 * when it is prepared, and in the next kernel before and after their VMM has them back.
 * What was theirs ends, and a device in no slot goes through all of it.
 *
 * A root port of QEMU lets its device go at once when the power of its slot is turned
 * off. That is written past the kernel, which gets to know when the power is on again.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define STEADY_SEED	0xc0

/* Each has a VMM and a session. */
static const struct slot {
	const char *name, *port, *bdf;
	uint32_t seed;
} preserved_one = { "preserved", "0000:00:14.0", "0000:01:00.0", 0xc1 },
  prepared_one = { "prepared", "0000:00:15.0", "0000:02:00.0", 0xc2 },
  restored_one = { "restored", "0000:00:16.0", "0000:03:00.0", 0xc3 },
  claimed_one = { "claimed", "0000:00:17.0", "0000:04:00.0", 0xc4 };

static struct vmm steady;

static bool is_there(const char *bdf)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
	return !access(path, F_OK);
}

/* @luo: The kernel is asked to PREPARE before it is told, if that is not -1 */
static void pull(const struct slot *slot, int luo, const char *line)
{
	unsigned int control = find_capability(slot->port, PCI_CAP_ID_EXP) + PCI_EXP_SLTCTL;
	uint16_t normal = config_read16(slot->port, control);
	unsigned int ms;

	log_mark();
	say("operator", "pulls %s out", slot->bdf + 5);
	config_write16(slot->port, control, (normal & ~PCI_EXP_SLTCTL_HPIE) |
		       PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF);
	if (luo >= 0)
		refused(luo_prepare(luo), ENODEV, "PREPARE with a device that does not respond");
	config_write16(slot->port, control, normal);
	for (ms = 0; ms < 5000 && !log_count(line, slot->bdf); ms += 10)
		sleep_ms(10);
	verdict(log_count(line, slot->bdf), "the log says that it was pulled out",
		"it does not");
}

static void check_gone(const struct slot *slot)
{
	unsigned int ms;

	for (ms = 0; ms < 5000 && is_there(slot->bdf); ms += 10)
		sleep_ms(10);
	verdict(!is_there(slot->bdf), "the device is gone when its VMM has closed it",
		"%s is there", slot->bdf);
}

static void check_steady(void)
{
	verdict(vmm_dma_works(&steady), "the device in no slot goes on", "it does not");
}

/* ---- outgoing kernel ---------------------------------------------------------------- */

static void start(struct keeper *k, struct vmm *vmm, int luo, const struct slot *slot)
{
	vmm_start(vmm, slot->name, slot->bdf, slot->seed);
	keeper_create(k, luo, slot->name);
	keep_device(k, vmm);
}

/* The freeze is refused as long as the session has the device, and no longer */
static void pull_preserved(int luo, const struct slot *slot, bool prepared)
{
	struct vmm vmm;
	struct keeper k;

	context(slot->name);
	start(&k, &vmm, luo, slot);
	if (prepared)
		works(luo_prepare(luo), "PREPARE succeeds");
	pull(slot, prepared ? -1 : luo, "removed while it was preserved");
	if (!prepared)
		works(luo_prepare(luo), "PREPARE succeeds, the device has dropped out");
	refused(start_next_kernel(), ENODEV, "a reboot");
	works(luo_cancel(luo), "CANCEL succeeds");
	close(k.session);
	vmm_close(&vmm);
	check_gone(slot);
	works(luo_prepare(luo), "PREPARE succeeds without it");
	works(luo_cancel(luo), "CANCEL succeeds then");
	check_steady();
	context(NULL);
}

static void leave(void)
{
	static struct vmm restored, claimed;
	struct keeper k, kr, kc;
	int ret;

	vmm_start(&steady, "steady", DEV_BDF, STEADY_SEED);
	keeper_open(&k, "steady");
	keep_device(&k, &steady);
	ret = load_next_kernel(2, NULL);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	pull_preserved(k.luo, &preserved_one, false);
	pull_preserved(k.luo, &prepared_one, true);
	start(&kr, &restored, k.luo, &restored_one);
	start(&kc, &claimed, k.luo, &claimed_one);
	jump(2, NULL);
}

/* ---- incoming kernel ----------------------------------------------------------------- */

static void check_memory(struct vmm *vmm)
{
	verdict(mem_first_difference(&vmm->ram, NULL, 0) < 0 &&
			mem_first_difference(&vmm->big, NULL, 0) < 0,
		"no byte of its memory changed",
		"RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(&vmm->ram, NULL, 0),
		mem_first_difference(&vmm->big, NULL, 0));
}

/* Nobody has it yet */
static void pull_restored(int luo, const struct slot *slot)
{
	struct vmm vmm;
	struct keeper k;

	context(slot->name);
	pull(slot, -1, "removed before its live update was finished");
	check_gone(slot);
	keeper_retrieve(&k, luo, slot->name);
	vmm_retrieve(&vmm, &k, slot->name, slot->bdf, slot->seed);
	refused(get_back(&k, vmm.token | 3), ENODEV, "giving back the device file");
	check_memory(&vmm);
	works(session_finish(k.session), "FINISH succeeds without the device");
	close(k.session);
	close(vmm.iommufd);
	check_steady();
	context(NULL);
}

/* Its VMM is about to finish */
static void pull_claimed(int luo, const struct slot *slot)
{
	struct vmm vmm;
	struct keeper k;

	context(slot->name);
	keeper_retrieve(&k, luo, slot->name);
	vmm_come_back(&vmm, &k, slot->name, slot->bdf, slot->seed);
	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "the device is attached again");
	pull(slot, -1, "removed before its live update was finished");
	check_memory(&vmm);
	works(session_finish(k.session), "FINISH succeeds without the device");
	close(k.session);
	vmm_close(&vmm);
	check_gone(slot);
	check_steady();
	context(NULL);
}

static void arrive(void)
{
	struct keeper k;

	keeper_reopen(&k, "steady");
	vmm_come_back(&steady, &k, "steady", DEV_BDF, STEADY_SEED);
	vmm_build(&steady);
	works(vfio_attach(&steady, steady.hwpt), "the device in no slot is attached again");
	check_steady();
	pull_restored(k.luo, &restored_one);
	pull_claimed(k.luo, &claimed_one);
	works(session_finish(k.session), "the last session finishes");
	close(k.session);
	check_steady();
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL, "the state is 'normal' in the end",
		"it is '%s'", luo_state_name(luo_state(k.luo)));
	vmm_close(&steady);
	unbind_driver(DEV_BDF);
	close(k.luo);
}

void scen_removed(int stage)
{
	if (stage == 1)
		leave();
	arrive();
}
