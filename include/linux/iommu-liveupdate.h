/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Carry the translation of devices over a live update.
 *
 * iommufd preserves domains and devices through this interface, the IOMMU
 * core hands them over, and the core of the next kernel gives each device its
 * domain back when it probes the device.
 */
#ifndef _LINUX_IOMMU_LIVEUPDATE_H
#define _LINUX_IOMMU_LIVEUPDATE_H

#include <linux/cleanup.h>
#include <linux/errno.h>
#include <linux/iommu.h>
#include <linux/rwsem.h>
#include <linux/types.h>

struct device;
struct pci_dev;

#ifdef CONFIG_IOMMU_LIVEUPDATE

extern struct rw_semaphore iommu_liveupdate_rwsem;

/* Held by whoever changes which domain a device has, or adds or removes units */
DEFINE_LOCK_GUARD_0(iommu_liveupdate_read,
		    down_read(&iommu_liveupdate_rwsem),
		    up_read(&iommu_liveupdate_rwsem))

int iommu_liveupdate_begin_hotplug(void);
void iommu_liveupdate_end_hotplug(void);
bool iommu_liveupdate_busy(struct pci_dev *pdev);
bool iommu_has_direct_regions(struct device *dev);

int iommu_domain_preserve(struct iommu_domain *domain, u32 *id);
void iommu_domain_unpreserve(struct iommu_domain *domain);
int iommu_device_preserve(struct device *dev, ioasid_t pasid,
			  struct iommu_domain *domain);
void iommu_device_unpreserve(struct device *dev, ioasid_t pasid,
			     struct iommu_domain *domain);
bool iommu_device_is_preserved(struct device *dev);

void iommu_restored_domain_set_owner(u32 id, void *owner);
unsigned int iommu_restored_domain_devices(u32 id);
void iommu_restored_domain_begin_finish(u32 id);
void iommu_restored_domain_abort_finish(u32 id);
bool iommu_restored_device_staged(struct device *dev, ioasid_t pasid,
				  struct iommu_domain *domain);
int iommu_restored_device_verify(struct device *dev, ioasid_t pasid,
				 struct iommu_domain *domain);
void iommu_restored_domain_release(u32 id);
void iommu_restored_device_release(struct device *dev);
void iommu_restored_release_unowned(void);
void iommu_restored_release_all(void);
void iommu_restored_set_revoke(void (*revoke_absent)(u64 top_phys));

#else /* CONFIG_IOMMU_LIVEUPDATE */

DEFINE_LOCK_GUARD_0(iommu_liveupdate_read, do { } while (0), do { } while (0))

static inline int iommu_liveupdate_begin_hotplug(void)
{
	return 0;
}

static inline void iommu_liveupdate_end_hotplug(void)
{
}

static inline bool iommu_liveupdate_busy(struct pci_dev *pdev)
{
	return false;
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* _LINUX_IOMMU_LIVEUPDATE_H */
