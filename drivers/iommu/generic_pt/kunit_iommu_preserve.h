/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KUnit of page tables that cross a kexec: preserve, unpreserve and restore,
 * over all formats.
 *
 * The tests play both kernels. KHO is replaced by an xarray that holds the order
 * of each preserved folio, indexed by pfn. kexec_now() is the jump: from then on
 * the old table is only memory, its pages are not accounted, and what the xarray
 * holds can be restored.
 *
 * Everything runs in the thread of the test, which the replaced functions need to
 * find it. Like the other suites this one assumes that nobody else uses table
 * pages meanwhile.
 */
#include "kunit_iommu.h"
#include <kunit/static_stub.h>
#include <kunit/test-bug.h>
#include <linux/kho/abi/generic_pt.h>
#include <linux/xarray.h>

#if IS_ENABLED(CONFIG_IOMMU_PRESERVE_TABLES)

#define pt_iommu_init_restored \
	CONCATENATE(CONCATENATE(pt_iommu_, PTPFX), init_restored)
int pt_iommu_init_restored(struct pt_iommu_table *fmt_table,
			   const struct pt_iommu_table_cfg *cfg,
			   const struct pt_iommu_ser *ser, gfp_t gfp);

#define pt_iommu_read_and_clear_dirty \
	CONCATENATE(CONCATENATE(pt_iommu_, PTPFX), read_and_clear_dirty)

struct kunit_mapping {
	pt_vaddr_t va;
	pt_vaddr_t len;
	pt_oaddr_t pa;
};

struct kunit_preserve_priv {
	/* The table of the old kernel, do_map() and do_unmap() work on it */
	struct kunit_iommu_priv old;
	/* The same table in the new kernel */
	union {
		struct iommu_domain domain;
		struct pt_iommu_table fmt_table;
	} new;
	struct pt_iommu_ser ser;

	struct kunit_mapping mappings[PT_VADDR_MAX_LG2 + 2];
	unsigned int nr_mappings;

	struct xarray kho;
	unsigned long nr_kho;
	bool jumped;
	/* Which call of iommu_pages_kho_preserve() fails, counted from 1 */
	unsigned long fail_preserve;

	unsigned long orig_nr_iommu_pages;
	unsigned long orig_nr_secondary;
};

PT_IOMMU_CHECK_DOMAIN(struct kunit_preserve_priv, new.fmt_table.iommu,
		      new.domain);

static struct kunit_preserve_priv *to_preserve_priv(struct kunit *test)
{
	return container_of_const((struct kunit_iommu_priv *)test->priv,
				  struct kunit_preserve_priv, old);
}

static int fake_kho_preserve(struct folio *folio)
{
	struct kunit *test = kunit_get_current_test();
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	int ret;

	if (priv->fail_preserve && !--priv->fail_preserve)
		return -ENOMEM;

	/* Not refcounted, so there must be no second time */
	ret = xa_insert(&priv->kho, folio_pfn(folio),
			xa_mk_value(folio_order(folio)), GFP_KERNEL);
	KUNIT_EXPECT_EQ(test, ret, 0);
	if (!ret)
		priv->nr_kho++;
	return ret;
}

static void fake_kho_unpreserve(struct folio *folio)
{
	struct kunit *test = kunit_get_current_test();
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	void *entry = xa_erase(&priv->kho, folio_pfn(folio));

	KUNIT_EXPECT_PTR_EQ(test, entry, xa_mk_value(folio_order(folio)));
	if (entry)
		priv->nr_kho--;
}

static int fake_kho_order(phys_addr_t phys)
{
	struct kunit_preserve_priv *priv =
		to_preserve_priv(kunit_get_current_test());
	void *entry;

	if (!priv->jumped || !PAGE_ALIGNED(phys))
		return -ENOENT;
	entry = xa_load(&priv->kho, PHYS_PFN(phys));
	return entry ? xa_to_value(entry) : -ENOENT;
}

static struct folio *fake_kho_restore(phys_addr_t phys)
{
	struct kunit *test = kunit_get_current_test();
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	/* KHO warns about this, so nobody may come here without asking */
	KUNIT_EXPECT_GE(test, fake_kho_order(phys), 0);
	if (!xa_erase(&priv->kho, PHYS_PFN(phys)))
		return NULL;
	priv->nr_kho--;
	return page_folio(pfn_to_page(PHYS_PFN(phys)));
}

static void account_table_page(struct folio *folio, long sign)
{
	long nr = sign * folio_nr_pages(folio);

	mod_node_page_state(folio_pgdat(folio), NR_IOMMU_PAGES, nr);
	lruvec_stat_mod_folio(folio, NR_SECONDARY_PAGETABLE, nr);
}

static void kexec_now(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned long pfn;
	void *entry;

	xa_for_each(&priv->kho, pfn, entry)
		account_table_page(page_folio(pfn_to_page(pfn)), -1);
	priv->old.iommu->ops = NULL;
	priv->jumped = true;
}

static void expect_accounted(struct kunit *test, unsigned long nr_pages)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	KUNIT_EXPECT_EQ(test, global_node_page_state(NR_IOMMU_PAGES),
			priv->orig_nr_iommu_pages + nr_pages);
	KUNIT_EXPECT_EQ(test, global_node_page_state(NR_SECONDARY_PAGETABLE),
			priv->orig_nr_secondary + nr_pages);
}

static void map_one(struct kunit *test, pt_vaddr_t va, pt_vaddr_t len,
		    pt_oaddr_t pa)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	KUNIT_ASSERT_LT(test, priv->nr_mappings, ARRAY_SIZE(priv->mappings));
	do_map(test, va, pa, len);
	priv->mappings[priv->nr_mappings++] = (struct kunit_mapping){
		.va = va,
		.len = len,
		.pa = pa,
	};
}

/* Every page size, which gives leaves and tables at all levels */
static void map_all_sizes(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	struct pt_range range = pt_top_range(priv->common);
	pt_vaddr_t va = range.va + priv->smallest_pgsz * 256;
	unsigned int pgsz_lg2;

	for (pgsz_lg2 = 0; pgsz_lg2 != PT_VADDR_MAX_LG2; pgsz_lg2++) {
		pt_vaddr_t len = log2_to_int(pgsz_lg2);

		if (!(priv->safe_pgsize_bitmap & len))
			continue;
		va = ALIGN(va, len);
		map_one(test, va, len, log2_set_mod(priv->test_oa, 0, pgsz_lg2));
		va += len;
	}

	if (pt_feature(priv->common, PT_FEAT_SIGN_EXTEND))
		map_one(test, pt_upper_range(priv->common).va,
			priv->smallest_pgsz,
			log2_set_mod(priv->test_oa, 0, priv->smallest_pgsz_lg2));
}

static void expect_mapped(struct kunit *test, struct iommu_domain *domain)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned int i;

	for (i = 0; i != priv->nr_mappings; i++) {
		struct kunit_mapping *map = &priv->mappings[i];

		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(domain, map->va),
				(phys_addr_t)map->pa);
		KUNIT_EXPECT_EQ(test,
				iommu_iova_to_phys(domain,
						   map->va + map->len - 1),
				(phys_addr_t)(map->pa + map->len - 1));
	}
	/* The first page of all is left out by map_all_sizes() */
	KUNIT_EXPECT_EQ(test,
			iommu_iova_to_phys(domain,
					   pt_top_range(priv->old.common).va),
			0);
}

static void preserve(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_iommu *iommu = priv->old.iommu;

	memset(&priv->ser, 0xff, sizeof(priv->ser));
	KUNIT_ASSERT_NO_ERRNO(test, iommu->ops->preserve(iommu, &priv->ser));
}

static int restore(struct kunit *test, const struct pt_iommu_ser *ser)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	/* What a driver has to set, all else must not matter */
	memset(&priv->new.fmt_table, 0xff, sizeof(priv->new.fmt_table));
	priv->new.domain.ops = &kunit_pt_ops;
	priv->new.fmt_table.iommu.driver_ops = NULL;
	priv->new.fmt_table.iommu.iommu_device = NULL;
	priv->new.fmt_table.iommu.nid = NUMA_NO_NODE;
	return pt_iommu_init_restored(&priv->new.fmt_table, &priv->old.cfg, ser,
				      GFP_KERNEL);
}

static void map_preserve_kexec_restore(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	map_all_sizes(test);
	preserve(test);
	kexec_now(test);
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));
}

/* The tests count the tables by a walk of their own */
struct count_tables_args {
	struct kunit *test;
	unsigned long nr;
};

static void count_table(struct count_tables_args *count, struct pt_table_p *table)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(count->test);

	count->nr++;
	KUNIT_EXPECT_NOT_NULL(count->test,
			      xa_load(&priv->kho,
				      PHYS_PFN(virt_to_phys(table))));
}

static int __count_tables(struct pt_range *range, void *arg, unsigned int level,
			  struct pt_table_p *table)
{
	struct pt_state pts = pt_init(range, level, table);

	for_each_pt_level_entry(&pts) {
		if (pts.type != PT_ENTRY_TABLE)
			continue;
		count_table(arg, pts.table_lower);
		pt_descend(&pts, arg, __count_tables);
	}
	return 0;
}

static void test_preserve_takes_exactly_the_tables(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct count_tables_args count = { .test = test };
	struct pt_range range;

	map_all_sizes(test);
	preserve(test);

	range = pt_all_range(priv->old.common);
	count_table(&count, range.top_table);
	KUNIT_ASSERT_NO_ERRNO(test,
			      pt_walk_range(&range, __count_tables, &count));
	KUNIT_EXPECT_EQ(test, priv->nr_kho, count.nr);
	/* A page of every size needs more than the top */
	KUNIT_EXPECT_GT(test, count.nr, range.top_level);

	KUNIT_EXPECT_EQ(test, priv->ser.top_phys,
			virt_to_phys(range.top_table));
	KUNIT_EXPECT_EQ(test, priv->ser.top_level, range.top_level);
	KUNIT_EXPECT_EQ(test, priv->ser.format, PT_SER_FORMAT);
	KUNIT_EXPECT_EQ(test, priv->ser.reserved, 0);
}

static void test_preserved_refuses_changes(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct kunit_mapping *map = priv->mappings;
	struct iommu_domain *domain = &priv->old.domain;
	pt_vaddr_t free_va = pt_top_range(priv->old.common).va;

	map_all_sizes(test);
	preserve(test);

	KUNIT_EXPECT_EQ(test,
			iommu_map(domain, free_va, 0, priv->old.smallest_pgsz,
				  IOMMU_READ, GFP_KERNEL),
			-EBUSY);
	KUNIT_EXPECT_EQ(test, iommu_unmap(domain, map->va, map->len), 0);
	KUNIT_EXPECT_EQ(test,
			priv->old.iommu->ops->preserve(priv->old.iommu,
						       &priv->ser),
			-EBUSY);
	expect_mapped(test, domain);
}

static void test_unpreserve_undoes_preserve(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	pt_vaddr_t free_va = pt_top_range(priv->old.common).va;
	unsigned long nr_kho;

	map_all_sizes(test);
	preserve(test);
	nr_kho = priv->nr_kho;
	priv->old.iommu->ops->unpreserve(priv->old.iommu);
	KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
	expect_mapped(test, &priv->old.domain);

	do_map(test, free_va, 0, priv->old.smallest_pgsz);
	do_unmap(test, free_va, priv->old.smallest_pgsz);
	do_unmap(test, priv->mappings[0].va, priv->mappings[0].len);
	do_map(test, priv->mappings[0].va, priv->mappings[0].pa,
	       priv->mappings[0].len);

	preserve(test);
	KUNIT_EXPECT_EQ(test, priv->nr_kho, nr_kho);
}

static void test_deinit_unpreserves(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	map_all_sizes(test);
	preserve(test);
	pt_iommu_deinit(priv->old.iommu);
	priv->old.iommu->ops = NULL;
	KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
	expect_accounted(test, 0);
}

static void test_failed_preserve_leaves_nothing(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	pt_vaddr_t free_va = pt_top_range(priv->old.common).va;
	unsigned long nr_tables;
	unsigned long nr;

	map_all_sizes(test);
	preserve(test);
	nr_tables = priv->nr_kho;
	priv->old.iommu->ops->unpreserve(priv->old.iommu);

	for (nr = 1; nr <= nr_tables; nr++) {
		priv->fail_preserve = nr;
		KUNIT_EXPECT_EQ(test,
				priv->old.iommu->ops->preserve(priv->old.iommu,
							       &priv->ser),
				-ENOMEM);
		KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
		do_map(test, free_va, 0, priv->old.smallest_pgsz);
		do_unmap(test, free_va, priv->old.smallest_pgsz);
	}

	preserve(test);
	KUNIT_EXPECT_EQ(test, priv->nr_kho, nr_tables);
}

static int dirty(struct iommu_domain *domain, pt_vaddr_t va, pt_vaddr_t len,
		 unsigned long flags)
{
	struct iommu_iotlb_gather gather;
	struct iommu_dirty_bitmap bitmap;

	iommu_dirty_bitmap_init(&bitmap, NULL, &gather);
	return pt_iommu_read_and_clear_dirty(domain, va, len, flags, &bitmap);
}

static void test_frozen_keeps_dirty_bits(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct kunit_mapping *map = priv->mappings;

	map_all_sizes(test);
	if (dirty(&priv->old.domain, map->va, map->len, 0) == -EOPNOTSUPP)
		kunit_skip(test, "no dirty tracking in this format or kernel");

	preserve(test);
	KUNIT_EXPECT_EQ(test, dirty(&priv->old.domain, map->va, map->len, 0),
			-EBUSY);
	KUNIT_EXPECT_EQ(test, dirty(&priv->old.domain, map->va, map->len,
				    IOMMU_DIRTY_NO_CLEAR), 0);

	kexec_now(test);
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));
	KUNIT_EXPECT_EQ(test, dirty(&priv->new.domain, map->va, map->len, 0),
			-EBUSY);
	KUNIT_EXPECT_EQ(test, dirty(&priv->new.domain, map->va, map->len,
				    IOMMU_DIRTY_NO_CLEAR), 0);
}

static void test_restored_translates_the_same(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned long nr_kho;

	map_all_sizes(test);
	preserve(test);
	nr_kho = priv->nr_kho;
	kexec_now(test);
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));
	expect_mapped(test, &priv->new.domain);

	/* Neither takes a page, nor does it account for one */
	KUNIT_EXPECT_EQ(test, priv->nr_kho, nr_kho);
	expect_accounted(test, 0);
}

static void test_restored_is_what_the_record_says(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_common *common = common_from_iommu(&priv->new.fmt_table.iommu);

	map_all_sizes(test);
	preserve(test);
	kexec_now(test);

	/* A table of less than this kernel could make */
	priv->ser.hw_max_oasz_lg2--;
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));
	KUNIT_EXPECT_EQ(test, common->max_oasz_lg2, priv->ser.hw_max_oasz_lg2);
	KUNIT_EXPECT_EQ(test, common->max_vasz_lg2, priv->ser.hw_max_vasz_lg2);
	KUNIT_EXPECT_EQ(test, common->features, priv->ser.features);
	KUNIT_EXPECT_EQ(test, pt_top_range(common).top_level,
			priv->ser.top_level);
	KUNIT_EXPECT_EQ(test, priv->new.domain.geometry.aperture_end,
			priv->old.domain.geometry.aperture_end);
}

static void test_restored_refuses_changes(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct kunit_mapping *map = priv->mappings;
	struct pt_iommu *iommu = &priv->new.fmt_table.iommu;

	map_preserve_kexec_restore(test);

	KUNIT_EXPECT_EQ(test,
			iommu_map(&priv->new.domain,
				  pt_top_range(priv->old.common).va, 0,
				  priv->old.smallest_pgsz, IOMMU_READ,
				  GFP_KERNEL),
			-EBUSY);
	KUNIT_EXPECT_EQ(test, iommu_unmap(&priv->new.domain, map->va, map->len),
			0);
	KUNIT_EXPECT_EQ(test, iommu->ops->preserve(iommu, &priv->ser), -EBUSY);
	expect_mapped(test, &priv->new.domain);
}

static void test_restored_deinit_gives_all_pages_back(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	map_preserve_kexec_restore(test);
	KUNIT_EXPECT_NE(test, priv->nr_kho, 0);
	pt_iommu_deinit(&priv->new.fmt_table.iommu);
	priv->new.fmt_table.iommu.ops = NULL;
	KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
	expect_accounted(test, 0);
}

static void expect_refused(struct kunit *test, const struct pt_iommu_ser *ser,
			   int errno)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned long nr_kho = priv->nr_kho;

	KUNIT_EXPECT_EQ(test, restore(test, ser), errno);
	/* deinit has nothing to do, and the tables are where they were */
	KUNIT_EXPECT_NULL(test, priv->new.fmt_table.iommu.ops);
	KUNIT_EXPECT_EQ(test, priv->nr_kho, nr_kho);
}

static void expect_member_refused(struct kunit *test, size_t offset, u32 value,
				  int errno)
{
	struct pt_iommu_ser bad = to_preserve_priv(test)->ser;

	memcpy((u8 *)&bad + offset, &value, sizeof(value));
	expect_refused(test, &bad, errno);
}

#define EXPECT_REFUSED(test, member, value, errno)                            \
	expect_member_refused(test, offsetof(struct pt_iommu_ser, member), \
			      value, errno)

static void expect_top_refused(struct kunit *test, u64 top_phys, int errno)
{
	struct pt_iommu_ser bad = to_preserve_priv(test)->ser;

	bad.top_phys = top_phys;
	expect_refused(test, &bad, errno);
}

static void test_damaged_record_is_refused(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_iommu_ser *ser = &priv->ser;
	u32 unsupported = ~PT_SUPPORTED_FEATURES & ~BIT(PT_FEAT_SIGN_EXTEND);
	unsigned int level;

	map_all_sizes(test);
	preserve(test);
	kexec_now(test);

	EXPECT_REFUSED(test, format, 0, -EOPNOTSUPP);
	EXPECT_REFUSED(test, format, ser->format + 1, -EOPNOTSUPP);
	EXPECT_REFUSED(test, reserved, 1, -EINVAL);
	EXPECT_REFUSED(test, features,
		       ser->features ^ BIT(PT_FEAT_SIGN_EXTEND), -EINVAL);
	if (unsupported)
		EXPECT_REFUSED(test, features,
			       ser->features | BIT(__ffs(unsupported)),
			       -EOPNOTSUPP);

	for (level = 0; level <= PT_MAX_TOP_LEVEL; level++) {
		if (level == ser->top_level ||
		    (pt_feature(priv->old.common, PT_FEAT_DYNAMIC_TOP) && level))
			continue;
		EXPECT_REFUSED(test, top_level, level, -EINVAL);
	}
	/* Levels that top_of_table and u8 would truncate */
	EXPECT_REFUSED(test, top_level, PT_MAX_TOP_LEVEL + 1, -EINVAL);
	EXPECT_REFUSED(test, top_level, ser->top_level + 8, -EINVAL);
	EXPECT_REFUSED(test, top_level, ser->top_level + 256, -EINVAL);
	EXPECT_REFUSED(test, top_level, U32_MAX, -EINVAL);

	EXPECT_REFUSED(test, hw_max_vasz_lg2, 0, -EINVAL);
	EXPECT_REFUSED(test, hw_max_vasz_lg2, ser->hw_max_vasz_lg2 - 1,
		       -EINVAL);
	EXPECT_REFUSED(test, hw_max_vasz_lg2, ser->hw_max_vasz_lg2 + 1,
		       -EINVAL);
	EXPECT_REFUSED(test, hw_max_vasz_lg2, ser->hw_max_vasz_lg2 + 256,
		       -EINVAL);
	EXPECT_REFUSED(test, hw_max_oasz_lg2, 0, -EINVAL);
	EXPECT_REFUSED(test, hw_max_oasz_lg2, ser->hw_max_oasz_lg2 + 1,
		       -EINVAL);
	EXPECT_REFUSED(test, hw_max_oasz_lg2, ser->hw_max_oasz_lg2 + 256,
		       -EINVAL);

	expect_top_refused(test, ser->top_phys + 8, -EINVAL);
	expect_top_refused(test, 0, -ENOENT);
	/* A page, but none that was preserved */
	expect_top_refused(test, virt_to_phys(test) & PAGE_MASK, -ENOENT);
	/* Preserved, but of another size */
	xa_store(&priv->kho, PHYS_PFN(ser->top_phys), xa_mk_value(3),
		 GFP_KERNEL);
	expect_refused(test, ser, -ENOENT);
	xa_store(&priv->kho, PHYS_PFN(ser->top_phys), xa_mk_value(0),
		 GFP_KERNEL);

	KUNIT_ASSERT_NO_ERRNO(test, restore(test, ser));
	expect_mapped(test, &priv->new.domain);
}

struct find_table_args {
	struct pt_table_p *table;
	unsigned int level;
};

static int __find_table(struct pt_range *range, void *arg, unsigned int level,
			struct pt_table_p *table)
{
	struct pt_state pts = pt_init(range, level, table);
	struct find_table_args *find = arg;

	if (level == find->level) {
		find->table = table;
		return 0;
	}
	if (pt_load_single_entry(&pts) != PT_ENTRY_TABLE)
		return -ENOENT;
	return pt_descend(&pts, arg, __find_table);
}

/* The table at level in the translation of va */
static struct pt_table_p *find_table(struct kunit *test, pt_vaddr_t va,
				     unsigned int level)
{
	struct kunit_iommu_priv *priv = test->priv;
	struct pt_range range = pt_make_range(priv->common, va, va);
	struct find_table_args find = { .level = level };

	KUNIT_ASSERT_NO_ERRNO(test, pt_walk_range(&range, __find_table, &find));
	return find.table;
}

static void test_lost_table_is_not_touched(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_table_p *lost;
	pt_vaddr_t va;

	map_all_sizes(test);
	va = priv->mappings[0].va;
	lost = find_table(test, va, 0);
	preserve(test);
	kexec_now(test);

	/* As if the item that leads there led anywhere */
	KUNIT_ASSERT_NOT_NULL(test, xa_erase(&priv->kho,
					     PHYS_PFN(virt_to_phys(lost))));
	priv->nr_kho--;
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(&priv->new.domain, va), 0);

	pt_iommu_deinit(&priv->new.fmt_table.iommu);
	priv->new.fmt_table.iommu.ops = NULL;
	KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
	expect_accounted(test, 0);

	KUNIT_EXPECT_EQ(test, folio_ref_count(virt_to_folio(lost)), 1);
	account_table_page(virt_to_folio(lost), 1);
	virt_to_ioptdesc(lost)->incoherent = false;
	iommu_free_pages(lost);
}

/* Returns an item of the top table, which now leads back to the top table. */
static u64 *make_cycle(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_write_attrs attrs = {};
	struct pt_range range;
	struct pt_state pts;

	KUNIT_ASSERT_NO_ERRNO(test,
			      pt_iommu_set_prot(priv->old.common, &attrs,
						IOMMU_READ | IOMMU_WRITE));
	range = pt_all_range(priv->old.common);
	pts = pt_init_top(&range);
	for_each_pt_level_entry(&pts)
		if (pts.type == PT_ENTRY_EMPTY)
			break;
	if (pts.index >= pts.end_index)
		kunit_skip(test, "the top table has no room");
	KUNIT_ASSERT_TRUE(test, pt_install_table(&pts, priv->ser.top_phys,
						 &attrs));
	return pt_cur_table(&pts, u64) + pts.index;
}

static void test_cycle_ends(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);

	map_all_sizes(test);
	preserve(test);
	make_cycle(test);

	kexec_now(test);
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));
	expect_mapped(test, &priv->new.domain);
	pt_iommu_deinit(&priv->new.fmt_table.iommu);
	priv->new.fmt_table.iommu.ops = NULL;
	KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
	expect_accounted(test, 0);
}

#ifdef AMDV1PT_FMT_NL_SIZE
/* The size of a leaf that reaches around and back to the start of its table */
static void test_absurd_leaf_ends(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_range range;
	struct pt_state pts;
	u64 *items;

	map_all_sizes(test);
	preserve(test);

	range = pt_top_range(priv->old.common);
	items = (u64 *)find_table(test, priv->mappings[0].va, 1);
	pts = pt_init(&range, 1, (struct pt_table_p *)items);
	for_each_pt_level_entry(&pts)
		if (pts.type == PT_ENTRY_OA)
			break;
	KUNIT_ASSERT_LT(test, pts.index, pts.end_index);
	/* The size is the length of the string of ones in the address */
	items[pts.index] =
		AMDV1PT_FMT_PR |
		FIELD_PREP(AMDV1PT_FMT_NEXT_LEVEL, AMDV1PT_FMT_NL_SIZE) |
		FIELD_PREP(AMDV1PT_FMT_OA, GENMASK(38, 0));

	kexec_now(test);
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));
	pt_iommu_deinit(&priv->new.fmt_table.iommu);
	priv->new.fmt_table.iommu.ops = NULL;
	KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
	expect_accounted(test, 0);
}
#endif

static void test_page_of_any_order(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned long nr_table_pages =
		global_node_page_state(NR_IOMMU_PAGES) -
		priv->orig_nr_iommu_pages;
	unsigned int order;

	for (order = 0; order != 4; order++) {
		size_t size = PAGE_SIZE << order;
		phys_addr_t phys;
		u8 *page;

		page = iommu_alloc_pages_sz(GFP_KERNEL, size);
		KUNIT_ASSERT_NOT_NULL(test, page);
		phys = virt_to_phys(page);
		page[size - 1] = 0x5a;
		KUNIT_ASSERT_NO_ERRNO(test, iommu_preserve_page(page));
		KUNIT_EXPECT_EQ(test, priv->nr_kho, 1);
		KUNIT_EXPECT_FALSE(test, iommu_page_restorable(phys, size));
		KUNIT_EXPECT_NULL(test, iommu_restore_page(phys));

		/* The jump, for this page alone */
		priv->jumped = true;
		account_table_page(virt_to_folio(page), -1);
		virt_to_ioptdesc(page)->incoherent = true;

		KUNIT_EXPECT_TRUE(test, iommu_page_restorable(phys, size));
		KUNIT_EXPECT_FALSE(test, iommu_page_restorable(phys, size * 2));
		KUNIT_EXPECT_NULL(test, iommu_restore_page(phys + 8));
		KUNIT_EXPECT_PTR_EQ(test, iommu_restore_page(phys), page);
		KUNIT_EXPECT_EQ(test, page[size - 1], 0x5a);
		KUNIT_EXPECT_FALSE(test, virt_to_ioptdesc(page)->incoherent);
		expect_accounted(test, nr_table_pages + (1 << order));
		KUNIT_EXPECT_FALSE(test, iommu_page_restorable(phys, size));
		KUNIT_EXPECT_NULL(test, iommu_restore_page(phys));

		iommu_free_pages(page);
		expect_accounted(test, nr_table_pages);
		priv->jumped = false;
	}
}

struct kunit_runs {
	pt_oaddr_t pa;
	u64 len;
	/* What the callback returns in the end, and when */
	int errno;
	u64 max_len;
};

static int add_run(phys_addr_t phys, u64 len, void *data)
{
	struct kunit_runs *runs = data;

	if (phys != runs->pa || !len)
		return -EXDEV;
	runs->pa += len;
	runs->len += len;
	return runs->len >= runs->max_len ? runs->errno : 0;
}

static void expect_runs(struct kunit *test, pt_vaddr_t va, pt_vaddr_t len,
			pt_oaddr_t pa, u64 run_len, int errno)
{
	struct kunit_iommu_priv *priv = test->priv;
	struct kunit_runs runs = { .pa = pa, .max_len = U64_MAX };

	KUNIT_EXPECT_EQ(test, priv->iommu->ops->walk_runs(priv->iommu, va, len,
							  add_run, &runs),
			errno);
	KUNIT_EXPECT_EQ(test, runs.len, run_len);
}

static void test_runs_are_what_is_mapped(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	pt_vaddr_t pgsz = priv->old.smallest_pgsz;
	struct kunit_runs runs = { .errno = -EINTR };
	struct pt_iommu *table = priv->old.iommu;
	unsigned int i;
	int errno;

	map_all_sizes(test);
	for (i = 0; i < priv->nr_mappings; i++) {
		struct kunit_mapping *map = &priv->mappings[i];

		expect_runs(test, map->va, map->len, map->pa, map->len, 0);
		if (map->len < 4 * pgsz)
			continue;
		/* From within a leaf, and to within one */
		expect_runs(test, map->va + pgsz, map->len - 2 * pgsz,
			    map->pa + pgsz, map->len - 2 * pgsz, 0);
	}

	/* In front of the first one, and up to there */
	expect_runs(test, priv->mappings[0].va - pgsz, pgsz, 0, 0, -ENOENT);
	expect_runs(test, priv->mappings[0].va - pgsz, 2 * pgsz, 0, 0, -ENOENT);

	/* The callback ends it, and gets nothing else */
	runs.pa = priv->mappings[0].pa;
	runs.max_len = 1;
	errno = table->ops->walk_runs(table, priv->mappings[0].va, pgsz,
				      add_run, &runs);
	KUNIT_EXPECT_EQ(test, errno, -EINTR);
	KUNIT_EXPECT_EQ(test, runs.len, pgsz);
}

static struct kunit_case preserve_test_cases[] = {
	KUNIT_CASE_FMT(test_runs_are_what_is_mapped),
	KUNIT_CASE_FMT(test_preserve_takes_exactly_the_tables),
	KUNIT_CASE_FMT(test_preserved_refuses_changes),
	KUNIT_CASE_FMT(test_unpreserve_undoes_preserve),
	KUNIT_CASE_FMT(test_deinit_unpreserves),
	KUNIT_CASE_FMT(test_failed_preserve_leaves_nothing),
	KUNIT_CASE_FMT(test_frozen_keeps_dirty_bits),
	KUNIT_CASE_FMT(test_restored_translates_the_same),
	KUNIT_CASE_FMT(test_restored_is_what_the_record_says),
	KUNIT_CASE_FMT(test_restored_refuses_changes),
	KUNIT_CASE_FMT(test_restored_deinit_gives_all_pages_back),
	KUNIT_CASE_FMT(test_damaged_record_is_refused),
	KUNIT_CASE_FMT(test_lost_table_is_not_touched),
	KUNIT_CASE_FMT(test_cycle_ends),
#ifdef AMDV1PT_FMT_NL_SIZE
	KUNIT_CASE_FMT(test_absurd_leaf_ends),
#endif
	KUNIT_CASE_FMT(test_page_of_any_order),
	{},
};

static int pt_kunit_preserve_init(struct kunit *test)
{
	struct kunit_preserve_priv *priv;
	int ret;

	priv = kunit_kzalloc(test, sizeof(*priv), GFP_KERNEL);
	if (!priv)
		return -ENOMEM;

	priv->orig_nr_iommu_pages = global_node_page_state(NR_IOMMU_PAGES);
	priv->orig_nr_secondary =
		global_node_page_state(NR_SECONDARY_PAGETABLE);
	xa_init(&priv->kho);

	ret = pt_kunit_priv_init(test, &priv->old);
	if (ret)
		return ret;
	test->priv = &priv->old;

	kunit_activate_static_stub(test, iommu_pages_kho_preserve,
				   fake_kho_preserve);
	kunit_activate_static_stub(test, iommu_pages_kho_unpreserve,
				   fake_kho_unpreserve);
	kunit_activate_static_stub(test, iommu_pages_kho_order, fake_kho_order);
	kunit_activate_static_stub(test, iommu_pages_kho_restore,
				   fake_kho_restore);
	return 0;
}

static void pt_kunit_preserve_exit(struct kunit *test)
{
	struct kunit_preserve_priv *priv;

	if (!test->priv)
		return;

	priv = to_preserve_priv(test);
	pt_iommu_deinit(&priv->new.fmt_table.iommu);
	pt_iommu_deinit(priv->old.iommu);
	KUNIT_EXPECT_EQ(test, priv->nr_kho, 0);
	expect_accounted(test, 0);
	xa_destroy(&priv->kho);
}

static struct kunit_suite NS(preserve_suite) = {
	.name = __stringify(NS(preserve_test)),
	.init = pt_kunit_preserve_init,
	.exit = pt_kunit_preserve_exit,
	.test_cases = preserve_test_cases,
};

kunit_test_suites(&NS(preserve_suite));

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");

#endif
