// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit of replacing entries while hardware uses them.
 *
 * The writer of the test records every step. At each store it puts together all
 * entries that hardware could fetch, which may read each word before or after the
 * store: all of them must be the old or the new entry.
 *
 * The layout of the entries is written out here from the specification, 9.3 and
 * 9.6, so that the test does not depend on the driver's macros.
 */
#include <kunit/test.h>
#include <linux/bits.h>

#include "entry.h"

#define LEGACY_WORDS	2
#define PASID_WORDS	8
#define MAX_STEPS	8

/* Legacy mode context entry, 9.3 */
#define CTX_P		BIT_ULL(0)
#define CTX_FPD		BIT_ULL(1)
#define CTX_TT(x)	((u64)(x) << 2)
#define CTX_AW(x)	((u64)(x))
#define CTX_DID(x)	((u64)(x) << 8)

/* Scalable mode PASID table entry, 9.6 */
#define PASID_P		BIT_ULL(0)
#define PASID_AW(x)	((u64)(x) << 2)
#define PASID_PGTT(x)	((u64)(x) << 6)
#define  PGTT_FIRST	1
#define  PGTT_SECOND	2
#define  PGTT_NESTED	3
#define  PGTT_PASS	4
#define PASID_DID(x)	((u64)(x))
#define PASID_PGSNP	BIT_ULL(24)
#define PASID_FSPM(x)	((u64)(x) << 2)

struct entry {
	const char *name;
	u64 words[PASID_WORDS];
};

#define CTX(_name, _top, _tt, _aw, _did, _fpd)				\
	{ _name, { (_top) | CTX_TT(_tt) | (_fpd) | CTX_P,		\
		   CTX_AW(_aw) | CTX_DID(_did) } }

static const struct entry legacy_entries[] = {
	CTX("inherited", 0x12345000, 0, 2, 7, 0),
	CTX("other table", 0xabcde9000, 0, 2, 7, 0),
	CTX("table above 4 TiB", 0x5432100000000, 0, 2, 7, 0),
	CTX("other width", 0xabcde9000, 0, 1, 7, 0),
	CTX("other id", 0xabcde9000, 0, 2, 8, 0),
	CTX("device TLB", 0xabcde9000, 1, 2, 7, 0),
	CTX("no faults", 0xabcde9000, 0, 2, 7, CTX_FPD),
	CTX("pass through", 0, 2, 2, 1, 0),
	{ "not present", { 0xabcde9000, CTX_AW(2) | CTX_DID(7) } },
	{ "zero", {} },
};

#define SS(_name, _top, _aw, _did)					\
	{ _name, { (_top) | PASID_PGTT(PGTT_SECOND) | PASID_AW(_aw) |	\
		   PASID_P, PASID_DID(_did) } }
#define FS(_name, _top, _fspm, _did, _snoop)				\
	{ _name, { PASID_PGTT(PGTT_FIRST) | PASID_P,			\
		   PASID_DID(_did) | (_snoop),				\
		   (_top) | PASID_FSPM(_fspm) } }

#define NESTED(_name, _ss_top, _fs_top, _did)				\
	{ _name, { (_ss_top) | PASID_PGTT(PGTT_NESTED) | PASID_AW(2) |	\
		   PASID_P, PASID_DID(_did), (_fs_top) } }

static const struct entry pasid_entries[] = {
	SS("second stage", 0x12345000, 2, 7),
	SS("second stage, other table", 0xabcde9000, 2, 7),
	SS("second stage, other width", 0xabcde9000, 1, 7),
	SS("second stage, other id", 0xabcde9000, 2, 8),
	FS("first stage", 0x12345000, 0, 7, 0),
	FS("first stage, other table", 0xabcde9000, 0, 7, 0),
	FS("first stage, 5 levels", 0xabcde9000, 1, 7, 0),
	FS("first stage, other id", 0xabcde9000, 0, 8, 0),
	FS("first stage, snooping", 0xabcde9000, 0, 7, PASID_PGSNP),
	NESTED("nested", 0x12345000, 0x54321000, 7),
	NESTED("nested, other second stage", 0xabcde9000, 0x54321000, 7),
	NESTED("nested, other first stage", 0x12345000, 0x6789a000, 7),
	NESTED("nested, both other", 0xabcde9000, 0x98765000, 7),
	{ "pass through", { PASID_PGTT(PGTT_PASS) | PASID_AW(2) | PASID_P, 1 } },
	{ "not present", { PASID_PGTT(PGTT_FIRST), 7, 0xabcde9000 } },
	{ "zero", {} },
};

enum step { STEP_STORE = 1, STEP_INVALIDATE };

struct test_writer {
	struct intel_entry_writer writer;
	struct kunit *test;
	u64 live[PASID_WORDS];
	const struct entry *old, *target;
	unsigned int nr;
	enum step steps[MAX_STEPS];
	unsigned int nr_steps;
};

static void add_step(struct test_writer *tw, enum step step)
{
	KUNIT_ASSERT_LT(tw->test, tw->nr_steps, MAX_STEPS);
	tw->steps[tw->nr_steps++] = step;
}

/* Hardware reads each word before or after a store, in any combination */
static void fetch_all_ways(struct test_writer *tw, const u64 *before)
{
	u64 seen[PASID_WORDS];
	unsigned int mix, i;

	for (mix = 0; mix < BIT(tw->nr); mix++) {
		for (i = 0; i < tw->nr; i++)
			seen[i] = mix & BIT(i) ? tw->live[i] : before[i];
		KUNIT_EXPECT_TRUE_MSG(tw->test,
				      !memcmp(seen, tw->old->words, tw->nr * 8) ||
				      !memcmp(seen, tw->target->words, tw->nr * 8),
				      "\"%s\" to \"%s\": hardware can see a mix",
				      tw->old->name, tw->target->name);
	}
}

static void test_store(struct intel_entry_writer *writer, u64 *word, u64 val)
{
	struct test_writer *tw = container_of(writer, struct test_writer, writer);
	u64 before[PASID_WORDS];

	memcpy(before, tw->live, sizeof(before));
	KUNIT_ASSERT_GE(tw->test, word - tw->live, 0);
	KUNIT_ASSERT_LT(tw->test, word - tw->live, tw->nr);
	*word = val;
	fetch_all_ways(tw, before);
	add_step(tw, STEP_STORE);
}

static void test_invalidate(struct intel_entry_writer *writer)
{
	struct test_writer *tw = container_of(writer, struct test_writer, writer);

	/* What is fetched from here on must be final */
	KUNIT_EXPECT_MEMEQ(tw->test, tw->live, tw->target->words, tw->nr * 8);
	add_step(tw, STEP_INVALIDATE);
}

static const struct intel_entry_writer_ops test_writer_ops = {
	.store = test_store,
	.invalidate = test_invalidate,
};

static unsigned int nr_different(const struct entry *a, const struct entry *b,
				 unsigned int nr)
{
	unsigned int i, n = 0;

	for (i = 0; i < nr; i++)
		n += a->words[i] != b->words[i];
	return n;
}

/* Return: true if it could be replaced */
static bool replace(struct kunit *test, const struct entry *old,
		    const struct entry *target, unsigned int nr)
{
	struct test_writer tw = {
		.writer.ops = &test_writer_ops,
		.test = test,
		.old = old,
		.target = target,
		.nr = nr,
	};
	bool possible = (old->words[0] & 1) && (target->words[0] & 1) &&
			nr_different(old, target, nr) == 1;
	int ret;

	memcpy(tw.live, old->words, sizeof(tw.live));
	ret = intel_entry_replaceable(tw.live, target->words, nr);
	KUNIT_EXPECT_EQ_MSG(test, ret >= 0, possible, "\"%s\" to \"%s\": %d",
			    old->name, target->name, ret);
	ret = intel_entry_replace(&tw.writer, tw.live, target->words, nr);
	if (!possible) {
		KUNIT_EXPECT_EQ(test, ret, -EINVAL);
		KUNIT_EXPECT_EQ(test, tw.nr_steps, 0);
		KUNIT_EXPECT_MEMEQ(test, tw.live, old->words, nr * 8);
		return false;
	}

	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_MEMEQ(test, tw.live, target->words, nr * 8);
	KUNIT_ASSERT_EQ(test, tw.nr_steps, 2);
	KUNIT_EXPECT_EQ(test, tw.steps[0], STEP_STORE);
	KUNIT_EXPECT_EQ(test, tw.steps[1], STEP_INVALIDATE);
	return true;
}

static void replace_all_pairs(struct kunit *test, const struct entry *entries,
			      unsigned int nr_entries, unsigned int nr_words,
			      unsigned int nr_possible)
{
	unsigned int i, j, n = 0;

	for (i = 0; i < nr_entries; i++)
		for (j = 0; j < nr_entries; j++)
			n += replace(test, &entries[i], &entries[j], nr_words);
	/* The table of entries has pairs of both kinds */
	KUNIT_EXPECT_EQ(test, n, nr_possible);
}

static void test_legacy_pairs(struct kunit *test)
{
	/*
	 * Five differ in the first word alone: table, translation type or fault
	 * processing. Three differ in the second alone: address width or id.
	 */
	replace_all_pairs(test, legacy_entries, ARRAY_SIZE(legacy_entries),
			  LEGACY_WORDS, 5 * 4 + 3 * 2);
}

static void test_pasid_pairs(struct kunit *test)
{
	/*
	 * Second stage: three differ in the first word alone (table, width), two
	 * in the second (id). First stage: three in the third word (table,
	 * levels), three in the second (id, snooping). Nested: three pairs differ
	 * in one of their two tables. Never two of different types.
	 */
	replace_all_pairs(test, pasid_entries, ARRAY_SIZE(pasid_entries),
			  PASID_WORDS, 3 * 2 + 2 + 3 * 2 + 3 * 2 + 3 * 2);
}

static void test_word_is_found(struct kunit *test)
{
	/* The word with the pointer, in each mode */
	KUNIT_EXPECT_EQ(test, intel_entry_replaceable(legacy_entries[0].words,
						      legacy_entries[1].words,
						      LEGACY_WORDS), 0);
	KUNIT_EXPECT_EQ(test, intel_entry_replaceable(pasid_entries[0].words,
						      pasid_entries[1].words,
						      PASID_WORDS), 0);
	KUNIT_EXPECT_EQ(test, intel_entry_replaceable(pasid_entries[4].words,
						      pasid_entries[5].words,
						      PASID_WORDS), 2);
}

static struct kunit_case entry_test_cases[] = {
	KUNIT_CASE(test_legacy_pairs),
	KUNIT_CASE(test_pasid_pairs),
	KUNIT_CASE(test_word_is_found),
	{}
};

static struct kunit_suite entry_test_suite = {
	.name = "intel-iommu-entry",
	.test_cases = entry_test_cases,
};

kunit_test_suite(entry_test_suite);

MODULE_DESCRIPTION("KUnit of replacing VT-d entries while hardware uses them");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
