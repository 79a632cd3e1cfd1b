/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Live update of VT-d units: what the parts of it and the driver call.
 *
 * adopt.c        what the previous kernel left, until it is finished or revoked
 * adopt-pasid.c  PASID directories and tables that the previous kernel left
 * entry.c        how one entry is replaced while hardware uses it
 * handover.c     the tables that hardware walks during the jump
 * liveupdate.c   the LUO subsystem and the record
 * takeover.c     what this kernel's domains do to take the place of inherited ones
 */
#ifndef _INTEL_LIVEUPDATE_H
#define _INTEL_LIVEUPDATE_H

#include <linux/errno.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/types.h>
#include <linux/util_macros.h>

struct device;
struct device_domain_info;
struct dmar_domain;
struct intel_iommu;
struct intel_pasid_ser;
struct intel_rid_ser;
struct intel_unit_ser;
struct iommu_domain;
struct iommu_domain_ser;
struct pasid_dir_entry;
struct pci_dev;
struct pt_iommu_ser;
struct root_entry;

/**
 * struct intel_handover - Tables of one unit for the jump
 * @list: Entry in the list of all such units
 * @iommu: The unit
 * @root: Root table with entries of preserved requester IDs only
 * @pasid_dirs: In scalable mode, the PASID directories of the devices
 * @used: A device of the unit is preserved. Otherwise the unit is not kept on
 * @index: Place of the unit in the record, if it is used
 */
struct intel_handover {
	struct list_head list;
	struct intel_iommu *iommu;
	struct root_entry *root;
	struct list_head pasid_dirs;
	bool used;
	u32 index;
};

/**
 * struct intel_inherited_entry - An entry that was inherited and translates
 * @rid: The requester ID. In scalable mode that of @device
 * @device: The PCI device, of which @rid may be a DMA alias
 * @pasid: In scalable mode, the PASID
 * @did: Domain id in the entry
 * @first_stage: It is for first stage translation
 * @present: The entry has neither been revoked nor replaced
 * @attached: The restored domain is attached to @device
 * @top: Physical address of the page table in the entry
 * @live: The entry, of intel_inherited_words() words, that hardware uses: a context
 *        entry or, in scalable mode, a PASID table entry. Valid while @present
 * @staged: The domain that will take over from the restored domain
 */
struct intel_inherited_entry {
	u16 rid;
	u16 device;
	u32 pasid;
	u16 did;
	bool first_stage;
	bool present;
	bool attached;
	u64 top;
	u64 *live;
	struct dmar_domain *staged;
};

/**
 * struct intel_inherited_dir - A PASID directory that was inherited
 * @device: The PCI device
 * @dir: The directory, or NULL when the device was probed, which owns it then
 * @size: Its size in bytes
 * @damaged: Entries in it had to be cleared
 */
struct intel_inherited_dir {
	u16 device;
	bool damaged;
	struct pasid_dir_entry *dir;
	size_t size;
};

/**
 * struct intel_inherited - What a unit inherited
 * @dirs: The PASID directories, in scalable mode
 * @nr_dirs: Number of entries in @dirs
 * @nr: Number of entries in @entries
 * @entries: The entries that translate
 */
struct intel_inherited {
	struct intel_inherited_dir *dirs;
	unsigned int nr_dirs;
	unsigned int nr;
	struct intel_inherited_entry entries[] __counted_by(nr);
};

/* With @entry for each inherited entry of the device with @devid */
#define for_each_inherited_entry(entry, inherited, devid)		\
	for (entry = (inherited)->entries;				\
	     entry < (inherited)->entries + (inherited)->nr; entry++)	\
		for_each_if(entry->device == (devid))

/* The same for one PASID. There are several for IOMMU_NO_PASID in legacy mode */
#define for_each_inherited_pasid(entry, inherited, devid, id)		\
	for (entry = (inherited)->entries;				\
	     entry < (inherited)->entries + (inherited)->nr; entry++)	\
		for_each_if(entry->device == (devid) && entry->pasid == (id))

/* Is there anything in an entry? Almost always there is not. */
static inline bool intel_inherited_any(const u64 *words, unsigned int nr)
{
	u64 any = 0;

	while (nr--)
		any |= *words++;
	return any;
}

/* The translation type of a context entry in legacy mode */
static inline unsigned int intel_context_tt(u64 lo)
{
	return (lo >> 2) & 3;
}

#ifdef CONFIG_IOMMU_LIVEUPDATE

/* adopt.c */
bool intel_inherited_init(void);
bool intel_inherited_unit(struct intel_iommu *iommu);
void intel_inherited_done(void);
bool intel_inherited_stranded(struct pci_dev *pdev);
int intel_iommu_adopt(struct intel_iommu *iommu);
void intel_iommu_block_unknown(struct intel_iommu *iommu);
void intel_inherited_free(struct intel_iommu *iommu);
int intel_inherited_attach(struct dmar_domain *domain,
			   struct device_domain_info *info, u32 pasid);
void intel_inherited_detach(struct dmar_domain *domain,
			    struct device_domain_info *info, u32 pasid);
void intel_inherited_revoke(struct device_domain_info *info);
void intel_inherited_revoke_pasid(struct device_domain_info *info, u32 pasid);
void intel_inherited_release(struct device_domain_info *info);
void intel_inherited_revoke_all(u64 top);
void intel_inherited_put_did(struct intel_iommu *iommu,
			     struct dmar_domain *domain, u16 did);
bool intel_adopt_entry(struct intel_iommu *iommu,
		       struct intel_inherited_entry *entry, u64 *live);
unsigned int intel_inherited_words(struct intel_iommu *iommu);
void intel_inherited_invalidate(struct intel_iommu *iommu,
				const struct intel_inherited_entry *entry,
				struct device_domain_info *info);
bool intel_inherited_features(struct device_domain_info *info);
bool intel_inherited_matches(struct device_domain_info *info, u32 pasid,
			     const struct pt_iommu_ser *ser);

/* adopt-pasid.c */
int intel_adopt_pasid_dir(struct intel_iommu *iommu,
			  struct intel_inherited *inherited,
			  const struct intel_rid_ser *rid,
			  const struct intel_pasid_ser *pasids, u32 nr_pasids);
int intel_inherited_pasid_table(struct device_domain_info *info);
void intel_inherited_drop_dir(struct intel_iommu *iommu, u16 device);
bool intel_inherited_has_dir(struct intel_inherited *inherited, u16 device);
bool intel_inherited_dir_damaged(struct intel_inherited *inherited, u16 device);
void intel_inherited_clear_contexts(struct intel_iommu *iommu, u16 device,
				    u64 dir);

/* handover.c */
struct intel_handover *intel_handover_alloc(struct intel_iommu *iommu);
void intel_handover_free(struct intel_handover *handover);
int intel_handover_add(struct intel_handover *handover, u16 rid);
int intel_handover_add_device(struct intel_handover *handover,
			      struct device_domain_info *info);
int intel_handover_add_pasid(struct intel_handover *handover, u16 device,
			     u32 pasid);
int intel_handover_copy(struct intel_handover *handover, u16 rid, u64 top,
			struct intel_rid_ser *ser);
int intel_handover_copy_pasid(struct intel_handover *handover,
			      struct device_domain_info *info, u32 pasid,
			      u64 top, struct intel_pasid_ser *ser);
void intel_handover_clear(struct intel_handover *handover, u16 rid);
void intel_handover_clear_pasid(struct intel_handover *handover, u16 device,
				u32 pasid);
void intel_handover_clear_device(struct intel_handover *handover, u16 device);
void intel_handover_switch(struct intel_handover *handover);

/* takeover.c */
int intel_iommu_stage(struct iommu_domain *domain, struct device *dev,
		      ioasid_t pasid);
void intel_iommu_unstage(struct iommu_domain *domain, struct device *dev,
			 ioasid_t pasid);
int intel_iommu_take_over(struct iommu_domain *domain, struct device *dev,
			  ioasid_t pasid, struct iommu_domain *restored);
bool intel_domain_is_staged(struct dmar_domain *domain);

/* liveupdate.c */
int intel_iommu_preserve_device(struct device *dev, ioasid_t pasid,
				const struct iommu_domain_ser *ser);
void intel_iommu_unpreserve_device(struct device *dev, ioasid_t pasid);
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

static inline bool intel_inherited_stranded(struct pci_dev *pdev)
{
	return false;
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

static inline bool intel_inherited_features(struct device_domain_info *info)
{
	return false;
}

static inline int intel_inherited_pasid_table(struct device_domain_info *info)
{
	return -ENODATA;
}

static inline void intel_inherited_detach(struct dmar_domain *domain,
					  struct device_domain_info *info,
					  u32 pasid)
{
}

static inline void intel_inherited_revoke(struct device_domain_info *info)
{
}

static inline void intel_inherited_release(struct device_domain_info *info)
{
}

static inline bool intel_domain_is_staged(struct dmar_domain *domain)
{
	return false;
}

static inline void intel_inherited_revoke_pasid(struct device_domain_info *info,
						u32 pasid)
{
}

static inline bool intel_liveupdate_shutdown(struct intel_iommu *iommu)
{
	return false;
}

#endif /* CONFIG_IOMMU_LIVEUPDATE */
#endif /* _INTEL_LIVEUPDATE_H */
