// SPDX-License-Identifier: GPL-2.0-only
/*
 * Take over VT-d units that kept translating during a live update.
 *
 * The previous kernel left each such unit with translation on and a root table
 * that holds entries of preserved requester IDs only, see
 * linux/kho/abi/intel-iommu.h. This kernel checks the tables against the
 * record and goes on using them: translation is never off, and the root table
 * address does not change.
 *
 * An inherited entry belongs to its device from the first attach on: if that
 * is the attach of the restored domain, the entry stays as it is. Any other
 * attach comes by device_block_translation(), which revokes the entry. Entries
 * whose device does not come up are revoked when the live update is finished.
 *
 * The domain ids of inherited entries are reserved as long as such an entry is
 * there. While a restored domain uses one, &iommu_domain_info.inherited says
 * that it does not own the id yet.
 *
 * Locking: &intel_iommu.inherited is set up before devices are probed. Its
 * &intel_inherited_rid.present is protected by &intel_iommu.did_lock.
 */
#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/crc32.h>
#include <linux/io.h>
#include <linux/iommu-liveupdate.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/generic_pt.h>
#include <linux/kho/abi/intel-iommu.h>
#include <linux/liveupdate.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "iommu.h"
#include "liveupdate.h"

/* Copy of the record, valid while the units are initialized */
static struct intel_liveupdate_ser *record __initdata;

static struct intel_unit_ser *__init record_units(void)
{
	return (struct intel_unit_ser *)(record + 1);
}

static struct intel_rid_ser *__init record_rids(void)
{
	return (struct intel_rid_ser *)(record_units() + record->nr_units);
}

static bool __init record_valid(const struct intel_liveupdate_ser *ser)
{
	size_t arrays;

	if (ser->version != INTEL_LIVEUPDATE_VERSION) {
		pr_err("handed over in version %u, this kernel knows %u\n",
		       ser->version, INTEL_LIVEUPDATE_VERSION);
		return false;
	}

	arrays = size_add(size_mul(ser->nr_units, sizeof(struct intel_unit_ser)),
			  size_mul(ser->nr_rids, sizeof(struct intel_rid_ser)));
	if (ser->crc != crc32_le(~0, (void *)ser, offsetof(typeof(*ser), crc)) ||
	    ser->length != size_add(sizeof(*ser), arrays) ||
	    ser->arrays_crc != crc32_le(~0, (void *)(ser + 1), arrays)) {
		pr_err("the record of the previous kernel is damaged\n");
		return false;
	}
	return true;
}

/**
 * intel_inherited_init - Read what the previous kernel handed over
 *
 * Context: Once, before any unit is initialized.
 * Return: true if there is a valid record of units, so that they are to be
 * adopted.
 */
bool __init intel_inherited_init(void)
{
	struct intel_liveupdate_ser *ser;
	u64 data;

	if (liveupdate_subsystem_get_incoming(INTEL_LIVEUPDATE_NAME, &data))
		return false;

	ser = phys_to_virt(data);
	if (!record_valid(ser))
		return false;

	record = kmemdup(ser, ser->length, GFP_KERNEL);
	kho_restore_free(ser);
	return record && record->nr_units;
}

static struct intel_inherited *__init alloc_inherited(u32 unit)
{
	struct intel_rid_ser *ser = record_rids();
	struct intel_inherited *inherited;
	unsigned int nr = 0;
	u32 i;

	for (i = 0; i < record->nr_rids; i++)
		nr += ser[i].unit == unit;

	inherited = kzalloc_flex(*inherited, rids, nr);
	if (!inherited)
		return NULL;
	inherited->nr = nr;

	nr = 0;
	for (i = 0; i < record->nr_rids; i++) {
		struct context_entry ce = { .lo = ser[i].lo, .hi = ser[i].hi };

		if (ser[i].unit != unit)
			continue;
		inherited->rids[nr].rid = ser[i].rid;
		inherited->rids[nr].device = ser[i].device;
		inherited->rids[nr].did = context_domain_id(&ce);
		inherited->rids[nr].top = ce.lo & VTD_PAGE_MASK;
		nr++;
	}
	return inherited;
}

/* The record of an entry, if the entry is what was recorded and can be used */
static struct intel_inherited_rid *__init
match_entry(struct intel_iommu *iommu, struct intel_inherited *inherited,
	    u32 unit, u16 rid, const struct context_entry *ce)
{
	struct intel_rid_ser *ser = record_rids();
	u16 did = context_domain_id((struct context_entry *)ce);
	unsigned int nr = 0;
	u32 i;

	for (i = 0; i < record->nr_rids; i++) {
		if (ser[i].unit != unit)
			continue;
		if (ser[i].rid == rid && ser[i].lo == ce->lo &&
		    ser[i].hi == ce->hi && did >= IDA_START_DID &&
		    did < iommu->max_domain_id)
			return &inherited->rids[nr];
		nr++;
	}
	return NULL;
}

/* Return: how many entries had to be cleared */
static unsigned int __init adopt_context_table(struct intel_iommu *iommu,
					       struct intel_inherited *inherited,
					       u32 unit, u8 bus,
					       struct context_entry *context)
{
	struct intel_inherited_rid *rid;
	unsigned int devfn, cleared = 0;

	for (devfn = 0; devfn < 256; devfn++, context++) {
		if (!context->lo && !context->hi)
			continue;

		rid = match_entry(iommu, inherited, unit, PCI_DEVID(bus, devfn),
				  context);
		/* -ENOSPC: another requester ID has reserved the id */
		if (rid && !rid->present &&
		    ida_alloc_range(&iommu->domain_ida, rid->did, rid->did,
				    GFP_KERNEL) != -ENOMEM) {
			rid->present = true;
			continue;
		}
		pr_err("%s: entry of %02x:%02x.%u does not match its record, blocked\n",
		       iommu->name, bus, PCI_SLOT(devfn), PCI_FUNC(devfn));
		context_clear_present(context);
		context_clear_entry(context);
		__iommu_flush_cache(iommu, context, sizeof(*context));
		cleared++;
	}
	return cleared;
}

static unsigned int __init adopt_root_table(struct intel_iommu *iommu,
					    struct intel_inherited *inherited,
					    u32 unit)
{
	struct root_entry *root = iommu->root_entry;
	struct context_entry *context;
	unsigned int bus, cleared = 0;

	for (bus = 0; bus < ROOT_ENTRY_NR; bus++) {
		if (!root[bus].lo && !root[bus].hi)
			continue;

		context = NULL;
		if ((root[bus].lo & ~VTD_PAGE_MASK) == 1 && !root[bus].hi)
			context = iommu_restore_page(root[bus].lo & VTD_PAGE_MASK);
		if (context) {
			cleared += adopt_context_table(iommu, inherited, unit,
						       bus, context);
			continue;
		}
		pr_err("%s: context table of bus %02x was not preserved, its devices are blocked\n",
		       iommu->name, bus);
		root[bus].lo = 0;
		root[bus].hi = 0;
		__iommu_flush_cache(iommu, &root[bus], sizeof(root[bus]));
		cleared++;
	}
	return cleared;
}

static int __init find_unit(struct intel_iommu *iommu)
{
	struct intel_unit_ser *units = record_units();
	u32 i;

	for (i = 0; i < record->nr_units; i++)
		if (units[i].reg_phys == iommu->reg_phys)
			return i;
	return -ENODATA;
}

/**
 * intel_inherited_unit - Is there a record of a unit?
 * @iommu: The unit
 *
 * Context: While units are initialized.
 * Return: true if the previous kernel handed the unit over.
 */
bool __init intel_inherited_unit(struct intel_iommu *iommu)
{
	return record && find_unit(iommu) >= 0;
}

/**
 * intel_iommu_adopt - Go on with the tables that a unit is using
 * @iommu: A unit with translation on, with its invalidation set up
 *
 * On success the root table is &intel_iommu.root_entry, and the domain ids that
 * its entries have are reserved. Entries that do not match their record have
 * been cleared, with a line in the log.
 *
 * Context: While units are initialized, before any device is probed.
 * Return: 0. -ENODATA if there is no record of this unit, -ENOMEM, -EINVAL if
 * the hardware does not use what is recorded. Nothing is changed on an error,
 * and the caller must not turn translation off before devices are blocked.
 */
int __init intel_iommu_adopt(struct intel_iommu *iommu)
{
	struct intel_inherited *inherited;
	unsigned int cleared, i;
	u64 root;
	int unit;

	if (!record)
		return -ENODATA;
	unit = find_unit(iommu);
	if (unit < 0)
		return unit;

	root = record_units()[unit].root;
	if (readq(iommu->reg + DMAR_RTADDR_REG) != root) {
		pr_err("%s: root table is at %#llx, %#llx is recorded\n",
		       iommu->name, readq(iommu->reg + DMAR_RTADDR_REG), root);
		return -EINVAL;
	}

	inherited = alloc_inherited(unit);
	if (!inherited)
		return -ENOMEM;

	iommu->root_entry = iommu_restore_page(root);
	if (!iommu->root_entry) {
		pr_err("%s: root table was not preserved\n", iommu->name);
		kfree(inherited);
		return -EINVAL;
	}

	cleared = adopt_root_table(iommu, inherited, unit);
	for (i = 0; i < inherited->nr; i++)
		if (!inherited->rids[i].present)
			pr_err("%s: no entry of %02x:%02x.%u is left, it is blocked\n",
			       iommu->name, PCI_BUS_NUM(inherited->rids[i].rid),
			       PCI_SLOT(inherited->rids[i].rid & 0xff),
			       PCI_FUNC(inherited->rids[i].rid & 0xff));
	if (cleared) {
		iommu_flush_write_buffer(iommu);
		iommu->flush.flush_context(iommu, 0, 0, 0, DMA_CCMD_GLOBAL_INVL);
		iommu->flush.flush_iotlb(iommu, 0, 0, 0, DMA_TLB_GLOBAL_FLUSH);
	}

	iommu->inherited = inherited;
	pr_info("%s: goes on with the tables of the previous kernel, %u requester IDs\n",
		iommu->name, inherited->nr);
	return 0;
}

/**
 * intel_inherited_done - All units are initialized
 *
 * Context: Once, after intel_inherited_init() and the last intel_iommu_adopt().
 */
void __init intel_inherited_done(void)
{
	if (record)
		iommu_restored_set_revoke(intel_inherited_revoke_all);
	kfree(record);
	record = NULL;
}

/**
 * intel_iommu_block_unknown - Stop the devices of a unit before it is disabled
 * @iommu: A unit
 *
 * When this kernel cannot go on with what the previous one left, translation
 * has to be turned off for a moment. I/O virtual addresses would be taken for
 * physical ones by then.
 *
 * Context: While units are initialized, dmar_global_lock held.
 */
void __init intel_iommu_block_unknown(struct intel_iommu *iommu)
{
	struct pci_dev *pdev = NULL;
	u8 bus, devfn;

	for_each_pci_dev(pdev) {
		if (pdev->hdr_type == PCI_HEADER_TYPE_NORMAL &&
		    device_lookup_iommu(&pdev->dev, &bus, &devfn) == iommu)
			pci_clear_master(pdev);
	}
}

/**
 * intel_inherited_put_did - An inherited entry with a domain id is gone
 * @iommu: The unit
 * @domain: A domain that may use the id and owns it if it was the last such
 *          entry, or NULL
 * @did: The domain id
 *
 * Context: &intel_iommu.did_lock held.
 */
void intel_inherited_put_did(struct intel_iommu *iommu,
			     struct dmar_domain *domain, u16 did)
{
	struct intel_inherited *inherited = iommu->inherited;
	struct iommu_domain_info *info = NULL;
	unsigned int i;

	lockdep_assert_held(&iommu->did_lock);

	for (i = 0; i < inherited->nr; i++)
		if (inherited->rids[i].present && inherited->rids[i].did == did)
			return;

	if (domain)
		info = xa_load(&domain->iommu_array, iommu->seq_id);
	if (info && info->did == did) {
		/* The domain owns the id now */
		info->inherited = false;
		info->staged = false;
	} else {
		ida_free(&iommu->domain_ida, did);
	}
}

/**
 * intel_inherited_free - Forget what a unit inherited
 * @iommu: The unit, which is about to be disabled
 *
 * Context: While units are initialized or removed, dmar_global_lock held.
 */
void intel_inherited_free(struct intel_iommu *iommu)
{
	struct intel_inherited *inherited = iommu->inherited;
	unsigned int i;

	if (!inherited)
		return;

	scoped_guard(mutex, &iommu->did_lock) {
		for (i = 0; i < inherited->nr; i++) {
			if (!inherited->rids[i].present)
				continue;
			inherited->rids[i].present = false;
			intel_inherited_put_did(iommu, NULL, inherited->rids[i].did);
		}
	}
	iommu->inherited = NULL;
	kfree(inherited);
}

/**
 * intel_inherited_matches - Is this the page table that a device translates with?
 * @info: The device
 * @ser: Record of a page table
 *
 * Context: &intel_iommu.did_lock is taken.
 * Return: true if the device has an inherited entry, and it and those of its
 * DMA aliases point to the top table in @ser.
 */
bool intel_inherited_matches(struct device_domain_info *info,
			     const struct pt_iommu_ser *ser)
{
	struct intel_inherited *inherited = info->iommu->inherited;
	struct intel_inherited_rid *rid;
	bool found = false;

	if (!inherited)
		return false;

	guard(mutex)(&info->iommu->did_lock);
	for_each_inherited_rid(rid, inherited, info_devid(info)) {
		if (!rid->present || rid->top != ser->top_phys)
			return false;
		found = true;
	}
	return found;
}

static int use_did(struct dmar_domain *domain, struct intel_iommu *iommu,
		   u16 did)
{
	struct iommu_domain_info *info, *curr;
	int ret;

	lockdep_assert_held(&iommu->did_lock);

	curr = xa_load(&domain->iommu_array, iommu->seq_id);
	if (curr) {
		if (curr->did != did)
			return -EINVAL;
		curr->refcnt++;
		return 0;
	}

	info = kzalloc_obj(*info);
	if (!info)
		return -ENOMEM;
	info->refcnt = 1;
	info->did = did;
	info->iommu = iommu;
	info->inherited = true;
	ret = xa_insert(&domain->iommu_array, iommu->seq_id, info, GFP_KERNEL);
	if (ret)
		kfree(info);
	return ret;
}

/**
 * intel_inherited_attach - Let a restored domain use the domain id of a device
 * @domain: The restored domain
 * @info: A device that was attached to it in the previous kernel
 *
 * The counterpart is domain_detach_iommu(), after intel_inherited_detach().
 *
 * Context: &intel_iommu.did_lock is taken.
 * Return: 0. -ENODATA if the device was attached and blocked since, -ENXIO if it
 * never had an inherited entry for @domain, -EINVAL if @domain has another id on
 * this unit, -ENOMEM.
 */
int intel_inherited_attach(struct dmar_domain *domain,
			   struct device_domain_info *info)
{
	struct intel_iommu *iommu = info->iommu;
	struct intel_inherited *inherited = iommu->inherited;
	struct intel_inherited_rid *rid, *found = NULL;
	struct pt_iommu_vtdss_hw_info pt_info;
	int ret;

	if (!inherited)
		return -ENXIO;

	pt_iommu_vtdss_hw_info(&domain->sspt, &pt_info);
	guard(mutex)(&iommu->did_lock);
	for_each_inherited_rid(rid, inherited, info_devid(info)) {
		found = rid;
		if (rid->top != pt_info.ssptptr ||
		    (!rid->present && !rid->attached))
			return -ENXIO;
		if (!rid->present)
			return -ENODATA;
	}
	if (!found)
		return -ENXIO;

	ret = use_did(domain, iommu, found->did);
	if (ret)
		return ret;

	for_each_inherited_rid(rid, inherited, info_devid(info))
		rid->attached = true;
	return 0;
}

/* Spec 6.5.3.3, Guidance to Software for Invalidations */
static void clear_entry(struct intel_iommu *iommu, u16 rid, u16 did)
{
	struct context_entry *context;

	spin_lock(&iommu->lock);
	context = iommu_context_addr(iommu, PCI_BUS_NUM(rid), rid & 0xff, 0);
	if (context) {
		context_clear_present(context);
		__iommu_flush_cache(iommu, context, sizeof(*context));
	}
	spin_unlock(&iommu->lock);
	if (!context)
		return;

	iommu_flush_write_buffer(iommu);
	iommu->flush.flush_context(iommu, did, rid, DMA_CCMD_MASK_NOBIT,
				   DMA_CCMD_DEVICE_INVL);
	iommu->flush.flush_iotlb(iommu, did, 0, 0, DMA_TLB_DSI_FLUSH);
	context_clear_entry(context);
	__iommu_flush_cache(iommu, context, sizeof(*context));
}

static void drop_rid(struct intel_iommu *iommu, struct intel_inherited_rid *rid,
		     struct dmar_domain *domain)
{
	lockdep_assert_held(&iommu->did_lock);

	clear_entry(iommu, rid->rid, rid->did);
	rid->present = false;
	intel_inherited_put_did(iommu, domain, rid->did);
}

/**
 * intel_inherited_detach - An attached device is blocked
 * @domain: The domain that was attached to it
 * @info: The device
 *
 * Context: Before domain_detach_iommu(). &intel_iommu.did_lock is taken.
 */
void intel_inherited_detach(struct dmar_domain *domain,
			    struct device_domain_info *info)
{
	struct intel_inherited *inherited = info->iommu->inherited;
	struct intel_inherited_rid *rid;

	if (!inherited)
		return;

	guard(mutex)(&info->iommu->did_lock);
	for_each_inherited_rid(rid, inherited, info_devid(info)) {
		if (!rid->present)
			continue;
		/* The device may have fewer aliases than it had before */
		drop_rid(info->iommu, rid, domain);
	}
}

static void revoke_rid(struct intel_iommu *iommu,
		       struct intel_inherited_rid *rid)
{
	pr_info("%s: inherited entry of %02x:%02x.%u is revoked\n", iommu->name,
		PCI_BUS_NUM(rid->rid), PCI_SLOT(rid->rid & 0xff),
		PCI_FUNC(rid->rid & 0xff));
	drop_rid(iommu, rid, NULL);
}

/**
 * intel_inherited_revoke - Block a device that has not been attached yet
 * @info: The device
 *
 * Does nothing if the device has no inherited entry.
 *
 * Context: Mutex of the device's group. &intel_iommu.did_lock is taken.
 */
void intel_inherited_revoke(struct device_domain_info *info)
{
	struct intel_inherited *inherited = info->iommu->inherited;
	struct intel_inherited_rid *rid;

	if (!inherited)
		return;

	guard(mutex)(&info->iommu->did_lock);
	for_each_inherited_rid(rid, inherited, info_devid(info)) {
		if (!rid->present)
			continue;
		/*
		 * The device may be doing DMA that was set up in the previous
		 * kernel, and what is attached next may be an identity domain.
		 */
		if (dev_is_pci(info->dev))
			pci_clear_master(to_pci_dev(info->dev));
		revoke_rid(info->iommu, rid);
	}
}

/**
 * intel_inherited_revoke_all - Clear the entries that no device took over
 * @top: Only those that point to this page table, or all if 0
 *
 * Context: May sleep. iommu_liveupdate_rwsem held for write, so that units stay
 * and no device is probed.
 */
void intel_inherited_revoke_all(u64 top)
{
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;

	guard(rwsem_read)(&dmar_global_lock);
	for_each_active_iommu(iommu, drhd) {
		struct intel_inherited *inherited = iommu->inherited;
		unsigned int i;

		if (!inherited)
			continue;

		guard(mutex)(&iommu->did_lock);
		for (i = 0; i < inherited->nr; i++)
			if (inherited->rids[i].present &&
			    !inherited->rids[i].attached &&
			    (!top || inherited->rids[i].top == top))
				revoke_rid(iommu, &inherited->rids[i]);
	}
}
