// SPDX-License-Identifier: GPL-2.0
/*
 * Each memory allocation of each step of a live update fails once. An attempt fails
 * with an errno that says so, or does without. One that failed leaves nothing behind,
 * the next one can succeed, and the device's DMA goes on meanwhile. Needs a kernel
 * with fault injection.
 *
 * In the first kernel: up to the freeze, and all ways back. With ilu.part=incoming a
 * live update, and in the next kernel all that a VMM does until FINISH.
 * ilu.api=session uses a session there. What cannot be taken back ends with the first
 * allocation that it does without; ilu.from=N goes on from the Nth. With ilu.end=unclaimed the VMM does nothing,
 * and it is FINISH that fails, with another allocation in each kernel of a chain. With
 * ilu.early=FUNC:N it is an initcall of the next kernel (tests/alloc/early.patch).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SEED		0xa1
#define SESSION		"vmm"
#define MAX_FAILURES	1000
#define NR_SLOTS	(BIG_LEN / EDU_BUF_LEN)
#define TEST_FAIL	"/sys/kernel/debug/liveupdate_test/fail"

static struct vmm vmm;
static struct edu *dma;		/* whose DMA goes on, or NULL */
static unsigned int slot;	/* where its next transfer goes in BIG */
static unsigned int first = 1;	/* allocation that fails, if nothing takes a step back */

/*
 * @undo: takes a step back that succeeded, NULL if nothing can
 * @never_fails: it does without what it cannot get
 * @iommufd: it may be iommufd that fails, which has its own errnos for that
 */
struct step {
	const char *what;
	int (*step)(struct keeper *k);
	int (*undo)(struct keeper *k);
	bool never_fails;
	bool iommufd;
};

/* ---- the device that goes on ---------------------------------------------------- */

static void start_dma(void)
{
	if (slot == NR_SLOTS)
		give_up("there are more attempts than room for what the device writes");
	edu_start_write(dma, 0, BIG_IOVA + slot * EDU_BUF_LEN, EDU_BUF_LEN);
}

/* Before BIG is there again only the fault would tell. */
static void check_landed(const struct step *s, unsigned int nth)
{
	edu_wait(dma);
	slot++;
	if (!vmm.big.va)
		return;
	while (slot) {
		uint64_t off = --slot * EDU_BUF_LEN;

		if (!is_pattern(vmm.big.va + off, EDU_BUF_LEN, vmm.ram.seed, LOAD_OFF))
			give_up("%s with allocation %u failing: DMA has not landed",
				s->what, nth);
		fill_pattern(vmm.big.va + off, EDU_BUF_LEN, vmm.big.seed, off);
	}
}

/* ---- one step, each allocation failing ------------------------------------------- */

static void check_counts(const struct step *s, unsigned int nth,
			 const struct counters *before)
{
	struct counters now = count_all();

	if (now.kho != before->kho || now.pages.iommu != before->pages.iommu ||
	    now.pages.secondary != before->pages.secondary)
		give_up("%s with allocation %u failing leaves %ld KHO pages and %ld+%ld tables, %ld and %ld+%ld before",
			s->what, nth, now.kho, now.pages.iommu,
			now.pages.secondary, before->kho, before->pages.iommu,
			before->pages.secondary);
}

/* iommufd has faults of its own beside: of an object, of a range, of memory. */
static bool iommufd_fault(int ret)
{
	return ret == -ENODEV || ret == -ENOENT || ret == -EINVAL || ret == -EFAULT;
}

/* Returns whether an allocation failed; what the step returned in @ret. */
static bool attempt(struct keeper *k, const struct step *s, unsigned int nth, int *ret)
{
	bool failed;

	if (dma)
		start_dma();
	fail_allocation(nth);
	*ret = s->step(k);
	failed = allocation_failed();
	if (dma)
		check_landed(s, nth);

	if (*ret >= 0)
		return failed;
	if (!failed)
		give_up("%s fails without a reason: %s", s->what, strerror(-*ret));
	if (s->never_fails || !(*ret == -ENOMEM || (s->iommufd && iommufd_fault(*ret))))
		verdict(false, "a failed allocation is told by its errno",
			"%s with allocation %u failing: %s", s->what, nth,
			strerror(-*ret));
	return true;
}

/*
 * Ends when the step is done: with no allocation left to fail, or without one that it
 * needed, if nothing takes it back. Then another run goes on, from ilu.from.
 */
static void each_fails(struct keeper *k, const struct step *s)
{
	unsigned int from = s->undo ? 1 : first;
	unsigned int nth = from, points = 0, refused = 0;
	struct counters before = count_all();
	int ret;

	while (attempt(k, s, nth, &ret)) {
		points++;
		if (ret < 0)
			refused++;
		else if (!s->undo)
			break;
		else if (s->undo(k) < 0)
			give_up("undoing: %s", s->what);
		check_counts(s, nth, &before);
		if (++nth > MAX_FAILURES)
			give_up("%s: there are more allocations", s->what);
	}
	say("points", "%s: %u", s->what, points);
	context(s->what);
	verdict(refused || s->never_fails || from > 1,
		"every allocation failed once, and none of it left anything behind",
		"%u failed, and none of it had a consequence", points);
	context(NULL);
}

/* ---- the steps in the first kernel ----------------------------------------------- */

static int bind_fd;

static int bind_vfio(struct keeper *k)
{
	(void)k;
	return pwrite(bind_fd, DEV_BDF, strlen(DEV_BDF), 0) < 0 ? -errno : 0;
}

static int unbind_vfio(struct keeper *k)
{
	(void)k;
	return unbind_driver(DEV_BDF);
}

static int keep_ram(struct keeper *k)
{
	return keep(k, vmm.ram.token, vmm.ram.fd);
}

static int unkeep_ram(struct keeper *k)
{
	return luo_fd_unpreserve(k->luo, vmm.ram.token);
}

static int keep_big(struct keeper *k)
{
	return keep(k, vmm.big.token, vmm.big.fd);
}

static int unkeep_big(struct keeper *k)
{
	return luo_fd_unpreserve(k->luo, vmm.big.token);
}

static int keep_iommufd(struct keeper *k)
{
	return keep(k, vmm.token, vmm.iommufd);
}

static int unkeep_iommufd(struct keeper *k)
{
	return luo_fd_unpreserve(k->luo, vmm.token);
}

static int keep_file(struct keeper *k)
{
	return keep(k, vmm.token | 3, vmm.dev);
}

static int unkeep_file(struct keeper *k)
{
	return luo_fd_unpreserve(k->luo, vmm.token | 3);
}

static int prepare(struct keeper *k)
{
	return luo_prepare(k->luo);
}

static int cancel(struct keeper *k)
{
	return luo_cancel(k->luo);
}

/* A handler that comes last fails its freeze: when it was asked all others are done. */
static int freeze(struct keeper *k)
{
	int ret = start_next_kernel();

	(void)k;
	return ret == -EPROTO ? 0 : ret;
}

static int nothing(struct keeper *k)
{
	(void)k;
	return 0;
}

static int open_session(struct keeper *k)
{
	k->session = session_create(k->luo, SESSION);
	return k->session;
}

static int close_session(struct keeper *k)
{
	close(k->session);
	k->session = -1;
	return 0;
}

static int keep_all(struct keeper *k)
{
	int ret = open_session(k);

	if (ret >= 0)
		ret = keep_ram(k);
	if (!ret)
		ret = keep_big(k);
	if (!ret)
		ret = keep_iommufd(k);
	if (!ret)
		ret = keep_file(k);
	return ret;
}

static const struct step preserving[] = {
	{ "preserving RAM", keep_ram, unkeep_ram },
	{ "preserving huge pages", keep_big, unkeep_big },
	{ "preserving the iommufd", keep_iommufd, unkeep_iommufd, .iommufd = true },
	{ "preserving the device file", keep_file, unkeep_file },
	{ "PREPARE", prepare, cancel },
};

static const struct step freezing = { "freeze", freeze, nothing, .never_fails = true };
static const struct step rebooting = { "reboot without PREPARE", freeze, nothing };

static const struct step canceling = { "CANCEL", cancel, prepare, .never_fails = true };
static const struct step unpreserving[] = {
	{ "unpreserving the device file", unkeep_file, keep_file, .never_fails = true },
	{ "unpreserving the iommufd", unkeep_iommufd, keep_iommufd, .never_fails = true },
	{ "unpreserving huge pages", unkeep_big, keep_big, .never_fails = true },
	{ "unpreserving RAM", unkeep_ram, keep_ram, .never_fails = true },
};

static const struct step making_session = { "creating a session", open_session, close_session };
static const struct step closing_session = {
	"closing a session", close_session, keep_all, .never_fails = true,
};

static const struct step binding = { "binding vfio-pci", bind_vfio, unbind_vfio };

static void bind_each_fails(struct keeper *k)
{
	bind_fd = open("/sys/bus/pci/drivers/vfio-pci/bind", O_WRONLY | O_CLOEXEC);
	if (bind_fd < 0)
		give_up("vfio-pci cannot be bound: %s", strerror(errno));
	/* With the driver_override that it needs. */
	if (bind_driver(DEV_BDF, "vfio-pci") || unbind_driver(DEV_BDF))
		give_up("vfio-pci does not bind");
	each_fails(k, &binding);
	close(bind_fd);
}

static void check_state(struct keeper *k, int state, const char *after)
{
	context(after);
	verdict(luo_state(k->luo) == state, "the state is what it was before",
		"it is '%s'", luo_state_name(luo_state(k->luo)));
	refused(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), EBUSY,
		"unmapping from an IOAS that is still preserved");
	context(NULL);
}

static void load_device(void)
{
	edu_read(&vmm.edu, RAM_IOVA + LOAD_OFF, 0, EDU_BUF_LEN);
	dma = &vmm.edu;
}

static void outgoing(void)
{
	struct keeper k;
	unsigned int i;
	int ret;

	keeper_open(&k, NULL);
	bind_each_fails(&k);
	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	load_device();
	for (i = 0; i < ARRAY_SIZE(preserving); i++)
		each_fails(&k, &preserving[i]);

	ret = load_next_kernel(2, NULL);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	if (write_file(TEST_FAIL, "b:freeze -71"))
		give_up("this kernel has no handler that fails");
	each_fails(&k, &freezing);
	check_state(&k, LIVEUPDATE_STATE_PREPARED, freezing.what);
	each_fails(&k, &canceling);
	each_fails(&k, &rebooting);
	check_state(&k, LIVEUPDATE_STATE_NORMAL, rebooting.what);
	write_file(TEST_FAIL, "\n");

	for (i = 0; i < ARRAY_SIZE(unpreserving); i++)
		each_fails(&k, &unpreserving[i]);
	each_fails(&k, &making_session);
	close_session(&k);
	if (keep_all(&k) < 0)
		give_up("preserving with a session");
	each_fails(&k, &closing_session);

	verdict(vmm_dma_works(&vmm), "after all that DMA works", "bytes did not arrive");
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), "after all that unmapping works");
	close(k.luo);
	vmm_close(&vmm);
}

/* ---- the steps in the next kernel ------------------------------------------------ */

static uint32_t second_hwpt;

static int retrieve_session(struct keeper *k)
{
	k->session = session_retrieve(k->luo, SESSION);
	return k->session;
}

static int get_ram(struct keeper *k)
{
	vmm.ram.fd = get_back(k, vmm.ram.token);
	return vmm.ram.fd;
}

static int get_big(struct keeper *k)
{
	vmm.big.fd = get_back(k, vmm.big.token);
	return vmm.big.fd;
}

static int get_iommufd(struct keeper *k)
{
	vmm.iommufd = get_back(k, vmm.token);
	return vmm.iommufd;
}

static int get_file(struct keeper *k)
{
	vmm.dev = get_back(k, vmm.token | 3);
	return vmm.dev;
}

static int claim(struct keeper *k)
{
	(void)k;
	return vfio_bind(&vmm);
}

static int make_hwpt(struct keeper *k)
{
	(void)k;
	return hwpt_alloc(&vmm, 0);
}

static int destroy_hwpt(struct keeper *k)
{
	(void)k;
	return iommufd_destroy(&vmm, vmm.hwpt);
}

static int attach(struct keeper *k)
{
	(void)k;
	return vfio_attach(&vmm, vmm.hwpt);
}

static int detach(struct keeper *k)
{
	(void)k;
	return vfio_detach(&vmm);
}

static int attach_second(struct keeper *k)
{
	(void)k;
	return vfio_attach(&vmm, second_hwpt);
}

#define FAILSLAB	"/sys/kernel/debug/failslab/"

static void set_failslab(const char *knob, const char *val)
{
	char path[64];

	snprintf(path, sizeof(path), FAILSLAB "%s", knob);
	if (write_file(path, val))
		give_up("%s", path);
}

/*
 * Two allocations of page cache nodes in a row fail, after some of @skip bytes. Other
 * caches are left out: what kernels allocate between the two depends on what they check.
 */
static int get_ram_two_fail(struct keeper *k, unsigned int skip)
{
	int fd = open("/proc/self/make-it-fail", O_WRONLY | O_CLOEXEC), ret;
	char space[16];

	snprintf(space, sizeof(space), "%u", skip);
	set_failslab("task-filter", "Y");
	set_failslab("cache-filter", "Y");
	set_failslab("probability", "100");
	set_failslab("times", "2");
	set_failslab("space", space);
	if (pwrite(fd, "1", 1, 0) != 1)
		give_up("/proc/self/make-it-fail");
	ret = get_ram(k);
	if (pwrite(fd, "0", 1, 0) != 1)
		give_up("/proc/self/make-it-fail");
	close(fd);
	set_failslab("cache-filter", "N");
	return ret;
}

/*
 * The page cache asks twice for a node, so that it takes two failures to get there.
 * What was added to the file until then is taken out again. There are 32 nodes at the
 * least, one for 64 pages, of some 600 bytes.
 */
static void retrieve_half(struct keeper *k)
{
	unsigned int skip, points;
	int ret;

	if (write_file("/sys/kernel/slab/radix_tree_node/failslab", "1"))
		give_up("the cache of page cache nodes cannot be chosen");
	log_mark();
	for (skip = KIB(18); skip; skip -= KIB(3)) {
		start_dma();
		ret = get_ram_two_fail(k, skip);
		check_landed(&(struct step){ "retrieving half of RAM" }, skip);
		if (ret != -ENOMEM)
			give_up("retrieving RAM with %u bytes: %s", skip,
				ret < 0 ? strerror(-ret) : "does without more");
	}
	points = log_count("failed to add to page cache", NULL);
	say("points", "retrieving half of RAM: %u", points);
	verdict(points == 6, "memory that was added to a file half can be retrieved",
		"that happened %u times", points);
}

static const struct step retrieving_session = { "retrieving a session", retrieve_session };
static const struct step retrieving[] = {
	{ "retrieving RAM", get_ram },
	{ "retrieving huge pages", get_big },
	{ "retrieving the iommufd", get_iommufd },
	{ "retrieving the device file", get_file },
};

static const struct step claiming = { "binding to the iommufd", claim };
static const struct step allocating = { "allocating a HWPT", make_hwpt, destroy_hwpt, .iommufd = true };
static const struct step attaching = { "attaching", attach, detach, .iommufd = true };
static const struct step replacing = { "replacing what is attached", attach_second, attach, .iommufd = true };
static const struct step finishing = { "FINISH", keeper_finish };

static void leave(int stage, const char *session)
{
	struct keeper k;
	char extra[96];

	check_pages(stage, extra, sizeof(extra));
	vmm_start(&vmm, "vmm", DEV_BDF, SEED + stage);
	keeper_open(&k, session);
	keep_device(&k, &vmm);
	load_device();
	verdict(vmm_dma_works(&vmm), "a preserved device goes on doing DMA",
		"bytes did not arrive");
	jump(stage + 1, extra);
}

/* What vmm_retrieve() does, each allocation failing. */
static void get_all_back(struct keeper *k, int stage)
{
	unsigned int i;

	retrieve_half(k);
	for (i = 0; i < ARRAY_SIZE(retrieving); i++)
		each_fails(k, &retrieving[i]);
	vmm.name = "vmm";
	snprintf(vmm.edu.bdf, sizeof(vmm.edu.bdf), "%s", DEV_BDF);
	mem_adopt(&vmm.ram, vmm.ram.fd, RAM_LEN, SEED + stage - 1);
	mem_adopt(&vmm.big, vmm.big.fd, BIG_LEN, (SEED + stage - 1) | 0x8000);
}

static void build_and_attach(struct keeper *k)
{
	each_fails(k, &claiming);
	if (vfio_map_bar(&vmm) || ioas_alloc(&vmm) ||
	    ioas_map_file(&vmm, &vmm.ram, 0, RAM_IOVA, RAM_LEN) ||
	    ioas_map_file(&vmm, &vmm.big, 0, BIG_IOVA, BIG_LEN))
		give_up("the VMM cannot build its IOAS again");
	each_fails(k, &allocating);
	second_hwpt = vmm.hwpt;
	if (hwpt_alloc(&vmm, 0))
		give_up("allocating a second HWPT");
	each_fails(k, &attaching);
	each_fails(k, &replacing);
	works(vfio_attach(&vmm, vmm.hwpt), "the first one can be attached again");
}

static void check_memory(void)
{
	verdict(mem_first_difference(&vmm.ram, NULL, 0) < 0 &&
			mem_first_difference(&vmm.big, NULL, 0) < 0,
		"all memory is as it was left", "RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(&vmm.ram, NULL, 0),
		mem_first_difference(&vmm.big, NULL, 0));
}

static void check_new_table(void)
{
	verdict(vmm_dma_works(&vmm) && !faults_of(DEV_BDF, 20),
		"after FINISH the device reaches its VMM's memory",
		"bytes did not arrive");
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), "after FINISH unmapping works");
	edu_write(&vmm.edu, 0, BIG_IOVA, FAULT_LEN);
	verdict(faults_of(DEV_BDF, 1000), "and what is unmapped is not reached any more",
		"no fault was logged");
}

static void incoming(int stage, const char *session)
{
	struct keeper k = { .session = -1 };
	struct edu running;
	char extra[96];

	log_mark();
	edu_map_raw(&running, DEV_BDF);
	dma = &running;
	vmm.token = (SEED + stage - 1) << 4;
	vmm.ram.token = vmm.token | 1;
	vmm.big.token = vmm.token | 2;
	vmm.ram.seed = SEED + stage - 1;
	bind_each_fails(&k);

	k.luo = luo_open();
	if (k.luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-k.luo));
	if (session)
		each_fails(&k, &retrieving_session);
	first = param_nr("from", 1);
	get_all_back(&k, stage);
	build_and_attach(&k);
	check_memory();
	each_fails(&k, &finishing);
	say("operator", "FINISH");
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL,
		"FINISH leads to the state normal", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	verdict(log_count("goes on with the page table of this kernel", DEV_BDF + 5),
		"the log says that the new page table took over", "it does not");
	verdict(!faults_of(DEV_BDF, 20), "the device causes no IOMMU fault",
		"faults are logged");
	check_new_table();
	check_memory();

	edu_unmap_raw(&running);
	if (k.session >= 0)
		close(k.session);
	close(k.luo);
	vmm_close(&vmm);
	unbind_driver(DEV_BDF);
	check_pages(stage, extra, sizeof(extra));
}

/* ---- FINISH when nobody has claimed the device ------------------------------------- */

static void unclaimed(int stage, const char *session)
{
	unsigned int nth = stage - 1;
	struct keeper k;
	struct edu dev;
	bool failed;
	int ret;

	keeper_reopen(&k, session);
	log_mark();
	fail_allocation(nth);
	ret = keeper_finish(&k);
	failed = allocation_failed();
	say("points", "FINISH of what nobody claims, allocation %u: %s, %s", nth,
	    failed ? "failed" : "there is none", strerror(-ret));
	if (failed && ret)
		ret = ret == -ENOMEM ? keeper_finish(&k) : ret;
	works(ret, "FINISH succeeds, at once or when it is tried again");
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL,
		"FINISH leads to the state normal", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA, FAULT_LEN);
	edu_close_raw(&dev);
	verdict(faults_of(DEV_BDF, 1000), "after FINISH an unclaimed device's DMA faults",
		"no fault was logged");
	if (k.session >= 0)
		close(k.session);
	close(k.luo);
	unbind_driver(DEV_BDF);
	if (failed)
		leave(stage, session);
}

/* ---- early boot of the next kernel ------------------------------------------------- */

static void leave_early(void)
{
	char extra[96];
	struct keeper k;

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	keeper_open(&k, NULL);
	keep_device(&k, &vmm);
	load_device();
	snprintf(extra, sizeof(extra), "ilu.fail=%s", param("early", ""));
	jump(2, extra);
}

/* What @bdf writes to @iova; false if it faults, or cannot do DMA. */
static bool writes(const char *bdf, uint64_t iova, bool start)
{
	struct edu dev;
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
	if (access(path, F_OK))
		return false;
	log_mark();
	if (start)
		edu_open_raw(&dev, bdf);
	else
		edu_map_raw(&dev, bdf);
	edu_write(&dev, 0, iova, FAULT_LEN);
	if (start)
		edu_close_raw(&dev);
	else
		edu_unmap_raw(&dev);
	return !faults_of(bdf, 200) && config_read16(bdf, PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static void arrive_early(void)
{
	static const struct range landed[] = { { 0, FAULT_LEN } };
	bool goes_on = writes(DEV_BDF, BIG_IOVA, false);
	struct keeper k = { .session = -1 };
	int fd, ret;

	writes(OTHER_BDF, BIG_IOVA + KIB(4), true);
	say("device", "%s %s", DEV_BDF + 5, goes_on ? "goes on" : "is blocked");
	k.luo = luo_open();
	if (k.luo < 0) {
		verdict(k.luo == -EIO || k.luo == -ENOENT,
			"what cannot be opened is told by its errno", "/dev/liveupdate: %s",
			strerror(-k.luo));
		say("operator", "/dev/liveupdate: %s", strerror(-k.luo));
		return;
	}
	fd = get_back(&k, (uint64_t)SEED << 4 | 2);
	if (fd >= 0) {
		mem_adopt(&vmm.big, fd, BIG_LEN, SEED | 0x8000);
		verdict(goes_on == is_pattern(vmm.big.va, FAULT_LEN, SEED, LOAD_OFF),
			"a device that goes on reaches its memory, one that is blocked does not",
			"it %s", goes_on ? "goes on" : "is blocked");
		verdict(mem_first_difference(&vmm.big, landed, 1) < 0,
			"nothing else changes the memory", "BIG differs at %#lx",
			mem_first_difference(&vmm.big, landed, 1));
	} else {
		say("vmm", "getting the memory back: %s", strerror(-fd));
		verdict(!goes_on, "a device whose memory is gone is blocked", "it goes on");
	}
	ret = keeper_finish(&k);
	works(ret, "FINISH succeeds");
	verdict(!writes(DEV_BDF, BIG_IOVA, false), "after FINISH the device is blocked",
		"it goes on");
	close(k.luo);
}

static void check_leaks(void)
{
	const char *leak;

	if (!leak_detector())
		return;
	leak = leaked_memory();
	verdict(!leak, "the kernel has a pointer to all memory that it allocated", "%s", leak);
}

void scen_faults(int stage)
{
	const char *session = strcmp(param("api", "direct"), "session") ? NULL : SESSION;
	bool chain = !strcmp(param("end", ""), "unclaimed");

	if (!fault_injection())
		give_up("this kernel has no fault injection");
	if (param("early", NULL)) {
		if (stage == 1)
			leave_early();
		arrive_early();
		return;
	}
	if (!chain && strcmp(param("part", ""), "incoming"))
		outgoing();
	else if (stage == 1)
		leave(stage, session);
	else if (chain)
		unclaimed(stage, session);
	else
		incoming(stage, session);
	check_leaks();
}
