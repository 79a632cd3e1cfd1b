// SPDX-License-Identifier: GPL-2.0-only
/*
 * Let domains of this kernel take over from restored ones.
 *
 * A domain that is staged for a device gets the domain id that the device's
 * inherited entry has. It must not have another id on that unit, and an id can
 * be passed on to one domain only. The cache tags are assigned right away: what
 * is flushed because of a change in the staged domain is flushed from the caches
 * of the inherited one, which is of no harm. Until the domain has taken over it
 * cannot be attached to other devices of the unit: the caches hold translations
 * of another page table with this id.
 *
 * To take over, the entries are rewritten (entry.c). When the last inherited
 * entry with the id is gone the domain owns it.
 *
 * Locking: &intel_inherited_rid.staged and &iommu_domain_info.staged are protected
 * by &intel_iommu.did_lock. Everything here is called with the mutex of the
 * device's group, so that its attachments stay.
 */
#define pr_fmt(fmt) "DMAR: live update: " fmt

#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "entry.h"
#include "iommu.h"
#include "liveupdate.h"

#define CONTEXT_WORDS	(sizeof(struct context_entry) / sizeof(u64))

/**
 * struct context_writer - Replaces a context entry in legacy mode
 * @writer: For entry.c
 * @iommu: The unit
 * @rid: The requester ID
 * @did: The domain id in the entry, which stays
 */
struct context_writer {
	struct intel_entry_writer writer;
	struct intel_iommu *iommu;
	u16 rid;
	u16 did;
};

static struct context_writer *to_context_writer(struct intel_entry_writer *writer)
{
	return container_of(writer, struct context_writer, writer);
}

static void context_store(struct intel_entry_writer *writer, u64 *word, u64 val)
{
	WRITE_ONCE(*word, val);
	__iommu_flush_cache(to_context_writer(writer)->iommu, word, sizeof(*word));
}

static void context_invalidate(struct intel_entry_writer *writer)
{
	struct context_writer *cw = to_context_writer(writer);
	struct intel_iommu *iommu = cw->iommu;

	iommu_flush_write_buffer(iommu);
	iommu->flush.flush_context(iommu, cw->did, cw->rid, DMA_CCMD_MASK_NOBIT,
				   DMA_CCMD_DEVICE_INVL);
	iommu->flush.flush_iotlb(iommu, cw->did, 0, 0, DMA_TLB_DSI_FLUSH);
}

static const struct intel_entry_writer_ops context_writer_ops = {
	.store = context_store,
	.invalidate = context_invalidate,
};

static void target_entry(struct dmar_domain *domain,
			 struct device_domain_info *info,
			 const struct intel_inherited_rid *rid,
			 struct context_entry *target)
{
	domain_context_entry(domain, rid->did, info->ats_supported, target);
	context_set_present(target);
}

/* Is the entry live, and different from the domain's in its page table only? */
static int check_entry(struct dmar_domain *domain,
		       struct device_domain_info *info,
		       const struct intel_inherited_rid *rid)
{
	struct intel_iommu *iommu = info->iommu;
	struct context_entry *live, target;
	int ret = -ENODATA;

	if (!rid->present)
		return -ENODATA;

	target_entry(domain, info, rid, &target);
	spin_lock(&iommu->lock);
	live = iommu_context_addr(iommu, PCI_BUS_NUM(rid->rid), rid->rid & 0xff, 0);
	if (live)
		ret = intel_entry_replaceable(&live->lo, &target.lo,
					      CONTEXT_WORDS);
	spin_unlock(&iommu->lock);
	return ret < 0 ? ret : 0;
}

/* Ids and domains must be pairs on the unit. Says what is in the way, or NULL. */
static const char *find_clash(struct dmar_domain *domain,
			      struct device_domain_info *info, u16 did)
{
	struct intel_inherited *inherited = info->iommu->inherited;
	struct iommu_domain_info *did_info;
	struct intel_inherited_rid *rid;

	did_info = xa_load(&domain->iommu_array, info->iommu->seq_id);
	if (did_info && !did_info->staged)
		return "is attached to another device of the unit";
	if (did_info && did_info->did != did)
		return "is staged for a device that had another domain";

	for (rid = inherited->rids; rid < inherited->rids + inherited->nr; rid++)
		if (rid->device != info_devid(info) && rid->present &&
		    rid->did == did && rid->staged && rid->staged != domain)
			return "differs from that of a device that shared its domain";
	return NULL;
}

static int check_entries(struct dmar_domain *domain,
			 struct device_domain_info *info, u16 *did)
{
	struct intel_inherited_rid *rid;
	int ret = -ENODATA;

	for_each_inherited_rid(rid, info->iommu->inherited, info_devid(info)) {
		ret = check_entry(domain, info, rid);
		if (ret)
			return ret;
		*did = rid->did;
	}
	return ret;
}

static int get_staged_did(struct dmar_domain *domain, struct intel_iommu *iommu,
			  u16 did)
{
	struct iommu_domain_info *did_info;
	int ret;

	did_info = xa_load(&domain->iommu_array, iommu->seq_id);
	if (did_info) {
		did_info->refcnt++;
		return 0;
	}

	did_info = kzalloc_obj(*did_info);
	if (!did_info)
		return -ENOMEM;
	did_info->refcnt = 1;
	did_info->did = did;
	did_info->iommu = iommu;
	did_info->inherited = true;
	did_info->staged = true;
	ret = xa_insert(&domain->iommu_array, iommu->seq_id, did_info, GFP_KERNEL);
	if (ret)
		kfree(did_info);
	return ret;
}

static void set_staged(struct device_domain_info *info,
		       struct dmar_domain *old, struct dmar_domain *staged)
{
	struct intel_inherited_rid *rid;

	for_each_inherited_rid(rid, info->iommu->inherited, info_devid(info))
		if (!old || rid->staged == old)
			rid->staged = staged;
}

/**
 * intel_iommu_stage - Prepare a domain to take over from a restored one
 * @domain: A second stage domain
 * @dev: A device that a restored domain is attached to
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the device's group.
 * Return: 0, or, with a line in the log: -EINVAL if the entry of @dev would not
 * differ in the page table only, or if @domain cannot have the domain id.
 * -EINVAL also if @domain does not suit the unit, -EOPNOTSUPP if it handles I/O
 * page faults, -ENODATA if the device does not use its inherited entry any
 * more, -ENOMEM.
 */
int intel_iommu_stage(struct iommu_domain *domain, struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	struct intel_iommu *iommu = info->iommu;
	const char *clash;
	u16 did = 0;
	int ret;

	ret = paging_domain_compatible(domain, dev);
	if (ret)
		return ret;
	if (domain->iopf_handler)
		return -EOPNOTSUPP;

	scoped_guard(mutex, &iommu->did_lock) {
		ret = check_entries(dmar_domain, info, &did);
		if (ret) {
			dev_warn(dev, "live update: the domain cannot take over without a gap: %pe\n",
				 ERR_PTR(ret));
			return ret;
		}
		clash = find_clash(dmar_domain, info, did);
		if (clash) {
			dev_warn(dev, "live update: the domain cannot take over domain id %u, it %s\n",
				 did, clash);
			return -EINVAL;
		}
		ret = get_staged_did(dmar_domain, iommu, did);
		if (ret)
			return ret;
		ret = cache_tag_assign_domain(dmar_domain, dev, IOMMU_NO_PASID);
		if (!ret)
			set_staged(info, NULL, dmar_domain);
	}
	if (ret)
		domain_detach_iommu(dmar_domain, iommu);
	return ret;
}

/**
 * intel_iommu_unstage - Undo intel_iommu_stage()
 * @domain: The domain
 * @dev: The device
 *
 * Context: iommu_liveupdate_rwsem held, mutex of the device's group.
 */
void intel_iommu_unstage(struct iommu_domain *domain, struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);

	cache_tag_unassign_domain(dmar_domain, dev, IOMMU_NO_PASID);
	scoped_guard(mutex, &info->iommu->did_lock)
		set_staged(info, dmar_domain, NULL);
	domain_detach_iommu(dmar_domain, info->iommu);
}

static int replace_entry(struct dmar_domain *domain,
			 struct device_domain_info *info,
			 const struct intel_inherited_rid *rid)
{
	struct context_writer cw = {
		.writer.ops = &context_writer_ops,
		.iommu = info->iommu,
		.rid = rid->rid,
		.did = rid->did,
	};
	struct context_entry *live, target;
	int ret = -ENODATA;

	target_entry(domain, info, rid, &target);
	spin_lock(&info->iommu->lock);
	live = iommu_context_addr(info->iommu, PCI_BUS_NUM(rid->rid),
				  rid->rid & 0xff, 0);
	if (live)
		ret = intel_entry_replace(&cw.writer, &live->lo, &target.lo,
					  CONTEXT_WORDS);
	spin_unlock(&info->iommu->lock);
	return ret;
}

/* All cached translations come from the new page table after this */
static int replace_entries(struct dmar_domain *domain,
			   struct device_domain_info *info)
{
	struct intel_inherited_rid *rid;
	u16 did;
	int ret;

	/* All of them or none */
	ret = check_entries(domain, info, &did);
	if (ret)
		return ret;

	for_each_inherited_rid(rid, info->iommu->inherited, info_devid(info)) {
		/* Nobody but us, with did_lock held, changes inherited entries */
		if (WARN_ON(replace_entry(domain, info, rid)))
			continue;
		rid->present = false;
		rid->staged = NULL;
		intel_inherited_put_did(info->iommu, domain, rid->did);
	}
	return 0;
}

/**
 * intel_iommu_take_over - Let a staged domain take over from a restored one
 * @domain: The domain, which translates alike
 * @dev: The device
 *
 * Context: iommu_liveupdate_rwsem held for write, mutex of the device's group.
 * Return: 0. -ENODATA, with nothing changed, if the device does not use its
 * inherited entry any more.
 */
int intel_iommu_take_over(struct iommu_domain *domain, struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	struct dmar_domain *old = info->domain;
	int ret;

	scoped_guard(mutex, &info->iommu->did_lock)
		ret = replace_entries(dmar_domain, info);
	if (ret)
		return ret;

	/* The new domain got its own when it was staged */
	cache_tag_unassign_domain(old, dev, IOMMU_NO_PASID);

	spin_lock_irq(&old->lock);
	list_del(&info->link);
	spin_unlock_irq(&old->lock);

	info->domain = dmar_domain;
	spin_lock_irq(&dmar_domain->lock);
	list_add(&info->link, &dmar_domain->devices);
	spin_unlock_irq(&dmar_domain->lock);

	domain_detach_iommu(old, info->iommu);
	return 0;
}
