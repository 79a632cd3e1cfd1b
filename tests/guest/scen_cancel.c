// SPDX-License-Identifier: GPL-2.0
/*
 * Ways back without a jump. While preserved, mappings can't change; after cancel
 * and unpreserve, or after the session was closed, everything works as before and
 * KHO holds no page of it.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define NEW_IOVA MIB(128)

static struct vmm vmm;
static struct iommu_pages tables;
static long kho;

static void check_frozen(const char *when)
{
	context(when);
	refused(ioas_map_file(&vmm, &vmm.ram, 0, NEW_IOVA, KIB(4)), EBUSY,
		"mapping into a preserved IOAS");
	refused(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), EBUSY,
		"unmapping from a preserved IOAS");
	verdict(vmm_dma_works(&vmm), "DMA of a preserved device goes on",
		"bytes did not arrive");
}

/* Map, DMA, unmap, and the counters as they were. */
static void check_free_again(const char *after)
{
	struct iommu_pages now;
	long kho_now;
	int ret;

	log_mark();
	context(after);
	verdict(vmm_dma_works(&vmm), "DMA works as before",
		"bytes did not arrive");

	ret = ioas_map_file(&vmm, &vmm.ram, 0, NEW_IOVA, RAM_LEN);
	if (works(ret, "mapping works as before")) {
		edu_read(&vmm.edu, NEW_IOVA, 0, EDU_BUF_LEN);
		edu_write(&vmm.edu, 0, BIG_IOVA, EDU_BUF_LEN);
		verdict(is_pattern(vmm.big.va, EDU_BUF_LEN, vmm.ram.seed, 0),
			"the device reaches a new mapping",
			"it reads something else");
		fill_pattern(vmm.big.va, EDU_BUF_LEN, vmm.big.seed, 0);
		works(ioas_unmap(&vmm, NEW_IOVA, RAM_LEN),
		      "unmapping works as before");
	}

	kho_now = kho_preserved_pages();
	verdict(kho_now == kho, "no page is left preserved in KHO",
		"%ld pages, %ld before", kho_now, kho);
	now = count_iommu_pages();
	verdict(now.iommu == tables.iommu && now.secondary == tables.secondary,
		"the number of table pages is as before",
		"%ld+%ld, %ld+%ld before", now.iommu, now.secondary,
		tables.iommu, tables.secondary);
	say("kernel",
	    "table pages: %ld iommu, %ld secondary; preserved in KHO: %ld",
	    now.iommu, now.secondary, kho_now);
	context(NULL);
}

static void prepare_and_cancel(void)
{
	struct keeper k;

	keeper_open(&k, NULL);
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL,
		"the state is normal at first", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	keep_vmm(&k, &vmm);
	check_frozen("after preserve");
	works(luo_prepare(k.luo), "PREPARE succeeds");
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_PREPARED,
		"PREPARE leads to the state prepared", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	say("operator", "PREPARE");
	check_frozen("after PREPARE");
	works(luo_cancel(k.luo), "CANCEL succeeds");
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL,
		"CANCEL leads back to the state normal", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	say("operator", "CANCEL");
	check_frozen("after CANCEL");
	context(NULL);

	refused(luo_fd_unpreserve(k.luo, vmm.ram.token), EBUSY,
		"unpreserving a memfd that the iommufd needs");
	works(luo_fd_unpreserve(k.luo, vmm.token),
	      "the iommufd can be unpreserved");
	works(luo_fd_unpreserve(k.luo, vmm.ram.token),
	      "after that a memfd of it can be unpreserved");
	works(luo_fd_unpreserve(k.luo, vmm.big.token), "and the other one");
	say("vmm", "unpreserved everything");
	close(k.luo);
	check_free_again("after unpreserve");
}

static void close_session(bool prepared)
{
	struct keeper k;

	keeper_open(&k, "vmm");
	keep_vmm(&k, &vmm);
	if (prepared)
		works(luo_prepare(k.luo), "PREPARE succeeds with a session");
	close(k.session);
	say("vmm", "closed its session%s", prepared ? " after PREPARE" : "");
	if (prepared)
		works(luo_cancel(k.luo), "CANCEL succeeds after that");
	close(k.luo);
	check_free_again(prepared ? "after PREPARE and close" : "after close");
}

void scen_cancel(int stage)
{
	(void)stage;
	vmm_start(&vmm, "vmm", DEV_BDF, 0x31);
	kho = kho_preserved_pages();
	tables = count_iommu_pages();
	verdict(kho > 0, "KHO's tree of preserved pages can be read", "%s",
		strerror(kho < 0 ? -kho : 0));
	verdict(vmm_dma_works(&vmm), "the device reaches its memory",
		"bytes did not arrive");
	prepare_and_cancel();
	close_session(false);
	close_session(true);
	vmm_close(&vmm);
}
