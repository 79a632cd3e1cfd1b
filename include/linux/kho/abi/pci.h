/* SPDX-License-Identifier: GPL-2.0 */

#ifndef _LINUX_KHO_ABI_PCI_H
#define _LINUX_KHO_ABI_PCI_H

#include <linux/types.h>

/**
 * DOC: PCI Live Update ABI
 *
 * The PCI core hands over, as the subsystem %PCI_LIVEUPDATE_NAME, which devices
 * keep running during a live update. The u64 of the subsystem is the physical
 * address of a preserved &struct pci_liveupdate_ser. It has one record for each
 * preserved endpoint, and one for each bridge above one.
 *
 * When the next kernel starts, these devices and bridges have bus mastering on
 * as the command register in the record says, and the devices do not signal
 * interrupts: INTx is disabled, MSI and MSI-X are not enabled. The next kernel
 * must leave BARs and bus numbers as they are until the live update is finished.
 *
 * This interface is a contract. Any change of a layout or of a meaning needs a
 * new %PCI_LIVEUPDATE_VERSION.
 */

#define PCI_LIVEUPDATE_NAME		"pci"
#define PCI_LIVEUPDATE_VERSION		1
#define PCI_LIVEUPDATE_DRIVER_LENGTH	32
#define PCI_LIVEUPDATE_MAX_DEVICES	8192

/**
 * struct pci_device_ser - A device or bridge that keeps running
 * @segment: PCI segment
 * @bdf: Bus, device and function, as PCI_DEVID() has it
 * @vendor: PCI vendor id
 * @device: PCI device id
 * @command: Command register
 * @hdr_type: %PCI_HEADER_TYPE_NORMAL or %PCI_HEADER_TYPE_BRIDGE
 * @primary: Bridges only: primary bus number
 * @secondary: Bridges only: secondary bus number
 * @subordinate: Bridges only: subordinate bus number
 * @bars: The BARs as they are in config space. Bridges have two.
 * @driver: Endpoints only: name of the driver to bind in the next kernel
 */
struct pci_device_ser {
	u32 segment;
	u16 bdf;
	u16 vendor;
	u16 device;
	u16 command;
	u8 hdr_type;
	u8 primary;
	u8 secondary;
	u8 subordinate;
	u32 bars[6];
	char driver[PCI_LIVEUPDATE_DRIVER_LENGTH];
} __packed;

/**
 * struct pci_liveupdate_ser - What the PCI core hands over
 * @version: %PCI_LIVEUPDATE_VERSION
 * @length: Size of this structure with its array in bytes
 * @nr_devices: Number of entries in @devices, at most
 *              %PCI_LIVEUPDATE_MAX_DEVICES
 * @devices_crc: CRC32 with seed ~0 of @devices
 * @reserved: 0
 * @crc: CRC32 with seed ~0 of what is before @crc
 * @devices: The devices and bridges
 */
struct pci_liveupdate_ser {
	u32 version;
	u32 length;
	u32 nr_devices;
	u32 devices_crc;
	u32 reserved;
	u32 crc;
	struct pci_device_ser devices[];
} __packed;

#endif /* _LINUX_KHO_ABI_PCI_H */
