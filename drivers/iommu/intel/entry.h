/* SPDX-License-Identifier: GPL-2.0-only */
/* How an entry is replaced while hardware uses it */
#ifndef _INTEL_ENTRY_H
#define _INTEL_ENTRY_H

#include <linux/types.h>

struct intel_entry_writer;

/**
 * struct intel_entry_writer_ops - Where an entry is, and what caches it
 * @store: Store one 64 bit word of an entry with a single access, and make it
 *         visible to hardware
 * @invalidate: Let nothing be in use any more that hardware fetched through the
 *              entry before. Does not return before that is complete
 */
struct intel_entry_writer_ops {
	void (*store)(struct intel_entry_writer *writer, u64 *word, u64 val);
	void (*invalidate)(struct intel_entry_writer *writer);
};

/**
 * struct intel_entry_writer - For the user to embed
 * @ops: Its functions
 */
struct intel_entry_writer {
	const struct intel_entry_writer_ops *ops;
};

int intel_entry_replaceable(const u64 *live, const u64 *target, unsigned int nr);
int intel_entry_replace(struct intel_entry_writer *writer, u64 *live,
			const u64 *target, unsigned int nr);

#endif /* _INTEL_ENTRY_H */
