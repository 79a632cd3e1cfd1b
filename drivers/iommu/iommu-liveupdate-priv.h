/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of the IOMMU core's live update share */
#ifndef __IOMMU_LIVEUPDATE_PRIV_H
#define __IOMMU_LIVEUPDATE_PRIV_H

#include <linux/iommu-liveupdate.h>
#include <linux/kho/abi/iommu.h>
#include <linux/list.h>
#include <linux/types.h>

struct device;
struct iommu_domain;
struct pci_dev;

/**
 * struct iommu_restored_domain - A domain of the previous kernel
 * @list: Entry in iommu_restored_domains
 * @ser: Copy of its record
 * @domain: What stands for it here, NULL until its first device is probed
 * @owner: Who may claim its devices, NULL if nobody has got the file back
 * @finishing: Its end has begun, nothing can be staged for its devices
 */
struct iommu_restored_domain {
	struct list_head list;
	struct iommu_domain_ser ser;
	struct iommu_domain *domain;
	void *owner;
	bool finishing;
};

/**
 * struct iommu_restored_device - A device, or a PASID of it, that kept translating
 * @list: Entry in iommu_restored_devices
 * @ser: Copy of its record
 * @rdom: The domain it translates with, NULL if that has no usable record
 * @dev: The device, NULL before it is probed and after it is removed
 * @blocked: The device is here, and does not translate with @rdom
 * @interrupted: The device is, or was, blocked for a reset: nothing can take over
 * @verified: Staged for it, and found to translate as @rdom does
 * @left: Was staged for it, and could not take over
 */
struct iommu_restored_device {
	struct list_head list;
	struct iommu_device_ser ser;
	struct iommu_restored_domain *rdom;
	struct device *dev;
	bool blocked;
	bool interrupted;
	struct iommu_domain *verified;
	struct iommu_domain *left;
};

/* iommu.c */
void iommu_remove_dev_pasid(struct device *dev, ioasid_t pasid,
			    struct iommu_domain *domain);
bool iommu_is_mock_device(struct device *dev);

#ifdef CONFIG_IOMMU_LIVEUPDATE

u32 iommu_liveupdate_crc(const void *ser, size_t len);

/* liveupdate-restore.c */
extern struct list_head iommu_restored_domains;
extern struct list_head iommu_restored_devices;
extern struct list_head iommu_stranded_devices;
bool iommu_liveupdate_identify(struct device *dev, struct iommu_device_ser *ser);
void iommu_liveupdate_stop(struct device *dev);
bool iommu_liveupdate_needs(struct device *dev, struct pci_dev *removed);
struct iommu_restored_domain *iommu_restored_find_domain(u32 id);
struct iommu_restored_device *iommu_restored_find_device(struct device *dev,
							 ioasid_t pasid);
bool iommu_restored_stranded(struct device *dev);
struct iommu_domain *iommu_restored_device_probe(struct device *dev);
void iommu_restored_pasids_probe(struct device *dev);
void iommu_restored_device_blocked(struct device *dev);
void iommu_restored_reset_prepare(struct device *dev);
void iommu_restored_reset_done(struct device *dev);
void iommu_restored_device_reset(struct device *dev);
bool iommu_restored_device_gone(struct device *dev);
bool iommu_restored_pending(void);
bool iommu_restored_needs(struct pci_dev *pdev);

/* liveupdate-finish.c */
bool iommu_restored_may_claim(struct device *dev, void *owner);
bool iommu_restored_may_stage(struct device *dev, ioasid_t pasid);
bool iommu_restored_pasid(struct device *dev, ioasid_t pasid);
bool iommu_restored_drop_left(struct device *dev, ioasid_t pasid);

/* liveupdate.c */
void iommu_preserved_device_lost(struct device *dev, ioasid_t pasid);

/* iommu.c */
int iommu_group_begin_preserved(struct device *dev, ioasid_t pasid,
				struct iommu_domain *domain);
void iommu_group_end_preserved(struct device *dev);
bool iommu_group_has_staged(struct device *dev, ioasid_t pasid,
			    struct iommu_domain *domain);
int iommu_group_take_over(struct device *dev, ioasid_t pasid,
			  struct iommu_domain *domain,
			  struct iommu_domain *restored);
struct iommu_domain *iommu_group_end_restored(struct device *dev);
struct iommu_domain *iommu_group_end_restored_pasid(struct device *dev,
						    ioasid_t pasid,
						    struct iommu_domain *restored);
void iommu_group_attach_staged(struct device *dev, ioasid_t pasid,
			       struct iommu_domain *domain);

#else /* CONFIG_IOMMU_LIVEUPDATE */

static inline bool iommu_restored_stranded(struct device *dev)
{
	return false;
}

static inline struct iommu_domain *iommu_restored_device_probe(struct device *dev)
{
	return NULL;
}

static inline void iommu_restored_pasids_probe(struct device *dev)
{
}

static inline void iommu_restored_device_blocked(struct device *dev)
{
}

static inline void iommu_restored_reset_prepare(struct device *dev)
{
}

static inline void iommu_restored_reset_done(struct device *dev)
{
}

static inline void iommu_restored_device_reset(struct device *dev)
{
}

static inline bool iommu_restored_device_gone(struct device *dev)
{
	return false;
}

static inline bool iommu_restored_may_claim(struct device *dev, void *owner)
{
	return false;
}

static inline bool iommu_restored_may_stage(struct device *dev, ioasid_t pasid)
{
	return false;
}

static inline bool iommu_restored_pasid(struct device *dev, ioasid_t pasid)
{
	return false;
}

static inline bool iommu_restored_drop_left(struct device *dev, ioasid_t pasid)
{
	return false;
}

static inline void iommu_preserved_device_lost(struct device *dev, ioasid_t pasid)
{
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* __IOMMU_LIVEUPDATE_PRIV_H */
