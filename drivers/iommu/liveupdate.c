// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preserve the domains and devices that keep translating during a live update.
 *
 * iommufd preserves a domain first and then each device, and each PASID of a device,
 * that is attached to it. From then until it is unpreserved a domain is frozen (its page table
 * refuses map and unmap), and its device cannot be attached to anything else.
 * A detach cannot be refused: it drops the device from the live update.
 *
 * The records (linux/kho/abi/iommu.h) are written when the live update is
 * prepared, and written again when it is frozen, as devices may have been
 * dropped between. After the freeze a dropped device keeps its record: the
 * next kernel finds that its IOMMU driver has no entry for it and blocks it.
 *
 * Locking: the lists, and everything in them, are written with
 * iommu_liveupdate_rwsem held for write. &iommu_preserved_device.lost is set
 * with the rwsem held for read and the mutex of the device's group. For the
 * lock order see iommu_liveupdate_rwsem in iommu.c.
 */
#define pr_fmt(fmt) "iommu: liveupdate: " fmt

#include <linux/export.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/iommu-liveupdate.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/iommu.h>
#include <linux/kho_block.h>
#include <linux/list.h>
#include <linux/liveupdate.h>
#include <linux/notifier.h>
#include <linux/slab.h>
#include <linux/suspend.h>

#include "iommu-liveupdate-priv.h"
#include "iommu-priv.h"

/**
 * struct iommu_preserved_domain - A domain that is handed over
 * @list: Entry in iommu_preserved_domains
 * @domain: The domain
 * @ser: What is handed over
 * @devices: How many devices are preserved with it
 */
struct iommu_preserved_domain {
	struct list_head list;
	struct iommu_domain *domain;
	struct iommu_domain_ser ser;
	unsigned int devices;
};

/**
 * struct iommu_preserved_device - A device, or a PASID of it, that is handed over
 * @list: Entry in iommu_preserved_devices, that of the device before its PASIDs
 * @dev: The device, with a reference
 * @pasid: The PASID, or IOMMU_NO_PASID for the device itself
 * @pdom: The domain that it is attached to
 * @lost: It was detached or removed, and is not handed over
 */
struct iommu_preserved_device {
	struct list_head list;
	struct device *dev;
	ioasid_t pasid;
	struct iommu_preserved_domain *pdom;
	bool lost;
};

static LIST_HEAD(iommu_preserved_domains);
static LIST_HEAD(iommu_preserved_devices);
static u64 nr_preserved_domains, nr_preserved_devices;
static u32 next_domain_id = 1;

/*
 * Units are being added or removed, or the system is being suspended: nothing can be
 * preserved or prepared
 */
static unsigned int nr_hotplugs;

/* From prepare to cancel IOMMU drivers may have tables of their units ready */
static bool prepared;

static struct kho_block_set domain_blocks =
	KHO_BLOCK_SET_INIT(domain_blocks, sizeof(struct iommu_domain_ser));
static struct kho_block_set device_blocks =
	KHO_BLOCK_SET_INIT(device_blocks, sizeof(struct iommu_device_ser));

static struct iommu_preserved_domain *
find_preserved_domain(struct iommu_domain *domain)
{
	struct iommu_preserved_domain *pdom;

	list_for_each_entry(pdom, &iommu_preserved_domains, list)
		if (pdom->domain == domain)
			return pdom;
	return NULL;
}

/* A device may have been lost with one domain, and preserved with another */
static struct iommu_preserved_device *
find_preserved_device(struct device *dev, ioasid_t pasid,
		      struct iommu_domain *domain)
{
	struct iommu_preserved_device *pdev;

	list_for_each_entry(pdev, &iommu_preserved_devices, list)
		if (pdev->dev == dev && pdev->pasid == pasid &&
		    pdev->pdom->domain == domain)
			return pdev;
	return NULL;
}

/**
 * iommu_liveupdate_begin_hotplug - A remapping unit will be added or removed
 *
 * Or the system is being suspended. Nothing can be preserved or prepared until
 * iommu_liveupdate_end_hotplug(). The rwsem is not held meanwhile: adding a unit
 * probes devices, which takes it again, and under iommu_probe_device_lock.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 * Return: 0, or -EBUSY from the first preserve to the last finish.
 */
int iommu_liveupdate_begin_hotplug(void)
{
	u64 data;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	if (prepared || !list_empty(&iommu_preserved_domains) ||
	    iommu_restored_pending() ||
	    !liveupdate_subsystem_get_incoming(IOMMU_LIVEUPDATE_NAME, &data))
		return -EBUSY;
	nr_hotplugs++;
	return 0;
}

/**
 * iommu_liveupdate_end_hotplug - Undo iommu_liveupdate_begin_hotplug()
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_liveupdate_end_hotplug(void)
{
	guard(rwsem_write)(&iommu_liveupdate_rwsem);
	nr_hotplugs--;
}

/**
 * iommu_liveupdate_busy - Must a device stay for a live update?
 * @pdev: A PCI device, perhaps a bridge or a PF
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 * Return: true, with a line in the log, if @pdev, a VF of it or a device below it
 * is preserved or in restored state.
 */
bool iommu_liveupdate_busy(struct pci_dev *pdev)
{
	struct iommu_preserved_device *preserved;

	/* For write: devices are lost and removed with it held for read */
	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	list_for_each_entry(preserved, &iommu_preserved_devices, list)
		if (!preserved->lost &&
		    iommu_liveupdate_needs(preserved->dev, pdev))
			return true;
	return iommu_restored_needs(pdev);
}

/**
 * iommu_domain_preserve - Carry a domain over the next live update
 * @domain: A domain of the IOMMU_DOMAIN_UNMANAGED type
 * @id: Set to the id that finds the domain again in the next kernel
 *
 * All pages of the domain's page table are preserved, and the domain is frozen
 * until iommu_domain_unpreserve(): map and unmap fail with -EBUSY.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write. The caller must
 * make sure that no map or unmap of @domain is going on.
 * Return: 0, or -EOPNOTSUPP if the IOMMU driver cannot carry this domain,
 * -EBUSY if it is preserved already, a remapping unit is being added or removed, or
 * the system is being suspended, -ENOMEM. Nothing is changed on an error.
 */
int iommu_domain_preserve(struct iommu_domain *domain, u32 *id)
{
	struct iommu_preserved_domain *pdom;
	int ret;

	if (domain->type != IOMMU_DOMAIN_UNMANAGED || !domain->ops->preserve)
		return -EOPNOTSUPP;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	if (nr_hotplugs || find_preserved_domain(domain))
		return -EBUSY;

	ret = kho_block_set_grow(&domain_blocks, nr_preserved_domains + 1);
	if (ret)
		return ret;

	pdom = kzalloc_obj(*pdom);
	if (!pdom) {
		ret = -ENOMEM;
		goto err_shrink;
	}

	ret = domain->ops->preserve(domain, &pdom->ser.pt);
	if (ret)
		goto err_free;

	pdom->domain = domain;
	pdom->ser.id = next_domain_id++;
	list_add_tail(&pdom->list, &iommu_preserved_domains);
	nr_preserved_domains++;
	*id = pdom->ser.id;
	return 0;

err_free:
	kfree(pdom);
err_shrink:
	kho_block_set_shrink(&domain_blocks, nr_preserved_domains);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(iommu_domain_preserve, "IOMMUFD_INTERNAL");

/**
 * iommu_domain_unpreserve - Undo iommu_domain_preserve()
 * @domain: The domain
 *
 * The devices that were preserved with the domain must have been unpreserved.
 * The domain can be mapped and unmapped again.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_domain_unpreserve(struct iommu_domain *domain)
{
	struct iommu_preserved_domain *pdom;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	pdom = find_preserved_domain(domain);
	if (WARN_ON(!pdom || pdom->devices))
		return;

	domain->ops->unpreserve(domain);
	list_del(&pdom->list);
	kfree(pdom);
	nr_preserved_domains--;
	kho_block_set_shrink(&domain_blocks, nr_preserved_domains);
}
EXPORT_SYMBOL_NS_GPL(iommu_domain_unpreserve, "IOMMUFD_INTERNAL");

/**
 * iommu_has_direct_regions - Did firmware reserve memory for a device?
 * @dev: A device behind an IOMMU
 *
 * Firmware may go on using these regions, and they are not handed over.
 *
 * Context: May sleep.
 * Return: true if there is a region that must be, or had better be, mapped 1:1.
 */
bool iommu_has_direct_regions(struct device *dev)
{
	struct iommu_resv_region *region;
	LIST_HEAD(regions);
	bool found = false;

	iommu_get_resv_regions(dev, &regions);
	list_for_each_entry(region, &regions, list)
		if (region->type == IOMMU_RESV_DIRECT ||
		    region->type == IOMMU_RESV_DIRECT_RELAXABLE)
			found = true;
	iommu_put_resv_regions(dev, &regions);
	return found;
}

/**
 * iommu_device_preserve - Keep a device translating over the next live update
 * @dev: A PCI device, alone in its group
 * @pasid: IOMMU_NO_PASID, or a PASID of a device that is preserved already
 * @domain: A preserved domain, attached to @dev and @pasid
 *
 * Until iommu_device_unpreserve() nothing else can be attached to @dev or a PASID of
 * it. A detach drops what is detached from the live update.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 * Return: 0, or, with a line in the log: -EOPNOTSUPP if the device, its IOMMU
 * driver or the mode they are in cannot be carried, -EPERM if firmware reserved
 * memory for it, -EMLINK if it shares its group, -EBUSY if it has a part in a live
 * update already, -EINVAL if @domain is not attached. -ENOMEM. Nothing is changed
 * on an error.
 */
int iommu_device_preserve(struct device *dev, ioasid_t pasid,
			  struct iommu_domain *domain)
{
	const struct iommu_ops *ops = dev_iommu_ops(dev);
	struct iommu_preserved_domain *pdom;
	struct iommu_preserved_device *pdev;
	struct iommu_device_ser id;
	int ret;

	if (!iommu_liveupdate_identify(dev, &id) || !ops->preserve_device) {
		dev_warn(dev, "live update: the translation of this device cannot be preserved\n");
		return -EOPNOTSUPP;
	}

	if (iommu_has_direct_regions(dev)) {
		dev_warn(dev, "live update: firmware reserved memory for this device, it cannot be preserved\n");
		return -EPERM;
	}

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	pdom = find_preserved_domain(domain);
	if (WARN_ON(!pdom))
		return -EINVAL;

	ret = kho_block_set_grow(&device_blocks, nr_preserved_devices + 1);
	if (ret)
		return ret;

	pdev = kzalloc_obj(*pdev);
	if (!pdev) {
		ret = -ENOMEM;
		goto err_shrink;
	}

	ret = iommu_group_begin_preserved(dev, pasid, domain);
	if (ret)
		goto err_free;

	ret = ops->preserve_device(dev, pasid, &pdom->ser);
	if (ret)
		goto err_group;

	pdev->dev = get_device(dev);
	pdev->pasid = pasid;
	pdev->pdom = pdom;
	pdom->devices++;
	list_add_tail(&pdev->list, &iommu_preserved_devices);
	nr_preserved_devices++;
	return 0;

err_group:
	if (pasid == IOMMU_NO_PASID)
		iommu_group_end_preserved(dev);
err_free:
	kfree(pdev);
err_shrink:
	kho_block_set_shrink(&device_blocks, nr_preserved_devices);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(iommu_device_preserve, "IOMMUFD_INTERNAL");

/**
 * iommu_device_unpreserve - Undo iommu_device_preserve()
 * @dev: The device. It may have been detached, or be gone, since
 * @pasid: The PASID, before the device itself, or IOMMU_NO_PASID
 * @domain: The domain that it was preserved with
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 */
void iommu_device_unpreserve(struct device *dev, ioasid_t pasid,
			     struct iommu_domain *domain)
{
	struct iommu_preserved_device *pdev;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	pdev = find_preserved_device(dev, pasid, domain);
	if (WARN_ON(!pdev))
		return;

	if (!pdev->lost) {
		dev_iommu_ops(dev)->unpreserve_device(dev, pasid);
		if (pasid == IOMMU_NO_PASID)
			iommu_group_end_preserved(dev);
	}
	pdev->pdom->devices--;
	list_del(&pdev->list);
	put_device(dev);
	kfree(pdev);
	nr_preserved_devices--;
	kho_block_set_shrink(&device_blocks, nr_preserved_devices);
}
EXPORT_SYMBOL_NS_GPL(iommu_device_unpreserve, "IOMMUFD_INTERNAL");

/**
 * iommu_device_is_preserved - Does a device translate over the next live update?
 * @dev: The device
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for write.
 * Return: true from iommu_device_preserve() to iommu_device_unpreserve(), unless
 * @dev was detached or removed.
 */
bool iommu_device_is_preserved(struct device *dev)
{
	struct iommu_preserved_device *pdev;

	/* For write: devices are lost with it held for read */
	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	list_for_each_entry(pdev, &iommu_preserved_devices, list)
		if (pdev->dev == dev && !pdev->lost)
			return true;
	return false;
}
EXPORT_SYMBOL_GPL(iommu_device_is_preserved);

/**
 * iommu_preserved_device_lost - A preserved device or PASID is detached or removed
 * @dev: The device, still attached to its domain
 * @pasid: The PASID, still attached, or IOMMU_NO_PASID: all PASIDs are lost as well
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 */
void iommu_preserved_device_lost(struct device *dev, ioasid_t pasid)
{
	struct iommu_preserved_device *pdev;

	/* PASIDs before their device */
	list_for_each_entry_reverse(pdev, &iommu_preserved_devices, list) {
		if (pdev->dev != dev || pdev->lost ||
		    (pasid != IOMMU_NO_PASID && pdev->pasid != pasid))
			continue;
		if (pdev->pasid == IOMMU_NO_PASID)
			dev_warn(dev, "live update: detached while it was preserved, it will not be handed over\n");
		else
			dev_warn(dev, "live update: PASID %u will not be handed over\n",
				 pdev->pasid);
		dev_iommu_ops(dev)->unpreserve_device(dev, pdev->pasid);
		pdev->lost = true;
	}
}

static int write_records(struct iommu_liveupdate_ser *ser)
{
	struct iommu_preserved_domain *pdom;
	struct iommu_preserved_device *pdev;
	struct iommu_device_ser *dev_ser;
	struct iommu_domain_ser *dom_ser;
	struct kho_block_set_it it;

	ser->nr_domains = 0;
	ser->nr_devices = 0;
	list_for_each_entry(pdev, &iommu_preserved_devices, list)
		ser->nr_devices += !pdev->lost;

	/* A block that nothing is written to would not be accepted */
	kho_block_set_shrink(&device_blocks, ser->nr_devices);
	kho_block_set_clear(&domain_blocks);
	kho_block_set_clear(&device_blocks);

	kho_block_set_it_init(&it, &domain_blocks);
	list_for_each_entry(pdom, &iommu_preserved_domains, list) {
		dom_ser = kho_block_set_it_reserve_entry(&it);
		if (WARN_ON(!dom_ser))
			return -ENOSPC;
		pdom->ser.crc = iommu_liveupdate_crc(&pdom->ser,
						     offsetof(typeof(pdom->ser), crc));
		*dom_ser = pdom->ser;
		ser->nr_domains++;
	}

	kho_block_set_it_init(&it, &device_blocks);
	list_for_each_entry(pdev, &iommu_preserved_devices, list) {
		if (pdev->lost)
			continue;
		dev_ser = kho_block_set_it_reserve_entry(&it);
		if (WARN_ON(!dev_ser))
			return -ENOSPC;
		*dev_ser = (struct iommu_device_ser) {
			.domain_id = pdev->pdom->ser.id,
			.pasid = pdev->pasid,
		};
		iommu_liveupdate_identify(pdev->dev, dev_ser);
		dev_ser->crc = iommu_liveupdate_crc(dev_ser,
						    offsetof(typeof(*dev_ser), crc));
	}

	ser->domains = ser->nr_domains ? kho_block_set_head_pa(&domain_blocks) : 0;
	ser->devices = ser->nr_devices ? kho_block_set_head_pa(&device_blocks) : 0;
	ser->crc = iommu_liveupdate_crc(ser, offsetof(typeof(*ser), crc));
	return 0;
}

static int iommu_liveupdate_prepare(struct liveupdate_subsystem *ss, u64 *data)
{
	struct iommu_liveupdate_ser *ser;
	int ret;

	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	if (iommu_restored_pending()) {
		pr_warn("the last live update has not been finished\n");
		return -EBUSY;
	}

	if (nr_hotplugs) {
		pr_warn("remapping units are being added or removed, or the system is being suspended\n");
		return -EBUSY;
	}

	if (list_empty(&iommu_preserved_domains)) {
		*data = 0;
		prepared = true;
		return 0;
	}

	ser = kho_alloc_preserve(sizeof(*ser));
	if (IS_ERR(ser))
		return PTR_ERR(ser);

	ser->version = IOMMU_LIVEUPDATE_VERSION;
	ser->length = sizeof(*ser);
	ret = write_records(ser);
	if (ret) {
		kho_unpreserve_free(ser);
		return ret;
	}

	*data = virt_to_phys(ser);
	prepared = true;
	return 0;
}

static int iommu_liveupdate_freeze(struct liveupdate_subsystem *ss, u64 *data)
{
	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	return *data ? write_records(phys_to_virt(*data)) : 0;
}

static void iommu_liveupdate_cancel(struct liveupdate_subsystem *ss, u64 data)
{
	guard(rwsem_write)(&iommu_liveupdate_rwsem);

	prepared = false;
	if (data)
		kho_unpreserve_free(phys_to_virt(data));
}

static void iommu_liveupdate_finish(struct liveupdate_subsystem *ss, u64 data)
{
	iommu_restored_release_all();
}

static const struct liveupdate_subsystem_ops iommu_liveupdate_ops = {
	.prepare = iommu_liveupdate_prepare,
	.freeze = iommu_liveupdate_freeze,
	.cancel = iommu_liveupdate_cancel,
	.finish = iommu_liveupdate_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_subsystem iommu_liveupdate_subsystem = {
	.ops = &iommu_liveupdate_ops,
	.name = IOMMU_LIVEUPDATE_NAME,
};

/*
 * Units do not translate while the system is suspended, and devices lose the state
 * that their users gave them.
 */
static int iommu_liveupdate_pm(struct notifier_block *nb, unsigned long action,
			       void *unused)
{
	int ret = 0;

	switch (action) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		ret = iommu_liveupdate_begin_hotplug();
		if (ret)
			pr_warn("devices have a part in it, refusing to suspend the system\n");
		break;
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		iommu_liveupdate_end_hotplug();
		break;
	}
	return notifier_from_errno(ret);
}

static struct notifier_block iommu_liveupdate_pm_nb = {
	.notifier_call = iommu_liveupdate_pm,
};

static int __init iommu_liveupdate_init(void)
{
	int ret;

	/* Devices may have been handed over to a kernel with liveupdate=off */
	ret = register_pm_notifier(&iommu_liveupdate_pm_nb);
	if (ret)
		return ret;

	/* What was inherited stays as it is: nobody can claim or finish it */
	if (!liveupdate_enabled())
		return 0;

	return liveupdate_register_subsystem(&iommu_liveupdate_subsystem);
}
device_initcall(iommu_liveupdate_init);
