// SPDX-License-Identifier: GPL-2.0-only
/*
 * Replace an entry while hardware uses it, without a gap.
 *
 * A context entry has 128 bits, a PASID table entry 512. Hardware may fetch an
 * entry at any time, and software writes it in words of 64 bits, so in general
 * there is a moment in which hardware can see some words of the old and some of
 * the new entry, or has to see an entry that is not present.
 *
 * There is no such moment if the two differ in exactly one word. This is so for
 * two page tables of the same format and address width, when the new one takes
 * over the domain id of the old one: what differs is the word with the pointer.
 */
#include <linux/bug.h>
#include <linux/errno.h>
#include <kunit/visibility.h>

#include "entry.h"

#define ENTRY_PRESENT	BIT_ULL(0)

/**
 * intel_entry_replaceable - Can an entry be replaced without a gap?
 * @live: The entry that hardware uses
 * @target: What it shall be
 * @nr: Number of 64 bit words in an entry
 *
 * Return: the index of the only word in which they differ. -EINVAL if one of them
 * is not present, or if they differ in more words than one or in none.
 */
int intel_entry_replaceable(const u64 *live, const u64 *target, unsigned int nr)
{
	int word = -EINVAL;
	unsigned int i;

	if (!(live[0] & target[0] & ENTRY_PRESENT))
		return -EINVAL;

	for (i = 0; i < nr; i++) {
		if (live[i] == target[i])
			continue;
		if (word >= 0)
			return -EINVAL;
		word = i;
	}
	return word;
}
EXPORT_SYMBOL_IF_KUNIT(intel_entry_replaceable);

/**
 * intel_entry_replace - Replace an entry without a gap
 * @writer: Stores words and invalidates caches
 * @live: The entry that hardware uses
 * @target: What it shall be
 * @nr: Number of 64 bit words in an entry
 *
 * Old and new page table must translate whatever the device may request alike,
 * and nobody may change the one or the other, from before the call until it
 * returns. Then every request is translated, and rightly:
 *
 * - Hardware that fetches the entry gets the old or the new one. They differ in
 *   one word, which is aligned and stored by one access, so any fetch, in pieces
 *   of 64 bits or more, has either all of the one or all of the other. Both are
 *   present.
 *
 * - Requests that use a cached copy of the entry go on with the old page table.
 *   It stays until the caller frees it, after this has returned.
 *
 * - Translations of both page tables are cached with the same domain id for a
 *   while. It does not matter which one a request hits, as they are alike. For the
 *   same reason paging-structure caches may mix: each leads to a translation of
 *   one of the two.
 *
 * - After the invalidation nothing that was fetched before the store is left, in
 *   the order of the specification (6.5.3.3): first what caches the entry, then
 *   what was reached through it, so that nothing is fetched anew by a stale copy
 *   of the entry. It waits until that is complete, so requests in flight that used
 *   the old page table are done.
 *
 * From then on the old page table can be freed, and the new one changed. If
 * several entries point to the old one, that is when all have been replaced.
 *
 * Context: Whatever @writer needs. The caller serializes writers of the entry.
 * Return: 0, or -EINVAL, with nothing done, if it is not possible.
 */
int intel_entry_replace(struct intel_entry_writer *writer, u64 *live,
			const u64 *target, unsigned int nr)
{
	int word = intel_entry_replaceable(live, target, nr);

	if (word < 0)
		return word;

	writer->ops->store(writer, &live[word], target[word]);
	writer->ops->invalidate(writer);
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(intel_entry_replace);
