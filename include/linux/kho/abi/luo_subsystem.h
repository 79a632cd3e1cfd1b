/* SPDX-License-Identifier: GPL-2.0 */

/*
 * What the live update orchestrator hands over for subsystems.
 */

/**
 * DOC: Live Update Subsystem ABI
 *
 * Kernel subsystems that registered with liveupdate_register_subsystem() hand
 * one u64 each to the next kernel. They travel in a KHO subtree of their own,
 * named "LUO_SUBSYS", beside the one of the Live Update Orchestrator: the ABI of
 * sessions and files is not touched by it, a kernel that doesn't know subsystems
 * ignores the subtree, and a kernel that knows them works without it.
 *
 * The subtree holds a &struct luo_subsystem_header_ser, followed by
 * @count entries of &struct luo_subsystem_ser. The subtree exists from PREPARE to
 * CANCEL. It is empty until the freeze at the end of the reboot; from then on it
 * holds an entry for each subsystem whose data is not 0.
 *
 * The new kernel believes the blob when the compatible string is the one it
 * knows, the length fits both the subtree and the number of entries, and the
 * checksum is right. Otherwise it reports that once, hands out nothing, and goes
 * on booting: what a subsystem does without its data is for the subsystem to
 * decide.
 *
 * What a subsystem's u64 means is the business of the subsystem. It is as a rule
 * the physical address of preserved memory that starts with a version of its
 * own.
 *
 * This interface is a contract. Any change of the structures, or of what their
 * fields mean, needs a new compatible string.
 */

#ifndef _LINUX_KHO_ABI_LUO_SUBSYSTEM_H
#define _LINUX_KHO_ABI_LUO_SUBSYSTEM_H

#include <linux/types.h>

/* The state of subsystems is registered under this KHO entry name. */
#define LUO_SUBSYSTEM_KHO_ENTRY_NAME	"LUO_SUBSYS"
#define LUO_SUBSYSTEM_COMPATIBLE	"luo-subsystem-v1"
#define LUO_SUBSYSTEM_COMPAT_LENGTH	24

/* Maximum length of the name of a subsystem, including termination */
#define LIVEUPDATE_SUBSYSTEM_NAME_LENGTH	48

/**
 * struct luo_subsystem_header_ser - Head of the subsystems' blob.
 * @compatible: %LUO_SUBSYSTEM_COMPATIBLE, padded with zeroes. Says the version.
 * @length:     Bytes from the start of this header to the end of the last entry.
 * @count:      Number of entries that follow.
 * @crc32:      CRC-32 (IEEE 802.3, little endian, seeded with ~0) of all @length
 *              bytes, with this field counted as 0.
 * @reserved:   0.
 */
struct luo_subsystem_header_ser {
	char compatible[LUO_SUBSYSTEM_COMPAT_LENGTH];
	u64 length;
	u64 count;
	u32 crc32;
	u32 reserved;
} __packed;

/**
 * struct luo_subsystem_ser - What one subsystem hands over.
 * @name: Name of the subsystem, terminated and padded with zeroes.
 * @data: What its prepare and freeze callbacks set. Never 0.
 */
struct luo_subsystem_ser {
	char name[LIVEUPDATE_SUBSYSTEM_NAME_LENGTH];
	u64 data;
} __packed;

#endif /* _LINUX_KHO_ABI_LUO_SUBSYSTEM_H */
