// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel crashes, and a crash kernel runs while devices go on: by a copy of the tables
 * that they had. The domain ids that they use are not given out again, and what the
 * device reads and writes is the same memory as before.
 *
 * ilu.when says what has happened before: nothing (alone), or the device is preserved
 * (preserved), or prepared as well (prepared), or the kernel that crashes is one that
 * took the device over, and has not finished the live update (updated) or has, so that
 * the device uses a page table of its own (finished).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"

#define USED	"/sys/class/iommu/dmar0/intel-iommu/domains_used"
#define SEED	0xa1
#define PAGE	4096
#define SRC_OFF		0x3000		/* RAM */
#define FLY_OFF		0x200000	/* BIG: a transfer on its way at the crash */
#define LAND_OFF	0x201000	/* BIG: one in the crash kernel */
#define NEXT_SRC_OFF	0x6000		/* RAM: what that is */

static struct vmm vmm;
static struct keeper k;

static long domains_used(void)
{
	long nr = read_nr(USED);

	if (nr < 0)
		give_up("this kernel does not tell the domain ids in use");
	return nr;
}

static void must(int ret, const char *what)
{
	if (ret)
		give_up("%s: %s", what, strerror(-ret));
}

static void __attribute__((noreturn)) crash(int stage)
{
	char extra[64];

	verdict(vmm_dma_works(&vmm), "before the crash the device reaches its VMM's memory",
		"bytes did not arrive");
	snprintf(extra, sizeof(extra), "ilu.used=%ld ilu.crashed=1", domains_used());
	must(load_crash_kernel(stage + 1, extra), "kexec_file_load");
	edu_read(&vmm.edu, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	say("operator", "crashes with %ld domain ids in use", domains_used());
	edu_start_write(&vmm.edu, 0, BIG_IOVA + FLY_OFF, EDU_BUF_LEN);
	write_file("/proc/sysrq-trigger", "c");
	give_up("the kernel did not crash");
}

static void first_kernel(const char *when)
{
	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	if (!strcmp(when, "alone"))
		crash(1);
	keeper_open(&k, NULL);
	keep_device(&k, &vmm);
	if (!strcmp(when, "preserved"))
		crash(1);
	works(luo_prepare(k.luo), "PREPARE succeeds");
	if (!strcmp(when, "prepared"))
		crash(1);
	jump(2, NULL);
}

static void next_kernel(const char *when)
{
	keeper_reopen(&k, NULL);
	vmm_come_back(&vmm, &k, "vmm", DEV_BDF, SEED);
	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "the device is attached to a new HWPT");
	if (!strcmp(when, "finished")) {
		log_mark();
		works(keeper_finish(&k), "FINISH succeeds");
		verdict(log_count("goes on with the page table of this kernel", DEV_BDF),
			"the new page table took over", "the log does not say so");
	}
	crash(2);
}

/* The device writes to one half of a page. The other half tells which page it is. */
static uint64_t wanted_off;

static bool is_wanted(const void *page)
{
	return is_pattern((const uint8_t *)page + EDU_BUF_LEN, PAGE - EDU_BUF_LEN,
			  SEED | 0x8000, wanted_off + EDU_BUF_LEN);
}

/* Does the crashed VMM's BIG have at @off what RAM has at @src_off? */
static bool crashed_memory_has(uint64_t off, uint64_t src_off)
{
	static uint8_t page[PAGE];
	int ret;

	wanted_off = off;
	ret = find_crashed_page(off, is_wanted, page);
	if (ret)
		give_up("finding the memory of the kernel that crashed: %s",
			strerror(-ret));
	return is_pattern(page, EDU_BUF_LEN, SEED, src_off);
}

static void crash_kernel(void)
{
	struct edu dev;

	verdict(log_count("Copied translation tables", ""),
		"the crash kernel goes on with the tables", "it does not");
	verdict(domains_used() == param_nr("used", 0),
		"all domain ids that are in use stay reserved", "%ld are, %ld were in use",
		domains_used(), param_nr("used", 0));
	verdict(crashed_memory_has(FLY_OFF, SRC_OFF),
		"the transfer that was on its way has landed", "the memory does not hold it");
	verdict(!crashed_memory_has(LAND_OFF, NEXT_SRC_OFF),
		"nothing has been written yet in the crash kernel", "it has");
	edu_map_raw(&dev, DEV_BDF);
	edu_read(&dev, RAM_IOVA + NEXT_SRC_OFF, 0, EDU_BUF_LEN);
	edu_write(&dev, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	verdict(crashed_memory_has(LAND_OFF, NEXT_SRC_OFF),
		"in the crash kernel the device reads and writes the same memory",
		"the memory does not hold it");
	edu_unmap_raw(&dev);
	verdict(!faults_of(DEV_BDF, 0), "the device causes no IOMMU fault", "it does");
}

void scen_kdump(int stage)
{
	char when[16];

	snprintf(when, sizeof(when), "%s", param("when", "alone"));
	if (param_nr("crashed", 0))
		crash_kernel();
	else if (stage == 1)
		first_kernel(when);
	else
		next_kernel(when);
}
