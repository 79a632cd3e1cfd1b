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
 * What translates is a context entry in legacy mode, and a PASID table entry in
 * scalable mode, where the context entry stays with its PASID directory as long as
 * the device does (adopt-pasid.c).
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
 * &intel_inherited_entry.present is protected by &intel_iommu.did_lock.
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
#include "pasid.h"

/*
 * Copy of the record, valid while the units are initialized. What is left of it then are
 * the requester IDs for which units translate that this kernel does not know.
 */
static struct intel_liveupdate_ser *record __ro_after_init;

static struct intel_unit_ser *record_units(void)
{
	return (struct intel_unit_ser *)(record + 1);
}

static struct intel_rid_ser *record_rids(void)
{
	return (struct intel_rid_ser *)(record_units() + record->nr_units);
}

static struct intel_pasid_ser *__init record_pasids(void)
{
	return (struct intel_pasid_ser *)(record_rids() + record->nr_rids);
}

/* Return: the record at @data, or NULL, with a line in the log */
static struct intel_liveupdate_ser *__init find_record(u64 data)
{
	struct intel_liveupdate_ser *ser;
	size_t arrays;

	ser = kho_restorable(data, sizeof(*ser));
	if (!ser) {
		pr_err("the record of the previous kernel was not preserved\n");
		return NULL;
	}
	if (ser->version != INTEL_LIVEUPDATE_VERSION) {
		pr_err("handed over in version %u, this kernel knows %u\n",
		       ser->version, INTEL_LIVEUPDATE_VERSION);
		return NULL;
	}

	arrays = size_add(size_mul(ser->nr_units, sizeof(struct intel_unit_ser)),
			  size_mul(ser->nr_rids, sizeof(struct intel_rid_ser)));
	arrays = size_add(arrays, size_mul(ser->nr_pasids,
					   sizeof(struct intel_pasid_ser)));
	if (ser->crc != crc32_le(~0, (void *)ser, offsetof(typeof(*ser), crc)) ||
	    ser->length != size_add(sizeof(*ser), arrays) ||
	    !kho_restorable(data, ser->length) ||
	    ser->arrays_crc != crc32_le(~0, (void *)(ser + 1), arrays)) {
		pr_err("the record of the previous kernel is damaged\n");
		return NULL;
	}
	return ser;
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

/* Also what was derived from the mode when the units were found */
static void __init set_mode(bool scalable)
{
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;

	intel_iommu_sm = scalable;
	for_each_iommu(iommu, drhd) {
		iommu->agaw = iommu_calculate_agaw(iommu);
		iommu->msagaw = iommu_calculate_max_sagaw(iommu);
		drhd->ignored = iommu->agaw < 0 || iommu->msagaw < 0;
		iommu->iommu.max_pasids = pasid_supported(iommu) ?
					  2UL << ecap_pss(iommu->ecap) : 0;
	}
}

/*
 * The mode of a unit cannot be changed while it translates. If the record says that
 * it is in another one, the unit will not be adopted, and can stay as it is too.
 */
static void __init keep_mode(void)
{
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;
	int scalable;

	for_each_iommu(iommu, drhd) {
		if (!ecap_smts(iommu->ecap) || find_unit(iommu) < 0 ||
		    !(readl(iommu->reg + DMAR_GSTS_REG) & DMA_GSTS_TES))
			continue;
		scalable = !!(readq(iommu->reg + DMAR_RTADDR_REG) & DMA_RTADDR_SMT);
		if (intel_iommu_sm != scalable) {
			pr_warn("scalable mode stays %s, as in the previous kernel\n",
				scalable ? "on" : "off");
			set_mode(scalable);
		}
		return;
	}
}

/**
 * intel_inherited_init - Read what the previous kernel handed over
 *
 * If there are units to be adopted that could be in scalable mode, intel_iommu_sm is
 * set to the mode that they are in.
 *
 * Context: Once, before any unit is initialized, dmar_global_lock held.
 * Return: true if there is a valid record of units, so that they are to be
 * adopted.
 */
bool __init intel_inherited_init(void)
{
	struct intel_liveupdate_ser *ser;
	u64 data;

	if (liveupdate_subsystem_get_incoming(INTEL_LIVEUPDATE_NAME, &data))
		return false;

	ser = find_record(data);
	if (!ser)
		return false;

	record = kmemdup(ser, ser->length, GFP_KERNEL);
	kho_restore_free(ser);
	if (!record || !record->nr_units)
		return false;

	keep_mode();
	return true;
}

static void __init set_context(struct intel_inherited_entry *entry,
			       const struct intel_rid_ser *ser)
{
	struct context_entry ce = { .lo = ser->lo, .hi = ser->hi };

	entry->rid = ser->rid;
	entry->device = ser->device;
	entry->did = context_domain_id(&ce);
	entry->top = ce.lo & VTD_PAGE_MASK;
}

static void __init set_pasid(struct intel_inherited_entry *entry,
			     const struct intel_pasid_ser *ser)
{
	struct pasid_entry pte;

	memcpy(pte.val, ser->val, sizeof(pte.val));
	entry->rid = ser->device;
	entry->device = ser->device;
	entry->pasid = ser->pasid;
	entry->did = pasid_get_domain_id(&pte);
	entry->first_stage = pasid_pte_get_pgtt(&pte) == PASID_ENTRY_PGTT_FL_ONLY;
	entry->top = pte.val[entry->first_stage ? 2 : 0] & VTD_PAGE_MASK;
}

/* Return: where the next entry goes: behind @entry if that is the first of its kind */
static struct intel_inherited_entry *__init
next_entry(struct intel_inherited *inherited, struct intel_inherited_entry *entry)
{
	struct intel_inherited_entry *other;

	for (other = inherited->entries; other < entry; other++) {
		if (other->rid != entry->rid || other->pasid != entry->pasid)
			continue;
		pr_err("%02x:%02x.%u PASID %u has two records, one is dropped\n",
		       PCI_BUS_NUM(entry->rid), PCI_SLOT(entry->rid & 0xff),
		       PCI_FUNC(entry->rid & 0xff), entry->pasid);
		return entry;
	}
	return entry + 1;
}

static struct intel_inherited *__init alloc_inherited(u32 unit)
{
	bool scalable = record_units()[unit].scalable;
	struct intel_pasid_ser *pasids = record_pasids();
	struct intel_rid_ser *rids = record_rids();
	struct intel_inherited_entry *entry;
	struct intel_inherited *inherited;
	unsigned int nr = 0, nr_rids = 0;
	u32 i;

	for (i = 0; i < record->nr_rids; i++)
		nr_rids += rids[i].unit == unit;
	for (i = 0; i < record->nr_pasids; i++)
		nr += pasids[i].unit == unit;
	if (!scalable)
		nr = nr_rids;

	inherited = kzalloc_flex(*inherited, entries, nr);
	if (!inherited)
		return NULL;
	inherited->nr = nr;

	entry = inherited->entries;
	for (i = 0; i < record->nr_rids && !scalable; i++) {
		if (rids[i].unit != unit)
			continue;
		set_context(entry, &rids[i]);
		entry = next_entry(inherited, entry);
	}
	for (i = 0; i < record->nr_pasids && scalable; i++) {
		if (pasids[i].unit != unit)
			continue;
		set_pasid(entry, &pasids[i]);
		entry = next_entry(inherited, entry);
	}
	inherited->nr = entry - inherited->entries;
	if (!scalable)
		return inherited;

	/* Not more than there are requester IDs */
	inherited->dirs = kzalloc_objs(*inherited->dirs, nr_rids);
	if (!inherited->dirs) {
		kfree(inherited);
		return NULL;
	}
	return inherited;
}

static void free_inherited(struct intel_inherited *inherited)
{
	kfree(inherited->dirs);
	kfree(inherited);
}

/* The record of a context entry, if that is what was recorded */
static struct intel_rid_ser *__init match_context(u32 unit, u16 rid,
						  const struct context_entry *ce)
{
	struct intel_rid_ser *ser = record_rids();
	u32 i;

	for (i = 0; i < record->nr_rids; i++)
		if (ser[i].unit == unit && ser[i].rid == rid &&
		    ser[i].lo == ce->lo && ser[i].hi == ce->hi)
			return &ser[i];
	return NULL;
}

/**
 * intel_adopt_entry - Let an inherited entry have its domain id
 * @iommu: The unit
 * @entry: The inherited entry
 * @live: It is what hardware uses
 *
 * Context: While units are initialized.
 * Return: true, or false if the entry cannot be used.
 */
bool __init intel_adopt_entry(struct intel_iommu *iommu,
			      struct intel_inherited_entry *entry, u64 *live)
{
	if (entry->present || entry->did < IDA_START_DID ||
	    entry->did >= iommu->max_domain_id)
		return false;
	/* -ENOSPC: another entry has reserved the id */
	if (ida_alloc_range(&iommu->domain_ida, entry->did, entry->did,
			    GFP_KERNEL) == -ENOMEM)
		return false;
	entry->live = live;
	entry->present = true;
	return true;
}

/* Return: how many entries had to be cleared, or -1 if @context is one */
static int __init adopt_context(struct intel_iommu *iommu,
				struct intel_inherited *inherited, u32 unit,
				u16 rid, struct context_entry *context)
{
	struct intel_inherited_entry *entry;
	struct intel_rid_ser *ser;

	ser = match_context(unit, rid, context);
	if (!ser)
		return -1;
	if (sm_supported(iommu))
		return intel_adopt_pasid_dir(iommu, inherited, ser,
					     record_pasids(), record->nr_pasids);

	if (intel_context_tt(context->lo) > CONTEXT_TT_DEV_IOTLB)
		return -1;
	for_each_inherited_entry(entry, inherited, ser->device)
		if (entry->rid == rid)
			return intel_adopt_entry(iommu, entry, &context->lo) ? 0 : -1;
	return -1;
}

/* Return: how many entries had to be cleared */
static unsigned int __init adopt_context_table(struct intel_iommu *iommu,
					       struct intel_inherited *inherited,
					       u32 unit, u16 rid,
					       struct context_entry *context)
{
	unsigned int i, cleared = 0, words = sm_supported(iommu) ? 4 : 2;
	u64 *end = (u64 *)context + SZ_4K / sizeof(u64);
	u64 *entry;
	int ret;

	for (entry = (u64 *)context; entry < end; entry += words, rid++) {
		if (!intel_inherited_any(entry, words))
			continue;
		ret = -1;
		if (words == 2 || (!entry[2] && !entry[3]))
			ret = adopt_context(iommu, inherited, unit, rid,
					    (struct context_entry *)entry);
		if (ret >= 0) {
			cleared += ret;
			continue;
		}
		pr_err("%s: entry of %02x:%02x.%u does not match its record, blocked\n",
		       iommu->name, PCI_BUS_NUM(rid), PCI_SLOT(rid & 0xff),
		       PCI_FUNC(rid & 0xff));
		context_clear_present((struct context_entry *)entry);
		for (i = 0; i < words; i++)
			entry[i] = 0;
		__iommu_flush_cache(iommu, entry, words * sizeof(u64));
		cleared++;
	}
	return cleared;
}

/*
 * A damaged root entry may point to any page that was preserved, like one of a VMM's
 * memory. A context table of the previous kernel has an entry that was recorded.
 */
static bool __init is_context_table(struct intel_iommu *iommu, u32 unit, u16 rid,
				    const u64 *entry)
{
	unsigned int words = sm_supported(iommu) ? 4 : 2;
	const u64 *end = entry + SZ_4K / sizeof(u64);

	for (; entry < end; entry += words, rid++)
		if (intel_inherited_any(entry, words) &&
		    match_context(unit, rid, (const struct context_entry *)entry))
			return true;
	return false;
}

static void __init drop_root_entry(struct intel_iommu *iommu, u16 rid, u64 *root)
{
	pr_err("%s: context table of bus %02x was not preserved, or is none, its devices are blocked\n",
	       iommu->name, PCI_BUS_NUM(rid));
	*root = 0;
	__iommu_flush_cache(iommu, root, sizeof(*root));
}

/* @root: One half of the root entry, @rid: first requester ID that it is for */
static unsigned int __init adopt_root_entry(struct intel_iommu *iommu,
					    struct intel_inherited *inherited,
					    u32 unit, u16 rid, u64 *root)
{
	struct context_entry *context = NULL;

	if (!*root)
		return 0;

	if ((*root & ~VTD_PAGE_MASK) == 1 &&
	    iommu_page_restorable(*root & VTD_PAGE_MASK, SZ_4K) &&
	    is_context_table(iommu, unit, rid, phys_to_virt(*root & VTD_PAGE_MASK)))
		context = iommu_restore_page(*root & VTD_PAGE_MASK);
	if (context)
		return adopt_context_table(iommu, inherited, unit, rid, context);

	drop_root_entry(iommu, rid, root);
	return 1;
}

static unsigned int __init adopt_root_table(struct intel_iommu *iommu,
					    struct intel_inherited *inherited,
					    u32 unit)
{
	struct root_entry *root = iommu->root_entry;
	unsigned int bus, cleared = 0;

	for (bus = 0; bus < ROOT_ENTRY_NR; bus++) {
		cleared += adopt_root_entry(iommu, inherited, unit,
					    PCI_DEVID(bus, 0), &root[bus].lo);
		if (sm_supported(iommu)) {
			cleared += adopt_root_entry(iommu, inherited, unit,
						    PCI_DEVID(bus, 0x80),
						    &root[bus].hi);
		} else if (root[bus].hi) {
			drop_root_entry(iommu, PCI_DEVID(bus, 0), &root[bus].hi);
			cleared++;
		}
	}
	return cleared;
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
	struct intel_unit_ser *ser;
	unsigned int cleared, i;
	u64 root;
	int unit;

	if (!record)
		return -ENODATA;
	unit = find_unit(iommu);
	if (unit < 0)
		return unit;

	ser = &record_units()[unit];
	root = ser->root | (ser->scalable ? DMA_RTADDR_SMT : 0);
	if (readq(iommu->reg + DMAR_RTADDR_REG) != root) {
		pr_err("%s: root table is at %#llx, %#llx is recorded\n",
		       iommu->name, readq(iommu->reg + DMAR_RTADDR_REG), root);
		return -EINVAL;
	}
	if (sm_supported(iommu) != ser->scalable) {
		pr_err("%s: was in the other mode, legacy or scalable\n",
		       iommu->name);
		return -EINVAL;
	}

	inherited = alloc_inherited(unit);
	if (!inherited)
		return -ENOMEM;

	iommu->root_entry = NULL;
	if (iommu_page_restorable(ser->root, SZ_4K))
		iommu->root_entry = iommu_restore_page(ser->root);
	if (!iommu->root_entry) {
		pr_err("%s: root table was not preserved\n", iommu->name);
		free_inherited(inherited);
		return -EINVAL;
	}

	cleared = adopt_root_table(iommu, inherited, unit);
	for (i = 0; i < inherited->nr; i++)
		if (!inherited->entries[i].present)
			pr_err("%s: no entry of %02x:%02x.%u is left, it is blocked\n",
			       iommu->name,
			       PCI_BUS_NUM(inherited->entries[i].rid),
			       PCI_SLOT(inherited->entries[i].rid & 0xff),
			       PCI_FUNC(inherited->entries[i].rid & 0xff));
	if (cleared) {
		iommu_flush_write_buffer(iommu);
		iommu->flush.flush_context(iommu, 0, 0, 0, DMA_CCMD_GLOBAL_INVL);
		if (sm_supported(iommu))
			qi_flush_pasid_cache(iommu, 0, QI_PC_GLOBAL, 0);
		iommu->flush.flush_iotlb(iommu, 0, 0, 0, DMA_TLB_GLOBAL_FLUSH);
	}

	iommu->inherited = inherited;
	pr_info("%s: goes on with the tables of the previous kernel, %u entries\n",
		iommu->name, inherited->nr);
	return 0;
}

static bool __init unit_is_here(const struct intel_unit_ser *unit)
{
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;

	for_each_iommu(iommu, drhd)
		if (iommu->reg_phys == unit->reg_phys)
			return true;
	return false;
}

/* Leave those requester IDs in the record whose unit is not here */
static void __init keep_stranded(void)
{
	struct intel_unit_ser *units = record_units();
	struct intel_rid_ser *rids = record_rids();
	u32 i, nr = 0;

	for (i = 0; i < record->nr_rids; i++) {
		/* No entry matches the record of a unit that there never was */
		if (rids[i].unit >= record->nr_units || unit_is_here(&units[rids[i].unit]))
			continue;
		pr_err("%04x:%02x:%02x.%u: the unit at %#llx that translates for it is not found, it cannot be used before the next boot\n",
		       units[rids[i].unit].segment, PCI_BUS_NUM(rids[i].rid),
		       PCI_SLOT(rids[i].rid & 0xff), PCI_FUNC(rids[i].rid & 0xff),
		       units[rids[i].unit].reg_phys);
		rids[nr++] = rids[i];
	}
	record->nr_rids = nr;
}

/**
 * intel_inherited_done - All units are initialized
 *
 * Context: Once, after intel_inherited_init() and the last intel_iommu_adopt().
 * dmar_global_lock held.
 */
void __init intel_inherited_done(void)
{
	if (!record)
		return;

	iommu_restored_set_revoke(intel_inherited_revoke_all);
	keep_stranded();
	if (record->nr_rids)
		return;
	kfree(record);
	record = NULL;
}

/**
 * intel_inherited_stranded - Does a unit translate for a device that is not here?
 * @pdev: The device
 *
 * Firmware or the command line may hide a unit that goes on with the tables of the
 * previous kernel. Another one that claims all devices that are left would not get
 * to see what this one does.
 *
 * Context: Any, after intel_inherited_done().
 * Return: true if nothing of what a unit of this kernel does reaches @pdev.
 */
bool intel_inherited_stranded(struct pci_dev *pdev)
{
	struct intel_unit_ser *units;
	struct intel_rid_ser *rids;
	u32 i;

	if (!record)
		return false;

	units = record_units();
	rids = record_rids();
	for (i = 0; i < record->nr_rids; i++)
		if (rids[i].device == pci_dev_id(pdev) &&
		    units[rids[i].unit].segment == pci_domain_nr(pdev->bus))
			return true;
	return false;
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
		if (inherited->entries[i].present && inherited->entries[i].did == did)
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
			if (!inherited->entries[i].present)
				continue;
			inherited->entries[i].present = false;
			intel_inherited_put_did(iommu, NULL, inherited->entries[i].did);
		}
	}
	iommu->inherited = NULL;
	free_inherited(inherited);
}

/* A device with the requester ID of another one has its own in another segment */
static struct intel_inherited *inherited_of(struct device_domain_info *info)
{
	return dev_is_real_dma_subdevice(info->dev) ? NULL : info->iommu->inherited;
}

/**
 * intel_inherited_matches - Is this the page table that a device translates with?
 * @info: The device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 * @ser: Record of a page table
 *
 * Context: &intel_iommu.did_lock is taken.
 * Return: true if there is an inherited entry, and it and those of DMA aliases point
 * to the top table in @ser.
 */
bool intel_inherited_matches(struct device_domain_info *info, u32 pasid,
			     const struct pt_iommu_ser *ser)
{
	bool first_stage = ser->format == PT_IOMMU_SER_X86_64;
	struct intel_inherited *inherited = inherited_of(info);
	struct intel_inherited_entry *entry;
	bool found = false;

	if (!inherited)
		return false;

	guard(mutex)(&info->iommu->did_lock);
	for_each_inherited_pasid(entry, inherited, info_devid(info), pasid) {
		if (!entry->present || entry->first_stage != first_stage ||
		    entry->top != ser->top_phys)
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
 * @pasid: Or a PASID of it that was, or IOMMU_NO_PASID
 *
 * The counterpart is domain_detach_iommu(), after intel_inherited_detach().
 *
 * Context: &intel_iommu.did_lock is taken.
 * Return: 0. -ENODATA if the device was attached and blocked since, -ENXIO if it
 * never had an inherited entry for @domain, -EINVAL if @domain has another id on
 * this unit, -ENOMEM.
 */
int intel_inherited_attach(struct dmar_domain *domain,
			   struct device_domain_info *info, u32 pasid)
{
	struct intel_iommu *iommu = info->iommu;
	struct intel_inherited *inherited = inherited_of(info);
	struct intel_inherited_entry *entry, *found = NULL;
	u64 top = domain_top_phys(domain);
	int ret;

	if (!inherited)
		return -ENXIO;

	guard(mutex)(&iommu->did_lock);
	for_each_inherited_pasid(entry, inherited, info_devid(info), pasid) {
		found = entry;
		if (entry->top != top ||
		    (!entry->present && !entry->attached))
			return -ENXIO;
		if (!entry->present)
			return -ENODATA;
	}
	if (!found)
		return -ENXIO;

	ret = use_did(domain, iommu, found->did);
	if (ret)
		return ret;

	for_each_inherited_pasid(entry, inherited, info_devid(info), pasid)
		entry->attached = true;
	return 0;
}

/**
 * intel_inherited_words - Number of 64 bit words in an inherited entry
 * @iommu: The unit
 *
 * Return: that of a context entry or, in scalable mode, of a PASID table entry.
 */
unsigned int intel_inherited_words(struct intel_iommu *iommu)
{
	return (sm_supported(iommu) ? sizeof(struct pasid_entry) :
				      sizeof(struct context_entry)) / sizeof(u64);
}

/**
 * intel_inherited_invalidate - Forget what was fetched through an entry
 * @iommu: The unit
 * @entry: An inherited entry that has been cleared or replaced
 * @info: The device, or NULL if it is not there
 *
 * Spec 6.5.3.3, Guidance to Software for Invalidations. On return requests that
 * used the entry as it was are done.
 *
 * Context: Any.
 */
void intel_inherited_invalidate(struct intel_iommu *iommu,
				const struct intel_inherited_entry *entry,
				struct device_domain_info *info)
{
	iommu_flush_write_buffer(iommu);
	if (sm_supported(iommu))
		qi_flush_pasid_cache(iommu, entry->did, QI_PC_PASID_SEL,
				     entry->pasid);
	else
		iommu->flush.flush_context(iommu, entry->did, entry->rid,
					   DMA_CCMD_MASK_NOBIT,
					   DMA_CCMD_DEVICE_INVL);

	if (entry->first_stage)
		qi_flush_piotlb_all(iommu, entry->did, entry->pasid);
	else
		iommu->flush.flush_iotlb(iommu, entry->did, 0, 0,
					 DMA_TLB_DSI_FLUSH);

	/* Last: the device may ask anew as soon as it has forgotten */
	if (!info)
		return;
	devtlb_invalidation_with_pasid(iommu, info->dev, entry->pasid);
	if (info->ats_enabled && pci_device_is_present(to_pci_dev(info->dev)))
		quirk_extra_dev_tlb_flush(info, 0, MAX_AGAW_PFN_WIDTH,
					  entry->pasid, info->ats_qdep);
}

/* Present is the first bit of an entry of either kind */
static bool clear_present(struct intel_iommu *iommu, u64 *live)
{
	guard(spinlock)(&iommu->lock);

	if (!(live[0] & PASID_PTE_PRESENT))
		return false;
	WRITE_ONCE(live[0], live[0] & ~(u64)PASID_PTE_PRESENT);
	dma_wmb();
	__iommu_flush_cache(iommu, live, sizeof(*live));
	return true;
}

static void drop_entry(struct intel_iommu *iommu,
		       struct intel_inherited_entry *entry,
		       struct device_domain_info *info,
		       struct dmar_domain *domain)
{
	unsigned int i, nr = intel_inherited_words(iommu);

	lockdep_assert_held(&iommu->did_lock);

	if (clear_present(iommu, entry->live)) {
		intel_inherited_invalidate(iommu, entry, info);
		for (i = 0; i < nr; i++)
			WRITE_ONCE(entry->live[i], 0);
		__iommu_flush_cache(iommu, entry->live, nr * sizeof(u64));
	}
	entry->present = false;
	intel_inherited_put_did(iommu, domain, entry->did);
}

static bool device_present(struct intel_inherited *inherited, u16 device)
{
	struct intel_inherited_entry *entry;

	for_each_inherited_entry(entry, inherited, device)
		if (entry->present)
			return true;
	return false;
}

static bool has_inherited(struct device_domain_info *info,
			  struct intel_inherited *inherited)
{
	/* A context entry may be left of which no PASID is */
	if (sm_supported(info->iommu))
		return intel_inherited_has_dir(inherited, info_devid(info));

	guard(mutex)(&info->iommu->did_lock);
	return device_present(inherited, info_devid(info));
}

/**
 * intel_inherited_features - Let a device do what it was allowed to do
 * @info: The device, with what it and the unit support
 *
 * Clears what is not enabled in the context entry that the device inherited, as long
 * as that is there. Page requests are not, ever. If ATS is, and is not supported, or
 * other entries of the device were damaged, all are revoked, with a line in the log.
 *
 * Context: While the device is probed. iommu_liveupdate_rwsem held for read.
 * Return: true if it has inherited an entry.
 */
bool intel_inherited_features(struct device_domain_info *info)
{
	struct intel_inherited *inherited = inherited_of(info);
	struct intel_iommu *iommu = info->iommu;
	struct context_entry *context, ce = {};
	bool ats;

	if (!inherited || !has_inherited(info, inherited))
		return false;

	scoped_guard(spinlock, &iommu->lock) {
		context = iommu_context_addr(iommu, info->bus, info->devfn, 0);
		if (context)
			ce = *context;
	}

	if (sm_supported(iommu))
		ats = ce.lo & CONTEXT_DTE;
	else
		ats = intel_context_tt(ce.lo) == CONTEXT_TT_DEV_IOTLB;
	if (ats && (!info->ats_supported ||
		    intel_inherited_dir_damaged(inherited, info_devid(info)))) {
		/* What it had translated could not be taken away from it */
		dev_err(info->dev, "live update: it uses ATS, %s, it is blocked\n",
			info->ats_supported ? "and entries of it were damaged" :
					      "which this kernel does not");
		intel_inherited_revoke(info);
		intel_inherited_drop_dir(iommu, info_devid(info));
		return false;
	}

	info->pri_supported = 0;
	if (!ats)
		info->ats_supported = 0;
	if (sm_supported(iommu) && !(ce.lo & CONTEXT_PASIDE))
		info->pasid_supported = 0;
	return true;
}

/**
 * intel_inherited_detach - An attached device is blocked
 * @domain: The domain that was attached to it
 * @info: The device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 *
 * Context: Before domain_detach_iommu(). &intel_iommu.did_lock is taken.
 */
void intel_inherited_detach(struct dmar_domain *domain,
			    struct device_domain_info *info, u32 pasid)
{
	struct intel_inherited *inherited = inherited_of(info);
	struct intel_inherited_entry *entry;

	if (!inherited)
		return;

	guard(mutex)(&info->iommu->did_lock);
	for_each_inherited_pasid(entry, inherited, info_devid(info), pasid) {
		if (!entry->present)
			continue;
		/* The device may have fewer aliases than it had before */
		drop_entry(info->iommu, entry, info, domain);
	}
}

static void revoke_entry(struct intel_iommu *iommu,
			 struct intel_inherited_entry *entry,
			 struct device_domain_info *info)
{
	pr_info("%s: inherited entry of %02x:%02x.%u PASID %u is revoked\n",
		iommu->name, PCI_BUS_NUM(entry->rid), PCI_SLOT(entry->rid & 0xff),
		PCI_FUNC(entry->rid & 0xff), entry->pasid);
	drop_entry(iommu, entry, info, NULL);
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
	struct intel_inherited *inherited = inherited_of(info);
	struct intel_inherited_entry *entry;

	if (!inherited)
		return;

	guard(mutex)(&info->iommu->did_lock);
	for_each_inherited_entry(entry, inherited, info_devid(info)) {
		/* What is attached goes by intel_inherited_detach() */
		if (!entry->present || entry->attached)
			continue;
		/*
		 * The device may be doing DMA that was set up in the previous
		 * kernel, and what is attached next may be an identity domain.
		 */
		if (dev_is_pci(info->dev))
			pci_clear_master(to_pci_dev(info->dev));
		revoke_entry(info->iommu, entry, info);
	}
}

/**
 * intel_inherited_revoke_pasid - Block a PASID that has not been attached yet
 * @info: The device
 * @pasid: The PASID
 *
 * Does nothing if there is no inherited entry.
 *
 * Context: Mutex of the device's group. &intel_iommu.did_lock is taken.
 */
void intel_inherited_revoke_pasid(struct device_domain_info *info, u32 pasid)
{
	struct intel_inherited *inherited = inherited_of(info);
	struct intel_inherited_entry *entry;

	if (!inherited)
		return;

	guard(mutex)(&info->iommu->did_lock);
	for_each_inherited_pasid(entry, inherited, info_devid(info), pasid)
		if (entry->present)
			revoke_entry(info->iommu, entry, info);
}

/**
 * intel_inherited_release - A device goes, and nobody knows what it inherited then
 * @info: The device
 *
 * Also clears context entries with its PASID directory that it would not have in this
 * kernel.
 *
 * Context: Mutex of the device's group, or the device has none yet.
 */
void intel_inherited_release(struct device_domain_info *info)
{
	struct intel_iommu *iommu = info->iommu;

	if (!inherited_of(info))
		return;

	/* If it was never attached its entries are still there */
	intel_inherited_revoke(info);
	if (info->pasid_table)
		intel_inherited_clear_contexts(iommu, info_devid(info),
					       virt_to_phys(info->pasid_table->table));
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

	/* Not with dmar_global_lock held, which comes before the rwsem */
	list_for_each_entry(drhd, &dmar_drhd_units, list) {
		struct intel_inherited *inherited;
		unsigned int i;

		iommu = drhd->iommu;
		inherited = iommu->inherited;
		if (!inherited)
			continue;

		guard(mutex)(&iommu->did_lock);
		for (i = 0; i < inherited->nr; i++) {
			struct intel_inherited_entry *entry = &inherited->entries[i];
			struct device *dev;

			if (!entry->present || entry->attached ||
			    (top && entry->top != top))
				continue;
			/* If it is here it may have ATS, and it stays meanwhile */
			dev = device_rbtree_find(iommu, entry->rid);
			revoke_entry(iommu, entry,
				     dev ? dev_iommu_priv_get(dev) : NULL);
		}
		/* Of those that are not probed, and of which nothing is left */
		for (i = 0; i < inherited->nr_dirs; i++)
			if (!device_present(inherited, inherited->dirs[i].device))
				intel_inherited_drop_dir(iommu,
							 inherited->dirs[i].device);
	}
}
