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
 * Locking: the caller serializes all functions for one unit. The entries of
 * the live tables are read with &intel_iommu.lock. intel_handover_switch()
 * runs when all other CPUs are stopped.
 */
#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/delay.h>
#include <linux/io.h>
#include <linux/kho/abi/intel-iommu.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "iommu.h"
#include "liveupdate.h"

static void *alloc_table(struct intel_iommu *iommu)
{
	void *table;
	int ret;

	table = iommu_alloc_pages_node_sz(iommu->node, GFP_KERNEL, SZ_4K);
	if (!table)
		return ERR_PTR(-ENOMEM);

	ret = iommu_preserve_page(table);
	if (ret) {
		iommu_free_pages(table);
		return ERR_PTR(ret);
	}
	__iommu_flush_cache(iommu, table, SZ_4K);
	return table;
}

static void free_table(void *table)
{
	iommu_unpreserve_page(table);
	iommu_free_pages(table);
}

static struct context_entry *get_entry(struct intel_handover *handover, u16 rid)
{
	struct root_entry *root = &handover->root[PCI_BUS_NUM(rid)];
	struct context_entry *context;

	if (!(root->lo & 1))
		return NULL;

	context = phys_to_virt(root->lo & VTD_PAGE_MASK);
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
	handover->root = alloc_table(iommu);
	if (IS_ERR(handover->root)) {
		void *err = handover->root;

		kfree(handover);
		return err;
	}
	return handover;
}

/**
 * intel_handover_free - Undo intel_handover_alloc() and intel_handover_add()
 * @handover: The tables
 *
 * Context: May sleep.
 */
void intel_handover_free(struct intel_handover *handover)
{
	unsigned int bus;

	for (bus = 0; bus < ROOT_ENTRY_NR; bus++)
		if (handover->root[bus].lo & 1)
			free_table(phys_to_virt(handover->root[bus].lo &
						VTD_PAGE_MASK));
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
	struct root_entry *root = &handover->root[PCI_BUS_NUM(rid)];
	struct context_entry *context;

	if (root->lo & 1)
		return 0;

	context = alloc_table(handover->iommu);
	if (IS_ERR(context))
		return PTR_ERR(context);

	root->lo = virt_to_phys(context) | 1;
	__iommu_flush_cache(handover->iommu, root, sizeof(*root));
	return 0;
}

/**
 * intel_handover_copy - Take over the live entry of a requester ID
 * @handover: The tables
 * @rid: The requester ID, for which intel_handover_add() succeeded
 * @top: Physical address of the page table that the entry must point to
 * @ser: Its entry and requester ID are set
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

	spin_lock(&iommu->lock);
	live = iommu_context_addr(iommu, PCI_BUS_NUM(rid), rid & 0xff, 0);
	if (live)
		entry = *live;
	spin_unlock(&iommu->lock);

	if (!context_present(&entry))
		return -ENOENT;
	if ((entry.lo & VTD_PAGE_MASK) != top ||
	    ((entry.lo >> 2) & 3) != CONTEXT_TT_MULTI_LEVEL)
		return -EINVAL;

	set_entry(handover, rid, entry.lo, entry.hi);
	ser->rid = rid;
	ser->lo = entry.lo;
	ser->hi = entry.hi;
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
