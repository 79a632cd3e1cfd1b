// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of restored domains: claim, stage, verify, and then replace or revoke.
 *
 * Whoever got the file back that preserved a domain may claim the devices that
 * translate with it. That passes the ownership of the group and attaches
 * nothing. What the new owner attaches is staged: the IOMMU driver checks that
 * it can take the place of the restored domain, and the group remembers it. The
 * hardware goes on with the inherited page table.
 *
 * When the file is finished, each staged domain is verified: it must translate
 * whatever the restored one translates, to the same memory, with the same rights
 * at least. Then the hardware is switched over, with no moment in which a request
 * of the device is not translated. A device for which nothing was staged is
 * stopped, and its translation revoked. After that the inherited page table is
 * freed.
 *
 * Locking: as liveupdate-restore.c. Domains are compared without
 * iommu_liveupdate_rwsem, which may take long: &iommu_restored_domain.finishing
 * keeps the stages as they are, apart from a detach, and the caller keeps the
 * staged domains from being changed or freed.
 */
#define pr_fmt(fmt) "iommu: liveupdate: " fmt

#include <linux/export.h>
#include <linux/init.h>
#include <linux/iommu.h>
#include <linux/iommu-liveupdate.h>
#include <linux/list.h>
#include <linux/slab.h>

#include "iommu-liveupdate-priv.h"

/* Revokes what the IOMMU driver adopted for devices that did not come up */
static void (*iommu_revoke_absent)(u64 top_phys) __ro_after_init;

/**
 * iommu_restored_set_revoke - Name the function that revokes absent devices
 * @revoke_absent: Ends the inherited translation by the page table with this
 *                 top for all devices that no restored domain is attached to.
 *                 Called with iommu_liveupdate_rwsem held for write
 *
 * Context: By an IOMMU driver that has adopted tables, at boot.
 */
void __init iommu_restored_set_revoke(void (*revoke_absent)(u64 top_phys))
{
	iommu_revoke_absent = revoke_absent;
}

/**
 * iommu_restored_domain_set_owner - Say who may claim the devices of a domain
 * @id: Id of the domain, as iommu_domain_preserve() gave it
 * @owner: What iommu_device_claim_dma_owner() will be called with. Must stay
 *         valid until iommu_restored_domain_release()
 *
 * Does nothing if there is no such domain: its record was not usable, and its
 * devices are blocked.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_restored_domain_set_owner(u32 id, void *owner)
{
	struct iommu_restored_domain *rdom;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	rdom = iommu_restored_find_domain(id);
	if (rdom)
		rdom->owner = owner;
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_domain_set_owner, "IOMMUFD_INTERNAL");

/**
 * iommu_restored_may_claim - Has somebody a right to a device in restored state?
 * @dev: The device
 * @owner: Who wants to claim it
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 * Return: true if @owner may have the device. Otherwise false, with a line in
 * the log.
 */
bool iommu_restored_may_claim(struct device *dev, void *owner)
{
	struct iommu_restored_device *rdev;

	rdev = iommu_restored_find_device(dev, IOMMU_NO_PASID);
	if (rdev && rdev->rdom && !rdev->blocked && rdev->rdom->owner == owner)
		return true;

	dev_warn(dev, "live update: %s\n", rdev && rdev->blocked ?
		 "is blocked until the live update is finished" :
		 "can only be claimed by the iommufd that it was preserved with");
	return false;
}

/**
 * iommu_restored_may_stage - Can another domain be staged for a device?
 * @dev: A device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 * Return: true if it is in restored state, and its domains are not being verified.
 */
bool iommu_restored_may_stage(struct device *dev, ioasid_t pasid)
{
	struct iommu_restored_device *rdev = iommu_restored_find_device(dev, pasid);

	return rdev && rdev->rdom && !rdev->blocked && !rdev->rdom->finishing;
}

/**
 * iommu_restored_pasid - Is a PASID of a device in restored state?
 * @dev: The device
 * @pasid: The PASID
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 * Return: true if it is. What looks attached to it is staged, then.
 */
bool iommu_restored_pasid(struct device *dev, ioasid_t pasid)
{
	return iommu_restored_find_device(dev, pasid);
}

/**
 * iommu_restored_drop_left - What was staged for a PASID is detached
 * @dev: The device
 * @pasid: The PASID, which is in restored state
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 * Return: false if it is staged. true if the PASID has been revoked since, so that
 * it is not, and will not be attached either now.
 */
bool iommu_restored_drop_left(struct device *dev, ioasid_t pasid)
{
	struct iommu_restored_device *rdev = iommu_restored_find_device(dev, pasid);

	if (!rdev || !rdev->blocked)
		return false;
	rdev->left = NULL;
	return true;
}

/**
 * iommu_restored_domain_devices - Count the devices of a restored domain
 * @id: Id of the domain, as iommu_domain_preserve() gave it
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for read.
 * Return: How many devices, and PASIDs of devices, translate with the domain.
 */
unsigned int iommu_restored_domain_devices(u32 id)
{
	struct iommu_restored_domain *rdom;
	struct iommu_restored_device *rdev;
	unsigned int n = 0;

	guard(rwsem_read)(&iommu_liveupdate_rwsem);

	rdom = iommu_restored_find_domain(id);
	if (!rdom)
		return 0;
	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->rdom == rdom && rdev->dev && !rdev->blocked)
			n++;
	return n;
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_domain_devices, "IOMMUFD_INTERNAL");

static void set_finishing(u32 id, bool finishing)
{
	struct iommu_restored_domain *rdom;
	struct iommu_restored_device *rdev;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	rdom = iommu_restored_find_domain(id);
	if (!rdom)
		return;
	rdom->finishing = finishing;
	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->rdom == rdom)
			rdev->verified = NULL;
}

/**
 * iommu_restored_domain_begin_finish - Let nothing new be staged for a domain
 * @id: Id of the domain, as iommu_domain_preserve() gave it
 *
 * From here on attaching to its devices fails with -EBUSY. A detach is still
 * possible. Ends with iommu_restored_domain_abort_finish() or
 * iommu_restored_domain_release().
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_restored_domain_begin_finish(u32 id)
{
	set_finishing(id, true);
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_domain_begin_finish, "IOMMUFD_INTERNAL");

/**
 * iommu_restored_domain_abort_finish - Undo iommu_restored_domain_begin_finish()
 * @id: Id of the domain, as iommu_domain_preserve() gave it
 *
 * What has been verified has to be verified again.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_restored_domain_abort_finish(u32 id)
{
	set_finishing(id, false);
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_domain_abort_finish, "IOMMUFD_INTERNAL");

static const char *why_not_covered(int err)
{
	switch (err) {
	case -ENOENT:
		return "is not mapped any more";
	case -EXDEV:
		return "maps to other memory now";
	case -EACCES:
		return "has fewer rights now";
	case -EBADMSG:
		return "was mapped by a table that is damaged";
	default:
		return "cannot be compared";
	}
}

/* Has the same pair of domains been compared for another device? */
static bool verified_already(struct iommu_restored_device *rdev,
			     struct iommu_domain *domain)
{
	struct iommu_restored_device *other;

	list_for_each_entry(other, &iommu_restored_devices, list)
		if (other->rdom == rdev->rdom && other->verified == domain)
			return true;
	return false;
}

/**
 * iommu_restored_device_staged - Is a domain staged for a device?
 * @dev: A device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 * @domain: The domain
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for read.
 * Return: true if @dev is in restored state, and @domain is to take the place of
 * the restored domain.
 */
bool iommu_restored_device_staged(struct device *dev, ioasid_t pasid,
				  struct iommu_domain *domain)
{
	guard(rwsem_read)(&iommu_liveupdate_rwsem);

	return iommu_group_has_staged(dev, pasid, domain);
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_device_staged, "IOMMUFD_INTERNAL");

/**
 * iommu_restored_device_verify - Compare what is staged with what is inherited
 * @dev: A device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 * @domain: The domain that is staged
 *
 * Context: May sleep, for long. Takes iommu_liveupdate_rwsem for write. Between
 * iommu_restored_domain_begin_finish() and its end for the domain of @dev. The
 * caller makes sure that @domain stays, and that nobody maps or unmaps in it,
 * until that end.
 * Return: 0, also if @domain is not staged any more. Otherwise, with a line in
 * the log that names the first IOVA that differs: -ENOENT if it is not mapped in
 * @domain, -EXDEV if it leads to other memory, -EACCES if @domain gives fewer
 * rights to it, -EBADMSG if the inherited table is damaged there. -EOPNOTSUPP if
 * the tables cannot be compared.
 */
int iommu_restored_device_verify(struct device *dev, ioasid_t pasid,
				 struct iommu_domain *domain)
{
	struct iommu_restored_device *rdev;
	struct iommu_domain *restored;
	dma_addr_t iova = 0;
	int ret;

	scoped_guard(rwsem_write, &iommu_liveupdate_rwsem) {
		rdev = iommu_restored_find_device(dev, pasid);
		if (!rdev || !iommu_group_has_staged(dev, pasid, domain))
			return 0;
		restored = rdev->rdom->domain;
		if (verified_already(rdev, domain)) {
			rdev->verified = domain;
			return 0;
		}
	}

	ret = domain->ops->covers(domain, restored, &iova);
	if (ret) {
		if (pasid == IOMMU_NO_PASID)
			dev_err(dev, "live update: IOVA %#llx %s: %pe\n", (u64)iova,
				why_not_covered(ret), ERR_PTR(ret));
		else
			dev_err(dev, "live update: PASID %u IOVA %#llx %s: %pe\n",
				pasid, (u64)iova, why_not_covered(ret), ERR_PTR(ret));
		return ret;
	}

	scoped_guard(rwsem_write, &iommu_liveupdate_rwsem) {
		/* The device may have been removed meanwhile */
		rdev = iommu_restored_find_device(dev, pasid);
		if (rdev)
			rdev->verified = domain;
	}
	return 0;
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_device_verify, "IOMMUFD_INTERNAL");

/* End the inherited translation of a PASID; rwsem held for write */
static void revoke_pasid(struct iommu_restored_device *rdev)
{
	if (rdev->blocked)
		return;
	rdev->left = iommu_group_end_restored_pasid(rdev->dev, rdev->ser.pasid,
						    rdev->rdom->domain);
	rdev->blocked = true;
	rdev->verified = NULL;
	dev_info(rdev->dev, "live update: the inherited translation of PASID %u is revoked\n",
		 rdev->ser.pasid);
}

/* Stop the device and end its inherited translation; rwsem held for write */
static void revoke_device(struct iommu_restored_device *rdev)
{
	struct iommu_restored_device *other;

	if (!rdev->dev)
		return;
	if (rdev->ser.pasid != IOMMU_NO_PASID) {
		revoke_pasid(rdev);
		return;
	}
	/*
	 * What it was doing was meant for the inherited page table. It must not
	 * run into the domain that comes next.
	 */
	iommu_liveupdate_stop(rdev->dev);
	/* Its PASIDs as well. What was staged for them waits for their domain's end. */
	list_for_each_entry(other, &iommu_restored_devices, list)
		if (other->dev == rdev->dev && other != rdev)
			revoke_pasid(other);
	rdev->left = iommu_group_end_restored(rdev->dev);
	rdev->verified = NULL;
	dev_info(rdev->dev, "live update: its inherited translation is revoked, it has been stopped\n");
}

/* Nothing of what the device inherited is left; rwsem held for write */
static void forget_device(struct iommu_restored_device *rdev)
{
	struct iommu_domain *left = rdev->left;
	ioasid_t pasid = rdev->ser.pasid;
	struct device *dev = rdev->dev;

	/* No IOMMU driver has revoked anything for it, or the device is not here */
	if (!dev && pasid == IOMMU_NO_PASID) {
		rdev->rdom = NULL;
		list_move(&rdev->list, &iommu_stranded_devices);
		return;
	}

	/* First, as nothing is attached to what is in the list */
	list_del(&rdev->list);
	kfree(rdev);
	if (left)
		iommu_group_attach_staged(dev, pasid, left);
}

/* Neither detached nor reset since it was verified; rwsem held for write */
static bool can_take_over(struct iommu_restored_device *rdev)
{
	return rdev->dev && rdev->verified && !rdev->interrupted &&
	       iommu_group_has_staged(rdev->dev, rdev->ser.pasid, rdev->verified);
}

/* rwsem held for write */
static void replace_device(struct iommu_restored_device *rdev)
{
	int ret = iommu_group_take_over(rdev->dev, rdev->ser.pasid, rdev->verified,
					rdev->rdom->domain);

	if (ret) {
		dev_warn(rdev->dev, "live update: what was staged cannot take over: %pe\n",
			 ERR_PTR(ret));
		revoke_device(rdev);
		return;
	}
	if (rdev->ser.pasid == IOMMU_NO_PASID)
		dev_info(rdev->dev, "live update: goes on with the page table of this kernel\n");
	else
		dev_info(rdev->dev, "live update: PASID %u goes on with the page table of this kernel\n",
			 rdev->ser.pasid);
}

/* Nothing uses the domain after this; rwsem held for write */
static void release_domain(struct iommu_restored_domain *rdom,
			   struct list_head *released)
{
	struct iommu_restored_device *rdev, *tmp;

	/*
	 * The memory that the domain maps is freed after this. Devices that
	 * did not come up have entries that no attach replaces.
	 */
	if (iommu_revoke_absent)
		iommu_revoke_absent(rdom->ser.pt.top_phys);

	/* First, so that nobody shares a domain id with what takes over */
	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->rdom == rdom && !can_take_over(rdev))
			revoke_device(rdev);
	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->rdom == rdom && rdev->verified)
			replace_device(rdev);
	/* Last, as what is staged anywhere cannot be attached */
	list_for_each_entry_safe(rdev, tmp, &iommu_restored_devices, list)
		if (rdev->rdom == rdom)
			forget_device(rdev);

	list_move_tail(&rdom->list, released);
}

/* Gives page tables back, which takes long. Without the rwsem. */
static void free_domains(struct list_head *released)
{
	struct iommu_restored_domain *rdom, *next;

	list_for_each_entry_safe(rdom, next, released, list) {
		if (rdom->domain)
			iommu_domain_free(rdom->domain);
		else
			pr_warn("domain %u: no device took it over, its tables stay reserved\n",
				rdom->ser.id);
		kfree(rdom);
	}
}

/**
 * iommu_restored_domain_release - End the use of a restored domain
 * @id: Id of the domain, as iommu_domain_preserve() gave it
 *
 * Devices whose staged domain has been verified go on with that, without a gap.
 * For each other device that still translates with @id: bus mastering is cleared
 * and the inherited translation revoked. If somebody has claimed it, it gets what
 * is staged, or is blocked. Otherwise it gets the default domain of its group,
 * which has no owner any more. Then the domain is freed with its page table.
 *
 * Does nothing if there is no such domain. Cannot fail.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_restored_domain_release(u32 id)
{
	struct iommu_restored_domain *rdom;
	LIST_HEAD(released);

	scoped_guard(rwsem_write, &iommu_liveupdate_rwsem) {
		rdom = iommu_restored_find_domain(id);
		if (rdom)
			release_domain(rdom, &released);
	}
	free_domains(&released);
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_domain_release, "IOMMUFD_INTERNAL");

/**
 * iommu_restored_device_release - End the use of what a device inherited
 * @dev: The device, which nobody has claimed
 *
 * What iommu_restored_domain_release() does for a device, and for its PASIDs. Their
 * domains stay for other devices. Does nothing if @dev is not in restored state.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_restored_device_release(struct device *dev)
{
	struct iommu_restored_device *rdev, *tmp;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	rdev = iommu_restored_find_device(dev, IOMMU_NO_PASID);
	if (!rdev)
		return;
	revoke_device(rdev);
	list_for_each_entry_safe(rdev, tmp, &iommu_restored_devices, list)
		if (rdev->dev == dev)
			forget_device(rdev);
}
EXPORT_SYMBOL_GPL(iommu_restored_device_release);

static void release_domains(bool unowned)
{
	struct iommu_restored_domain *rdom, *next_dom;
	LIST_HEAD(released);

	scoped_guard(rwsem_write, &iommu_liveupdate_rwsem)
		list_for_each_entry_safe(rdom, next_dom,
					 &iommu_restored_domains, list)
			if (!unowned || !rdom->owner)
				release_domain(rdom, &released);
	free_domains(&released);
}

/**
 * iommu_restored_release_unowned - End the use of what nobody has got back
 *
 * What iommu_restored_domain_release() does, for the domains that
 * iommu_restored_domain_set_owner() was not called for.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_restored_release_unowned(void)
{
	release_domains(true);
}
EXPORT_SYMBOL_NS_GPL(iommu_restored_release_unowned, "IOMMUFD_INTERNAL");

/**
 * iommu_restored_release_all - End the use of everything that was restored
 *
 * What iommu_restored_domain_release() does, for all domains, and for the
 * devices that were blocked because their record was not usable.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_restored_release_all(void)
{
	struct iommu_restored_device *rdev, *next;

	release_domains(false);

	guard(rwsem_write)(&iommu_liveupdate_rwsem);
	list_for_each_entry_safe(rdev, next, &iommu_restored_devices, list) {
		revoke_device(rdev);
		forget_device(rdev);
	}
}
