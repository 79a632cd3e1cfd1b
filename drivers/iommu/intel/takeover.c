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
 * Locking: &intel_inherited_entry.staged and &iommu_domain_info.staged are protected
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
#include "pasid.h"

/* As many as an entry can have */
#define MAX_WORDS	(sizeof(struct pasid_entry) / sizeof(u64))

/**
 * struct inherited_writer - Replaces an inherited entry
 * @writer: For entry.c
 * @info: The device
 * @entry: The inherited entry
 */
struct inherited_writer {
	struct intel_entry_writer writer;
	struct device_domain_info *info;
	const struct intel_inherited_entry *entry;
};

static struct inherited_writer *to_inherited_writer(struct intel_entry_writer *writer)
{
	return container_of(writer, struct inherited_writer, writer);
}

static void inherited_store(struct intel_entry_writer *writer, u64 *word, u64 val)
{
	WRITE_ONCE(*word, val);
	__iommu_flush_cache(to_inherited_writer(writer)->info->iommu, word,
			    sizeof(*word));
}

static void inherited_invalidate(struct intel_entry_writer *writer)
{
	struct inherited_writer *iw = to_inherited_writer(writer);

	intel_inherited_invalidate(iw->info->iommu, iw->entry, iw->info);
}

static const struct intel_entry_writer_ops inherited_writer_ops = {
	.store = inherited_store,
	.invalidate = inherited_invalidate,
};

/* The entry that the domain would have for the device, with the inherited id */
static void target_entry(struct dmar_domain *domain,
			 struct device_domain_info *info,
			 const struct intel_inherited_entry *entry, u64 *target)
{
	struct context_entry context = {};

	lockdep_assert_held(&info->iommu->lock);

	if (sm_supported(info->iommu)) {
		domain_pasid_entry(domain, info->iommu, entry->did,
				   (struct pasid_entry *)target);
		return;
	}
	/* No alias has translations of its own */
	domain_context_entry(domain, entry->did,
			     info->ats_supported && entry->rid == entry->device,
			     &context);
	context_set_present(&context);
	target[0] = context.lo;
	target[1] = context.hi;
}

/* Is the entry live, and different from the domain's in its page table only? */
static int check_entry(struct dmar_domain *domain,
		       struct device_domain_info *info,
		       const struct intel_inherited_entry *entry)
{
	struct intel_iommu *iommu = info->iommu;
	u64 target[MAX_WORDS];
	int ret;

	if (!entry->present)
		return -ENODATA;
	if (intel_domain_is_fs_paging(domain) != entry->first_stage)
		return -EOPNOTSUPP;

	spin_lock(&iommu->lock);
	target_entry(domain, info, entry, target);
	ret = intel_entry_replaceable(entry->live, target,
				      intel_inherited_words(iommu));
	spin_unlock(&iommu->lock);
	return ret < 0 ? ret : 0;
}

/* Ids and domains must be pairs on the unit. Says what is in the way, or NULL. */
static const char *find_clash(struct dmar_domain *domain,
			      struct device_domain_info *info, u32 pasid, u16 did)
{
	struct intel_inherited *inherited = info->iommu->inherited;
	struct iommu_domain_info *did_info;
	struct intel_inherited_entry *entry;

	did_info = xa_load(&domain->iommu_array, info->iommu->seq_id);
	if (did_info && !did_info->staged)
		return "is attached to another device of the unit";
	if (did_info && did_info->did != did)
		return "is staged for a device that had another domain";

	for (entry = inherited->entries;
	     entry < inherited->entries + inherited->nr; entry++)
		if ((entry->device != info_devid(info) || entry->pasid != pasid) &&
		    entry->present && entry->did == did && entry->staged && entry->staged != domain)
			return "differs from that of a device that shared its domain";
	return NULL;
}

static int check_entries(struct dmar_domain *domain,
			 struct device_domain_info *info, u32 pasid, u16 *did)
{
	struct intel_inherited_entry *entry;
	int ret = -ENODATA;

	for_each_inherited_pasid(entry, info->iommu->inherited, info_devid(info),
				 pasid) {
		ret = check_entry(domain, info, entry);
		if (ret)
			return ret;
		*did = entry->did;
	}
	return ret;
}

static int alias_inherited(struct pci_dev *pdev, u16 alias, void *opaque)
{
	struct device_domain_info *info = opaque;
	struct intel_inherited_entry *entry;

	for_each_inherited_entry(entry, info->iommu->inherited, info_devid(info))
		if (entry->rid == alias && entry->present)
			return 0;
	return -EINVAL;
}

/*
 * The entry of a DMA alias that the device did not have in the previous kernel was
 * made for the restored domain, and would stay.
 */
static int check_aliases(struct device_domain_info *info)
{
	if (sm_supported(info->iommu))
		return 0;
	return pci_for_each_dma_alias(to_pci_dev(info->dev), alias_inherited, info);
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

static void set_staged(struct device_domain_info *info, u32 pasid,
		       struct dmar_domain *old, struct dmar_domain *staged)
{
	struct intel_inherited_entry *entry;

	for_each_inherited_pasid(entry, info->iommu->inherited, info_devid(info),
				 pasid)
		if (!old || entry->staged == old)
			entry->staged = staged;
}

/**
 * intel_iommu_stage - Prepare a domain to take over from a restored one
 * @domain: A domain with a page table
 * @dev: A device that a restored domain is attached to
 * @pasid: Or a PASID of it that one is attached to, or IOMMU_NO_PASID
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the device's group.
 * Return: 0, or, with a line in the log: -EINVAL if the entry of @dev would not
 * differ in the page table only, or if @domain cannot have the domain id,
 * -EOPNOTSUPP if it is for the other stage, -EBUSY if it tracks dirty pages,
 * -ENODATA if the device does not use its inherited entry any more. -EINVAL also if
 * @domain does not suit the unit, -EOPNOTSUPP if it handles I/O page faults, -ENOMEM.
 */
int intel_iommu_stage(struct iommu_domain *domain, struct device *dev,
		      ioasid_t pasid)
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
		ret = check_entries(dmar_domain, info, pasid, &did);
		if (!ret)
			ret = check_aliases(info);
		if (ret) {
			dev_warn(dev, "live update: the domain cannot take over without a gap: %pe\n",
				 ERR_PTR(ret));
			return ret;
		}
		clash = find_clash(dmar_domain, info, pasid, did);
		if (clash) {
			dev_warn(dev, "live update: the domain cannot take over domain id %u, it %s\n",
				 did, clash);
			return -EINVAL;
		}
		ret = get_staged_did(dmar_domain, iommu, did);
		if (ret)
			return ret;
		/* What the device writes until it takes over would not be seen */
		scoped_guard(spinlock_irqsave, &dmar_domain->lock)
			if (dmar_domain->dirty_tracking)
				ret = -EBUSY;
		if (ret)
			dev_warn(dev, "live update: the domain tracks dirty pages, it cannot take over\n");
		if (!ret)
			ret = cache_tag_assign_domain(dmar_domain, dev, pasid);
		if (!ret)
			set_staged(info, pasid, NULL, dmar_domain);
	}
	if (ret)
		domain_detach_iommu(dmar_domain, iommu);
	return ret;
}

/**
 * intel_domain_is_staged - Is a domain to take over from a restored one?
 * @domain: The domain
 *
 * Context: Any.
 * Return: true if it is staged for a device of any unit.
 */
bool intel_domain_is_staged(struct dmar_domain *domain)
{
	struct iommu_domain_info *did_info;
	unsigned long index;
	bool staged = false;

	xa_lock(&domain->iommu_array);
	xa_for_each(&domain->iommu_array, index, did_info)
		staged |= did_info->staged;
	xa_unlock(&domain->iommu_array);
	return staged;
}

/**
 * intel_iommu_unstage - Undo intel_iommu_stage()
 * @domain: The domain
 * @dev: The device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 *
 * Context: iommu_liveupdate_rwsem held, mutex of the device's group.
 */
void intel_iommu_unstage(struct iommu_domain *domain, struct device *dev,
			 ioasid_t pasid)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);

	cache_tag_unassign_domain(dmar_domain, dev, pasid);
	scoped_guard(mutex, &info->iommu->did_lock)
		set_staged(info, pasid, dmar_domain, NULL);
	domain_detach_iommu(dmar_domain, info->iommu);
}

static int replace_entry(struct dmar_domain *domain,
			 struct device_domain_info *info,
			 const struct intel_inherited_entry *entry)
{
	struct inherited_writer iw = {
		.writer.ops = &inherited_writer_ops,
		.info = info,
		.entry = entry,
	};
	u64 target[MAX_WORDS];

	/* Not while it is waited for the device's TLB. The group's mutex is enough. */
	scoped_guard(spinlock, &info->iommu->lock)
		target_entry(domain, info, entry, target);
	return intel_entry_replace(&iw.writer, entry->live, target,
				   intel_inherited_words(info->iommu));
}

/* All cached translations come from the new page table after this */
static int replace_entries(struct dmar_domain *domain,
			   struct device_domain_info *info, u32 pasid)
{
	struct intel_inherited_entry *entry;
	u16 did;
	int ret;

	/* All of them or none */
	ret = check_entries(domain, info, pasid, &did);
	if (ret)
		return ret;

	for_each_inherited_pasid(entry, info->iommu->inherited, info_devid(info),
				 pasid) {
		/* With the group's mutex held nobody else changes its entries */
		if (WARN_ON(replace_entry(domain, info, entry)))
			continue;
		entry->present = false;
		entry->staged = NULL;
		intel_inherited_put_did(info->iommu, domain, entry->did);
	}
	return 0;
}

static void move_device(struct device_domain_info *info,
			struct dmar_domain *from, struct dmar_domain *to)
{
	scoped_guard(spinlock_irq, &from->lock)
		list_del(&info->link);
	info->domain = to;
	scoped_guard(spinlock_irq, &to->lock)
		list_add(&info->link, &to->devices);
}

static void move_pasid(struct device *dev, ioasid_t pasid,
		       struct dmar_domain *from, struct dmar_domain *to)
{
	struct dev_pasid_info *curr, *found = NULL;

	scoped_guard(spinlock_irq, &from->lock) {
		list_for_each_entry(curr, &from->dev_pasids, link_domain)
			if (curr->dev == dev && curr->pasid == pasid)
				found = curr;
		if (WARN_ON(!found))
			return;
		list_del(&found->link_domain);
	}
	scoped_guard(spinlock_irq, &to->lock)
		list_add(&found->link_domain, &to->dev_pasids);
}

/**
 * intel_iommu_take_over - Let a staged domain take over from a restored one
 * @domain: The domain, which translates alike
 * @dev: The device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 * @restored: The restored domain
 *
 * Context: iommu_liveupdate_rwsem held for write, mutex of the device's group.
 * Return: 0. With nothing changed, -ENODATA if the device does not use its inherited
 * entry any more, or the error of intel_iommu_stage().
 */
int intel_iommu_take_over(struct iommu_domain *domain, struct device *dev,
			  ioasid_t pasid, struct iommu_domain *restored)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	struct dmar_domain *old = to_dmar_domain(restored);
	int ret;

	scoped_guard(mutex, &info->iommu->did_lock)
		ret = replace_entries(dmar_domain, info, pasid);
	if (ret)
		return ret;

	/* The new domain got its own when it was staged */
	cache_tag_unassign_domain(old, dev, pasid);
	if (pasid == IOMMU_NO_PASID)
		move_device(info, old, dmar_domain);
	else
		move_pasid(dev, pasid, old, dmar_domain);
	domain_detach_iommu(old, info->iommu);
	return 0;
}
