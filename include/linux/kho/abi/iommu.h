/* SPDX-License-Identifier: GPL-2.0 */

#ifndef _LINUX_KHO_ABI_IOMMU_H
#define _LINUX_KHO_ABI_IOMMU_H

#include <linux/kho/abi/generic_pt.h>
#include <linux/types.h>

/**
 * DOC: IOMMU Live Update ABI
 *
 * The IOMMU core hands the domains and devices that keep translating during a
 * live update to the next kernel as the subsystem %IOMMU_LIVEUPDATE_NAME. The
 * u64 of the subsystem is the physical address of a preserved page that starts
 * with a &struct iommu_liveupdate_ser. It points to two KHO block sets, one of
 * &struct iommu_domain_ser and one of &struct iommu_device_ser.
 *
 * All addresses are physical. Nothing here belongs to one IOMMU driver: what a
 * driver needs to find its hardware's state again is handed over by the driver
 * itself.
 *
 * The header and every record end in a CRC32 over the bytes before it, with
 * ~0 as seed. A record whose CRC does not match is dropped, and the device
 * that it describes is blocked. The page tables are not covered by a CRC,
 * because hardware may write accessed and dirty bits into them.
 *
 * This interface is a contract. Any change of a layout or of a meaning needs a
 * new %IOMMU_LIVEUPDATE_VERSION.
 */

#define IOMMU_LIVEUPDATE_NAME		"iommu"
#define IOMMU_LIVEUPDATE_VERSION	2

/* No PCI segment: a mock device of the iommufd selftest, &iommu_device_ser.bdf is its id */
#define IOMMU_LIVEUPDATE_MOCK_SEGMENT	0xfffffffe

/**
 * struct iommu_liveupdate_ser - Header of the IOMMU core's state
 * @version: %IOMMU_LIVEUPDATE_VERSION
 * @length: Size of this structure in bytes
 * @domains: Physical address of the block set of &struct iommu_domain_ser
 * @nr_domains: Number of entries in @domains
 * @devices: Physical address of the block set of &struct iommu_device_ser
 * @nr_devices: Number of entries in @devices
 * @reserved: 0
 * @crc: CRC32 of everything before
 */
struct iommu_liveupdate_ser {
	u32 version;
	u32 length;
	u64 domains;
	u64 nr_domains;
	u64 devices;
	u64 nr_devices;
	u32 reserved;
	u32 crc;
} __packed;

/**
 * struct iommu_domain_ser - One preserved domain
 * @id: Identifies the domain within this handover
 * @reserved: 0
 * @pt: Where its page table is
 * @reserved2: 0
 * @crc: CRC32 of everything before
 */
struct iommu_domain_ser {
	u32 id;
	u32 reserved;
	struct pt_iommu_ser pt;
	u32 reserved2;
	u32 crc;
} __packed;

/**
 * struct iommu_device_ser - One preserved PCI device, or a PASID of it
 * @domain_id: The domain that is attached, &iommu_domain_ser.id
 * @segment: PCI segment
 * @bdf: Bus, device and function, as PCI_DEVID() has it
 * @reserved: 0
 * @vendor: PCI vendor id
 * @device: PCI device id
 * @pasid: The PASID, 0 for the device itself. The record of a device comes before
 *         those of its PASIDs
 * @crc: CRC32 of everything before
 */
struct iommu_device_ser {
	u32 domain_id;
	u32 segment;
	u16 bdf;
	u16 reserved;
	u16 vendor;
	u16 device;
	u32 pasid;
	u32 crc;
} __packed;

#endif /* _LINUX_KHO_ABI_IOMMU_H */
