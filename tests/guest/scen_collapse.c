// SPDX-License-Identifier: GPL-2.0
/*
 * A VMM maps memfds for its device while khugepaged makes huge pages of them. What the
 * device writes is in the memfd each time. Nothing of a live update is in that, but a
 * memfd that is preserved is pinned in the same way.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"

#define ROUNDS		60
#define LEN		MIB(2)	/* a huge page */
#define IOVA		MIB(128)
#define OFF		0x123000
#define SEED		0xd1
/* In this time khugepaged gets to it, in microseconds. */
#define LONGEST		20000

static struct vmm vmm;
static uint8_t *va;		/* of the memfd, aligned as a huge page */

static long collapsed(void)
{
	long nr = read_nr(KHUGEPAGED "pages_collapsed");

	if (nr < 0)
		give_up("khugepaged does not say what it does");
	return nr;
}

static unsigned int unmapped, reached, lost;

static void one_round(unsigned int delay)
{
	struct mem mem;
	int ret;

	mem_create(&mem, LEN, SEED, false);
	mem_allow_huge(true);
	if (mmap(va, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, mem.fd, 0) != va)
		give_up("mapping a memfd: %s", strerror(errno));
	usleep(delay);
	ret = ioas_map_file(&vmm, &mem, 0, IOVA, LEN);
	if (ret == -ENOMEM) {
		/* A huge page in CMA that could not be moved to where it may be pinned */
		unmapped++;
	} else if (ret) {
		give_up("mapping a memfd for the device: %s", strerror(-ret));
	} else {
		edu_write(&vmm.edu, 0, IOVA + OFF, FAULT_LEN);
		if (is_pattern(va + OFF, FAULT_LEN, vmm.ram.seed, LOAD_OFF))
			reached++;
		else
			lost++;
		ret = ioas_unmap(&vmm, IOVA, LEN);
		if (ret)
			give_up("unmapping it: %s", strerror(-ret));
	}
	mem_close(&mem);
}

void scen_collapse(int stage)
{
	uint64_t random = seed_for(param_nr("seed", 1), 0);
	unsigned int i, huge = 0;
	uint8_t *room;
	long before;

	(void)stage;
	room = mmap(NULL, 2 * LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		give_up("mmap: %s", strerror(errno));
	va = room + (-(uintptr_t)room & (LEN - 1));

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	edu_read(&vmm.edu, RAM_IOVA + LOAD_OFF, 0, FAULT_LEN);
	if (write_file(KHUGEPAGED "scan_sleep_millisecs", "0") ||
	    write_file(KHUGEPAGED "pages_to_scan", "1000000"))
		give_up("khugepaged cannot be hurried");
	for (i = 0; i < ROUNDS; i++) {
		before = collapsed();
		one_round((next_random(&random) >> 33) % LONGEST);
		huge += collapsed() != before;
	}
	say("vmm", "%u memfds have become huge pages, %u were not mapped", huge, unmapped);
	verdict(huge && reached, "memfds become huge pages and are mapped",
		"%u have become huge pages, %u were mapped", huge, reached);
	verdict(!lost, "what the device writes is in the memfd",
		"%u of %u times it was not", lost, ROUNDS);
	vmm_close(&vmm);
}
