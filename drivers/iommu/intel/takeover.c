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
	domain_context_entry(domain, entry->did, info->ats_supported, &context);
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

	spin_lock(&iommu->lock);
	target_entry(domain, info, entry, target);
	ret = intel_entry_replaceable(entry->live, target,
				      intel_inherited_words(iommu));
	spin_unlock(&iommu->lock);
	return ret < 0 ? ret : 0;
}

/* Ids and domains must be pairs on the unit. Says what is in the way, or NULL. */
static const char *find_clash(struct dmar_domain *domain,
			      struct device_domain_info *info, u16 did)
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
		if (entry->device != info_devid(info) && entry->present &&
		    entry->did == did && entry->staged && entry->staged != domain)
			return "differs from that of a device that shared its domain";
	return NULL;
}

static int check_entries(struct dmar_domain *domain,
			 struct device_domain_info *info, u16 *did)
{
	struct intel_inherited_entry *entry;
	int ret = -ENODATA;

	for_each_inherited_entry(entry, info->iommu->inherited, info_devid(info)) {
		ret = check_entry(domain, info, entry);
		if (ret)
			return ret;
		*did = entry->did;
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
	struct intel_inherited_entry *entry;

	for_each_inherited_entry(entry, info->iommu->inherited, info_devid(info))
		if (!old || entry->staged == old)
			entry->staged = staged;
}

/**
 * intel_iommu_stage - Prepare a domain to take over from a restored one
 * @domain: A domain with a page table
 * @dev: A device that a restored domain is attached to
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the device's group.
 * Return: 0, or, with a line in the log: -EINVAL if the entry of @dev would not
 * differ in the page table only, or if @domain cannot have the domain id.
 * -EINVAL also if @domain does not suit the unit, -EOPNOTSUPP if it is for the other
 * stage or handles I/O page faults, -ENODATA if the device does not use its inherited entry any
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
	if (info->domain && intel_domain_is_fs_paging(dmar_domain) !=
			    intel_domain_is_fs_paging(info->domain)) {
		dev_warn(dev, "live update: a domain for the other stage cannot take over\n");
		return -EOPNOTSUPP;
	}

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
			 const struct intel_inherited_entry *entry)
{
	struct inherited_writer iw = {
		.writer.ops = &inherited_writer_ops,
		.info = info,
		.entry = entry,
	};
	u64 target[MAX_WORDS];

	guard(spinlock)(&info->iommu->lock);
	target_entry(domain, info, entry, target);
	return intel_entry_replace(&iw.writer, entry->live, target,
				   intel_inherited_words(info->iommu));
}

/* All cached translations come from the new page table after this */
static int replace_entries(struct dmar_domain *domain,
			   struct device_domain_info *info)
{
	struct intel_inherited_entry *entry;
	u16 did;
	int ret;

	/* All of them or none */
	ret = check_entries(domain, info, &did);
	if (ret)
		return ret;

	for_each_inherited_entry(entry, info->iommu->inherited, info_devid(info)) {
		/* Nobody but us, with did_lock held, changes inherited entries */
		if (WARN_ON(replace_entry(domain, info, entry)))
			continue;
		entry->present = false;
		entry->staged = NULL;
		intel_inherited_put_did(info->iommu, domain, entry->did);
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
