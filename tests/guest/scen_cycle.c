// SPDX-License-Identifier: GPL-2.0
/*
 * The whole way, ilu.rounds times: a VMM preserves its memory and its iommufd,
 * the machine reboots into the next kernel, and there, before anything else, both
 * devices are made to do DMA. Then the memory is taken back and compared byte by
 * byte, the iommufd is looked at, and FINISH revokes what nobody claimed.
 *
 * ilu.api=direct uses /dev/liveupdate's own ioctls, ilu.api=session only those
 * that a kernel without the series has. ilu.iommufd=0 doesn't preserve the
 * iommufd: what a kernel without the series can do, for the negative control.
 */
#include <errno.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SESSION "vmm"

#define SRC_OFF 0x3000 /* RAM: read by the device in the new kernel */
#define FROM_BUF_OFF 0x201000 /* BIG: what the device had in its buffer */
#define FROM_SRC_OFF 0x7fd000 /* RAM: what it read at SRC_OFF */

static const struct range big_changes[] = { { FROM_BUF_OFF, EDU_BUF_LEN } };
static const struct range ram_changes[] = { { FROM_SRC_OFF, EDU_BUF_LEN } };

static bool sessions_only;
static bool with_iommufd;

static uint32_t dev_seed(int round)
{
	return 0x100 + round;
}

static uint32_t other_seed(int round)
{
	return 0x200 + round;
}

static uint64_t token_of(uint32_t seed, unsigned int nr)
{
	return seed << 4 | nr;
}

static void expect_state(struct keeper *k, int state)
{
	char promise[32];
	int now;

	if (sessions_only)
		return;
	now = luo_state(k->luo);
	snprintf(promise, sizeof(promise), "the state is '%s'",
		 luo_state_name(state));
	verdict(now == state, promise, "it is '%s'", luo_state_name(now));
}

/* ---- outgoing kernel --------------------------------------------------------- */

static void leave(int round, const char *extra)
{
	static struct vmm dev, other;
	struct keeper k;

	vmm_start(&dev, "vmm", DEV_BDF, dev_seed(round));
	vmm_start(&other, "other", OTHER_BDF, other_seed(round));
	log_mark();
	verdict(vmm_dma_works(&dev) && vmm_dma_works(&other) &&
			!faults_of(DEV_BDF, 0) && !faults_of(OTHER_BDF, 0),
		"before the update both devices reach their VMM's memory",
		"bytes did not arrive, or there were faults");

	keeper_open(&k, sessions_only ? SESSION : NULL);
	if (with_iommufd) {
		keep_vmm(&k, &dev);
	} else {
		keep_memory(&k, &dev);
		say("vmm",
		    "preserved its memfds; the iommufd is not preserved");
	}
	keep_memory(&k, &other);
	say("other", "preserved its memfds, not its iommufd");
	if (!sessions_only) {
		works(luo_prepare(k.luo), "PREPARE succeeds");
		say("operator", "PREPARE: the state is '%s'",
		    luo_state_name(luo_state(k.luo)));
		expect_state(&k, LIVEUPDATE_STATE_PREPARED);
	}
	verdict(vmm_dma_works(&dev) && vmm_dma_works(&other),
		"a preserved device goes on doing DMA", "bytes did not arrive");
	jump(round + 1, extra);
}

/* ---- incoming kernel ---------------------------------------------------------- */

static void first_dma(void)
{
	struct edu dev, other;

	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	say("device", "%s gets bus master back, before anything else",
	    DEV_BDF + 5);
	edu_write(&dev, 0, BIG_IOVA + FROM_BUF_OFF, EDU_BUF_LEN);
	say("device", "%s wrote %llu bytes of its buffer at IOVA %#llx",
	    DEV_BDF + 5, EDU_BUF_LEN, BIG_IOVA + FROM_BUF_OFF);
	edu_read(&dev, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	edu_write(&dev, 0, RAM_IOVA + FROM_SRC_OFF, EDU_BUF_LEN);
	say("device",
	    "%s read %llu bytes at IOVA %#llx and wrote them at IOVA %#llx",
	    DEV_BDF + 5, EDU_BUF_LEN, RAM_IOVA + SRC_OFF,
	    RAM_IOVA + FROM_SRC_OFF);
	edu_close_raw(&dev);

	edu_open_raw(&other, OTHER_BDF);
	edu_write(&other, 0, BIG_IOVA + FROM_BUF_OFF, FAULT_LEN);
	edu_read(&other, RAM_IOVA + SRC_OFF, 0, FAULT_LEN);
	edu_close_raw(&other);
	say("other",
	    "%s, which nobody preserved, tried to write and read there: %u faults logged",
	    OTHER_BDF + 5, faults_of(OTHER_BDF, 1000));
}

static void get_memory(struct keeper *k, struct mem *mem, uint64_t token,
		       size_t len, uint32_t seed)
{
	int fd = get_back(k, token);

	if (fd < 0)
		give_up("getting memfd %#llx back: %s",
			(unsigned long long)token, strerror(-fd));
	mem_adopt(mem, fd, len, seed);
}

static void check_first_dma(const struct mem *ram, const struct mem *big,
			    const struct mem *other_ram,
			    const struct mem *other_big)
{
	unsigned int faults = faults_of(DEV_BDF, 0);
	bool ok;

	ok = verdict(
		is_pattern(big->va + FROM_BUF_OFF, EDU_BUF_LEN, ram->seed,
			   LOAD_OFF),
		"what the preserved device writes before anything else lands in the preserved memfd",
		"the memfd does not hold it");
	say("vmm", "what the device wrote at IOVA %#llx is %s",
	    BIG_IOVA + FROM_BUF_OFF, ok ? "in the preserved memfd" : "lost");
	ok = verdict(is_pattern(ram->va + FROM_SRC_OFF, EDU_BUF_LEN, ram->seed,
				SRC_OFF),
		     "the preserved device reads what the old kernel put there",
		     "it got something else");
	say("vmm", "what the device read at IOVA %#llx is %s",
	    RAM_IOVA + SRC_OFF,
	    ok ? "what the old kernel put there" : "something else");
	verdict(mem_first_difference(ram, ram_changes, 1) < 0 &&
			mem_first_difference(big, big_changes, 1) < 0,
		"no other byte of the preserved memory changed",
		"RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(ram, ram_changes, 1),
		mem_first_difference(big, big_changes, 1));
	verdict(!faults, "the preserved device causes no IOMMU fault",
		"%u faults", faults);
	verdict(faults_of(OTHER_BDF, 0),
		"DMA of the device that is not preserved faults",
		"no fault was logged");
	verdict(mem_first_difference(other_ram, NULL, 0) < 0 &&
			mem_first_difference(other_big, NULL, 0) < 0,
		"DMA of the device that is not preserved changes nothing",
		"RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(other_ram, NULL, 0),
		mem_first_difference(other_big, NULL, 0));
}

static int check_iommufd(struct keeper *k, int round)
{
	struct iommu_liveupdate_hwpt hwpts[4] = {};
	uint64_t token = token_of(dev_seed(round), 0xf);
	uint32_t count = 0;
	int fd, ret;

	fd = get_back(k, token_of(dev_seed(round), 0));
	if (!works(fd < 0 ? fd : 0, "the iommufd comes back"))
		return -1;
	ret = list_hwpts(fd, hwpts, &count);
	verdict(ret == -EMSGSIZE && count == 1,
		"listing into too small an array says how many HWPTs there are",
		"%s, count %u", strerror(-ret), count);
	count = ARRAY_SIZE(hwpts);
	ret = list_hwpts(fd, hwpts, &count);
	verdict(!ret && count == 1 && hwpts[0].token == token &&
			hwpts[0].nr_devices == 1,
		"the iommufd lists the restored HWPT by its token",
		"%s, count %u, token %#llx, %u devices", strerror(-ret), count,
		(unsigned long long)hwpts[0].token, hwpts[0].nr_devices);
	say("vmm", "got its iommufd back: HWPT token %#llx, %u device",
	    (unsigned long long)hwpts[0].token, hwpts[0].nr_devices);
	return fd;
}

/* Now the device can be had again, by the iommufd that came back as by any other. */
static void claim_again(int iommufd, const struct mem *ram)
{
	struct vmm vmm = { .name = "vmm", .iommufd = iommufd, .edu.bdf = DEV_BDF };

	if (!works(vfio_open_device(&vmm), "after FINISH vfio-pci binds"))
		return;
	works(vfio_bind(&vmm),
	      "after FINISH the device can be bound to the iommufd that came back");
	if (vfio_map_bar(&vmm) || ioas_alloc(&vmm) ||
	    ioas_map_file(&vmm, ram, 0, RAM_IOVA, RAM_LEN) || hwpt_alloc(&vmm, 0))
		give_up("the iommufd that came back does not work");
	works(vfio_attach(&vmm, vmm.hwpt), "and attached to a new HWPT");
	edu_read(&vmm.edu, RAM_IOVA + LOAD_OFF, 0, EDU_BUF_LEN);
	edu_write(&vmm.edu, 0, RAM_IOVA + SRC_OFF, EDU_BUF_LEN);
	verdict(is_pattern(ram->va + SRC_OFF, EDU_BUF_LEN, ram->seed, LOAD_OFF),
		"through which it reaches the preserved memory again",
		"bytes did not arrive");
	vmm_close_device(&vmm);
	unbind_driver(DEV_BDF);
}

/* The device's DMA after FINISH, with bus master forced on again. */
static void check_revoked(const struct mem *ram, const struct mem *big)
{
	struct edu dev;
	unsigned int faults;

	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA, FAULT_LEN);
	edu_close_raw(&dev);
	faults = faults_of(DEV_BDF, 1000);
	say("device", "%s writes after FINISH: %u faults logged", DEV_BDF + 5,
	    faults);
	verdict(faults,
		"after FINISH an unclaimed device's DMA faults, and the fault names it",
		"no fault was logged");
	verdict(mem_first_difference(ram, ram_changes, 1) < 0 &&
			mem_first_difference(big, big_changes, 1) < 0,
		"after FINISH an unclaimed device's DMA changes nothing",
		"bytes changed");
}

static void arrive(int round)
{
	struct mem ram, big, other_ram, other_big;
	uint32_t seed = dev_seed(round), oseed = other_seed(round);
	struct keeper k;
	int iommufd = -1;

	first_dma();
	/*
	 * Where iommufd is a module, that was the IOMMU core and driver alone. LUO
	 * asks for it when the iommufd is wanted back.
	 */
	load_modules_when_needed();
	keeper_reopen(&k, sessions_only ? SESSION : NULL);
	expect_state(&k, LIVEUPDATE_STATE_UPDATED);
	get_memory(&k, &ram, token_of(seed, 1), RAM_LEN, seed);
	get_memory(&k, &big, token_of(seed, 2), BIG_LEN, seed | 0x8000);
	get_memory(&k, &other_ram, token_of(oseed, 1), RAM_LEN, oseed);
	get_memory(&k, &other_big, token_of(oseed, 2), BIG_LEN, oseed | 0x8000);
	say("vmm", "got its memfds back");
	check_first_dma(&ram, &big, &other_ram, &other_big);
	if (with_iommufd)
		iommufd = check_iommufd(&k, round);

	works(keeper_finish(&k), "FINISH succeeds");
	say("operator", "FINISH");
	expect_state(&k, LIVEUPDATE_STATE_NORMAL);
	check_revoked(&ram, &big);

	if (iommufd >= 0) {
		claim_again(iommufd, &ram);
		close(iommufd);
	}
	if (k.session >= 0)
		close(k.session);
	close(k.luo);
	mem_close(&ram);
	mem_close(&big);
	mem_close(&other_ram);
	mem_close(&other_big);
}

/* ---- accounting ---------------------------------------------------------------- */

/*
 * Table pages of a kernel in which no VMM runs: as the first one booted, and each
 * later one after FINISH. And the memory that it has, in which preserved pages are
 * missing that nobody took back; in the first kernel what KHO itself hands over is
 * not missing yet. "iommu:secondary:memory", handed on in ilu.pages.
 */
void check_pages(int stage, char *extra, size_t len)
{
	struct iommu_pages pages = count_iommu_pages();
	long iommu = 0, secondary = 0, mem = 0, mem_now = mem_total_kib();

	say("kernel", "table pages while no VMM runs: %ld iommu, %ld secondary; memory: %ld KiB",
	    pages.iommu, pages.secondary, mem_now);
	snprintf(extra, len, "ilu.pages=%ld:%ld:%ld", pages.iommu,
		 pages.secondary, mem_now);
	if (stage == 1)
		return;
	if (sscanf(param("pages", ""), "%ld:%ld:%ld", &iommu, &secondary, &mem) != 3)
		give_up("ilu.pages is missing");
	verdict(pages.iommu == iommu && pages.secondary == secondary,
		"after FINISH all table pages are free again",
		"%ld+%ld pages, %ld+%ld in the kernel before", pages.iommu,
		pages.secondary, iommu, secondary);
	if (stage > 2)
		verdict(mem_now == mem, "after FINISH all preserved memory is free again",
			"%ld KiB of memory, %ld in the kernel before", mem_now, mem);
}

void scen_cycle(int stage)
{
	int rounds = param_nr("rounds", 1);
	char extra[96];

	sessions_only = !strcmp(param("api", "direct"), "session");
	with_iommufd = param_nr("iommufd", 1);
	if (stage > 1)
		arrive(stage - 1);
	check_pages(stage, extra, sizeof(extra));
	if (stage <= rounds)
		leave(stage, extra);
}
