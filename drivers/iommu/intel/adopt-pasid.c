// SPDX-License-Identifier: GPL-2.0-only
/*
 * Take over PASID directories and tables of the previous kernel.
 *
 * In scalable mode a context entry points to a PASID directory, and what translates
 * are the entries of the PASID tables below it. The previous kernel made a directory
 * for each device that holds what is preserved, as large as the one the device had
 * before. So the device can go on with it in this kernel: when it is probed it gets
 * the inherited directory instead of a new one, and the context entry stays as it is.
 * The directory of a device that does not come up is freed when the live update is
 * finished.
 */
#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/kho/abi/intel-iommu.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "iommu.h"
#include "liveupdate.h"
#include "pasid.h"

/* Size of a PASID directory, from PDTS of its context entry, spec 9.4 */
static size_t __init pasid_dir_size(u64 context_lo)
{
	unsigned int pdts = (context_lo >> 9) & 7;

	return max(sizeof(struct pasid_dir_entry) << (pdts + 7), SZ_4K);
}

/* Is this what the record has, and can it be used? */
static bool __init adopt_pasid_entry(struct intel_iommu *iommu,
				     struct intel_inherited *inherited,
				     const struct intel_pasid_ser *ser,
				     struct pasid_entry *pte)
{
	struct intel_inherited_entry *entry;
	u16 pgtt = pasid_pte_get_pgtt(pte);

	if (memcmp(pte->val, ser->val, sizeof(ser->val)) ||
	    !pasid_pte_is_present(pte) ||
	    (pgtt != PASID_ENTRY_PGTT_FL_ONLY && pgtt != PASID_ENTRY_PGTT_SL_ONLY))
		return false;

	for_each_inherited_pasid(entry, inherited, ser->device, ser->pasid)
		return intel_adopt_entry(iommu, entry, pte->val);
	return false;
}

/* What it was in the record for, or NULL */
static const struct intel_pasid_ser *__init
find_pasid(const struct intel_pasid_ser *ser, u32 nr,
	   const struct intel_rid_ser *rid, u32 pasid)
{
	for (; nr; nr--, ser++)
		if (ser->unit == rid->unit && ser->device == rid->device &&
		    ser->pasid == pasid)
			return ser;
	return NULL;
}

/* Return: how many entries had to be cleared */
static unsigned int __init
adopt_pasid_table(struct intel_iommu *iommu, struct intel_inherited *inherited,
		  const struct intel_rid_ser *rid,
		  const struct intel_pasid_ser *pasids, u32 nr_pasids,
		  u32 first, struct pasid_entry *table)
{
	const struct intel_pasid_ser *ser;
	unsigned int i, cleared = 0;

	for (i = 0; i < PASID_TBL_ENTRIES; i++) {
		struct pasid_entry *pte = &table[i];

		if (!intel_inherited_any(pte->val, ARRAY_SIZE(pte->val)))
			continue;
		ser = find_pasid(pasids, nr_pasids, rid, first + i);
		if (ser && adopt_pasid_entry(iommu, inherited, ser, pte))
			continue;

		pr_err("%s: entry of %02x:%02x.%u PASID %u does not match its record, blocked\n",
		       iommu->name, PCI_BUS_NUM(rid->device),
		       PCI_SLOT(rid->device & 0xff), PCI_FUNC(rid->device & 0xff),
		       first + i);
		pasid_clear_present(pte);
		pasid_clear_entry(pte);
		__iommu_flush_cache(iommu, pte, sizeof(*pte));
		cleared++;
	}
	return cleared;
}

/* As a context table, it has an entry that was recorded, or it is something else */
static bool __init is_pasid_table(const struct intel_rid_ser *rid,
				  const struct intel_pasid_ser *pasids,
				  u32 nr_pasids, u32 first,
				  const struct pasid_entry *table)
{
	const struct intel_pasid_ser *ser;
	unsigned int i;

	for (i = 0; i < PASID_TBL_ENTRIES; i++) {
		if (!intel_inherited_any(table[i].val, ARRAY_SIZE(table[i].val)))
			continue;
		ser = find_pasid(pasids, nr_pasids, rid, first + i);
		if (ser && !memcmp(ser->val, table[i].val, sizeof(ser->val)))
			return true;
	}
	return false;
}

/* The directory, of which other requester IDs of the device may have come first */
static struct intel_inherited_dir *find_dir(struct intel_inherited *inherited,
					    u16 device)
{
	struct intel_inherited_dir *dir;

	for (dir = inherited->dirs; dir < inherited->dirs + inherited->nr_dirs; dir++)
		if (dir->device == device)
			return dir;
	return NULL;
}

/**
 * intel_adopt_pasid_dir - Take over what a context entry points to
 * @iommu: A unit in scalable mode
 * @inherited: Where that goes
 * @rid: The record of the context entry, which is what hardware uses
 * @pasids: Records of PASID table entries
 * @nr_pasids: Number of them
 *
 * Entries that do not match their record are cleared, with a line in the log.
 *
 * Context: While units are initialized.
 * Return: how many entries had to be cleared, or -EINVAL, with nothing taken over,
 * if the context entry has to be.
 */
int __init intel_adopt_pasid_dir(struct intel_iommu *iommu,
				 struct intel_inherited *inherited,
				 const struct intel_rid_ser *rid,
				 const struct intel_pasid_ser *pasids,
				 u32 nr_pasids)
{
	struct intel_inherited_dir *dir = find_dir(inherited, rid->device);
	u64 phys = rid->lo & VTD_PAGE_MASK;
	unsigned int i, cleared = 0;

	/* Nobody is there for page requests */
	if (rid->lo & CONTEXT_PRE)
		return -EINVAL;
	if (dir)
		return virt_to_phys(dir->dir) == phys &&
		       dir->size == pasid_dir_size(rid->lo) ? 0 : -EINVAL;

	dir = &inherited->dirs[inherited->nr_dirs];
	dir->device = rid->device;
	dir->size = pasid_dir_size(rid->lo);
	if (!iommu_page_restorable(phys, dir->size))
		return -EINVAL;
	dir->dir = iommu_restore_page(phys);
	if (!dir->dir)
		return -EINVAL;
	inherited->nr_dirs++;

	for (i = 0; i < dir->size / sizeof(*dir->dir); i++) {
		u64 pde = dir->dir[i].val;
		struct pasid_entry *table = NULL;

		if (!pde)
			continue;
		if ((pde & ~PDE_PFN_MASK) == PASID_PTE_PRESENT &&
		    iommu_page_restorable(pde & PDE_PFN_MASK, SZ_4K) &&
		    is_pasid_table(rid, pasids, nr_pasids, i << PASID_PDE_SHIFT,
				   phys_to_virt(pde & PDE_PFN_MASK)))
			table = iommu_restore_page(pde & PDE_PFN_MASK);
		if (table) {
			cleared += adopt_pasid_table(iommu, inherited, rid, pasids,
						     nr_pasids,
						     i << PASID_PDE_SHIFT, table);
			continue;
		}
		pr_err("%s: PASID table %u of %02x:%02x.%u was not preserved, or is none\n",
		       iommu->name, i, PCI_BUS_NUM(rid->device),
		       PCI_SLOT(rid->device & 0xff), PCI_FUNC(rid->device & 0xff));
		dir->dir[i].val = 0;
		__iommu_flush_cache(iommu, &dir->dir[i], sizeof(*dir->dir));
		cleared++;
	}
	dir->damaged = cleared;
	return cleared;
}

/**
 * intel_inherited_pasid_table - Let a device have its inherited PASID directory
 * @info: The device, which has no PASID table yet
 *
 * Context: While the device is probed. iommu_liveupdate_rwsem held for read.
 * Return: 0 if it has a table now, -ENODATA if it has not inherited one, -ENOMEM.
 */
int intel_inherited_pasid_table(struct device_domain_info *info)
{
	struct intel_inherited *inherited = info->iommu->inherited;
	struct intel_inherited_dir *dir = NULL;
	struct pasid_table *table;

	if (inherited)
		dir = find_dir(inherited, info_devid(info));
	if (!dir || !dir->dir)
		return -ENODATA;

	table = kzalloc_obj(*table);
	if (!table)
		return -ENOMEM;
	table->table = dir->dir;
	table->max_pasid = dir->size / sizeof(*dir->dir) << PASID_PDE_SHIFT;
	info->pasid_table = table;
	dir->dir = NULL;
	return 0;
}

/* Clears a context entry if it leads to @dir */
static void clear_context(struct intel_iommu *iommu, u16 rid, u64 dir)
{
	struct context_entry *context;

	scoped_guard(spinlock, &iommu->lock) {
		context = iommu_context_addr(iommu, PCI_BUS_NUM(rid), rid & 0xff, 0);
		if (!context || !context_present(context) ||
		    (context->lo & VTD_PAGE_MASK) != dir)
			return;
		context_clear_present(context);
		__iommu_flush_cache(iommu, context, sizeof(*context));
	}
	iommu->flush.flush_context(iommu, 0, rid, DMA_CCMD_MASK_NOBIT,
				   DMA_CCMD_DEVICE_INVL);
	context_clear_entry(context);
	__iommu_flush_cache(iommu, context, sizeof(*context));
}

/**
 * intel_inherited_clear_contexts - Clear all context entries with a PASID directory
 * @iommu: A unit in scalable mode
 * @device: The device whose directory it is
 * @dir: Physical address of the directory
 *
 * Context: Any.
 */
void intel_inherited_clear_contexts(struct intel_iommu *iommu, u16 device,
				    u64 dir)
{
	unsigned int devfn;

	/* The requester IDs of a device are on its bus */
	for (devfn = 0; devfn < 256; devfn++)
		clear_context(iommu, PCI_DEVID(PCI_BUS_NUM(device), devfn), dir);
}

/**
 * intel_inherited_has_dir - Is there a PASID directory for a device?
 * @inherited: What its unit inherited
 * @device: The device
 *
 * Context: iommu_liveupdate_rwsem held.
 * Return: true if there is one that the device does not have yet.
 */
bool intel_inherited_has_dir(struct intel_inherited *inherited, u16 device)
{
	struct intel_inherited_dir *dir = find_dir(inherited, device);

	return dir && dir->dir;
}

/**
 * intel_inherited_dir_damaged - Were entries of a device cleared at boot?
 * @inherited: What its unit inherited
 * @device: The device
 *
 * Context: Any, after the units are initialized.
 * Return: true if they were, so that the device may have translations in its own TLB
 * that are not valid any more.
 */
bool intel_inherited_dir_damaged(struct intel_inherited *inherited, u16 device)
{
	struct intel_inherited_dir *dir = find_dir(inherited, device);

	return dir && dir->damaged;
}

/**
 * intel_inherited_drop_dir - Free what a device inherited that is not there
 * @iommu: A unit in scalable mode
 * @device: The device, of which no inherited entry is present any more
 *
 * Does nothing if the device has it already, or there is none. Without its context
 * entry the device cannot use either what it had translated by ATS.
 *
 * Context: iommu_liveupdate_rwsem held, for write unless @device is being probed.
 */
void intel_inherited_drop_dir(struct intel_iommu *iommu, u16 device)
{
	struct intel_inherited_dir *dir = find_dir(iommu->inherited, device);
	unsigned int i;

	if (!dir || !dir->dir)
		return;

	intel_inherited_clear_contexts(iommu, device, virt_to_phys(dir->dir));
	for (i = 0; i < dir->size / sizeof(*dir->dir); i++)
		iommu_free_pages(get_pasid_table_from_pde(&dir->dir[i]));
	iommu_free_pages(dir->dir);
	dir->dir = NULL;
}
