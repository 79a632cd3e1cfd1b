// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keep PCI devices running over a live update.
 *
 * In the outgoing kernel a device is preserved by whoever preserves its file.
 * It and the bridges above it are kept: pci_device_shutdown() does not turn off
 * their bus mastering, so the device goes on with its DMA through the kexec. Its
 * interrupts are turned off there, as nobody could handle them. What is kept is
 * handed over in a record (linux/kho/abi/pci.h), which is written when the live
 * update is prepared, and written again and checked when it is frozen.
 *
 * In the incoming kernel the record is read before the buses are scanned. A
 * device or bridge that is in it is in restored state from the moment it is
 * found until its live update is finished: it stays in D0, is not reset,
 * is not reconfigured in a way that disturbs its DMA, and a device is bound to
 * no other driver than the recorded one. When resources have been assigned, BARs
 * and bus numbers are compared with the record. A device for which they differ is
 * stopped.
 *
 * Locking: pci_liveupdate_lock protects everything here. It is taken under
 * pci_rescan_remove_lock, the lock of a device, and locks of LUO and VFIO. Under
 * it no lock is taken but those of config space, memory and runtime PM.
 * The restored state of a device is a bit in its priv_flags as well, which
 * pci_liveupdate_restored() reads without the lock: it is set before anybody else
 * knows the device.
 */
#define pr_fmt(fmt) "PCI: liveupdate: " fmt

#include <linux/bitfield.h>
#include <linux/cleanup.h>
#include <linux/crc32.h>
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/pci.h>
#include <linux/list.h>
#include <linux/liveupdate.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "pci.h"

/**
 * struct pci_kept - A device or bridge that is handed over
 * @list: Entry in kept_devices
 * @pdev: The device, with a reference
 * @users: How many preserved devices need it: itself, or those below
 * @lost: It was removed, and is not handed over
 * @ser: What it was like when it was preserved
 */
struct pci_kept {
	struct list_head list;
	struct pci_dev *pdev;
	unsigned int users;
	bool lost;
	struct pci_device_ser ser;
};

/**
 * struct pci_restored - A device or bridge that the previous kernel kept
 * @list: Entry in restored_devices
 * @pdev: The device, with a reference, or NULL as long as it is not found
 * @error: Why nobody may go on with it, or 0
 * @claimed: Its driver goes on with it, so it is not stopped when it is finished
 * @ser: Copy of its record
 */
struct pci_restored {
	struct list_head list;
	struct pci_dev *pdev;
	int error;
	bool claimed;
	struct pci_device_ser ser;
};

static DEFINE_MUTEX(pci_liveupdate_lock);

static LIST_HEAD(kept_devices);
static struct pci_liveupdate_ser *record;

/* Set from the freeze on: a kexec leaves kept_devices running */
static bool frozen;

static LIST_HEAD(restored_devices);

/* Devices found from now on have their resources when they are added */
static bool resources_assigned;

static bool is_bridge(const struct pci_device_ser *ser)
{
	return ser->hdr_type == PCI_HEADER_TYPE_BRIDGE;
}

static void read_ser(struct pci_dev *pdev, struct pci_device_ser *ser)
{
	unsigned int i, nr_bars = PCI_STD_NUM_BARS;
	u16 command;
	u32 val;

	pci_read_config_word(pdev, PCI_COMMAND, &command);
	*ser = (struct pci_device_ser) {
		.segment = pci_domain_nr(pdev->bus),
		.bdf = pci_dev_id(pdev),
		.vendor = pdev->vendor,
		.device = pdev->device,
		.command = command,
		.hdr_type = pdev->hdr_type,
	};

	if (is_bridge(ser)) {
		pci_read_config_dword(pdev, PCI_PRIMARY_BUS, &val);
		ser->primary = FIELD_GET(PCI_PRIMARY_BUS_MASK, val);
		ser->secondary = FIELD_GET(PCI_SECONDARY_BUS_MASK, val);
		ser->subordinate = FIELD_GET(PCI_SUBORDINATE_BUS_MASK, val);
		nr_bars = 2;
	}

	for (i = 0; i < nr_bars; i++) {
		pci_read_config_dword(pdev, PCI_BASE_ADDRESS_0 + 4 * i, &val);
		ser->bars[i] = val;
	}
}

/* Is something not as it was that must not change? */
static int check_unchanged(struct pci_dev *pdev,
			   const struct pci_device_ser *was,
			   const struct pci_device_ser *now)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(was->bars); i++) {
		if (was->bars[i] != now->bars[i]) {
			pci_err(pdev, "live update: BAR %u was %#010x, is %#010x\n",
				i, was->bars[i], now->bars[i]);
			return -ESTALE;
		}
	}

	if (was->primary != now->primary || was->secondary != now->secondary ||
	    was->subordinate != now->subordinate) {
		pci_err(pdev, "live update: bus numbers were %02x/%02x-%02x, are %02x/%02x-%02x\n",
			was->primary, was->secondary, was->subordinate,
			now->primary, now->secondary, now->subordinate);
		return -ESTALE;
	}
	return 0;
}

static u32 header_crc(const struct pci_liveupdate_ser *ser)
{
	return crc32_le(~0, (const void *)ser, offsetof(typeof(*ser), crc));
}

static u32 devices_crc(const struct pci_liveupdate_ser *ser)
{
	return crc32_le(~0, (const void *)ser->devices,
			flex_array_size(ser, devices, ser->nr_devices));
}

static struct pci_kept *find_kept(struct pci_dev *pdev)
{
	struct pci_kept *kept;

	list_for_each_entry(kept, &kept_devices, list)
		if (kept->pdev == pdev)
			return kept;
	return NULL;
}

static int keep(struct pci_dev *pdev, const char *driver)
{
	struct pci_kept *kept = find_kept(pdev);

	if (kept) {
		kept->users++;
		return 0;
	}

	kept = kzalloc_obj(*kept);
	if (!kept)
		return -ENOMEM;
	kept->pdev = pci_dev_get(pdev);
	kept->users = 1;
	read_ser(pdev, &kept->ser);
	strscpy(kept->ser.driver, driver);
	set_bit(PCI_DEV_KEPT, &pdev->priv_flags);
	list_add_tail(&kept->list, &kept_devices);
	return 0;
}

static void unkeep(struct pci_dev *pdev)
{
	struct pci_kept *kept = find_kept(pdev);

	if (WARN_ON(!kept) || --kept->users)
		return;
	list_del(&kept->list);
	clear_bit(PCI_DEV_KEPT, &pdev->priv_flags);
	pci_dev_put(pdev);
	kfree(kept);
}

/* From @pdev up, but for @end and what is above it */
static void unkeep_path(struct pci_dev *pdev, struct pci_dev *end)
{
	struct pci_dev *up;

	/* Next first: @pdev may go, but a bridge is needed by what is below */
	for (; pdev != end; pdev = up) {
		up = pci_upstream_bridge(pdev);
		unkeep(pdev);
	}
}

static int check_endpoint(struct pci_dev *pdev)
{
	const char *reason;
	struct pci_bus *bus;

	if (pdev->hdr_type != PCI_HEADER_TYPE_NORMAL) {
		reason = "is not an endpoint";
		goto err;
	}
	if (pdev->is_virtfn || pci_num_vf(pdev)) {
		reason = "has SR-IOV in use";
		goto err;
	}
	for (bus = pdev->bus; !pci_is_root_bus(bus); bus = bus->parent) {
		if (!bus->self || bus->self->hdr_type != PCI_HEADER_TYPE_BRIDGE) {
			reason = "is on a bus without a PCI-to-PCI bridge";
			goto err;
		}
	}
	return 0;

err:
	pci_warn(pdev, "live update: %s, it cannot be preserved\n", reason);
	return -EOPNOTSUPP;
}

static int check_power(struct pci_dev *pdev)
{
	if (pdev->current_state == PCI_D0)
		return 0;
	pci_warn(pdev, "live update: is in %s and not in D0, it cannot be preserved\n",
		 pci_power_name(pdev->current_state));
	return -EOPNOTSUPP;
}

/**
 * pci_liveupdate_preserve - Keep a device running over the next live update
 * @pdev: The device
 * @driver: Name of the driver that is to be bound to it in the next kernel
 *
 * From the kexec on the device goes on with its DMA, and the bridges above it
 * forward it. Its interrupts are off, and its vectors are forgotten. Until
 * pci_liveupdate_unpreserve() the device must stay in D0, and its BARs where they
 * are, else the live update fails to freeze. A removal drops the device.
 *
 * Context: May sleep. @pdev is bound to a driver.
 * Return: 0, or, with a line in the log: -EBUSY if the device is preserved
 * already or has not finished the last live update, -EOPNOTSUPP if it cannot be
 * carried. -ENAMETOOLONG, -ENOMEM. Nothing is changed on an error.
 */
int pci_liveupdate_preserve(struct pci_dev *pdev, const char *driver)
{
	struct pci_dev *up;
	int ret;

	if (strlen(driver) >= PCI_LIVEUPDATE_DRIVER_LENGTH)
		return -ENAMETOOLONG;

	ret = check_endpoint(pdev);
	if (ret)
		return ret;
	ret = check_power(pdev);
	if (ret)
		return ret;

	guard(mutex)(&pci_liveupdate_lock);

	if (find_kept(pdev)) {
		pci_warn(pdev, "live update: is preserved already\n");
		return -EBUSY;
	}
	if (pci_liveupdate_restored(pdev)) {
		pci_warn(pdev, "live update: the last one has not been finished for it\n");
		return -EBUSY;
	}

	for (up = pdev; up; up = pci_upstream_bridge(up)) {
		ret = keep(up, up == pdev ? driver : "");
		if (ret) {
			unkeep_path(pdev, up);
			return ret;
		}
	}
	return 0;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_preserve);

/**
 * pci_liveupdate_unpreserve - Undo pci_liveupdate_preserve()
 * @pdev: The device. It may have been removed since
 *
 * Context: May sleep.
 */
void pci_liveupdate_unpreserve(struct pci_dev *pdev)
{
	guard(mutex)(&pci_liveupdate_lock);
	unkeep_path(pdev, NULL);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unpreserve);

/* Is it possible to hand over this device as it is now? */
static int check_kept(struct pci_kept *kept, struct pci_device_ser *now)
{
	struct pci_dev *pdev = kept->pdev;
	int ret;

	if (!pci_device_is_present(pdev)) {
		pci_warn(pdev, "live update: does not respond any more, it cannot be preserved\n");
		return -ENODEV;
	}
	ret = check_power(pdev);
	if (ret)
		return ret;
	if (!is_bridge(&kept->ser)) {
		ret = check_endpoint(pdev);
		if (ret)
			return ret;
	}

	read_ser(pdev, now);
	strscpy(now->driver, kept->ser.driver);
	return check_unchanged(pdev, &kept->ser, now);
}

static int write_record(void)
{
	struct pci_kept *kept;
	int ret;

	record->nr_devices = 0;
	list_for_each_entry(kept, &kept_devices, list) {
		if (kept->lost)
			continue;
		ret = check_kept(kept, &record->devices[record->nr_devices]);
		if (ret)
			return ret;
		record->nr_devices++;
	}

	record->version = PCI_LIVEUPDATE_VERSION;
	record->length = struct_size(record, devices, record->nr_devices);
	record->devices_crc = devices_crc(record);
	record->crc = header_crc(record);
	return 0;
}

static void free_record(void)
{
	kho_unpreserve_free(record);
	record = NULL;
}

static int pci_liveupdate_prepare(struct liveupdate_subsystem *ss, u64 *data)
{
	size_t nr_devices;
	int ret;

	guard(mutex)(&pci_liveupdate_lock);

	nr_devices = list_count_nodes(&kept_devices);
	if (!nr_devices)
		return 0;
	if (nr_devices > PCI_LIVEUPDATE_MAX_DEVICES) {
		pr_warn("%zu devices and bridges are too many to hand over\n",
			nr_devices);
		return -E2BIG;
	}

	record = kho_alloc_preserve(struct_size(record, devices, nr_devices));
	if (IS_ERR(record)) {
		ret = PTR_ERR(record);
		record = NULL;
		return ret;
	}

	ret = write_record();
	if (ret) {
		free_record();
		return ret;
	}
	*data = virt_to_phys(record);
	return 0;
}

static int pci_liveupdate_freeze(struct liveupdate_subsystem *ss, u64 *data)
{
	int ret;

	guard(mutex)(&pci_liveupdate_lock);

	if (!record)
		return 0;

	ret = write_record();
	if (!ret)
		frozen = true;
	return ret;
}

static void pci_liveupdate_unfreeze(struct liveupdate_subsystem *ss, u64 data)
{
	guard(mutex)(&pci_liveupdate_lock);
	frozen = false;
}

static void pci_liveupdate_cancel(struct liveupdate_subsystem *ss, u64 data)
{
	guard(mutex)(&pci_liveupdate_lock);
	free_record();
}

/* The driver and its handlers are not told: it is the kernel that goes away */
static void disable_interrupts(struct pci_dev *pdev)
{
	u16 control;

	/* First, or the device would fall back to it */
	pci_intx(pdev, 0);

	if (pdev->msi_cap) {
		pci_read_config_word(pdev, pdev->msi_cap + PCI_MSI_FLAGS,
				     &control);
		pci_write_config_word(pdev, pdev->msi_cap + PCI_MSI_FLAGS,
				      control & ~PCI_MSI_FLAGS_ENABLE);
	}
	if (pdev->msix_cap) {
		pci_read_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS,
				     &control);
		pci_write_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS,
				      control & ~PCI_MSIX_FLAGS_ENABLE);
	}
}

/**
 * pci_liveupdate_shutdown - Leave a device running if it has to
 * @pdev: A device that is being shut down
 *
 * Context: device_shutdown(), with the lock of @pdev held.
 * Return: true if @pdev goes on with its DMA in the next kernel, or is a bridge
 * above such a device. Its interrupts have been turned off then, and the caller
 * must not turn off bus mastering.
 */
bool pci_liveupdate_shutdown(struct pci_dev *pdev)
{
	struct pci_kept *kept;

	guard(mutex)(&pci_liveupdate_lock);

	if (!frozen || !kexec_in_progress)
		return false;

	kept = find_kept(pdev);
	if (!kept || kept->lost)
		return false;

	disable_interrupts(pdev);
	return true;
}

static struct pci_restored *find_restored(struct pci_dev *pdev)
{
	struct pci_restored *restored;

	list_for_each_entry(restored, &restored_devices, list)
		if (restored->pdev == pdev)
			return restored;
	return NULL;
}

static struct pci_restored *match_restored(struct pci_dev *pdev)
{
	struct pci_restored *restored;

	list_for_each_entry(restored, &restored_devices, list)
		if (!restored->pdev && restored->ser.bdf == pci_dev_id(pdev) &&
		    restored->ser.segment == pci_domain_nr(pdev->bus))
			return restored;
	return NULL;
}

static void end_restored(struct pci_restored *restored)
{
	struct pci_dev *pdev = restored->pdev;

	if (pdev) {
		clear_bit(PCI_DEV_RESTORED, &pdev->priv_flags);
		pm_runtime_put(&pdev->dev);
		pci_dev_put(pdev);
	}
	list_del(&restored->list);
	kfree(restored);
}

/* Nobody looks after what the device is doing */
static void stop_unclaimed(struct pci_restored *restored)
{
	if (!restored->pdev || restored->claimed || is_bridge(&restored->ser))
		return;
	pci_clear_master(restored->pdev);
	pci_info(restored->pdev, "live update: was not claimed, it is stopped\n");
}

static bool has_restored_below(struct pci_dev *bridge)
{
	struct pci_restored *restored;
	struct pci_dev *up;

	list_for_each_entry(restored, &restored_devices, list) {
		if (!restored->pdev || is_bridge(&restored->ser))
			continue;
		for (up = pci_upstream_bridge(restored->pdev); up;
		     up = pci_upstream_bridge(up))
			if (up == bridge)
				return true;
	}
	return false;
}

/* End the restored state of a device, and of bridges that are not needed now */
static void end_restored_path(struct pci_restored *restored)
{
	struct pci_dev *up = pci_upstream_bridge(restored->pdev);

	end_restored(restored);
	for (; up && !has_restored_below(up); up = pci_upstream_bridge(up)) {
		restored = find_restored(up);
		if (restored)
			end_restored(restored);
	}
}

/**
 * pci_liveupdate_add_device - Look whether the previous kernel kept a device
 * @pdev: A device that has been found, and that nobody else knows yet
 *
 * If so, the device is in restored state from now on, and only the driver that
 * was handed over with it can be bound. If another device is in its place,
 * its DMA is stopped.
 *
 * Context: Enumeration, before @pdev is configured. May sleep.
 */
void pci_liveupdate_add_device(struct pci_dev *pdev)
{
	struct pci_restored *restored;

	guard(mutex)(&pci_liveupdate_lock);

	restored = match_restored(pdev);
	if (!restored)
		return;

	if (restored->ser.vendor != pdev->vendor ||
	    restored->ser.device != pdev->device ||
	    restored->ser.hdr_type != pdev->hdr_type) {
		pci_err(pdev, "live update: handed over as %04x:%04x, another device is here\n",
			restored->ser.vendor, restored->ser.device);
		pci_clear_master(pdev);
		end_restored(restored);
		return;
	}

	restored->pdev = pci_dev_get(pdev);
	pm_runtime_get_noresume(&pdev->dev);
	set_bit(PCI_DEV_RESTORED, &pdev->priv_flags);

	if (is_bridge(&restored->ser))
		return;

	/* It is off, if whoever had it in the old kernel was not quicker */
	pci_intx(pdev, 0);
	restored->error = device_set_driver_override(&pdev->dev,
						     restored->ser.driver);
	if (restored->error)
		pci_err(pdev, "live update: cannot reserve it for %s: %pe\n",
			restored->ser.driver, ERR_PTR(restored->error));
}

/**
 * pci_liveupdate_remove_device - A device is being removed
 * @pdev: The device
 *
 * It drops out of the next live update, and of the last one.
 *
 * Context: Before the driver of @pdev is unbound. May sleep.
 */
void pci_liveupdate_remove_device(struct pci_dev *pdev)
{
	struct pci_restored *restored;
	struct pci_kept *kept;

	guard(mutex)(&pci_liveupdate_lock);

	kept = find_kept(pdev);
	if (kept && !kept->lost) {
		pci_warn(pdev, "live update: removed while it was preserved, it will not be handed over\n");
		kept->lost = true;
	}

	restored = find_restored(pdev);
	if (restored) {
		pci_warn(pdev, "live update: removed before its live update was finished\n");
		pci_clear_master(pdev);
		end_restored_path(restored);
	}
}

/* A device is reached through the same bridges as before, or it is not the same */
static int bridges_error(struct pci_dev *pdev)
{
	struct pci_restored *restored;
	struct pci_dev *up;

	for (up = pci_upstream_bridge(pdev); up; up = pci_upstream_bridge(up)) {
		restored = find_restored(up);
		if (!restored || restored->error) {
			pci_err(pdev, "live update: bridge %s above it is not as it was handed over\n",
				pci_name(up));
			return -ESTALE;
		}
	}
	return 0;
}

static void verify(struct pci_restored *restored)
{
	struct pci_dev *pdev = restored->pdev;
	struct pci_device_ser now;
	int ret;

	read_ser(pdev, &now);
	ret = check_unchanged(pdev, &restored->ser, &now);
	if (is_bridge(&restored->ser)) {
		restored->error = ret;
		return;
	}

	if (!ret)
		ret = bridges_error(pdev);
	/* Then it has been reset, or is another one of the same kind */
	if (!ret && restored->ser.command & ~now.command & PCI_COMMAND_MASTER) {
		pci_err(pdev, "live update: lost bus mastering, command was %#06x, is %#06x\n",
			restored->ser.command, now.command);
		ret = -ESTALE;
	}
	if (ret) {
		restored->error = ret;
		pci_clear_master(pdev);
	}
}

/**
 * pci_liveupdate_verify_device - Check a device that was not found at boot
 * @pdev: A device that has its resources
 *
 * At boot resources are assigned to all devices at once, after they were added;
 * see pci_liveupdate_verify().
 *
 * Context: Before a driver can be bound to @pdev. May sleep.
 */
void pci_liveupdate_verify_device(struct pci_dev *pdev)
{
	struct pci_restored *restored;

	guard(mutex)(&pci_liveupdate_lock);

	if (!resources_assigned)
		return;
	restored = find_restored(pdev);
	if (restored)
		verify(restored);
}

/**
 * pci_liveupdate_pending - Must BARs stay where they are?
 *
 * Context: May sleep.
 * Return: true as long as there is a record of the previous kernel, whether its
 * device was found or not.
 */
bool pci_liveupdate_pending(void)
{
	guard(mutex)(&pci_liveupdate_lock);
	return !list_empty(&restored_devices);
}

/**
 * pci_liveupdate_restored - Did a device come through a live update running?
 * @pdev: The device or bridge
 *
 * Context: Any.
 * Return: true from the enumeration of a device that the previous kernel preserved
 * until its live update is finished, also for the bridges above it.
 */
bool pci_liveupdate_restored(struct pci_dev *pdev)
{
	return test_bit(PCI_DEV_RESTORED, &pdev->priv_flags);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_restored);

/**
 * pci_liveupdate_get_restored - Find a device in restored state
 * @segment: Number of its PCI domain
 * @bdf: Its bus, device and function
 *
 * pci_get_domain_bus_and_slot() goes through all devices of the machine.
 *
 * Context: May sleep.
 * Return: the device, with a reference, or NULL.
 */
struct pci_dev *pci_liveupdate_get_restored(u32 segment, u16 bdf)
{
	struct pci_restored *restored;

	guard(mutex)(&pci_liveupdate_lock);

	list_for_each_entry(restored, &restored_devices, list)
		if (restored->pdev && restored->ser.segment == segment &&
		    restored->ser.bdf == bdf)
			return pci_dev_get(restored->pdev);
	return NULL;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_get_restored);

/**
 * pci_liveupdate_must_run - Must a device stay in D0 for a live update?
 * @pdev: The device or bridge
 *
 * Context: Any.
 * Return: true if @pdev is preserved for the next live update, or in restored state
 * after the last one.
 */
bool pci_liveupdate_must_run(struct pci_dev *pdev)
{
	return test_bit(PCI_DEV_KEPT, &pdev->priv_flags) ||
	       pci_liveupdate_restored(pdev);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_must_run);

static bool set_claimed(struct pci_dev *pdev, bool claimed)
{
	struct pci_restored *restored;

	guard(mutex)(&pci_liveupdate_lock);

	restored = find_restored(pdev);
	if (restored)
		restored->claimed = claimed;
	return restored;
}

/**
 * pci_liveupdate_claim - Go on with a device as it is running
 * @pdev: The device
 *
 * Context: May sleep. By the driver of @pdev.
 * Return: true if @pdev is in restored state: the driver must not reset or stop it.
 */
bool pci_liveupdate_claim(struct pci_dev *pdev)
{
	return set_claimed(pdev, true);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_claim);

/**
 * pci_liveupdate_unclaim - Undo pci_liveupdate_claim()
 * @pdev: The device. Does nothing if it is not in restored state
 *
 * Context: May sleep. By the driver of @pdev.
 */
void pci_liveupdate_unclaim(struct pci_dev *pdev)
{
	set_claimed(pdev, false);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unclaim);

/**
 * pci_liveupdate_restored_error - May somebody go on with a restored device?
 * @pdev: A device in restored state
 *
 * Context: May sleep.
 * Return: 0, or a negative errno that was logged at boot: -ESTALE if the device is
 * not as it was handed over, and has been stopped, -ENOMEM.
 */
int pci_liveupdate_restored_error(struct pci_dev *pdev)
{
	struct pci_restored *restored;

	guard(mutex)(&pci_liveupdate_lock);

	restored = find_restored(pdev);
	return restored ? restored->error : 0;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_restored_error);

/**
 * pci_liveupdate_finish - End the restored state of a device
 * @pdev: The device. Does nothing if it is not in restored state
 *
 * The device can be reset and put into a low power state again, and its bridges if
 * there is no other restored device below. If nobody has claimed it, its DMA is
 * stopped. The driver override stays.
 *
 * Context: May sleep.
 * Return: true if somebody has claimed it, so that its DMA goes on.
 */
bool pci_liveupdate_finish(struct pci_dev *pdev)
{
	struct pci_restored *restored;
	bool claimed;

	guard(mutex)(&pci_liveupdate_lock);

	restored = find_restored(pdev);
	if (!restored)
		return false;
	claimed = restored->claimed;
	stop_unclaimed(restored);
	end_restored_path(restored);
	return claimed;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_finish);

/**
 * pci_liveupdate_check_reset - May a device be reset?
 * @pdev: The device
 *
 * Error recovery does not ask: what it resets is not running any more.
 *
 * Context: Any.
 * Return: 0, or -EBUSY with a line in the log if @pdev is in restored state.
 */
int pci_liveupdate_check_reset(struct pci_dev *pdev)
{
	if (!pci_liveupdate_restored(pdev))
		return 0;
	dev_warn_ratelimited(&pdev->dev, "live update: is not finished for this device, refusing to reset it\n");
	return -EBUSY;
}

struct check_reset {
	struct pci_bus *bus;
	struct pci_slot *slot;
	int ret;
};

static int check_one_reset(struct pci_dev *pdev, void *data)
{
	struct check_reset *check = data;
	struct pci_dev *top = pdev;

	/* A slot is reset with all that is below its devices */
	while (top->bus != check->bus)
		top = top->bus->self;
	if (!check->slot || top->slot == check->slot)
		check->ret = pci_liveupdate_check_reset(pdev);
	return check->ret;
}

/**
 * pci_liveupdate_check_bus_reset - May all devices on a bus be reset?
 * @bus: The bus
 * @slot: A slot on @bus that is to be reset, or NULL for all of it
 *
 * Context: May sleep. Takes pci_bus_sem.
 * Return: 0, or -EBUSY with a line in the log if one of the devices is in restored
 * state.
 */
int pci_liveupdate_check_bus_reset(struct pci_bus *bus, struct pci_slot *slot)
{
	struct check_reset check = { .bus = bus, .slot = slot };

	pci_walk_bus(bus, check_one_reset, &check);
	return check.ret;
}

/* All files have been finished, so nobody will claim what is left */
static void pci_liveupdate_subsystem_finish(struct liveupdate_subsystem *ss,
					    u64 data)
{
	struct pci_restored *restored, *tmp;

	guard(mutex)(&pci_liveupdate_lock);

	list_for_each_entry_safe(restored, tmp, &restored_devices, list) {
		stop_unclaimed(restored);
		end_restored(restored);
	}
}

static const struct liveupdate_subsystem_ops pci_liveupdate_ops = {
	.prepare = pci_liveupdate_prepare,
	.freeze = pci_liveupdate_freeze,
	.unfreeze = pci_liveupdate_unfreeze,
	.cancel = pci_liveupdate_cancel,
	.finish = pci_liveupdate_subsystem_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_subsystem pci_liveupdate_subsystem = {
	.ops = &pci_liveupdate_ops,
	.name = PCI_LIVEUPDATE_NAME,
};

static int __init check_record(u64 data)
{
	const struct pci_liveupdate_ser *ser = kho_restorable(data, sizeof(*ser));

	if (!ser) {
		pr_err("the record of the previous kernel was not preserved\n");
		return -EFAULT;
	}
	if (ser->version != PCI_LIVEUPDATE_VERSION) {
		pr_err("handed over in version %u, this kernel knows %u\n",
		       ser->version, PCI_LIVEUPDATE_VERSION);
		return -EPROTONOSUPPORT;
	}

	if (ser->crc == header_crc(ser) &&
	    ser->nr_devices <= PCI_LIVEUPDATE_MAX_DEVICES &&
	    ser->length == struct_size(ser, devices, ser->nr_devices) &&
	    kho_restorable(data, ser->length) &&
	    ser->devices_crc == devices_crc(ser))
		return 0;

	pr_err("the record of the previous kernel is damaged, it is ignored\n");
	return -EBADMSG;
}

static bool __init makes_sense(const struct pci_device_ser *ser)
{
	struct pci_restored *restored;

	list_for_each_entry(restored, &restored_devices, list)
		if (restored->ser.segment == ser->segment &&
		    restored->ser.bdf == ser->bdf)
			return false;

	if (is_bridge(ser))
		return true;
	/* The name goes into a driver override, which an empty line would clear */
	return ser->hdr_type == PCI_HEADER_TYPE_NORMAL && ser->driver[0] &&
	       !memchr(ser->driver, '\n', sizeof(ser->driver)) &&
	       strnlen(ser->driver, sizeof(ser->driver)) < sizeof(ser->driver);
}

static int __init read_device(const struct pci_device_ser *ser)
{
	struct pci_restored *restored;

	if (!makes_sense(ser)) {
		pr_err("%04x:%02x:%02x.%d: the record makes no sense, it is ignored\n",
		       ser->segment, PCI_BUS_NUM(ser->bdf), PCI_SLOT(ser->bdf),
		       PCI_FUNC(ser->bdf));
		return 0;
	}

	restored = kzalloc_obj(*restored);
	if (!restored)
		return -ENOMEM;
	restored->ser = *ser;
	list_add_tail(&restored->list, &restored_devices);
	return 0;
}

/* After LUO has found its data (early_initcall), before any bus is scanned */
static int __init pci_liveupdate_read(void)
{
	struct pci_liveupdate_ser *ser;
	u64 data;
	u32 i;
	int ret;

	ret = liveupdate_subsystem_get_incoming(PCI_LIVEUPDATE_NAME, &data);
	if (ret)
		return ret == -ENOENT ? 0 : ret;

	ret = check_record(data);
	if (ret)
		return ret;
	ser = phys_to_virt(data);

	guard(mutex)(&pci_liveupdate_lock);

	for (i = 0; i < ser->nr_devices && !ret; i++)
		ret = read_device(&ser->devices[i]);
	if (ret)
		pr_err("cannot read the record of the previous kernel: %pe\n",
		       ERR_PTR(ret));
	else
		pr_info("%u devices and bridges were handed over\n",
			ser->nr_devices);
	kho_restore_free(ser);
	return ret;
}
postcore_initcall(pci_liveupdate_read);

/* After resources are assigned, where that is done once for all (fs_initcall) */
static int __init pci_liveupdate_verify(void)
{
	struct pci_restored *restored;

	guard(mutex)(&pci_liveupdate_lock);

	/* What is said of a bridge goes for the devices below */
	list_for_each_entry(restored, &restored_devices, list)
		if (restored->pdev && is_bridge(&restored->ser))
			verify(restored);
	list_for_each_entry(restored, &restored_devices, list)
		if (restored->pdev && !is_bridge(&restored->ser))
			verify(restored);
	resources_assigned = true;
	return 0;
}
fs_initcall_sync(pci_liveupdate_verify);

/*
 * After the IOMMU core and drivers (device_initcall). Subsystems finish in
 * reverse order, and devices have to be stopped before their memory is freed.
 */
static int __init pci_liveupdate_init(void)
{
	struct pci_restored *restored;

	scoped_guard(mutex, &pci_liveupdate_lock) {
		list_for_each_entry(restored, &restored_devices, list) {
			const struct pci_device_ser *ser = &restored->ser;

			if (!restored->pdev)
				pr_err("%04x:%02x:%02x.%d: was handed over, and is not found\n",
				       ser->segment, PCI_BUS_NUM(ser->bdf),
				       PCI_SLOT(ser->bdf), PCI_FUNC(ser->bdf));
		}
	}

	/* What was inherited stays as it is: nobody can claim or finish it */
	if (!liveupdate_enabled())
		return 0;

	return liveupdate_register_subsystem(&pci_liveupdate_subsystem);
}
late_initcall(pci_liveupdate_init);
