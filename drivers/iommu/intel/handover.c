// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tables that a VT-d unit walks while one kernel replaces another.
 *
 * The tables that a unit uses in normal operation cannot be handed over:
 * context tables are allocated whenever a device is probed, where KHO must not
 * be called, and they hold entries of devices whose page tables are not
 * preserved. So a root table of its own is built for the jump, with context
 * tables for the requester IDs that are preserved and entries for nothing
 * else. All of it is preserved. When the kernel shuts down, hardware is
 * switched to it with translation on. Specification 3.4, 6.6: that is allowed
 * if requests in flight are translated alike by the old and the new tables,
 * which is so for the preserved requester IDs. All others are blocked.
 *
 * In scalable mode each device has a PASID directory as well, with those PASID tables
 * that are needed. The directory is as large as the live one, because the device goes
 * on with it in the next kernel.
 *
 * Locking: the caller serializes all functions for one unit. The entries of
 * the live tables are read with &intel_iommu.lock. intel_handover_switch()
 * runs when all other CPUs are stopped.
 */
#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/delay.h>
#include <linux/io.h>
#include <linux/kho/abi/intel-iommu.h>
#include <linux/list.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "iommu.h"
#include "liveupdate.h"
#include "pasid.h"

/**
 * struct handover_dir - The PASID directory of a device
 * @list: Entry in &intel_handover.pasid_dirs
 * @device: Bus, device and function of the device
 * @dir: The directory
 * @nr: Number of entries in @dir
 */
struct handover_dir {
	struct list_head list;
	u16 device;
	struct pasid_dir_entry *dir;
	unsigned int nr;
};

static void *alloc_table(struct intel_iommu *iommu, size_t size)
{
	void *table;
	int ret;

	table = iommu_alloc_pages_node_sz(iommu->node, GFP_KERNEL, size);
	if (!table)
		return ERR_PTR(-ENOMEM);

	ret = iommu_preserve_page(table);
	if (ret) {
		iommu_free_pages(table);
		return ERR_PTR(ret);
	}
	__iommu_flush_cache(iommu, table, size);
	return table;
}

static void free_table(void *table)
{
	iommu_unpreserve_page(table);
	iommu_free_pages(table);
}

/* That half of the root entry which leads to the context entry of @rid */
static u64 *get_root(struct intel_handover *handover, u16 rid)
{
	struct root_entry *root = &handover->root[PCI_BUS_NUM(rid)];

	return sm_supported(handover->iommu) && rid & 0x80 ? &root->hi : &root->lo;
}

static struct context_entry *get_entry(struct intel_handover *handover, u16 rid)
{
	u64 root = *get_root(handover, rid);
	struct context_entry *context;

	if (!(root & 1))
		return NULL;

	context = phys_to_virt(root & VTD_PAGE_MASK);
	/* An entry is twice as long in scalable mode */
	if (sm_supported(handover->iommu))
		return &context[(rid & 0x7f) * 2];
	return &context[rid & 0xff];
}

static void set_entry(struct intel_handover *handover, u16 rid, u64 lo, u64 hi)
{
	struct context_entry *context = get_entry(handover, rid);

	if (!context)
		return;
	context->lo = lo;
	context->hi = hi;
	__iommu_flush_cache(handover->iommu, context, sizeof(*context));
}

static struct handover_dir *find_dir(struct intel_handover *handover, u16 device)
{
	struct handover_dir *dir;

	list_for_each_entry(dir, &handover->pasid_dirs, list)
		if (dir->device == device)
			return dir;
	return NULL;
}

static void free_dir(struct handover_dir *dir)
{
	struct pasid_entry *table;
	unsigned int i;

	list_del(&dir->list);
	for (i = 0; i < dir->nr; i++) {
		table = get_pasid_table_from_pde(&dir->dir[i]);
		if (table)
			free_table(table);
	}
	free_table(dir->dir);
	kfree(dir);
}

/* NULL if no table was added for it */
static struct pasid_entry *get_pasid_entry(struct pasid_dir_entry *dir, u32 pasid)
{
	struct pasid_entry *table;

	table = get_pasid_table_from_pde(&dir[pasid >> PASID_PDE_SHIFT]);
	return table ? &table[pasid & PASID_PTE_MASK] : NULL;
}

static void set_pasid_entry(struct intel_handover *handover, u16 device, u32 pasid,
			    const struct pasid_entry *val)
{
	struct handover_dir *dir = find_dir(handover, device);
	struct pasid_entry *pte = dir ? get_pasid_entry(dir->dir, pasid) : NULL;

	if (!pte)
		return;
	*pte = *val;
	__iommu_flush_cache(handover->iommu, pte, sizeof(*pte));
}

/**
 * intel_handover_alloc - Make the handover tables of a unit
 * @iommu: The unit
 *
 * Context: May sleep.
 * Return: the tables with no entry in them, or an ERR_PTR().
 */
struct intel_handover *intel_handover_alloc(struct intel_iommu *iommu)
{
	struct intel_handover *handover;

	handover = kzalloc_obj(*handover);
	if (!handover)
		return ERR_PTR(-ENOMEM);

	handover->iommu = iommu;
	INIT_LIST_HEAD(&handover->pasid_dirs);
	handover->root = alloc_table(iommu, SZ_4K);
	if (IS_ERR(handover->root)) {
		void *err = handover->root;

		kfree(handover);
		return err;
	}
	return handover;
}

/**
 * intel_handover_free - Undo intel_handover_alloc() and what was added since
 * @handover: The tables
 *
 * Context: May sleep.
 */
void intel_handover_free(struct intel_handover *handover)
{
	struct handover_dir *dir, *tmp;
	unsigned int bus;

	for (bus = 0; bus < ROOT_ENTRY_NR; bus++) {
		if (handover->root[bus].lo & 1)
			free_table(phys_to_virt(handover->root[bus].lo &
						VTD_PAGE_MASK));
		if (handover->root[bus].hi & 1)
			free_table(phys_to_virt(handover->root[bus].hi &
						VTD_PAGE_MASK));
	}
	list_for_each_entry_safe(dir, tmp, &handover->pasid_dirs, list)
		free_dir(dir);
	free_table(handover->root);
	kfree(handover);
}

/**
 * intel_handover_add - Make room for the entry of a requester ID
 * @handover: The tables
 * @rid: The requester ID
 *
 * Context: May sleep.
 * Return: 0 or a negative errno, with nothing changed.
 */
int intel_handover_add(struct intel_handover *handover, u16 rid)
{
	u64 *root = get_root(handover, rid);
	struct context_entry *context;

	if (*root & 1)
		return 0;

	context = alloc_table(handover->iommu, SZ_4K);
	if (IS_ERR(context))
		return PTR_ERR(context);

	*root = virt_to_phys(context) | 1;
	__iommu_flush_cache(handover->iommu, root, sizeof(*root));
	return 0;
}

/**
 * intel_handover_add_device - Make a PASID directory for a device
 * @handover: The tables, in scalable mode
 * @info: The device, which has none yet
 *
 * Context: May sleep.
 * Return: 0 or a negative errno, with nothing changed.
 */
int intel_handover_add_device(struct intel_handover *handover,
			      struct device_domain_info *info)
{
	struct handover_dir *dir;
	int ret;

	dir = kzalloc_obj(*dir);
	if (!dir)
		return -ENOMEM;

	dir->device = info_devid(info);
	dir->nr = info->pasid_table->max_pasid >> PASID_PDE_SHIFT;
	dir->dir = alloc_table(handover->iommu, dir->nr * sizeof(*dir->dir));
	if (IS_ERR(dir->dir)) {
		ret = PTR_ERR(dir->dir);
		kfree(dir);
		return ret;
	}
	list_add_tail(&dir->list, &handover->pasid_dirs);
	return 0;
}

/**
 * intel_handover_add_pasid - Make room for the entry of a PASID
 * @handover: The tables, in scalable mode
 * @device: The device, for which intel_handover_add_device() succeeded
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 *
 * Context: May sleep.
 * Return: 0 or a negative errno, with nothing changed.
 */
int intel_handover_add_pasid(struct intel_handover *handover, u16 device,
			     u32 pasid)
{
	struct handover_dir *dir = find_dir(handover, device);
	struct pasid_dir_entry *pde;
	struct pasid_entry *table;

	if (WARN_ON(!dir || pasid >> PASID_PDE_SHIFT >= dir->nr))
		return -EINVAL;

	pde = &dir->dir[pasid >> PASID_PDE_SHIFT];
	if (pasid_pde_is_present(pde))
		return 0;

	table = alloc_table(handover->iommu, SZ_4K);
	if (IS_ERR(table))
		return PTR_ERR(table);

	pde->val = virt_to_phys(table) | PASID_PTE_PRESENT;
	__iommu_flush_cache(handover->iommu, pde, sizeof(*pde));
	return 0;
}

/* Let the context entry lead to the handover tables, and to nothing else */
static int redirect(struct intel_handover *handover, u16 device,
		    struct context_entry *entry)
{
	struct handover_dir *dir = find_dir(handover, device);

	if (!dir)
		return -ENOENT;
	/* Nobody is there for page requests until the device is probed again */
	context_clear_sm_pre(entry);
	context_set_address_root(entry, virt_to_phys(dir->dir));
	return 0;
}

/**
 * intel_handover_copy - Take over the live entry of a requester ID
 * @handover: The tables
 * @rid: The requester ID, for which intel_handover_add() succeeded
 * @top: Physical address of the page table that the entry must point to. In
 *       scalable mode that is looked at by intel_handover_copy_pasid() instead
 * @ser: Its entry and requester ID are set. The device is there
 *
 * Context: The handover tables are not in use by hardware.
 * Return: 0, -ENOENT if there is no live entry, -EINVAL if it is for another
 * page table or another type of translation.
 */
int intel_handover_copy(struct intel_handover *handover, u16 rid, u64 top,
			struct intel_rid_ser *ser)
{
	struct intel_iommu *iommu = handover->iommu;
	struct context_entry *live, entry = {};
	int ret;

	spin_lock(&iommu->lock);
	live = iommu_context_addr(iommu, PCI_BUS_NUM(rid), rid & 0xff, 0);
	if (live)
		entry = *live;
	spin_unlock(&iommu->lock);

	if (!context_present(&entry))
		return -ENOENT;
	if (sm_supported(iommu)) {
		ret = redirect(handover, ser->device, &entry);
		if (ret)
			return ret;
	} else if ((entry.lo & VTD_PAGE_MASK) != top ||
		   intel_context_tt(entry.lo) > CONTEXT_TT_DEV_IOTLB) {
		return -EINVAL;
	}

	set_entry(handover, rid, entry.lo, entry.hi);
	ser->rid = rid;
	ser->lo = entry.lo;
	ser->hi = entry.hi;
	return 0;
}

static u64 pasid_entry_top(struct pasid_entry *pte)
{
	switch (pasid_pte_get_pgtt(pte)) {
	case PASID_ENTRY_PGTT_FL_ONLY:
		return pte->val[2] & VTD_PAGE_MASK;
	case PASID_ENTRY_PGTT_SL_ONLY:
		return pte->val[0] & VTD_PAGE_MASK;
	default:
		return 0;
	}
}

/**
 * intel_handover_copy_pasid - Take over the live entry of a PASID
 * @handover: The tables, in scalable mode
 * @info: The device
 * @pasid: A PASID for which intel_handover_add_pasid() succeeded, or IOMMU_NO_PASID
 * @top: Physical address of the page table that the entry must point to
 * @ser: Its device, PASID and entry are set
 *
 * Context: The handover tables are not in use by hardware.
 * Return: 0, -ENOENT if there is no live entry, -EINVAL if it is for another
 * page table or another type of translation.
 */
int intel_handover_copy_pasid(struct intel_handover *handover,
			      struct device_domain_info *info, u32 pasid,
			      u64 top, struct intel_pasid_ser *ser)
{
	struct pasid_entry *live, entry = {};

	spin_lock(&handover->iommu->lock);
	live = get_pasid_entry(info->pasid_table->table, pasid);
	if (live)
		entry = *live;
	spin_unlock(&handover->iommu->lock);

	if (!pasid_pte_is_present(&entry))
		return -ENOENT;
	if (pasid_entry_top(&entry) != top)
		return -EINVAL;

	set_pasid_entry(handover, info_devid(info), pasid, &entry);
	ser->device = info_devid(info);
	ser->pasid = pasid;
	memcpy(ser->val, entry.val, sizeof(ser->val));
	return 0;
}

/**
 * intel_handover_clear - Block a requester ID in the handover tables
 * @handover: The tables
 * @rid: The requester ID
 *
 * Context: The handover tables are not in use by hardware.
 */
void intel_handover_clear(struct intel_handover *handover, u16 rid)
{
	set_entry(handover, rid, 0, 0);
}

/**
 * intel_handover_clear_pasid - Block a PASID in the handover tables
 * @handover: The tables
 * @device: The device
 * @pasid: The PASID
 *
 * Context: The handover tables are not in use by hardware.
 */
void intel_handover_clear_pasid(struct intel_handover *handover, u16 device,
				u32 pasid)
{
	static const struct pasid_entry nothing;

	set_pasid_entry(handover, device, pasid, &nothing);
}

/**
 * intel_handover_clear_device - Undo intel_handover_add_device()
 * @handover: The tables
 * @device: Bus, device and function of the device, whose requester IDs have been
 *          cleared
 *
 * Does nothing in legacy mode.
 *
 * Context: The handover tables are not in use by hardware. May sleep.
 */
void intel_handover_clear_device(struct intel_handover *handover, u16 device)
{
	struct handover_dir *dir = find_dir(handover, device);

	if (dir)
		free_dir(dir);
}

/*
 * Other CPUs have been stopped, perhaps by an NMI in the middle of a critical
 * section. Who holds the lock after this time holds it for ever.
 */
static void break_lock(struct intel_iommu *iommu, raw_spinlock_t *lock)
{
	unsigned int us;

	for (us = 0; us < 10 * USEC_PER_MSEC; us++) {
		if (!raw_spin_is_locked(lock))
			return;
		udelay(1);
	}
	pr_err("%s: a stopped CPU holds a lock, going on without\n", iommu->name);
	raw_spin_lock_init(lock);
}

/**
 * intel_handover_switch - Let hardware walk the handover tables
 * @handover: The tables
 *
 * Translation stays on. When this returns, nothing that hardware has cached
 * comes from other tables.
 *
 * Context: Shutdown for kexec: one CPU runs, with interrupts off.
 */
void intel_handover_switch(struct intel_handover *handover)
{
	struct intel_iommu *iommu = handover->iommu;

	break_lock(iommu, &iommu->register_lock);
	if (iommu->qi)
		break_lock(iommu, &iommu->qi->q_lock);

	iommu_flush_write_buffer(iommu);
	iommu->root_entry = handover->root;
	iommu_set_root_entry(iommu);
}
