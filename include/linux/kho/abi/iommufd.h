/* SPDX-License-Identifier: GPL-2.0 */

#ifndef _LINUX_KHO_ABI_IOMMUFD_H
#define _LINUX_KHO_ABI_IOMMUFD_H

#include <linux/types.h>

/**
 * DOC: iommufd Live Update ABI
 *
 * iommufd preserves a file with the LUO file handler
 * %IOMMUFD_LUO_FH_COMPATIBLE. The data of the handler is the physical address
 * of a preserved &struct iommufd_luo_ser.
 *
 * What is preserved is one record for each HWPT_PAGING object that was attached
 * to a device. It says which domain of the IOMMU core (linux/kho/abi/iommu.h)
 * the object stands for, and by which token the VMM finds it again. IOAS
 * objects are not preserved: the VMM builds them again.
 *
 * This interface is a contract. Any change of a layout or of a meaning needs a
 * new version in %IOMMUFD_LUO_FH_COMPATIBLE.
 */

#define IOMMUFD_LUO_FH_COMPATIBLE	"iommufd-v1"

/**
 * struct iommufd_hwpt_ser - One HWPT_PAGING object
 * @token: Set by the VMM, or the id that the object had
 * @domain_id: Id of its domain, &iommu_domain_ser.id
 * @alloc_flags: The flags it was allocated with, enum iommufd_hwpt_alloc_flags
 */
struct iommufd_hwpt_ser {
	u64 token;
	u32 domain_id;
	u32 alloc_flags;
} __packed;

/**
 * struct iommufd_luo_ser - A preserved iommufd
 * @length: Size of this structure with its array in bytes
 * @nr_hwpts: Number of entries in @hwpts
 * @hwpts_crc: CRC32 with seed ~0 of @hwpts
 * @crc: CRC32 with seed ~0 of what is before @crc
 * @hwpts: The HWPTs
 */
struct iommufd_luo_ser {
	u32 length;
	u32 nr_hwpts;
	u32 hwpts_crc;
	u32 crc;
	struct iommufd_hwpt_ser hwpts[];
} __packed;

#endif /* _LINUX_KHO_ABI_IOMMUFD_H */
