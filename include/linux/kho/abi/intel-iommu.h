/* SPDX-License-Identifier: GPL-2.0 */

#ifndef _LINUX_KHO_ABI_INTEL_IOMMU_H
#define _LINUX_KHO_ABI_INTEL_IOMMU_H

#include <linux/types.h>

/**
 * DOC: Intel VT-d Live Update ABI
 *
 * The VT-d driver hands over, as the subsystem %INTEL_LIVEUPDATE_NAME, which
 * remapping units keep translating during a live update and through which
 * tables. The u64 of the subsystem is the physical address of a preserved
 * &struct intel_liveupdate_ser. It is followed by an array of
 * &struct intel_unit_ser, an array of &struct intel_rid_ser and an array of
 * &struct intel_pasid_ser.
 *
 * When the next kernel starts, each of these units has translation on, and
 * its root table address register points to &intel_unit_ser.root, in the mode
 * that &intel_unit_ser.scalable tells. That root table and the context tables it
 * points to are preserved pages that hold the entries of the requester IDs in the
 * second array and nothing else: every other requester ID is blocked. In scalable
 * mode a context entry points to a PASID directory, which is a preserved
 * allocation of the size that the entry has, and that to preserved PASID tables
 * with the entries in the third array and nothing else. Requester IDs of one
 * device share a PASID directory. The next kernel may go on using all of it.
 *
 * The page tables that the entries point to are described by the IOMMU core,
 * see linux/kho/abi/iommu.h.
 *
 * For the entries see the VT-d specification: 9.1 and 9.3 in legacy mode; 9.2 and
 * 9.4 to 9.6 in scalable mode. Page requests are not enabled in any of them.
 *
 * This interface is a contract. Any change of a layout or of a meaning needs a
 * new %INTEL_LIVEUPDATE_VERSION.
 */

#define INTEL_LIVEUPDATE_NAME		"intel-iommu"
#define INTEL_LIVEUPDATE_VERSION	2

/**
 * struct intel_liveupdate_ser - Header of the VT-d driver's state
 * @version: %INTEL_LIVEUPDATE_VERSION
 * @length: Size of the header and the arrays in bytes
 * @nr_units: Number of &struct intel_unit_ser that follow
 * @nr_rids: Number of &struct intel_rid_ser that follow the units
 * @nr_pasids: Number of &struct intel_pasid_ser that follow the requester IDs
 * @reserved: 0
 * @arrays_crc: CRC32 with seed ~0 of the arrays
 * @crc: CRC32 with seed ~0 of this header before @crc
 */
struct intel_liveupdate_ser {
	u32 version;
	u32 length;
	u32 nr_units;
	u32 nr_rids;
	u32 nr_pasids;
	u32 reserved;
	u32 arrays_crc;
	u32 crc;
} __packed;

/**
 * struct intel_unit_ser - A remapping unit that keeps translating
 * @reg_phys: Physical address of its registers, which identifies it
 * @root: Physical address of its root table
 * @segment: PCI segment that it serves
 * @scalable: 1 if it is in scalable mode, 0 in legacy mode
 */
struct intel_unit_ser {
	u64 reg_phys;
	u64 root;
	u32 segment;
	u32 scalable;
} __packed;

/**
 * struct intel_rid_ser - A requester ID that keeps translating
 * @unit: Index of its unit
 * @rid: The requester ID
 * @device: Bus, device and function of the device, of which @rid may be a DMA
 *          alias
 * @lo: Low half of its context entry
 * @hi: High half of its context entry. In scalable mode, where an entry is twice
 *      as long, the second and last that is not 0
 */
struct intel_rid_ser {
	u32 unit;
	u16 rid;
	u16 device;
	u64 lo;
	u64 hi;
} __packed;

/**
 * struct intel_pasid_ser - A PASID of a device that keeps translating
 * @unit: Index of the unit, which is in scalable mode
 * @device: Bus, device and function of the device
 * @reserved: 0
 * @pasid: The PASID. 0 is for requests without a PASID
 * @reserved2: 0
 * @val: Its PASID table entry, for first or second stage translation only
 */
struct intel_pasid_ser {
	u32 unit;
	u16 device;
	u16 reserved;
	u32 pasid;
	u32 reserved2;
	u64 val[8];
} __packed;

#endif /* _LINUX_KHO_ABI_INTEL_IOMMU_H */
