// SPDX-License-Identifier: GPL-2.0-only
/*
 * Take over the domains of devices that kept translating during a live update.
 *
 * The records that the previous kernel left (linux/kho/abi/iommu.h) are read
 * once, before any device is probed, into the two lists below, and their
 * memory is given back. When a device is probed that has a record, the core
 * attaches a restored domain to it where it would have attached the default
 * domain. A restored domain is frozen: it stands for the page table that the
 * hardware walks and that the previous kernel built. The group is owned by the
 * IOMMU core, so no driver that uses the DMA API can bind. How that ends is in
 * liveupdate-finish.c.
 *
 * Locking: the lists, and everything in them, are written with
 * iommu_liveupdate_rwsem held for write, and read with it held for read. A
 * device record is changed at probe, reset and removal of its device as well, where
 * the rwsem is held for read and the group's mutex keeps others out.
 *
 * For the lock order see iommu_liveupdate_rwsem in iommu.c.
 */
#define pr_fmt(fmt) "iommu: liveupdate: " fmt

#include <linux/crc32.h>
#include <linux/init.h>
#include <linux/iommu-liveupdate.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/iommu.h>
#include <linux/kho_block.h>
#include <linux/list.h>
#include <linux/liveupdate.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "iommu-liveupdate-priv.h"
#include "iommu-priv.h"

LIST_HEAD(iommu_restored_domains);
LIST_HEAD(iommu_restored_devices);
LIST_HEAD(iommu_stranded_devices);

/* Under the mutex of a group. Serializes the probe of devices with one domain. */
static DEFINE_MUTEX(restored_probe_lock);

/**
 * iommu_liveupdate_crc - The CRC32 that ends a header or record
 * @ser: The structure
 * @len: How much of it comes before the CRC, in bytes
 *
 * Return: the CRC32 of the @len bytes at @ser.
 */
u32 iommu_liveupdate_crc(const void *ser, size_t len)
{
	return crc32_le(~0, ser, len);
}

/**
 * iommu_restored_pending - Does the previous kernel's state wait for its end?
 *
 * Context: iommu_liveupdate_rwsem must be held.
 * Return: true while any domain or device is in restored state.
 */
bool iommu_restored_pending(void)
{
	lockdep_assert_held(&iommu_liveupdate_rwsem);

	return !list_empty(&iommu_restored_devices) ||
	       !list_empty(&iommu_restored_domains);
}

/**
 * iommu_liveupdate_identify - Say how the next kernel finds a device again
 * @dev: The device
 * @ser: Where its place, and what it is, are written
 *
 * Return: true, or false if @dev could not be found again.
 */
bool iommu_liveupdate_identify(struct device *dev, struct iommu_device_ser *ser)
{
	if (dev_is_pci(dev)) {
		struct pci_dev *pdev = to_pci_dev(dev);

		ser->segment = pci_domain_nr(pdev->bus);
		ser->bdf = pci_dev_id(pdev);
		ser->vendor = pdev->vendor;
		ser->device = pdev->device;
		return true;
	}
	if (iommu_is_mock_device(dev) && dev->id) {
		ser->segment = IOMMU_LIVEUPDATE_MOCK_SEGMENT;
		ser->bdf = dev->id;
		return true;
	}
	return false;
}

/**
 * iommu_liveupdate_stop - Stop the DMA of a device
 * @dev: A device that iommu_liveupdate_identify() knows
 *
 * Context: May sleep.
 */
void iommu_liveupdate_stop(struct device *dev)
{
	if (dev_is_pci(dev))
		pci_clear_master(to_pci_dev(dev));
}

/**
 * iommu_liveupdate_needs - Does a device go if another one is removed?
 * @dev: A device that has a part in a live update
 * @removed: The device to be removed
 *
 * Return: true, with a line in the log, if @removed is @dev, its PF, or a bridge
 * above it.
 */
bool iommu_liveupdate_needs(struct device *dev, struct pci_dev *removed)
{
	struct pci_dev *pdev = dev_is_pci(dev) ? to_pci_dev(dev) : NULL;

	while (pdev && pdev != removed && pci_physfn(pdev) != removed)
		pdev = pci_upstream_bridge(pdev);
	if (pdev)
		dev_warn(dev, "live update: has a part in it, refusing to remove %s\n",
			 pci_name(removed));
	return pdev;
}

/**
 * iommu_restored_needs - Must a device stay for one in restored state?
 * @pdev: A PCI device, perhaps a bridge or a PF
 *
 * Context: iommu_liveupdate_rwsem held for write.
 * Return: true, with a line in the log, if @pdev has to stay.
 */
bool iommu_restored_needs(struct pci_dev *pdev)
{
	struct iommu_restored_device *rdev;

	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->dev && iommu_liveupdate_needs(rdev->dev, pdev))
			return true;
	return false;
}

/**
 * iommu_restored_find_domain - Find a domain of the previous kernel
 * @id: Its id, as iommu_domain_preserve() gave it
 *
 * Context: iommu_liveupdate_rwsem held for read.
 * Return: the domain, or NULL.
 */
struct iommu_restored_domain *iommu_restored_find_domain(u32 id)
{
	struct iommu_restored_domain *rdom;

	list_for_each_entry(rdom, &iommu_restored_domains, list)
		if (rdom->ser.id == id)
			return rdom;
	return NULL;
}

/**
 * iommu_restored_find_device - Find the record of a device in restored state
 * @dev: The device
 * @pasid: A PASID of it, or IOMMU_NO_PASID
 *
 * Context: iommu_liveupdate_rwsem held for read.
 * Return: the record, or NULL.
 */
struct iommu_restored_device *iommu_restored_find_device(struct device *dev,
							 ioasid_t pasid)
{
	struct iommu_restored_device *rdev;

	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->dev == dev && rdev->ser.pasid == pasid)
			return rdev;
	return NULL;
}

/* Is this the record of a device that is probed for the first time? */
static bool matches(struct iommu_restored_device *rdev,
		    const struct iommu_device_ser *id)
{
	return !rdev->dev && rdev->ser.bdf == id->bdf &&
	       rdev->ser.segment == id->segment;
}

static struct iommu_restored_device *
match_device(struct list_head *list, const struct iommu_device_ser *id)
{
	struct iommu_restored_device *rdev;

	list_for_each_entry(rdev, list, list)
		if (rdev->ser.pasid == IOMMU_NO_PASID && matches(rdev, id))
			return rdev;
	return NULL;
}

/**
 * iommu_restored_stranded - Does nobody control what a device translates with?
 * @dev: A device that has no IOMMU in this kernel
 *
 * The device, or one that was in its place, was preserved, and its IOMMU still walks
 * the tables of the previous kernel. Firmware or the command line hide the IOMMU, so
 * nobody can revoke that. A driver would use physical addresses, which lead to what
 * the previous kernel had mapped. That lasts until the next boot.
 *
 * Context: May sleep. Takes iommu_liveupdate_rwsem for read.
 * Return: true, with a line in the log, if no driver may use the device.
 */
bool iommu_restored_stranded(struct device *dev)
{
	struct iommu_device_ser id = {};

	if (!iommu_liveupdate_identify(dev, &id))
		return false;

	guard(iommu_liveupdate_read)();

	if (!match_device(&iommu_restored_devices, &id) &&
	    !match_device(&iommu_stranded_devices, &id))
		return false;

	dev_warn(dev, "live update: translates with tables of the previous kernel, and has no IOMMU driver, it cannot be used before the next boot\n");
	return true;
}

/* The domain that a device, or a PASID of it, translates with, or an ERR_PTR() */
static struct iommu_domain *restored_domain(struct iommu_restored_device *rdev)
{
	const struct iommu_ops *ops = dev_iommu_ops(rdev->dev);
	struct iommu_domain *domain;

	if (!rdev->rdom) {
		dev_err(rdev->dev, "live update: no valid record of domain %u\n",
			rdev->ser.domain_id);
		return ERR_PTR(-ENODATA);
	}

	if (rdev->rdom->domain)
		return rdev->rdom->domain;

	if (!ops->restore_domain)
		return ERR_PTR(-EOPNOTSUPP);

	domain = ops->restore_domain(rdev->dev, rdev->ser.pasid, &rdev->rdom->ser);
	if (!IS_ERR(domain)) {
		domain->type = IOMMU_DOMAIN_UNMANAGED;
		domain->cookie_type = IOMMU_COOKIE_NONE;
		domain->owner = ops;
		rdev->rdom->domain = domain;
	}
	return domain;
}

/**
 * iommu_restored_device_probe - Get the domain that a device translates with
 * @dev: A device that is being probed, not attached to anything yet
 *
 * Makes the device's record, if there is one, belong to @dev. Allocates the
 * restored domain for the first device that uses it.
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 * Return: NULL if @dev is not a preserved device. The restored domain to
 * attach. An ERR_PTR() if the device was preserved and what it used cannot be
 * taken over: the caller must block it.
 */
struct iommu_domain *iommu_restored_device_probe(struct device *dev)
{
	struct iommu_restored_device *rdev;
	struct iommu_device_ser id = {};

	if (!iommu_liveupdate_identify(dev, &id))
		return NULL;

	/* Devices of other groups may be probed at the same time */
	guard(mutex)(&restored_probe_lock);

	rdev = match_device(&iommu_restored_devices, &id);
	if (!rdev)
		return NULL;

	rdev->dev = dev;
	if (rdev->ser.vendor != id.vendor || rdev->ser.device != id.device) {
		dev_err(dev, "live update: preserved as %04x:%04x, another device is here\n",
			rdev->ser.vendor, rdev->ser.device);
		return ERR_PTR(-ENXIO);
	}

	return restored_domain(rdev);
}

/**
 * iommu_restored_pasids_probe - Attach what the PASIDs of a device translate with
 * @dev: A device in restored state, whose own restored domain has been attached
 *
 * A PASID for which that is not possible is blocked, with a line in the log.
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 */
void iommu_restored_pasids_probe(struct device *dev)
{
	struct iommu_domain *blocked = dev_iommu_ops(dev)->blocked_domain;
	struct iommu_restored_device *rdev;
	struct iommu_device_ser id = {};
	struct iommu_domain *domain;
	ioasid_t pasid;
	int ret;

	iommu_liveupdate_identify(dev, &id);
	guard(mutex)(&restored_probe_lock);

	list_for_each_entry(rdev, &iommu_restored_devices, list) {
		pasid = rdev->ser.pasid;
		if (pasid == IOMMU_NO_PASID || !matches(rdev, &id))
			continue;
		rdev->dev = dev;
		domain = restored_domain(rdev);
		if (IS_ERR(domain))
			ret = PTR_ERR(domain);
		else if (pasid >= dev->iommu->max_pasids)
			ret = -EINVAL;
		else if (!domain->ops->set_dev_pasid)
			ret = -EOPNOTSUPP;
		else
			ret = domain->ops->set_dev_pasid(domain, dev, pasid, NULL);
		if (!ret)
			continue;
		dev_err(dev, "live update: cannot take over what PASID %u inherited, it is blocked: %pe\n",
			pasid, ERR_PTR(ret));
		rdev->blocked = true;
		if (blocked && blocked->ops->set_dev_pasid)
			iommu_remove_dev_pasid(dev, pasid, NULL);
	}
}

/**
 * iommu_restored_device_blocked - What a device used could not be taken over
 * @dev: A device for which iommu_restored_device_probe() found a record
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 */
void iommu_restored_device_blocked(struct device *dev)
{
	struct iommu_restored_device *rdev;

	rdev = iommu_restored_find_device(dev, IOMMU_NO_PASID);
	if (rdev)
		rdev->blocked = true;
}

/**
 * iommu_restored_reset_prepare - A device is blocked for a reset
 * @dev: The device, of which the PASIDs are not blocked
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 */
void iommu_restored_reset_prepare(struct device *dev)
{
	struct iommu_restored_device *rdev;

	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->dev == dev)
			rdev->interrupted = true;
}

/**
 * iommu_restored_reset_done - What iommu_restored_reset_prepare() said is over
 * @dev: The device. What it inherited is gone, and what its PASIDs did is not
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 */
void iommu_restored_reset_done(struct device *dev)
{
	struct iommu_restored_device *rdev;

	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->dev == dev && rdev->ser.pasid != IOMMU_NO_PASID)
			rdev->interrupted = false;
}

/* The device is not the one any more that kept translating */
static void forget_device(struct iommu_restored_device *rdev)
{
	rdev->dev = NULL;
	rdev->verified = NULL;
	rdev->left = NULL;
	/* Never match a device that is plugged in here later */
	rdev->ser.segment = U32_MAX;
}

/**
 * iommu_restored_device_reset - A device has nothing any more that it inherited
 * @dev: A device in restored state, which was blocked for a reset meanwhile
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 */
void iommu_restored_device_reset(struct device *dev)
{
	struct iommu_restored_device *rdev;

	rdev = iommu_restored_find_device(dev, IOMMU_NO_PASID);
	if (!rdev)
		return;
	dev_info(dev, "live update: has been reset, it does not go on by itself\n");
	forget_device(rdev);
}

/**
 * iommu_restored_device_gone - A device in restored state is being removed
 * @dev: The device
 *
 * Its DMA is stopped, and its record is forgotten as far as the device goes: the
 * IOMMU core attaches the default domain next, which may be an identity domain.
 *
 * Context: iommu_liveupdate_rwsem held for read, mutex of the group of @dev.
 * Return: true if @dev is in restored state.
 */
bool iommu_restored_device_gone(struct device *dev)
{
	struct iommu_restored_device *rdev;
	bool found = false;

	list_for_each_entry(rdev, &iommu_restored_devices, list) {
		if (rdev->dev != dev)
			continue;
		if (rdev->ser.pasid == IOMMU_NO_PASID) {
			found = true;
			iommu_liveupdate_stop(dev);
			dev_warn(dev, "live update: removed before its live update was finished\n");
		} else if (!rdev->blocked) {
			iommu_remove_dev_pasid(dev, rdev->ser.pasid,
					       rdev->rdom->domain);
		}
		forget_device(rdev);
	}
	return found;
}

static int __init read_domains(struct kho_block_set *blocks)
{
	struct iommu_restored_domain *rdom;
	struct iommu_domain_ser *ser;
	struct kho_block_set_it it;

	kho_block_set_it_init(&it, blocks);
	while ((ser = kho_block_set_it_read_entry(&it))) {
		if (ser->crc != iommu_liveupdate_crc(ser, offsetof(typeof(*ser), crc)) ||
		    iommu_restored_find_domain(ser->id)) {
			pr_err("record of a domain is damaged, dropped\n");
			continue;
		}
		rdom = kzalloc_obj(*rdom);
		if (!rdom)
			return -ENOMEM;
		rdom->ser = *ser;
		list_add_tail(&rdom->list, &iommu_restored_domains);
	}
	return 0;
}

static bool __init has_record(const struct iommu_device_ser *ser)
{
	struct iommu_restored_device *rdev;

	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (rdev->ser.segment == ser->segment &&
		    rdev->ser.bdf == ser->bdf && rdev->ser.pasid == ser->pasid)
			return true;
	return false;
}

static int __init read_devices(struct kho_block_set *blocks)
{
	struct iommu_restored_device *rdev;
	struct iommu_device_ser *ser;
	struct kho_block_set_it it;

	kho_block_set_it_init(&it, blocks);
	while ((ser = kho_block_set_it_read_entry(&it))) {
		if (ser->crc != iommu_liveupdate_crc(ser, offsetof(typeof(*ser), crc))) {
			pr_err("record of a device or a PASID is damaged, it will be blocked\n");
			continue;
		}
		if (has_record(ser)) {
			pr_err("%04x:%02x:%02x.%u PASID %u has two records, one is dropped\n",
			       ser->segment, PCI_BUS_NUM(ser->bdf),
			       PCI_SLOT(ser->bdf & 0xff), PCI_FUNC(ser->bdf & 0xff),
			       ser->pasid);
			continue;
		}
		rdev = kzalloc_obj(*rdev);
		if (!rdev)
			return -ENOMEM;
		rdev->ser = *ser;
		rdev->rdom = iommu_restored_find_domain(ser->domain_id);
		list_add_tail(&rdev->list, &iommu_restored_devices);
	}
	return 0;
}

/* Nobody preserved anything, or there is the first block of a list */
static bool __init list_restorable(u64 phys)
{
	return !phys || kho_restorable(phys, KHO_BLOCK_SIZE);
}

static int __init read_records(struct iommu_liveupdate_ser *ser)
{
	struct kho_block_set domains, devices;
	int ret;

	if (!list_restorable(ser->domains) || !list_restorable(ser->devices))
		return -EFAULT;

	kho_block_set_init(&domains, sizeof(struct iommu_domain_ser));
	kho_block_set_init(&devices, sizeof(struct iommu_device_ser));

	ret = kho_block_set_restore(&domains, ser->domains);
	if (ret)
		return ret;
	ret = kho_block_set_restore(&devices, ser->devices);
	if (ret)
		goto out_domains;

	ret = read_domains(&domains);
	if (!ret)
		ret = read_devices(&devices);

	kho_block_set_destroy(&devices);
out_domains:
	kho_block_set_destroy(&domains);
	return ret;
}

/*
 * Any error here means that devices are stopped, and their entries revoked, by
 * their IOMMU driver, which finds entries for which the core has no record.
 */
static int __init iommu_restored_init(void)
{
	struct iommu_liveupdate_ser *ser;
	u64 data;
	int ret;

	ret = liveupdate_subsystem_get_incoming(IOMMU_LIVEUPDATE_NAME, &data);
	if (ret)
		return ret == -ENOENT ? 0 : ret;

	ser = kho_restorable(data, sizeof(*ser));
	if (!ser) {
		pr_err("the header of the records was not preserved\n");
		return -EFAULT;
	}
	if (ser->version != IOMMU_LIVEUPDATE_VERSION ||
	    ser->length != sizeof(*ser)) {
		pr_err("handed over in version %u, this kernel knows %u\n",
		       ser->version, IOMMU_LIVEUPDATE_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (ser->crc != iommu_liveupdate_crc(ser, offsetof(typeof(*ser), crc))) {
		pr_err("the header of the records is damaged\n");
		return -EBADMSG;
	}

	scoped_guard(rwsem_write, &iommu_liveupdate_rwsem)
		ret = read_records(ser);
	if (ret)
		pr_err("cannot read the records: %pe\n", ERR_PTR(ret));
	else
		pr_info("%llu devices in %llu domains were handed over\n",
			ser->nr_devices, ser->nr_domains);
	kho_restore_free(ser);
	return ret;
}

/* After LUO has found its data (early_initcall), before any device is probed */
postcore_initcall(iommu_restored_init);

/* After IOMMU drivers have probed the devices that were found */
static int __init iommu_restored_report(void)
{
	struct iommu_restored_device *rdev;

	guard(iommu_liveupdate_read)();
	list_for_each_entry(rdev, &iommu_restored_devices, list)
		if (!rdev->dev && rdev->ser.pasid == IOMMU_NO_PASID)
			pr_err("%04x:%02x:%02x.%u was handed over, and no IOMMU driver has it\n",
			       rdev->ser.segment, PCI_BUS_NUM(rdev->ser.bdf),
			       PCI_SLOT(rdev->ser.bdf & 0xff),
			       PCI_FUNC(rdev->ser.bdf & 0xff));
	return 0;
}
device_initcall(iommu_restored_report);
