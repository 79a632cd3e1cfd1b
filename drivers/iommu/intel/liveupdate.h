/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Live update of VT-d units: what the parts of it and the driver call.
 *
 * adopt.c      what the previous kernel left, until it is finished or revoked
 * entry.c      how one entry is replaced while hardware uses it
 * handover.c   the tables that hardware walks during the jump
 * liveupdate.c the LUO subsystem and the record
 * takeover.c   what this kernel's domains do to take the place of inherited ones
 */
#ifndef _INTEL_LIVEUPDATE_H
#define _INTEL_LIVEUPDATE_H

#include <linux/errno.h>
#include <linux/list.h>
#include <linux/types.h>
#include <linux/util_macros.h>

struct device;
struct device_domain_info;
struct dmar_domain;
struct intel_iommu;
struct intel_rid_ser;
struct intel_unit_ser;
struct iommu_domain;
struct iommu_domain_ser;
struct pt_iommu_ser;
struct root_entry;

/**
 * struct intel_handover - Tables of one unit for the jump
 * @list: Entry in the list of all such units
 * @iommu: The unit
 * @root: Root table with entries of preserved requester IDs only
 * @used: A device of the unit is preserved. Otherwise the unit is not kept on
 * @index: Place of the unit in the record, if it is used
 */
struct intel_handover {
	struct list_head list;
	struct intel_iommu *iommu;
	struct root_entry *root;
	bool used;
	u32 index;
};

/**
 * struct intel_inherited_rid - A requester ID with an inherited entry
 * @rid: The requester ID
 * @device: The PCI device, of which @rid may be a DMA alias
 * @did: Domain id in the entry
 * @present: The entry has neither been revoked nor replaced
 * @attached: The restored domain is attached to @device
 * @top: Physical address of the page table in the entry
 * @staged: The domain that will take over from the restored domain
 */
struct intel_inherited_rid {
	u16 rid;
	u16 device;
	u16 did;
	bool present;
	bool attached;
	u64 top;
	struct dmar_domain *staged;
};

/**
 * struct intel_inherited - What a unit inherited
 * @nr: Number of entries in @rids
 * @rids: The requester IDs
 */
struct intel_inherited {
	unsigned int nr;
	struct intel_inherited_rid rids[] __counted_by(nr);
};

/* With @rid for each inherited requester ID of the device with @devid */
#define for_each_inherited_rid(rid, inherited, devid)			\
	for (rid = (inherited)->rids;					\
	     rid < (inherited)->rids + (inherited)->nr; rid++)		\
		for_each_if(rid->device == (devid))

#ifdef CONFIG_IOMMU_LIVEUPDATE

/* adopt.c */
bool intel_inherited_init(void);
bool intel_inherited_unit(struct intel_iommu *iommu);
void intel_inherited_done(void);
int intel_iommu_adopt(struct intel_iommu *iommu);
void intel_iommu_block_unknown(struct intel_iommu *iommu);
void intel_inherited_free(struct intel_iommu *iommu);
int intel_inherited_attach(struct dmar_domain *domain,
			   struct device_domain_info *info);
void intel_inherited_detach(struct dmar_domain *domain,
			    struct device_domain_info *info);
void intel_inherited_revoke(struct device_domain_info *info);
void intel_inherited_revoke_all(u64 top);
void intel_inherited_put_did(struct intel_iommu *iommu,
			     struct dmar_domain *domain, u16 did);
bool intel_inherited_matches(struct device_domain_info *info,
			     const struct pt_iommu_ser *ser);

/* handover.c */
struct intel_handover *intel_handover_alloc(struct intel_iommu *iommu);
void intel_handover_free(struct intel_handover *handover);
int intel_handover_add(struct intel_handover *handover, u16 rid);
int intel_handover_copy(struct intel_handover *handover, u16 rid, u64 top,
			struct intel_rid_ser *ser);
void intel_handover_clear(struct intel_handover *handover, u16 rid);
void intel_handover_switch(struct intel_handover *handover);

/* takeover.c */
int intel_iommu_stage(struct iommu_domain *domain, struct device *dev);
void intel_iommu_unstage(struct iommu_domain *domain, struct device *dev);
int intel_iommu_take_over(struct iommu_domain *domain, struct device *dev);

/* liveupdate.c */
int intel_iommu_preserve_device(struct device *dev,
				const struct iommu_domain_ser *ser);
void intel_iommu_unpreserve_device(struct device *dev);
bool intel_liveupdate_shutdown(struct intel_iommu *iommu);

#else /* CONFIG_IOMMU_LIVEUPDATE */

static inline bool intel_inherited_init(void)
{
	return false;
}

static inline bool intel_inherited_unit(struct intel_iommu *iommu)
{
	return false;
}

static inline void intel_inherited_done(void)
{
}

static inline int intel_iommu_adopt(struct intel_iommu *iommu)
{
	return -ENODATA;
}

static inline void intel_iommu_block_unknown(struct intel_iommu *iommu)
{
}

static inline void intel_inherited_free(struct intel_iommu *iommu)
{
}

static inline void intel_inherited_detach(struct dmar_domain *domain,
					  struct device_domain_info *info)
{
}

static inline void intel_inherited_revoke(struct device_domain_info *info)
{
}

static inline bool intel_liveupdate_shutdown(struct intel_iommu *iommu)
{
	return false;
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* _INTEL_LIVEUPDATE_H */
