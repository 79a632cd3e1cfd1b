/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KUnit of the comparison of a page table with one of the previous kernel, over
 * all formats.
 *
 * Included after kunit_iommu_preserve.h, whose fake KHO plays the kexec here too.
 * The "old" table crosses it and is "restored", and a third one is "built" beside
 * it by the new kernel.
 */
#if IS_ENABLED(CONFIG_IOMMU_PRESERVE_TABLES)

enum { KUNIT_RW = IOMMU_READ | IOMMU_WRITE };

/* What no test expects to be found in *iova */
static const dma_addr_t no_iova = 0x123;

struct kunit_compare {
	struct kunit_resource res;
	struct kunit_iommu_priv built;
};

static struct kunit_iommu_priv *to_built(struct kunit *test)
{
	struct kunit_resource *res = kunit_find_named_resource(test, "compare");
	struct kunit_compare *compare;

	if (!res)
		return NULL;
	compare = res->data;
	kunit_put_resource(res);
	return &compare->built;
}

static int try_init_built(struct kunit *test,
			  const struct pt_iommu_table_cfg *cfg)
{
	struct kunit_iommu_priv *built = to_built(test);
	struct kunit_iommu_priv *old = test->priv;

	pt_iommu_deinit(built->iommu);
	built->iommu->ops = NULL;

	built->cfg = *cfg;
	built->iommu->nid = NUMA_NO_NODE;
	built->iommu->driver_ops = &pt_kunit_driver_ops;
	built->iommu->iommu_device = old->dummy_dev;
	built->domain.ops = &kunit_pt_ops;
	return pt_iommu_init(&built->fmt_table, &built->cfg, GFP_KERNEL);
}

static void init_built(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;

	KUNIT_ASSERT_NO_ERRNO(test, try_init_built(test, &old->cfg));
}

static void map_built(struct kunit *test, pt_vaddr_t va, pt_vaddr_t len,
		      pt_oaddr_t pa, unsigned int prot)
{
	KUNIT_ASSERT_NO_ERRNO(test, iommu_map(&to_built(test)->domain, va, pa,
					      len, prot, GFP_KERNEL));
}

static void unmap_built(struct kunit *test, pt_vaddr_t va, pt_vaddr_t len)
{
	KUNIT_ASSERT_EQ(test, iommu_unmap(&to_built(test)->domain, va, len),
			len);
}

static void map_built_like_old(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned int i;

	for (i = 0; i != priv->nr_mappings; i++)
		map_built(test, priv->mappings[i].va, priv->mappings[i].len,
			  priv->mappings[i].pa, KUNIT_RW);
}

static void limit_pgsize(struct iommu_domain *domain, unsigned int pgsz_lg2)
{
	domain->pgsize_bitmap &= log2_to_max_int(pgsz_lg2 + 1);
}

static void preserve_kexec_restore(struct kunit *test)
{
	preserve(test);
	kexec_now(test);
	KUNIT_ASSERT_NO_ERRNO(test,
			      restore(test, &to_preserve_priv(test)->ser));
}

static int covers(struct kunit *test, dma_addr_t *iova)
{
	struct pt_iommu *built = to_built(test)->iommu;

	*iova = no_iova;
	return built->ops->covers(built,
				  &to_preserve_priv(test)->new.fmt_table.iommu,
				  iova);
}

#define EXPECT_COVERED(test)					\
	do {							\
		dma_addr_t iova;				\
								\
		KUNIT_EXPECT_EQ(test, covers(test, &iova), 0);	\
		KUNIT_EXPECT_EQ(test, iova, no_iova);		\
	} while (0)

#define EXPECT_NOT_COVERED(test, va, errno)				\
	do {								\
		dma_addr_t iova;					\
									\
		KUNIT_EXPECT_EQ(test, covers(test, &iova), errno);	\
		KUNIT_EXPECT_EQ(test, iova, (dma_addr_t)(va));		\
	} while (0)

/* A page at va is the only one that the built table lacks */
static void expect_page_needed(struct kunit *test, pt_vaddr_t va,
			       pt_vaddr_t len, pt_oaddr_t pa)
{
	EXPECT_NOT_COVERED(test, va, -ENOENT);

	map_built(test, va, len, pa ^ len, KUNIT_RW);
	EXPECT_NOT_COVERED(test, va, -EXDEV);
	unmap_built(test, va, len);

	map_built(test, va, len, pa, IOMMU_READ);
	EXPECT_NOT_COVERED(test, va, -EACCES);
	unmap_built(test, va, len);

	map_built(test, va, len, pa, KUNIT_RW);
	EXPECT_COVERED(test);
}

static void test_same_is_covered(struct kunit *test)
{
	struct pt_iommu *built = to_built(test)->iommu;
	struct pt_iommu_ser ser;

	map_all_sizes(test);
	map_built_like_old(test);
	preserve_kexec_restore(test);
	EXPECT_COVERED(test);

	/* Neither table is another one than before */
	EXPECT_COVERED(test);
	expect_mapped(test, &to_preserve_priv(test)->new.domain);

	KUNIT_ASSERT_NO_ERRNO(test, built->ops->preserve(built, &ser));
	EXPECT_COVERED(test);
}

static void test_more_is_covered(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t pgsz = old->smallest_pgsz;
	pt_vaddr_t va = pt_top_range(old->common).va;

	map_all_sizes(test);
	map_built_like_old(test);
	map_built(test, va, pgsz, 0, KUNIT_RW);
	map_built(test, to_preserve_priv(test)->mappings[0].va - pgsz, pgsz, 0,
		  KUNIT_RW);
	preserve_kexec_restore(test);
	EXPECT_COVERED(test);
}

static void test_every_leaf_is_needed(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned int i;

	map_all_sizes(test);
	map_built_like_old(test);
	preserve_kexec_restore(test);

	for (i = 0; i != priv->nr_mappings; i++) {
		struct kunit_mapping *map = &priv->mappings[i];

		unmap_built(test, map->va, map->len);
		expect_page_needed(test, map->va, map->len, map->pa);
	}
}

static void test_first_difference_is_named(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned int i;

	map_all_sizes(test);
	preserve_kexec_restore(test);

	/* The mappings ascend. The upper range comes after the lower one. */
	for (i = 0; i != priv->nr_mappings; i++) {
		EXPECT_NOT_COVERED(test, priv->mappings[i].va, -ENOENT);
		map_built(test, priv->mappings[i].va, priv->mappings[i].len,
			  priv->mappings[i].pa, KUNIT_RW);
	}
	EXPECT_COVERED(test);
}

static u64 *find_item(struct kunit *test, struct pt_common *common,
		      pt_vaddr_t va, unsigned int level)
{
	struct pt_range range = pt_make_range(common, va, va);
	struct find_table_args find = { .level = level };
	struct pt_state pts;

	KUNIT_ASSERT_NO_ERRNO(test, pt_walk_range(&range, __find_table, &find));
	pts = pt_init(&range, level, find.table);
	return pt_cur_table(&pts, u64) + pt_range_to_index(&pts);
}

static void test_empty_tables_need_nothing(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t pgsz = old->smallest_pgsz;
	pt_vaddr_t va = pt_top_range(old->common).va + pgsz * 256;

	do_map(test, va, 0, pgsz);
	do_unmap(test, va, pgsz);
	/* The tables stay */
	KUNIT_ASSERT_EQ(test, *find_item(test, old->common, va, 0), 0);
	preserve_kexec_restore(test);
	EXPECT_COVERED(test);

	map_built(test, va, pgsz, 0, KUNIT_RW);
	EXPECT_COVERED(test);
}

/*
 * Regions of one length, each mapped with other page sizes. The last page sizes
 * are those of a leaf at level 1, which takes a whole table at level 0.
 */
static unsigned int region_pgsz_lg2(struct kunit_iommu_priv *old)
{
	struct pt_range range = pt_top_range(old->common);
	struct pt_state pts = pt_init(&range, 1, NULL);

	return pt_table_item_lg2sz(&pts);
}

static void map_regions(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	unsigned int max_lg2 = region_pgsz_lg2(old) + 1;
	pt_vaddr_t len = log2_to_int(max_lg2);
	pt_vaddr_t va = pt_top_range(old->common).va;
	unsigned long pgsize_bitmap = old->domain.pgsize_bitmap;
	unsigned int pgsz_lg2;

	for (pgsz_lg2 = 0; pgsz_lg2 <= max_lg2; pgsz_lg2++) {
		if (!(pgsize_bitmap & log2_to_int(pgsz_lg2)))
			continue;
		va += len;
		limit_pgsize(&old->domain, pgsz_lg2);
		map_one(test, va, len,
			log2_set_mod(old->test_oa, 0, max_lg2 + 1));
		old->domain.pgsize_bitmap = pgsize_bitmap;
	}
}

static void test_page_sizes_do_not_matter(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct kunit_iommu_priv *built = to_built(test);
	unsigned int max_lg2 = region_pgsz_lg2(&priv->old) + 1;
	unsigned int pgsz_lg2;
	unsigned int i;

	map_regions(test);
	preserve_kexec_restore(test);

	for (pgsz_lg2 = priv->old.smallest_pgsz_lg2; pgsz_lg2 <= max_lg2;
	     pgsz_lg2++) {
		if (!(priv->old.info.pgsize_bitmap & log2_to_int(pgsz_lg2)))
			continue;
		init_built(test);
		limit_pgsize(&built->domain, pgsz_lg2);
		map_built_like_old(test);
		EXPECT_COVERED(test);

		for (i = 0; i != priv->nr_mappings; i++) {
			struct kunit_mapping *map = &priv->mappings[i];
			pt_vaddr_t pgsz = priv->old.smallest_pgsz;
			/* Not the first page of any leaf but the smallest */
			pt_vaddr_t offs = map->len / 2 + pgsz;

			unmap_built(test, map->va, map->len);
			map_built(test, map->va, offs, map->pa, KUNIT_RW);
			map_built(test, map->va + offs + pgsz,
				  map->len - offs - pgsz,
				  map->pa + offs + pgsz, KUNIT_RW);
			expect_page_needed(test, map->va + offs, pgsz,
					   map->pa + offs);
		}
	}
}

static void test_small_page_in_a_large_one(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t pgsz = old->smallest_pgsz;
	unsigned int lg2 = region_pgsz_lg2(old);
	pt_vaddr_t len = log2_to_int(lg2);
	pt_vaddr_t va = pt_top_range(old->common).va + len;
	pt_oaddr_t pa = log2_set_mod(old->test_oa, 0, lg2);
	pt_vaddr_t offs = len / 2 + pgsz;

	/* One page of the first region is elsewhere, one of the second is RW */
	do_map(test, va, pa, offs);
	do_map(test, va + offs, pa, pgsz);
	do_map(test, va + offs + pgsz, pa + offs + pgsz, len - offs - pgsz);
	va += len;
	KUNIT_ASSERT_NO_ERRNO(test, iommu_map(&old->domain, va, pa, offs,
					      IOMMU_READ, GFP_KERNEL));
	do_map(test, va + offs, pa + offs, pgsz);
	KUNIT_ASSERT_NO_ERRNO(test,
			      iommu_map(&old->domain, va + offs + pgsz,
					pa + offs + pgsz, len - offs - pgsz,
					IOMMU_READ, GFP_KERNEL));
	preserve_kexec_restore(test);

	va -= len;
	map_built(test, va, len, pa, KUNIT_RW);
	EXPECT_NOT_COVERED(test, va + offs, -EXDEV);
	unmap_built(test, va, len);
	map_built(test, va, offs, pa, KUNIT_RW);
	map_built(test, va + offs, pgsz, pa, KUNIT_RW);
	map_built(test, va + offs + pgsz, len - offs - pgsz, pa + offs + pgsz,
		  KUNIT_RW);

	va += len;
	map_built(test, va, len, pa, IOMMU_READ);
	EXPECT_NOT_COVERED(test, va + offs, -EACCES);
#ifdef pt_attrs_cover
	unmap_built(test, va, len);
	map_built(test, va, len, pa, KUNIT_RW);
	EXPECT_COVERED(test);
#endif
}

/* A leaf with two levels of tables below it on the other side */
static void test_leaf_over_two_levels(struct kunit *test)
{
	struct kunit_iommu_priv *built = to_built(test);
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t pgsz = old->smallest_pgsz;
	unsigned int mid_lg2 = region_pgsz_lg2(old);
	unsigned int lg2 = 2 * mid_lg2 - old->smallest_pgsz_lg2;
	pt_vaddr_t mid = log2_to_int(mid_lg2);
	pt_vaddr_t len = log2_to_int(lg2);
	pt_vaddr_t va = pt_top_range(old->common).va + len;
	pt_oaddr_t pa = log2_set_mod(old->test_oa, 0, lg2 + 1);
	/* The last small page of the only table at level 0 */
	pt_vaddr_t offs = len - mid - pgsz;

	if (!(old->safe_pgsize_bitmap & len))
		kunit_skip(test, "no leaf at level 2");

	/* The second one is small on the side where the first one is large */
	do_map(test, va, pa, len);
	limit_pgsize(&old->domain, mid_lg2);
	do_map(test, va + len, pa + len, len - mid);
	limit_pgsize(&old->domain, old->smallest_pgsz_lg2);
	do_map(test, va + 2 * len - mid, pa + 2 * len - mid, mid);
	preserve_kexec_restore(test);

	map_built(test, va + len, len, pa + len, KUNIT_RW);
	EXPECT_NOT_COVERED(test, va, -ENOENT);

	limit_pgsize(&built->domain, mid_lg2);
	map_built(test, va, len - 2 * mid, pa, KUNIT_RW);
	EXPECT_NOT_COVERED(test, va + len - 2 * mid, -ENOENT);
	map_built(test, va + len - mid, mid, pa + len - mid, KUNIT_RW);
	limit_pgsize(&built->domain, old->smallest_pgsz_lg2);
	map_built(test, va + len - 2 * mid, mid - pgsz, pa + len - 2 * mid,
		  KUNIT_RW);
	expect_page_needed(test, va + offs, pgsz, pa + offs);
}

struct kunit_attrs {
	/* Bits to invert in a leaf at level 0 */
	u64 old;
	u64 built;
	int ret;
};

static const struct kunit_attrs attrs_cases[] = {
#if defined(__GENERIC_PT_FMT_VTDSS_H)
	{ 0, VTDSS_FMT_W, -EACCES },
	{ 0, VTDSS_FMT_R, -EACCES },
	{ 0, VTDSS_FMT_SNP, -EACCES },
	{ VTDSS_FMT_W, 0, 0 },
	{ VTDSS_FMT_R, 0, 0 },
	{ VTDSS_FMT_R, VTDSS_FMT_W, -EACCES },
	{ VTDSS_FMT_SNP, 0, 0 },
	{ VTDSS_FMT_SNP, VTDSS_FMT_SNP, 0 },
	{ VTDSS_FMT_A | VTDSS_FMT_D, 0, 0 },
	{ 0, VTDSS_FMT_A | VTDSS_FMT_D, 0 },
	{ BIT_ULL(63) | BIT(10), 0, 0 },
	{ 0, BIT_ULL(63) | BIT(10), 0 },
#elif defined(__GENERIC_PT_FMT_X86_64_H)
	{ 0, X86_64_FMT_RW, -EACCES },
	{ 0, X86_64_FMT_U, -EACCES },
	{ 0, X86_64_FMT_XD, -EACCES },
	{ 0, X86_64_FMT_PWT, -EACCES },
	{ 0, X86_64_FMT_PCD, -EACCES },
	{ 0, X86_64_FMT_PAT, -EACCES },
	{ X86_64_FMT_RW, 0, 0 },
	{ X86_64_FMT_U, 0, 0 },
	{ X86_64_FMT_XD, 0, 0 },
	{ X86_64_FMT_PWT, 0, -EACCES },
	{ X86_64_FMT_PCD, 0, -EACCES },
	{ X86_64_FMT_PAT, 0, -EACCES },
	{ X86_64_FMT_PWT, X86_64_FMT_PCD, -EACCES },
	{ X86_64_FMT_XD, X86_64_FMT_XD, 0 },
	{ X86_64_FMT_PAT | X86_64_FMT_PCD, X86_64_FMT_PAT | X86_64_FMT_PCD, 0 },
	{ X86_64_FMT_A | X86_64_FMT_D, 0, 0 },
	{ 0, X86_64_FMT_A | X86_64_FMT_D, 0 },
	{ BIT(11) | BIT(9), 0, 0 },
	{ 0, BIT(11) | BIT(9), 0 },
#elif defined(__GENERIC_PT_FMT_AMDV1_H)
	{ 0, AMDV1PT_FMT_IW, -EACCES },
	{ 0, AMDV1PT_FMT_IR, -EACCES },
	{ 0, AMDV1PT_FMT_FC, -EACCES },
	{ AMDV1PT_FMT_IW, 0, 0 },
	{ AMDV1PT_FMT_IR, 0, 0 },
	{ AMDV1PT_FMT_IR, AMDV1PT_FMT_IW, -EACCES },
	{ AMDV1PT_FMT_FC, 0, 0 },
	{ AMDV1PT_FMT_FC, AMDV1PT_FMT_FC, 0 },
	{ AMDV1PT_FMT_D, 0, 0 },
	{ 0, AMDV1PT_FMT_D, 0 },
#elif defined(__GENERIC_PT_FMT_RISCV_H)
	{ 0, RISCVPT_W, -EACCES },
	{ RISCVPT_W, 0, -EACCES },
	{ RISCVPT_W, RISCVPT_W, 0 },
	{ 0, RISCVPT_IO, -EACCES },
	{ RISCVPT_RSW, 0, 0 },
	{ 0, RISCVPT_RSW, 0 },
#endif
};

static void test_attributes(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t va = pt_top_range(old->common).va + old->smallest_pgsz * 256;
	u64 *built_item;
	u64 *old_item;
	unsigned int i;

	map_one(test, va, old->smallest_pgsz, 0);
	map_built_like_old(test);
	preserve_kexec_restore(test);
	EXPECT_COVERED(test);

	old_item = find_item(test, old->common, va, 0);
	built_item = find_item(test, to_built(test)->common, va, 0);
	KUNIT_ASSERT_EQ(test, *old_item, *built_item);
	for (i = 0; i != ARRAY_SIZE(attrs_cases); i++) {
		const struct kunit_attrs *attrs = &attrs_cases[i];
		dma_addr_t iova;

		*old_item ^= attrs->old;
		*built_item ^= attrs->built;
		KUNIT_EXPECT_EQ_MSG(test, covers(test, &iova), attrs->ret,
				    "case %u", i);
		KUNIT_EXPECT_EQ(test, iova, attrs->ret ? va : no_iova);
		*old_item ^= attrs->old;
		*built_item ^= attrs->built;
	}
	EXPECT_COVERED(test);
}

static void set_dirty(struct kunit *test, struct pt_iommu *iommu,
		      unsigned int mapping)
{
	pt_vaddr_t va = to_preserve_priv(test)->mappings[mapping].va;

	KUNIT_ASSERT_NO_ERRNO(test, iommu->ops->set_dirty(iommu, va));
}

static void test_dirty_does_not_matter(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_iommu *restored = &priv->new.fmt_table.iommu;
	struct pt_iommu *built = to_built(test)->iommu;
	unsigned int i;

	map_all_sizes(test);
	map_built_like_old(test);
	preserve_kexec_restore(test);
	if (!restored->ops->set_dirty)
		kunit_skip(test, "no dirty tracking in this format or kernel");

	for (i = 0; i < priv->nr_mappings; i += 2)
		set_dirty(test, built, i);
	EXPECT_COVERED(test);

	/* Some of these are dirty in both */
	for (i = 0; i != priv->nr_mappings; i++)
		set_dirty(test, restored, i);
	EXPECT_COVERED(test);
}

/* As if the item that leads there led to an allocation of this order */
static void set_table_order(struct kunit *test, struct pt_table_p *table,
			    unsigned int order)
{
	void *entry = xa_store(&to_preserve_priv(test)->kho,
			       PHYS_PFN(virt_to_phys(table)),
			       xa_mk_value(order), GFP_KERNEL);

	KUNIT_ASSERT_FALSE(test, xa_is_err(entry));
}

/* As if it led anywhere */
static void lose_table(struct kunit *test, struct pt_table_p *table)
{
	KUNIT_ASSERT_NOT_NULL(test,
			      xa_erase(&to_preserve_priv(test)->kho,
				       PHYS_PFN(virt_to_phys(table))));
}

static void test_lost_table_is_not_read(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_range range;
	unsigned int level;
	pt_vaddr_t va;

	map_all_sizes(test);
	map_built_like_old(test);
	preserve_kexec_restore(test);
	va = priv->mappings[0].va;
	range = pt_top_range(priv->old.common);

	for (level = 0; level <= range.top_level; level++) {
		struct pt_state pts = pt_init(&range, level + 1, NULL);
		struct pt_table_p *table = find_table(test, va, level);
		pt_vaddr_t first_va = range.va;

		if (level != range.top_level)
			first_va = log2_set_mod(va, 0,
						pt_table_item_lg2sz(&pts));
		lose_table(test, table);
		EXPECT_NOT_COVERED(test, first_va, -EBADMSG);
		set_table_order(test, table, 1);
		EXPECT_NOT_COVERED(test, first_va, -EBADMSG);
		set_table_order(test, table, 0);
	}
	EXPECT_COVERED(test);
}

static void test_wild_item_is_not_followed(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	struct pt_range range = pt_top_range(old->common);
	pt_vaddr_t va = range.va + old->smallest_pgsz * 256;
	struct pt_write_attrs attrs = {};
	unsigned int level;

	map_one(test, va, old->smallest_pgsz, 0);
	map_built_like_old(test);
	preserve_kexec_restore(test);

	for (level = 1; level <= range.top_level; level++) {
		struct pt_state pts = pt_init(&range, level, NULL);
		u64 *item = find_item(test, old->common, va, level);
		u64 orig_item = *item;

		/* There is no memory that high, to read it is to crash */
		range.va = va;
		pts.table = find_table(test, va, level);
		pt_load_single_entry(&pts);
		KUNIT_ASSERT_TRUE(test, pt_install_table(&pts, BIT_ULL(46),
							 &attrs));
		EXPECT_NOT_COVERED(test,
				   log2_set_mod(va, 0,
						pt_table_item_lg2sz(&pts)),
				   -EBADMSG);
		*item = orig_item;
	}
	EXPECT_COVERED(test);
}

static void test_comparing_a_cycle_ends(struct kunit *test)
{
	dma_addr_t iova;
	u64 *item;

	map_all_sizes(test);
	map_built_like_old(test);
	preserve_kexec_restore(test);
	item = make_cycle(test);

	KUNIT_EXPECT_NE(test, covers(test, &iova), 0);
	KUNIT_EXPECT_NE(test, iova, no_iova);

	*item = 0;
	EXPECT_COVERED(test);
}

/*
 * All items of a table lead to the same one below, where it is the same again.
 * There is nothing to compare, at 512 to the power of the level of the top.
 */
static void test_comparing_too_many_tables_ends(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_range range = pt_all_range(priv->old.common);
	pt_vaddr_t va = pt_top_range(priv->old.common).va;
	unsigned int level;
	dma_addr_t iova;

	if (range.top_level < 3)
		kunit_skip(test, "no more tables than there may be pages");

	do_map(test, va, 0, priv->old.smallest_pgsz);
	do_unmap(test, va, priv->old.smallest_pgsz);
	preserve_kexec_restore(test);
	EXPECT_COVERED(test);

	for (level = range.top_level; level; level--) {
		struct pt_state pts = pt_init(&range, level,
					      find_table(test, va, level));
		u64 *items = pt_cur_table(&pts, u64);

		range.va = 0;
		_pt_iter_first(&pts);
		memset64(items, items[0], pts.end_index);
	}
	KUNIT_EXPECT_EQ(test, covers(test, &iova), -EBADMSG);
	KUNIT_EXPECT_NE(test, iova, no_iova);
}

#if defined(__GENERIC_PT_FMT_AMDV1_H)
#define HAS_ABSURD_LEAVES
enum { NR_ABSURD_LEAVES = 21 + 6, ABSURD_LEVEL = 0 };

/* The size is the length of the string of ones in the address */
static u64 absurd_leaf(u64 leaf, unsigned int i)
{
	if (i < 21)
		return leaf |
		       FIELD_PREP(AMDV1PT_FMT_NEXT_LEVEL, AMDV1PT_FMT_NL_SIZE) |
		       FIELD_PREP(AMDV1PT_FMT_OA, GENMASK(19 + i, 0));
	/* At level 0 there is no next level */
	return leaf | FIELD_PREP(AMDV1PT_FMT_NEXT_LEVEL, i - 20);
}
#elif defined(__GENERIC_PT_FMT_RISCV_H)
#define HAS_ABSURD_LEAVES
enum { NR_ABSURD_LEAVES = 1, ABSURD_LEVEL = 1 };

/* Only leaves at level 0 can be contiguous */
static u64 absurd_leaf(u64 leaf, unsigned int i)
{
	return leaf | RISCVPT_N;
}
#endif

#ifdef HAS_ABSURD_LEAVES
static void test_absurd_leaf_is_not_covered(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned int lg2 = region_pgsz_lg2(&priv->old);
	pt_vaddr_t pgsz = priv->old.smallest_pgsz;
	pt_vaddr_t len = log2_to_int(lg2);
	pt_vaddr_t va = pt_top_range(priv->old.common).va + len;
	unsigned int level;
	unsigned int i;

	/* The leaf at level 1 and the one at level 0 */
	map_one(test, va, len, 0);
	map_one(test, va + len, pgsz, 0);
	map_built_like_old(test);
	preserve_kexec_restore(test);

	for (level = ABSURD_LEVEL; level != 2; level++) {
		pt_vaddr_t leaf_va = va + (level ? 0 : len);
		u64 *item = find_item(test, priv->old.common, leaf_va, level);
		u64 orig_item = *item;

		for (i = 0; i != NR_ABSURD_LEAVES; i++) {
			*item = absurd_leaf(orig_item, i);
			EXPECT_NOT_COVERED(test, leaf_va, -EBADMSG);
		}
		*item = orig_item;
		EXPECT_COVERED(test);
	}
}
#endif

static void test_only_restored_of_the_same_format(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	struct pt_iommu *restored = &priv->new.fmt_table.iommu;
	struct pt_iommu *built = to_built(test)->iommu;
	const struct pt_iommu_ops *restored_ops;
	struct pt_iommu_ops other_ops;
	dma_addr_t iova = no_iova;

	map_all_sizes(test);
	map_built_like_old(test);
	KUNIT_EXPECT_EQ(test,
			built->ops->covers(built, priv->old.iommu, &iova),
			-EOPNOTSUPP);
	preserve(test);
	KUNIT_EXPECT_EQ(test,
			built->ops->covers(built, priv->old.iommu, &iova),
			-EOPNOTSUPP);
	kexec_now(test);
	KUNIT_ASSERT_NO_ERRNO(test, restore(test, &priv->ser));

	/* Equal in everything but that */
	restored_ops = restored->ops;
	other_ops = *restored_ops;
	restored->ops = &other_ops;
	EXPECT_NOT_COVERED(test, no_iova, -EOPNOTSUPP);
	restored->ops = restored_ops;
	EXPECT_COVERED(test);

	KUNIT_EXPECT_NULL(test, restored_ops->covers);
	KUNIT_EXPECT_EQ(test,
			built->ops->covers(restored, restored, &iova),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, iova, no_iova);
}

/* Add a level to the top. Returns an address that it adds. */
static pt_vaddr_t grow(struct kunit *test, struct kunit_iommu_priv *priv)
{
	struct kunit_iommu_priv *old = test->priv;
	struct pt_range range = pt_top_range(priv->common);
	pt_vaddr_t va = range.last_va + 1;

	KUNIT_ASSERT_NO_ERRNO(test, iommu_map(&priv->domain, va, 0,
					      old->smallest_pgsz, KUNIT_RW,
					      GFP_KERNEL));
	KUNIT_ASSERT_EQ(test,
			iommu_unmap(&priv->domain, va, old->smallest_pgsz),
			old->smallest_pgsz);
	KUNIT_ASSERT_EQ(test, pt_top_range(priv->common).top_level,
			range.top_level + 1);
	return va;
}

static bool can_grow(struct pt_common *common)
{
	return pt_feature(common, PT_FEAT_DYNAMIC_TOP) &&
	       common->max_vasz_lg2 > pt_top_range(common).max_vasz_lg2;
}

static void test_restored_top_is_higher(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t va = pt_top_range(old->common).va + old->smallest_pgsz * 256;
	pt_vaddr_t high_va = 0;

	if (!can_grow(old->common))
		kunit_skip(test, "the top cannot grow");

	map_one(test, va, old->smallest_pgsz, old->smallest_pgsz);
	while (can_grow(old->common))
		high_va = grow(test, old);
	do_map(test, high_va, 0, old->smallest_pgsz);
	preserve_kexec_restore(test);

	EXPECT_NOT_COVERED(test, va, -ENOENT);
	map_built_like_old(test);
	EXPECT_NOT_COVERED(test, high_va, -ENOENT);
	map_built(test, high_va, old->smallest_pgsz, 0, KUNIT_RW);
	EXPECT_COVERED(test);
}

static void test_restored_top_is_lower(struct kunit *test)
{
	struct kunit_iommu_priv *built = to_built(test);
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t va = pt_top_range(old->common).last_va + 1 -
			old->smallest_pgsz;

	if (!can_grow(old->common))
		kunit_skip(test, "the top cannot grow");

	map_one(test, va, old->smallest_pgsz, old->smallest_pgsz);
	preserve_kexec_restore(test);

	while (can_grow(built->common)) {
		grow(test, built);
		expect_page_needed(test, va, old->smallest_pgsz,
				   old->smallest_pgsz);
		unmap_built(test, va, old->smallest_pgsz);
	}
}

/* What the other configurations of the format have in common with this one */
static int try_init_built_cfg(struct kunit *test, unsigned int i)
{
	struct kunit_iommu_priv *old = test->priv;
	struct pt_iommu_table_cfg cfg = kunit_fmt_cfgs[i];

	/* See pt_kunit_priv_init() */
	cfg.common.features |= PT_SUPPORTED_FEATURES & ~KUNIT_FMT_FEATURES;
	if (!cfg.common.hw_max_vasz_lg2)
		cfg.common.hw_max_vasz_lg2 = PT_MAX_VA_ADDRESS_LG2;
	cfg.common.hw_max_oasz_lg2 = old->cfg.common.hw_max_oasz_lg2;
	return try_init_built(test, &cfg);
}

static void map_lower_ends(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	pt_vaddr_t pgsz = old->smallest_pgsz;

	map_one(test, pt_top_range(old->common).va, pgsz, pgsz);
	map_one(test, (pt_vaddr_t)old->domain.geometry.aperture_end + 1 - pgsz,
		pgsz, pgsz * 3);
}

static void map_upper_ends(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;
	struct pt_range range = pt_upper_range(old->common);
	pt_vaddr_t pgsz = old->smallest_pgsz;

	map_one(test, range.va, pgsz, pgsz * 5);
	map_one(test, range.last_va + 1 - pgsz, pgsz, pgsz * 7);
}

static void test_whole_range_is_compared(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned int i;

	map_lower_ends(test);
	if (pt_feature(priv->old.common, PT_FEAT_SIGN_EXTEND))
		map_upper_ends(test);
	preserve_kexec_restore(test);
	for (i = 0; i != priv->nr_mappings; i++) {
		struct kunit_mapping *map = &priv->mappings[i];

		EXPECT_NOT_COVERED(test, map->va, -ENOENT);
		map_built(test, map->va, map->len, map->pa, KUNIT_RW);
	}
	EXPECT_COVERED(test);
}

/* What is beyond the range of the built table is the first that is missing */
static void expect_other_configurations(struct kunit *test)
{
	struct kunit_preserve_priv *priv = to_preserve_priv(test);
	unsigned int cfg;
	unsigned int i;

	for (cfg = 0; cfg != ARRAY_SIZE(kunit_fmt_cfgs); cfg++) {
		struct kunit_mapping *missing = NULL;

		KUNIT_ASSERT_NO_ERRNO(test, try_init_built_cfg(test, cfg));
		for (i = 0; i != priv->nr_mappings; i++) {
			struct kunit_mapping *map = &priv->mappings[i];
			int ret;

			ret = iommu_map(&to_built(test)->domain, map->va,
					map->pa, map->len, KUNIT_RW,
					GFP_KERNEL);
			if (!ret)
				continue;
			KUNIT_EXPECT_EQ(test, ret, -ERANGE);
			if (!missing)
				missing = map;
		}
		if (missing)
			EXPECT_NOT_COVERED(test, missing->va, -ENOENT);
		else
			EXPECT_COVERED(test);
	}
}

static void test_other_configurations(struct kunit *test)
{
	map_lower_ends(test);
	preserve_kexec_restore(test);
	expect_other_configurations(test);
}

static void test_other_configurations_upper(struct kunit *test)
{
	struct kunit_iommu_priv *old = test->priv;

	if (!pt_feature(old->common, PT_FEAT_SIGN_EXTEND))
		kunit_skip(test, "the table has no upper range");

	map_upper_ends(test);
	preserve_kexec_restore(test);
	expect_other_configurations(test);
}

/* A leaf that begins within the built table and reaches over its end */
static void test_leaf_over_the_end(struct kunit *test)
{
	struct kunit_iommu_priv *built = to_built(test);
	struct kunit_iommu_priv *old = test->priv;
	unsigned int lg2 = vafls(old->safe_pgsize_bitmap) - 1;
	pt_vaddr_t va = pt_top_range(old->common).va;
	pt_oaddr_t pa = log2_set_mod(old->test_oa, 0, lg2);
	unsigned int nr_tested = 0;
	unsigned int cfg;

	do_map(test, va, pa, log2_to_int(lg2));
	preserve_kexec_restore(test);

	for (cfg = 0; cfg != ARRAY_SIZE(kunit_fmt_cfgs); cfg++) {
		pt_vaddr_t len;

		KUNIT_ASSERT_NO_ERRNO(test, try_init_built_cfg(test, cfg));
		if (va != pt_top_range(built->common).va ||
		    built->domain.geometry.aperture_end - va >=
			    log2_to_int(lg2) - 1)
			continue;
		nr_tested++;

		len = built->domain.geometry.aperture_end - va + 1;
		EXPECT_NOT_COVERED(test, va, -ENOENT);
		map_built(test, va, len / 2, pa, KUNIT_RW);
		EXPECT_NOT_COVERED(test, va + len / 2, -ENOENT);
		map_built(test, va + len / 2, len / 2, pa + len / 2, KUNIT_RW);
		EXPECT_NOT_COVERED(test, va + len, -ENOENT);
	}
	if (!nr_tested)
		kunit_skip(test, "no table is smaller than a leaf");
}

static struct kunit_case compare_test_cases[] = {
	KUNIT_CASE_FMT(test_same_is_covered),
	KUNIT_CASE_FMT(test_more_is_covered),
	KUNIT_CASE_FMT(test_every_leaf_is_needed),
	KUNIT_CASE_FMT(test_first_difference_is_named),
	KUNIT_CASE_FMT(test_empty_tables_need_nothing),
	KUNIT_CASE_FMT(test_page_sizes_do_not_matter),
	KUNIT_CASE_FMT(test_small_page_in_a_large_one),
	KUNIT_CASE_FMT(test_leaf_over_two_levels),
	KUNIT_CASE_FMT(test_attributes),
	KUNIT_CASE_FMT(test_dirty_does_not_matter),
	KUNIT_CASE_FMT(test_lost_table_is_not_read),
	KUNIT_CASE_FMT(test_wild_item_is_not_followed),
	KUNIT_CASE_FMT(test_comparing_a_cycle_ends),
	KUNIT_CASE_FMT(test_comparing_too_many_tables_ends),
#ifdef HAS_ABSURD_LEAVES
	KUNIT_CASE_FMT(test_absurd_leaf_is_not_covered),
#endif
	KUNIT_CASE_FMT(test_only_restored_of_the_same_format),
	KUNIT_CASE_FMT(test_restored_top_is_higher),
	KUNIT_CASE_FMT(test_restored_top_is_lower),
	KUNIT_CASE_FMT(test_whole_range_is_compared),
	KUNIT_CASE_FMT(test_other_configurations),
	KUNIT_CASE_FMT(test_other_configurations_upper),
	KUNIT_CASE_FMT(test_leaf_over_the_end),
	{},
};

static int pt_kunit_compare_init(struct kunit *test)
{
	struct kunit_compare *compare;
	int ret;

	compare = kunit_kzalloc(test, sizeof(*compare), GFP_KERNEL);
	if (!compare)
		return -ENOMEM;
	compare->built.iommu = &compare->built.fmt_table.iommu;
	compare->built.common = common_from_iommu(compare->built.iommu);
	spin_lock_init(&compare->built.top_lock);
	ret = kunit_add_named_resource(test, NULL, NULL, &compare->res,
				       "compare", compare);
	if (ret)
		return ret;

	ret = pt_kunit_preserve_init(test);
	if (ret)
		return ret;
	return try_init_built(test, &to_preserve_priv(test)->old.cfg);
}

static void pt_kunit_compare_exit(struct kunit *test)
{
	struct kunit_iommu_priv *built = to_built(test);

	if (built)
		pt_iommu_deinit(built->iommu);
	pt_kunit_preserve_exit(test);
}

static struct kunit_suite NS(compare_suite) = {
	.name = __stringify(NS(compare_test)),
	.init = pt_kunit_compare_init,
	.exit = pt_kunit_compare_exit,
	.test_cases = compare_test_cases,
};

kunit_test_suites(&NS(compare_suite));

#endif
