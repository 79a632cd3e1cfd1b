/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel after a kexec has to know about an IOMMU page table that the
 * kernel before it built.
 */

#ifndef _LINUX_KHO_ABI_GENERIC_PT_H
#define _LINUX_KHO_ABI_GENERIC_PT_H

#include <linux/build_bug.h>
#include <linux/types.h>

/**
 * DOC: Generic page table ABI
 *
 * A generic page table crosses a kexec in place. All memory of its tables is
 * preserved by KHO as folios of the size the tables were allocated with, and the
 * content of the tables is the ABI: it is the format of the hardware, plus
 * software bits that carry no meaning for the next kernel. Hardware may go on
 * setting accessed and dirty bits, so the tables are not checksummed.
 *
 * What cannot be read from the tables is in `struct pt_iommu_ser`. The
 * structure has no version and no checksum of its own: it is embedded in the
 * record of the iommu_domain that the table belongs to, and that record has
 * them.
 *
 * This interface is a contract. Any modification of the structure, of the
 * numbers in `enum pt_iommu_ser_format`, or of the numbers of the features that
 * `include/linux/generic_pt/common.h` defines is a breaking change, and requires
 * a new version of the records that embed the structure.
 */

/**
 * enum pt_iommu_ser_format - Format of the tables
 * @PT_IOMMU_SER_AMDV1: AMD IOMMU v1 page table
 * @PT_IOMMU_SER_VTDSS: Intel VT-d second stage page table
 * @PT_IOMMU_SER_X86_64: x86 page table with 4 or 5 levels, also VT-d first stage
 * @PT_IOMMU_SER_RISCV_64: RISC-V Sv39, Sv48 or Sv57 page table
 * @PT_IOMMU_SER_AMDV1_MOCK: the format of the iommufd selftest
 */
enum pt_iommu_ser_format {
	PT_IOMMU_SER_AMDV1 = 1,
	PT_IOMMU_SER_VTDSS = 2,
	PT_IOMMU_SER_X86_64 = 3,
	PT_IOMMU_SER_RISCV_64 = 4,
	PT_IOMMU_SER_AMDV1_MOCK = 5,
};

/**
 * struct pt_iommu_ser - Serialized state of one page table
 * @top_phys:         Physical address of the top table.
 * @format:           One of `enum pt_iommu_ser_format`.
 * @features:         Features of the table, bits of `enum pt_features` and of
 *                    the features of the format.
 * @top_level:        Level of the top table. Level 0 has only leaves.
 * @hw_max_vasz_lg2:  Number of IOVA bits that the table translates. With a
 *                    growing top table, the number that it can grow to.
 * @hw_max_oasz_lg2:  Number of bits an output address can have.
 * @reserved:         Must be 0.
 */
struct pt_iommu_ser {
	u64 top_phys;
	u32 format;
	u32 features;
	u32 top_level;
	u32 hw_max_vasz_lg2;
	u32 hw_max_oasz_lg2;
	u32 reserved;
} __packed;

static_assert(sizeof(struct pt_iommu_ser) == 32);

#endif /* _LINUX_KHO_ABI_GENERIC_PT_H */
