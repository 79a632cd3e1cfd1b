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
 * &struct intel_unit_ser and an array of &struct intel_rid_ser.
 *
 * When the next kernel starts, each of these units has translation on, and
 * its root table address register points to &intel_unit_ser.root. That root
 * table and the context tables it points to are preserved pages that hold the
 * entries of the requester IDs in the second array and nothing else: every
 * other requester ID is blocked. The next kernel may go on using the tables.
 *
 * The page tables that the entries point to are described by the IOMMU core,
 * see linux/kho/abi/iommu.h.
 *
 * Only legacy mode is described by this version (VT-d specification 3.4, 9.1
 * and 9.3).
 *
 * This interface is a contract. Any change of a layout or of a meaning needs a
 * new %INTEL_LIVEUPDATE_VERSION.
 */

#define INTEL_LIVEUPDATE_NAME		"intel-iommu"
#define INTEL_LIVEUPDATE_VERSION	1

/**
 * struct intel_liveupdate_ser - Header of the VT-d driver's state
 * @version: %INTEL_LIVEUPDATE_VERSION
 * @length: Size of the header and both arrays in bytes
 * @nr_units: Number of &struct intel_unit_ser that follow
 * @nr_rids: Number of &struct intel_rid_ser that follow the units
 * @arrays_crc: CRC32 with seed ~0 of both arrays
 * @crc: CRC32 with seed ~0 of this header before @crc
 */
struct intel_liveupdate_ser {
	u32 version;
	u32 length;
	u32 nr_units;
	u32 nr_rids;
	u32 arrays_crc;
	u32 crc;
} __packed;

/**
 * struct intel_unit_ser - A remapping unit that keeps translating
 * @reg_phys: Physical address of its registers, which identifies it
 * @root: Physical address of its root table
 * @segment: PCI segment that it serves
 * @reserved: 0
 */
struct intel_unit_ser {
	u64 reg_phys;
	u64 root;
	u32 segment;
	u32 reserved;
} __packed;

/**
 * struct intel_rid_ser - A requester ID that keeps translating
 * @unit: Index of its unit
 * @rid: The requester ID
 * @device: Bus, device and function of the device, of which @rid may be a DMA
 *          alias
 * @lo: Low half of its context entry
 * @hi: High half of its context entry
 */
struct intel_rid_ser {
	u32 unit;
	u16 rid;
	u16 device;
	u64 lo;
	u64 hi;
} __packed;

#endif /* _LINUX_KHO_ABI_INTEL_IOMMU_H */
