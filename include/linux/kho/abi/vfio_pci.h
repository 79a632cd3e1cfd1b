/* SPDX-License-Identifier: GPL-2.0 */

#ifndef _LINUX_KHO_ABI_VFIO_PCI_H
#define _LINUX_KHO_ABI_VFIO_PCI_H

#include <linux/types.h>

/**
 * DOC: VFIO PCI Live Update ABI
 *
 * vfio-pci preserves the file of an open device with the LUO file handler
 * %VFIO_PCI_LUO_FH_COMPATIBLE. The data of the handler is the physical address of a
 * preserved &struct vfio_pci_luo_ser.
 *
 * The device is running: the PCI core (linux/kho/abi/pci.h) and the IOMMU core
 * (linux/kho/abi/iommu.h) hand over the same device. Interrupts are not preserved:
 * the VMM sets them up again.
 *
 * This interface is a contract. Any change of a layout or of a meaning needs a
 * new version in %VFIO_PCI_LUO_FH_COMPATIBLE.
 */

#define VFIO_PCI_LUO_FH_COMPATIBLE	"vfio-pci-v1"

/**
 * struct vfio_pci_luo_ser - A preserved device file
 * @length: Size of this structure in bytes
 * @segment: PCI segment
 * @bdf: Bus, device and function, as PCI_DEVID() has it
 * @vendor: PCI vendor id
 * @device: PCI device id
 * @reset_works: 1 if the device can be reset on its own, else 0. Trying that
 *               would end its DMA.
 * @reserved: 0
 * @iommufd_token: LUO token of the iommufd that the file is bound to, in the same
 *                 session
 * @reserved2: 0
 * @crc: CRC32 with seed ~0 of what is before @crc
 */
struct vfio_pci_luo_ser {
	u32 length;
	u32 segment;
	u16 bdf;
	u16 vendor;
	u16 device;
	u8 reset_works;
	u8 reserved;
	u64 iommufd_token;
	u32 reserved2;
	u32 crc;
} __packed;

#endif /* _LINUX_KHO_ABI_VFIO_PCI_H */
