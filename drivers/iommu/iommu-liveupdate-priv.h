/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of the IOMMU core's live update share */
#ifndef __IOMMU_LIVEUPDATE_PRIV_H
#define __IOMMU_LIVEUPDATE_PRIV_H

#include <linux/iommu-liveupdate.h>
#include <linux/types.h>

struct device;
struct iommu_domain;
struct pci_dev;

#ifdef CONFIG_IOMMU_LIVEUPDATE

u32 iommu_liveupdate_crc(const void *ser, size_t len);

/* liveupdate-restore.c */
bool iommu_liveupdate_needs(struct device *dev, struct pci_dev *removed);
struct iommu_domain *iommu_restored_device_probe(struct device *dev);
void iommu_restored_device_blocked(struct device *dev);
bool iommu_restored_device_gone(struct device *dev);
bool iommu_restored_pending(void);
bool iommu_restored_needs(struct pci_dev *pdev);

/* liveupdate.c */
void iommu_preserved_device_lost(struct device *dev);

/* iommu.c */
int iommu_group_begin_preserved(struct device *dev, struct iommu_domain *domain);
void iommu_group_end_preserved(struct device *dev);
void iommu_group_end_restored(struct device *dev);

#else /* CONFIG_IOMMU_LIVEUPDATE */

static inline struct iommu_domain *iommu_restored_device_probe(struct device *dev)
{
	return NULL;
}

static inline void iommu_restored_device_blocked(struct device *dev)
{
}

static inline bool iommu_restored_device_gone(struct device *dev)
{
	return false;
}

static inline void iommu_preserved_device_lost(struct device *dev)
{
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* __IOMMU_LIVEUPDATE_PRIV_H */
