// SPDX-License-Identifier: GPL-2.0-only
/*
 * Live update of VT-d units: which units and requester IDs are handed over.
 *
 * The IOMMU core tells which devices are preserved. When the live update is
 * prepared, the handover tables of their units are built (handover.c) and the
 * record is written (linux/kho/abi/intel-iommu.h). When it is frozen, both are
 * brought up to date and checked against the live tables. At shutdown the units
 * are switched to the handover tables. What the previous kernel left in the
 * same way is the business of adopt.c.
 *
 * Locking: intel_liveupdate_lock protects everything here. It is taken under
 * iommu_liveupdate_rwsem or the mutex of a group, and takes the locks of a unit.
 * intel_liveupdate_shutdown() takes no lock: all other CPUs are stopped, and
 * LUO lets nobody in after a freeze that succeeded, but for
 * intel_iommu_unpreserve_device(), which leaves the list of units alone.
 */
#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/crc32.h>
#include <linux/io.h>
#include <linux/iommu-liveupdate.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/intel-iommu.h>
#include <linux/kho/abi/iommu.h>
#include <linux/liveupdate.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "iommu.h"
#include "liveupdate.h"

/**
 * struct intel_preserved - A device, or a PASID of it, that goes on translating
 * @list: Entry in preserved_devices, that of the device before its PASIDs
 * @dev: The device
 * @pasid: The PASID, or IOMMU_NO_PASID
 * @top: Physical address of its page table
 */
struct intel_preserved {
	struct list_head list;
	struct device *dev;
	ioasid_t pasid;
	u64 top;
};

static DEFINE_MUTEX(intel_liveupdate_lock);
static LIST_HEAD(preserved_devices);
static LIST_HEAD(handover_units);
static struct intel_liveupdate_ser *record;

/* Set from the freeze on: a kexec keeps the units of handover_units on */
static bool frozen;

struct rid_walk {
	struct device *dev;
	bool own;
	int (*fn)(u16 rid, void *data);
	void *data;
};

static int walk_rid(struct pci_dev *pdev, u16 rid, void *opaque)
{
	struct rid_walk *walk = opaque;

	if (walk->own && &pdev->dev != walk->dev)
		return 0;
	return walk->fn(rid, walk->data);
}

/*
 * Calls @fn for the requester ID of a device and for each of its DMA aliases. In
 * scalable mode the driver makes no context entries for those of bridges, see
 * intel_pasid_setup_sm_context().
 */
static int walk_rids(struct intel_preserved *preserved,
		     int (*fn)(u16 rid, void *data), void *data)
{
	struct device_domain_info *info = dev_iommu_priv_get(preserved->dev);
	struct rid_walk walk = {
		.dev = preserved->dev,
		.own = sm_supported(info->iommu),
		.fn = fn,
		.data = data,
	};

	return pci_for_each_dma_alias(to_pci_dev(preserved->dev), walk_rid, &walk);
}

static struct intel_handover *find_handover(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct intel_handover *handover;

	list_for_each_entry(handover, &handover_units, list)
		if (handover->iommu == info->iommu)
			return handover;
	return NULL;
}

/**
 * intel_iommu_preserve_device - Keep a device translating over a live update
 * @dev: The device
 * @pasid: A PASID of it, after the device itself, or IOMMU_NO_PASID
 * @ser: The preserved domain that is attached to it
 *
 * Context: iommu_liveupdate_rwsem held for write.
 * Return: 0, -EOPNOTSUPP if the device uses the requester ID of another one,
 * -ENOMEM.
 */
int intel_iommu_preserve_device(struct device *dev, ioasid_t pasid,
				const struct iommu_domain_ser *ser)
{
	struct intel_preserved *preserved;

	if (dev_is_real_dma_subdevice(dev)) {
		dev_warn(dev, "live update: DMA of this device comes from another one, it cannot be preserved\n");
		return -EOPNOTSUPP;
	}

	preserved = kzalloc_obj(*preserved);
	if (!preserved)
		return -ENOMEM;
	preserved->dev = dev;
	preserved->pasid = pasid;
	preserved->top = ser->pt.top_phys;

	guard(mutex)(&intel_liveupdate_lock);
	list_add_tail(&preserved->list, &preserved_devices);
	return 0;
}

static int clear_rid(u16 rid, void *data)
{
	intel_handover_clear(data, rid);
	return 0;
}

/**
 * intel_iommu_unpreserve_device - Undo intel_iommu_preserve_device()
 * @dev: The device
 * @pasid: A PASID of it, before the device itself, or IOMMU_NO_PASID
 *
 * If the handover tables have been built, it is blocked in them.
 *
 * Context: iommu_liveupdate_rwsem held for write, or for read with the mutex of
 * the device's group.
 */
void intel_iommu_unpreserve_device(struct device *dev, ioasid_t pasid)
{
	u16 device = pci_dev_id(to_pci_dev(dev));
	struct intel_preserved *preserved;
	struct intel_handover *handover;

	guard(mutex)(&intel_liveupdate_lock);

	list_for_each_entry(preserved, &preserved_devices, list) {
		if (preserved->dev != dev || preserved->pasid != pasid)
			continue;
		handover = find_handover(dev);
		if (handover && pasid != IOMMU_NO_PASID) {
			intel_handover_clear_pasid(handover, device, pasid);
		} else if (handover) {
			walk_rids(preserved, clear_rid, handover);
			intel_handover_clear_device(handover, device);
		}
		list_del(&preserved->list);
		kfree(preserved);
		return;
	}
}

static int count_rid(u16 rid, void *data)
{
	++*(u32 *)data;
	return 0;
}

static int add_rid(u16 rid, void *data)
{
	return intel_handover_add(data, rid);
}

static int build_tables(struct intel_preserved *preserved)
{
	struct device_domain_info *info = dev_iommu_priv_get(preserved->dev);
	u16 device = pci_dev_id(to_pci_dev(preserved->dev));
	struct intel_handover *handover;
	int ret;

	handover = find_handover(preserved->dev);
	if (!handover) {
		handover = intel_handover_alloc(info->iommu);
		if (IS_ERR(handover))
			return PTR_ERR(handover);
		list_add_tail(&handover->list, &handover_units);
	}
	if (preserved->pasid == IOMMU_NO_PASID) {
		ret = walk_rids(preserved, add_rid, handover);
		if (ret || !sm_supported(info->iommu))
			return ret;
		ret = intel_handover_add_device(handover, info);
		if (ret)
			return ret;
	}
	return intel_handover_add_pasid(handover, device, preserved->pasid);
}

static void free_all(void)
{
	struct intel_handover *handover, *tmp;

	list_for_each_entry_safe(handover, tmp, &handover_units, list) {
		list_del(&handover->list);
		intel_handover_free(handover);
	}
	if (record) {
		kho_unpreserve_free(record);
		record = NULL;
	}
}

struct copy_rid_data {
	struct intel_handover *handover;
	struct intel_rid_ser *first;
	struct intel_rid_ser *ser;
	u64 top;
	u16 device;
};

static int copy_rid(u16 rid, void *opaque)
{
	struct copy_rid_data *data = opaque;
	struct intel_rid_ser *ser;

	/* A device may be an alias of itself */
	for (ser = data->first; ser < data->ser; ser++)
		if (ser->unit == data->handover->index && ser->rid == rid)
			return 0;

	memset(data->ser, 0, sizeof(*data->ser));
	data->ser->unit = data->handover->index;
	data->ser->device = data->device;
	return intel_handover_copy(data->handover, rid, data->top,
				   data->ser++);
}

/* Returns where the next records go, or an ERR_PTR() */
static void *copy_rids(struct intel_rid_ser *first)
{
	struct copy_rid_data data = { .first = first, .ser = first };
	struct intel_preserved *preserved;
	int ret;

	list_for_each_entry(preserved, &preserved_devices, list) {
		if (preserved->pasid != IOMMU_NO_PASID)
			continue;
		data.handover = find_handover(preserved->dev);
		data.top = preserved->top;
		data.device = pci_dev_id(to_pci_dev(preserved->dev));
		ret = walk_rids(preserved, copy_rid, &data);
		if (ret) {
			dev_err(preserved->dev, "live update: its context entry is not for the preserved domain: %pe\n",
				ERR_PTR(ret));
			return ERR_PTR(ret);
		}
	}
	return data.ser;
}

static void *copy_pasids(struct intel_pasid_ser *ser)
{
	struct device_domain_info *info;
	struct intel_preserved *preserved;
	struct intel_handover *handover;
	int ret;

	list_for_each_entry(preserved, &preserved_devices, list) {
		info = dev_iommu_priv_get(preserved->dev);
		handover = find_handover(preserved->dev);
		if (!sm_supported(info->iommu))
			continue;
		memset(ser, 0, sizeof(*ser));
		ser->unit = handover->index;
		ret = intel_handover_copy_pasid(handover, info, preserved->pasid,
						preserved->top, ser++);
		if (ret) {
			dev_err(preserved->dev, "live update: the entry of PASID %u is not for the preserved domain: %pe\n",
				preserved->pasid, ERR_PTR(ret));
			return ERR_PTR(ret);
		}
	}
	return ser;
}

/* Bring the handover tables and the record up to what is live now */
static int refresh(void)
{
	struct intel_unit_ser *units = (struct intel_unit_ser *)(record + 1);
	struct intel_preserved *preserved;
	struct intel_handover *handover;
	struct intel_pasid_ser *pasids;
	struct intel_rid_ser *rids;
	void *end;

	/* Devices may have been dropped since their unit got its tables */
	list_for_each_entry(handover, &handover_units, list)
		handover->used = false;
	list_for_each_entry(preserved, &preserved_devices, list)
		find_handover(preserved->dev)->used = true;

	record->nr_units = 0;
	list_for_each_entry(handover, &handover_units, list) {
		if (!handover->used)
			continue;
		handover->index = record->nr_units++;
		units[handover->index] = (struct intel_unit_ser) {
			.reg_phys = handover->iommu->reg_phys,
			.root = virt_to_phys(handover->root),
			.segment = handover->iommu->segment,
			.scalable = sm_supported(handover->iommu),
		};
	}

	rids = (struct intel_rid_ser *)&units[record->nr_units];
	pasids = copy_rids(rids);
	if (IS_ERR(pasids))
		return PTR_ERR(pasids);
	end = copy_pasids(pasids);
	if (IS_ERR(end))
		return PTR_ERR(end);

	record->nr_rids = (struct intel_rid_ser *)pasids - rids;
	record->nr_pasids = (struct intel_pasid_ser *)end - pasids;
	record->version = INTEL_LIVEUPDATE_VERSION;
	record->length = end - (void *)record;
	record->arrays_crc = crc32_le(~0, (void *)units, end - (void *)units);
	record->crc = crc32_le(~0, (void *)record, offsetof(typeof(*record), crc));
	return 0;
}

/* They cannot reach what firmware gave them until the next kernel maps it */
static void warn_direct_regions(void)
{
	struct pci_dev *pdev = NULL;

	/* One that is in the middle of its probe has no group yet */
	for_each_pci_dev(pdev)
		if (pdev->dev.iommu_group && dev_iommu_priv_get(&pdev->dev) &&
		    find_handover(&pdev->dev) &&
		    iommu_has_direct_regions(&pdev->dev))
			pci_warn(pdev, "live update: will not reach its reserved memory until the next kernel maps it\n");
}

static int intel_liveupdate_prepare(struct liveupdate_subsystem *ss, u64 *data)
{
	struct intel_preserved *preserved;
	u32 nr_units = 0, nr_rids = 0, nr_pasids = 0;
	struct intel_handover *handover;
	int ret;

	/* For write: no device that is in a group goes meanwhile */
	guard(rwsem_write)(&iommu_liveupdate_rwsem);
	guard(mutex)(&intel_liveupdate_lock);

	*data = 0;
	if (list_empty(&preserved_devices))
		return 0;

	list_for_each_entry(preserved, &preserved_devices, list) {
		ret = build_tables(preserved);
		if (ret)
			goto err_free;
		if (preserved->pasid == IOMMU_NO_PASID)
			walk_rids(preserved, count_rid, &nr_rids);
		nr_pasids++;
	}
	list_for_each_entry(handover, &handover_units, list)
		nr_units++;

	record = kho_alloc_preserve(sizeof(*record) +
				    nr_units * sizeof(struct intel_unit_ser) +
				    nr_rids * sizeof(struct intel_rid_ser) +
				    nr_pasids * sizeof(struct intel_pasid_ser));
	if (IS_ERR(record)) {
		ret = PTR_ERR(record);
		record = NULL;
		goto err_free;
	}

	ret = refresh();
	if (ret)
		goto err_free;

	warn_direct_regions();
	*data = virt_to_phys(record);
	return 0;

err_free:
	free_all();
	return ret;
}

static int intel_liveupdate_freeze(struct liveupdate_subsystem *ss, u64 *data)
{
	int ret;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);
	guard(mutex)(&intel_liveupdate_lock);

	if (!record)
		return 0;

	ret = refresh();
	if (!ret)
		frozen = true;
	return ret;
}

static void intel_liveupdate_unfreeze(struct liveupdate_subsystem *ss, u64 data)
{
	guard(mutex)(&intel_liveupdate_lock);
	frozen = false;
}

static void intel_liveupdate_cancel(struct liveupdate_subsystem *ss, u64 data)
{
	guard(mutex)(&intel_liveupdate_lock);
	free_all();
}

static void intel_liveupdate_finish(struct liveupdate_subsystem *ss, u64 data)
{
	guard(rwsem_write)(&iommu_liveupdate_rwsem);
	intel_inherited_revoke_all(0);
}

/**
 * intel_liveupdate_shutdown - Keep a unit translating if it has to
 * @iommu: The unit
 *
 * Context: Shutdown: one CPU runs, with interrupts off.
 * Return: true if the unit has been switched to its handover tables. The caller
 * must not turn translation off then.
 */
bool intel_liveupdate_shutdown(struct intel_iommu *iommu)
{
	struct intel_handover *handover;

	if (!frozen || !kexec_in_progress)
		return false;

	list_for_each_entry(handover, &handover_units, list) {
		if (handover->iommu == iommu && handover->used) {
			intel_handover_switch(handover);
			return true;
		}
	}
	return false;
}

static const struct liveupdate_subsystem_ops intel_liveupdate_ops = {
	.prepare = intel_liveupdate_prepare,
	.freeze = intel_liveupdate_freeze,
	.unfreeze = intel_liveupdate_unfreeze,
	.cancel = intel_liveupdate_cancel,
	.finish = intel_liveupdate_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_subsystem intel_liveupdate_subsystem = {
	.ops = &intel_liveupdate_ops,
	.name = INTEL_LIVEUPDATE_NAME,
};

/* After the IOMMU core (device_initcall), whose records these go with */
static int __init intel_liveupdate_init(void)
{
	if (!intel_iommu_enabled || !liveupdate_enabled())
		return 0;

	return liveupdate_register_subsystem(&intel_liveupdate_subsystem);
}
device_initcall_sync(intel_liveupdate_init);
