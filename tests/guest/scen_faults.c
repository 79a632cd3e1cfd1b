// SPDX-License-Identifier: GPL-2.0
/*
 * Preserving an iommufd and PREPARE, with each memory allocation of theirs failing
 * once: each attempt fails with ENOMEM or succeeds, and a failed one leaves nothing
 * behind. Needs a kernel with fault injection.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define MAX_FAILURES 400

static struct vmm vmm;

static int preserve_iommufd(struct keeper *k)
{
	return keep(k, vmm.token, vmm.iommufd);
}

static int prepare(struct keeper *k)
{
	return luo_prepare(k->luo);
}

/* Returns when @step got through with no allocation left to fail. */
static void each_fails(struct keeper *k, const char *what,
		       int (*step)(struct keeper *k), int (*undo)(struct keeper *k))
{
	long kho = kho_preserved_pages(), now;
	struct iommu_pages tables = count_iommu_pages(), now_tables;
	int nth, ret, failed = 0;
	char text[16];

	for (nth = 1; nth <= MAX_FAILURES; nth++) {
		snprintf(text, sizeof(text), "%d", nth);
		if (write_file(FAIL_NTH, text))
			give_up(FAIL_NTH);
		ret = step(k);
		/* Reads 0 when an allocation has failed. */
		text[0] = '\0';
		read_file(FAIL_NTH, text, 1);
		write_file(FAIL_NTH, "0");
		if (!ret && text[0] != '0')
			break;
		if (ret) {
			failed++;
			/* iommufd has faults of its own: an object that is gone. */
			if (ret != -ENOMEM && ret != -ENODEV)
				verdict(false, "a failed allocation is told by its errno",
					"%s: %s", what, strerror(-ret));
		} else if (undo(k)) {
			/* The allocation could be done without. */
			give_up("undoing: %s", what);
		}
		now = kho_preserved_pages();
		now_tables = count_iommu_pages();
		if (now != kho || now_tables.iommu != tables.iommu ||
		    now_tables.secondary != tables.secondary)
			give_up("%s with allocation %d failing leaves %ld KHO pages and %ld tables, %ld and %ld before",
				what, nth, now, now_tables.iommu, kho, tables.iommu);
	}
	context(what);
	verdict(nth <= MAX_FAILURES && failed,
		"every allocation failed once, and none of it left anything behind",
		"%d attempts, %d failed", nth, failed);
	verdict(vmm_dma_works(&vmm), "after all that DMA works", "bytes did not arrive");
	context(NULL);
	say("refused", "%s: %d times, each with another allocation failing", what, failed);
}

static int unpreserve_iommufd(struct keeper *k)
{
	return luo_fd_unpreserve(k->luo, vmm.token);
}

static int cancel(struct keeper *k)
{
	return luo_cancel(k->luo);
}

void scen_faults(int stage)
{
	struct keeper k;

	(void)stage;
	vmm_start(&vmm, "vmm", DEV_BDF, 0xa1);
	if (!fault_injection())
		give_up("this kernel has no fault injection");
	keeper_open(&k, NULL);
	keep_memory(&k, &vmm);
	each_fails(&k, "preserving the iommufd", preserve_iommufd, unpreserve_iommufd);
	each_fails(&k, "PREPARE", prepare, cancel);
	works(cancel(&k), "CANCEL succeeds");
	works(unpreserve_iommufd(&k), "the iommufd can be unpreserved");
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), "unmapping works");
	close(k.luo);
	vmm_close(&vmm);
}
