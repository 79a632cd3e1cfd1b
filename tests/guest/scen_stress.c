// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once, for ilu.seconds: VMMs of two threads each that open, map, attach,
 * preserve, and undo it in any order; a supervisor that kills them at any moment; an
 * operator that prepares, cancels and tries to reboot, which fails each time; and beside
 * them one VMM whose device does DMA all the time, preserved. Nothing hangs, no call
 * fails in a way that is not on its list, and when all have ended nothing is left
 * behind. Then comes a live update like any other.
 *
 * ilu.seed repeats a run as far as that is possible.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define NR_VMMS		3
#define NR_THREADS	2
#define NR_DEVS		3
#define NR_MEMS		2
#define NR_WORKERS	(NR_VMMS * NR_THREADS + 1)
#define OPERATOR	(NR_WORKERS - 1)

#define MEM_LEN		KIB(256)
/* Where the memfds may be mapped: more room than there are of them. */
#define NR_SLOTS	4
#define SLOT_IOVA(n)	(RAM_IOVA + (n) * MIB(2))

/* Each kind of file has a number of its own, so that it is known what a call meets. */
#define FD_IOMMUFD	200
#define FD_SESSION	201
#define FD_MEM(n)	(210 + (n))
#define FD_DEV(n)	(220 + (n))

#define SEED		0x91
#define STEADY_SEED	0x92
#define LANDS_OFF	0x201000

static const char *const bdfs[NR_DEVS] = {
	OTHER_BDF, "0000:00:12.0", "0000:00:13.0",
};

#define TEST_FAIL	"/sys/kernel/debug/liveupdate_test/fail"

/* ---- what all processes share ---------------------------------------------------- */

#define NR_ERRS 134

struct progress {
	uint64_t steps;
	const char *doing;
};

static struct shared {
	struct progress progress[NR_WORKERS];
	unsigned long done[64], refused[64];	/* by the number of the call */
	bool reported[64][NR_ERRS];
	bool stop;
} *shared;

static int luo;
static bool faults;	/* allocations may fail */

struct worker {
	unsigned int nr;	/* of its progress */
	unsigned int vmm;
	uint64_t random;
	int fail_nth;
};

static unsigned int any(struct worker *w, unsigned int n)
{
	return (next_random(&w->random) >> 33) % n;
}

/* ---- a VMM: its threads use one set of files ---------------------------------------- */

/* What has been reached, as far as is known: another thread may undo it any time. */
static struct {
	uint32_t ioas, hwpt[2], dev_id[NR_DEVS];
	bool opened, session, device[NR_DEVS], bound[NR_DEVS], attached[NR_DEVS];
	bool mem[NR_MEMS], mapped[NR_MEMS], kept_mem[NR_MEMS];
	bool kept, kept_dev[NR_DEVS];
	bool in_session;	/* where it preserves, mostly */
} has;

static struct edu raw[NR_DEVS];
static char device_file[NR_DEVS][64];

static uint64_t token(struct worker *w, unsigned int kind, unsigned int nr)
{
	return 0x5000 | w->vmm << 8 | kind << 4 | nr;
}

#define T_MEM		1
#define T_IOMMUFD	2
#define T_DEV		3

static int place(int fd, int nr)
{
	if (fd < 0)
		return fd;
	if (dup3(fd, nr, O_CLOEXEC) < 0) {
		close(fd);
		return -errno;
	}
	close(fd);
	return 0;
}

static int close_nr(int nr)
{
	return close(nr) ? -errno : 0;
}

static struct vmm view(unsigned int dev)
{
	struct vmm vmm = {
		.iommufd = FD_IOMMUFD, .dev = FD_DEV(dev), .ioas = has.ioas,
		.dev_id = has.dev_id[dev],
	};

	snprintf(vmm.edu.bdf, sizeof(vmm.edu.bdf), "%s", bdfs[dev]);
	return vmm;
}

/* Mostly its own device. */
static unsigned int some_dev(struct worker *w)
{
	return any(w, 4) ? w->vmm % NR_DEVS : any(w, NR_DEVS);
}

static int do_open(struct worker *w)
{
	struct vmm vmm;
	int ret;

	(void)w;
	ret = iommufd_open(&vmm);
	ret = ret ? ret : place(vmm.iommufd, FD_IOMMUFD);
	has.opened = !ret;
	return ret;
}

static int do_close(struct worker *w)
{
	(void)w;
	has.opened = false;
	memset(has.mapped, 0, sizeof(has.mapped));
	has.ioas = has.hwpt[0] = has.hwpt[1] = 0;
	return close_nr(FD_IOMMUFD);
}

static int do_open_dev(struct worker *w)
{
	unsigned int dev = some_dev(w);
	int fd = open(device_file[dev], O_RDWR | O_CLOEXEC);
	int ret = fd < 0 ? -errno : place(fd, FD_DEV(dev));

	has.device[dev] = !ret;
	has.bound[dev] = has.attached[dev] = false;
	return ret;
}

static int do_close_dev(struct worker *w)
{
	unsigned int dev = some_dev(w);

	has.device[dev] = has.bound[dev] = has.attached[dev] = false;
	return close_nr(FD_DEV(dev));
}

static int do_bind(struct worker *w)
{
	unsigned int dev = some_dev(w);
	struct vmm vmm = view(dev);
	int ret = vfio_bind(&vmm);

	if (!ret)
		has.dev_id[dev] = vmm.dev_id;
	has.bound[dev] |= !ret;
	return ret;
}

static int do_ioas(struct worker *w)
{
	struct vmm vmm = view(0);
	int ret = ioas_alloc(&vmm);

	(void)w;
	if (!ret)
		has.ioas = vmm.ioas;
	memset(has.mapped, 0, sizeof(has.mapped));
	return ret;
}

static int do_hwpt(struct worker *w)
{
	struct vmm vmm = view(some_dev(w));
	int ret = hwpt_alloc(&vmm, 0);

	if (!ret)
		has.hwpt[any(w, 2)] = vmm.hwpt;
	return ret;
}

static int do_destroy(struct worker *w)
{
	struct vmm vmm = view(0);
	unsigned int nr = any(w, 3);
	uint32_t id = nr < 2 ? has.hwpt[nr] : has.ioas;

	return iommufd_destroy(&vmm, id);
}

static int do_token(struct worker *w)
{
	struct vmm vmm = view(0);

	return hwpt_set_token(&vmm, has.hwpt[any(w, 2)], any(w, 4));
}

static int do_attach(struct worker *w)
{
	unsigned int dev = some_dev(w);
	struct vmm vmm = view(dev);
	uint32_t id = any(w, 4) ? has.hwpt[any(w, 2)] : has.ioas;
	int ret = vfio_attach(&vmm, id);

	has.attached[dev] |= !ret;
	return ret;
}

static int do_detach(struct worker *w)
{
	unsigned int dev = some_dev(w);
	struct vmm vmm = view(dev);

	has.attached[dev] = false;
	return vfio_detach(&vmm);
}

static int do_memfd(struct worker *w)
{
	unsigned int nr = any(w, NR_MEMS);
	int fd = memfd_create("stress", MFD_CLOEXEC);
	int ret;

	if (fd < 0 || ftruncate(fd, MEM_LEN))
		return -errno;
	ret = place(fd, FD_MEM(nr));
	has.mem[nr] = !ret;
	has.kept_mem[nr] = false;
	return ret;
}

static int do_map(struct worker *w)
{
	unsigned int nr = any(w, NR_MEMS);
	unsigned int slot = any(w, 8) ? nr : any(w, NR_SLOTS);
	struct mem mem = { .fd = FD_MEM(nr) };
	struct vmm vmm = view(0);
	int ret = ioas_map_file(&vmm, &mem, 0, SLOT_IOVA(slot), MEM_LEN);

	has.mapped[nr] |= !ret || ret == -EEXIST;
	return ret;
}

static int do_map_anon(struct worker *w)
{
	static char page[4096] __attribute__((aligned(4096)));
	struct vmm vmm = view(0);

	return ioas_map_anon(&vmm, page, SLOT_IOVA(any(w, NR_SLOTS)), sizeof(page));
}

static int do_unmap(struct worker *w)
{
	unsigned int slot = any(w, NR_SLOTS + 1);
	struct vmm vmm = view(0);

	memset(has.mapped, 0, sizeof(has.mapped));
	if (slot == NR_SLOTS)
		return ioas_unmap(&vmm, 0, UINT64_MAX);
	/* Of the memfd, or of the page of do_map_anon(). */
	return ioas_unmap(&vmm, SLOT_IOVA(slot), any(w, 4) ? MEM_LEN : 4096);
}

/* It is zeros again when it is written. */
static int do_hole(struct worker *w)
{
	return fallocate(FD_MEM(any(w, NR_MEMS)),
			 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, KIB(16),
			 KIB(4)) ? -errno : 0;
}

/* A few bytes to wherever that leads, without waiting for them. */
static int do_dma(struct worker *w)
{
	uint16_t cmd = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	unsigned int dev = some_dev(w);
	struct vmm vmm = view(dev);
	int ret = vfio_config(&vmm, true, PCI_COMMAND, &cmd, 2);

	if (!ret)
		edu_start_write(&raw[dev], 0, SLOT_IOVA(any(w, NR_SLOTS)), FAULT_LEN);
	return ret;
}

static int do_session(struct worker *w)
{
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "vmm-%u", w->vmm);
	ret = session_create(luo, name);
	ret = ret < 0 ? ret : place(ret, FD_SESSION);
	has.session = !ret;
	return ret;
}

static int do_close_session(struct worker *w)
{
	(void)w;
	if (has.in_session) {
		has.kept = false;
		memset(has.kept_mem, 0, sizeof(has.kept_mem));
		memset(has.kept_dev, 0, sizeof(has.kept_dev));
	}
	has.session = false;
	return close_nr(FD_SESSION);
}

static int preserve(struct worker *w, uint64_t token, int fd)
{
	struct keeper k = {
		.luo = luo,
		.session = has.in_session == !!any(w, 16) ? FD_SESSION : -1,
	};

	return keep(&k, token, fd);
}

static int do_keep_mem(struct worker *w)
{
	unsigned int nr = any(w, NR_MEMS);
	int ret = preserve(w, token(w, T_MEM, nr), FD_MEM(nr));

	has.kept_mem[nr] |= !ret;
	return ret;
}

static int do_keep(struct worker *w)
{
	int ret = preserve(w, token(w, T_IOMMUFD, 0), FD_IOMMUFD);

	has.kept |= !ret;
	return ret;
}

static int do_keep_dev(struct worker *w)
{
	unsigned int dev = some_dev(w);
	int ret = preserve(w, token(w, T_DEV, dev), FD_DEV(dev));

	has.kept_dev[dev] |= !ret;
	return ret;
}

static int do_drop_mem(struct worker *w)
{
	unsigned int nr = any(w, NR_MEMS);
	int ret = luo_fd_unpreserve(luo, token(w, T_MEM, nr));

	has.kept_mem[nr] &= !!ret;
	return ret;
}

static int do_drop(struct worker *w)
{
	int ret = luo_fd_unpreserve(luo, token(w, T_IOMMUFD, 0));

	has.kept &= !!ret;
	return ret;
}

static int do_drop_dev(struct worker *w)
{
	unsigned int dev = some_dev(w);
	int ret = luo_fd_unpreserve(luo, token(w, T_DEV, dev));

	has.kept_dev[dev] &= !!ret;
	return ret;
}

static int do_state(struct worker *w)
{
	int state = luo_state(luo);

	(void)w;
	if (state < 0)
		return state;
	return state == LIVEUPDATE_STATE_UPDATED ||
	       state == LIVEUPDATE_STATE_UNDEFINED ? -EPROTO : 0;
}

/*
 * A thread of the same VMM may close any file (EBADF), and destroy any object
 * (ENOENT), between any two calls.
 */
enum {
	C_OPEN, C_CLOSE, C_OPEN_DEV, C_CLOSE_DEV, C_BIND, C_IOAS, C_HWPT, C_DESTROY,
	C_TOKEN, C_ATTACH, C_DETACH, C_MEMFD, C_MAP, C_MAP_ANON, C_UNMAP, C_HOLE,
	C_DMA, C_SESSION, C_CLOSE_SESSION, C_KEEP_MEM, C_KEEP, C_KEEP_DEV, C_DROP_MEM,
	C_DROP, C_DROP_DEV, C_STATE, NR_CALLS,
	/* of the operator */
	C_PREPARE = NR_CALLS, C_FAIL_PREPARE, C_CANCEL, C_REBOOT, C_REBOOT_NO_KHO, NR_ALL,
};

static const struct call {
	const char *name;
	int (*run)(struct worker *w);
	unsigned int weight;
	int errs[9];
	/*
	 * An allocation in it may fail. Not where a device may be closed or a memfd
	 * is preserved: of these the kernel that the series applies to complains.
	 */
	bool may_fail;
} calls[NR_ALL] = {
	[C_OPEN] = { "opening /dev/iommu", do_open, 2 },
	[C_CLOSE] = { "closing the iommufd", do_close, 1, { EBADF } },
	[C_OPEN_DEV] = { "opening a device", do_open_dev, 2 },
	[C_CLOSE_DEV] = { "closing a device", do_close_dev, 2, { EBADF } },
	/* EINVAL: open already, EBUSY: by somebody else, EPERM: in another iommufd */
	[C_BIND] = { "binding", do_bind, 3, { EBADF, EINVAL, EBUSY, EPERM } },
	[C_IOAS] = { "IOMMU_IOAS_ALLOC", do_ioas, 2, { EBADF }, true },
	/* EOPNOTSUPP: what was an IOAS is a HWPT meanwhile, and that cannot be nested */
	[C_HWPT] = { "IOMMU_HWPT_ALLOC", do_hwpt, 3,
		     { EBADF, ENOENT, EINVAL, EBUSY, EOPNOTSUPP }, true },
	[C_DESTROY] = { "IOMMU_DESTROY", do_destroy, 2, { EBADF, ENOENT, EBUSY } },
	[C_TOKEN] = { "setting a token", do_token, 3, { EBADF, ENOENT, EBUSY, EEXIST }, true },
	/* EINVAL: not open, or attached to something else in the meantime */
	[C_ATTACH] = { "attaching", do_attach, 4, { EBADF, ENOENT, EINVAL, EBUSY } },
	[C_DETACH] = { "detaching", do_detach, 2, { EBADF, EINVAL } },
	[C_MEMFD] = { "making a memfd", do_memfd, 2 },
	[C_MAP] = { "mapping a memfd", do_map, 6, { EBADF, ENOENT, EEXIST, EBUSY }, true },
	[C_MAP_ANON] = { "mapping memory", do_map_anon, 1, { EBADF, ENOENT, EEXIST, EBUSY }, true },
	[C_UNMAP] = { "unmapping", do_unmap, 3, { EBADF, ENOENT, EBUSY } },
	/* EPERM: it is preserved */
	[C_HOLE] = { "punching a hole", do_hole, 1, { EBADF, EPERM } },
	[C_DMA] = { "starting a transfer", do_dma, 3, { EBADF, EINVAL } },
	[C_SESSION] = { "creating a session", do_session, 2, { EEXIST } },
	[C_CLOSE_SESSION] = { "closing a session", do_close_session, 2, { EBADF } },
	[C_KEEP_MEM] = { "preserving a memfd", do_keep_mem, 6, { EBADF, EEXIST, EBUSY } },
	/*
	 * ENOENT, ESTALE, EMEDIUMTYPE: what is mapped; ENODEV: unbound meanwhile, EINVAL:
	 * detached meanwhile
	 */
	[C_KEEP] = { "preserving an iommufd", do_keep, 6,
		   { EBADF, EEXIST, EBUSY, ENOENT, ESTALE, EMEDIUMTYPE, ENODEV, EINVAL }, true },
	/* ENOTCONN: not open, ENOENT, ENXIO: its iommufd, or HWPT, is not preserved */
	[C_KEEP_DEV] = { "preserving a device", do_keep_dev, 4,
		       { EBADF, EEXIST, EBUSY, ENOENT, ENXIO, ENOTCONN } },
	[C_DROP_MEM] = { "unpreserving a memfd", do_drop_mem, 2, { ENOENT, EBUSY } },
	[C_DROP] = { "unpreserving an iommufd", do_drop, 2, { ENOENT, EBUSY } },
	[C_DROP_DEV] = { "unpreserving a device", do_drop_dev, 2, { ENOENT } },
	[C_STATE] = { "asking for the state", do_state, 1 },
	[C_PREPARE] = { "PREPARE", .errs = { EALREADY } },
	[C_FAIL_PREPARE] = { "PREPARE that a subsystem fails", .errs = { EPROTO, EALREADY } },
	[C_CANCEL] = { "CANCEL", .errs = { ESRCH } },
	/* ENXIO: a device whose file is preserved was detached */
	[C_REBOOT] = { "a reboot", .errs = { EPROTO, ENXIO } },
	[C_REBOOT_NO_KHO] = { "a reboot into an image without KHO", .errs = { ENOEXEC } },
};

static bool allowed(const struct worker *w, unsigned int nr, int err)
{
	unsigned int i;

	/* iommufd's own failures are EFAULT. */
	if (!err || ((err == ENOMEM || err == EFAULT) && w->fail_nth))
		return true;
	for (i = 0; i < ARRAY_SIZE(calls[nr].errs); i++)
		if (calls[nr].errs[i] == err)
			return true;
	return false;
}

static void begin(struct worker *w, unsigned int nr)
{
	shared->progress[w->nr].doing = calls[nr].name;
}

static void end(struct worker *w, unsigned int nr, int ret)
{
	struct progress *p = &shared->progress[w->nr];

	if (ret)
		__atomic_fetch_add(&shared->refused[nr], 1, __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(&shared->done[nr], 1, __ATOMIC_RELAXED);
	if (!allowed(w, nr, -ret) && -ret > 0 && -ret < NR_ERRS &&
	    !shared->reported[nr][-ret]) {
		shared->reported[nr][-ret] = true;
		verdict(false, "no call fails with an error that is not on its list",
			"%s: %s", calls[nr].name, strerror(-ret));
	}
	__atomic_fetch_add(&p->steps, 1, __ATOMIC_RELAXED);
}

static void set_fail_nth(int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", nth);
	write_file("/proc/thread-self/fail-nth", text);
}

static void one_call(struct worker *w, unsigned int nr)
{
	int ret;

	w->fail_nth = faults && calls[nr].may_fail && !any(w, 4) ? 1 + any(w, 40) : 0;
	begin(w, nr);
	if (w->fail_nth)
		set_fail_nth(w->fail_nth);
	ret = calls[nr].run(w);
	if (w->fail_nth)
		set_fail_nth(0);
	end(w, nr, ret);
}

/* What a VMM would do next. */
static unsigned int next_call(struct worker *w)
{
	unsigned int dev = w->vmm % NR_DEVS, i;

	if (!has.opened)
		return C_OPEN;
	if (!has.device[dev])
		return C_OPEN_DEV;
	/* Another file of it may be preserved, and open. */
	if (!has.bound[dev])
		return any(w, 2) ? C_BIND : any(w, 2) ? C_DROP_DEV : C_DROP;
	if (!has.ioas)
		return C_IOAS;
	for (i = 0; i < NR_MEMS; i++)
		if (!has.mem[i])
			return C_MEMFD;
	if (!has.mapped[0] && !has.mapped[1])
		return C_MAP;
	if (!has.hwpt[0] && !has.hwpt[1])
		return C_HWPT;
	if (!has.attached[dev])
		return C_ATTACH;
	if (has.in_session && !has.session)
		return C_SESSION;
	for (i = 0; i < NR_MEMS; i++)
		if (!has.kept_mem[i])
			return C_KEEP_MEM;
	return has.kept ? C_KEEP_DEV : C_KEEP;
}

static unsigned int any_call(struct worker *w)
{
	unsigned int sum = 0, n, i;

	for (i = 0; i < NR_CALLS; i++)
		sum += calls[i].weight;
	n = any(w, sum);
	for (i = 0; n >= calls[i].weight; i++)
		n -= calls[i].weight;
	return i;
}

static void *vmm_thread(void *arg)
{
	struct worker *w = arg;

	while (!shared->stop)
		one_call(w, any(w, 4) ? next_call(w) : any_call(w));
	return NULL;
}

static void __attribute__((noreturn)) vmm_process(unsigned int nr, uint64_t seed)
{
	static struct worker w[NR_THREADS];
	pthread_t thread;
	unsigned int i;

	for (i = 0; i < NR_THREADS; i++)
		w[i] = (struct worker){ .nr = nr * NR_THREADS + i, .vmm = nr,
					.random = seed_for(seed, i) };
	has.in_session = any(&w[0], 2);
	for (i = 1; i < NR_THREADS; i++)
		if (pthread_create(&thread, NULL, vmm_thread, &w[i]))
			give_up("a thread cannot be made");
	vmm_thread(&w[0]);
	for (;;)
		pause();
}

/* ---- the operator --------------------------------------------------------------------- */

static void test_fails(const char *what)
{
	if (write_file(TEST_FAIL, what))
		give_up("the test facility is not here");
}

static void load_image(void)
{
	/* It is never started; if it is all the same, stage 9 says so. */
	int ret = load_next_kernel(9, NULL);

	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
}

static int operate(struct worker *w, unsigned int nr)
{
	/* One of them fails each reboot that gets so far. */
	static const char *const freezes[] = {
		"a:freeze -71", "b:freeze -71", "b:freeze -71 50", "a:freeze -71 50",
	};
	int ret;

	switch (nr) {
	case C_PREPARE:
		return luo_prepare(luo);
	case C_FAIL_PREPARE:
		test_fails(any(w, 2) ? "a:prepare -71" : "b:prepare -71 20");
		ret = luo_prepare(luo);
		test_fails("\n");
		return ret;
	case C_CANCEL:
		return luo_cancel(luo);
	case C_REBOOT:
		test_fails(freezes[any(w, ARRAY_SIZE(freezes))]);
		ret = start_next_kernel();
		test_fails("\n");
		return ret;
	default:
		if (load_image_without_kho())
			return -ENOEXEC;
		ret = start_next_kernel();
		load_image();
		return ret;
	}
}

static void __attribute__((noreturn)) operator_process(uint64_t seed)
{
	struct worker w = { .nr = OPERATOR, .random = seed_for(seed, 99) };
	unsigned int nr, n;

	load_image();
	while (!shared->stop) {
		for (n = any(&w, 3); n; n--) {
			nr = any(&w, 24) ? C_PREPARE + any(&w, 4) : C_REBOOT_NO_KHO;
			begin(&w, nr);
			end(&w, nr, operate(&w, nr));
			sleep_ms(any(&w, 60));
		}
		/* While it is prepared nobody can preserve anything. */
		begin(&w, C_CANCEL);
		end(&w, C_CANCEL, luo_cancel(luo));
		sleep_ms(any(&w, 200));
	}
	_exit(0);
}

/* ---- the supervisor --------------------------------------------------------------------- */

static pid_t vmms[NR_VMMS], operator;
static unsigned long kills, transfers;

static void start_vmm(unsigned int nr, uint64_t seed)
{
	vmms[nr] = fork();
	if (vmms[nr] < 0)
		give_up("fork: %s", strerror(errno));
	if (!vmms[nr])
		vmm_process(nr, seed);
}

static void kill_vmm(unsigned int nr)
{
	kill(vmms[nr], SIGKILL);
	reap(vmms[nr], "a VMM that was killed");
	kills++;
}

/* What a VMM that has ended left in the kernel's own session. */
static void drop_all_of(unsigned int nr)
{
	struct worker w = { .vmm = nr };
	int ret = 0, i;

	for (i = 0; i < NR_DEVS + 1 + NR_MEMS; i++) {
		uint64_t t = i < NR_DEVS ? token(&w, T_DEV, i) :
			     i == NR_DEVS ? token(&w, T_IOMMUFD, 0) :
					    token(&w, T_MEM, i - NR_DEVS - 1);
		int err = luo_fd_unpreserve(luo, t);

		if (err && err != -ENOENT)
			ret = err;
	}
	if (ret)
		verdict(false, "what a killed VMM has preserved can be unpreserved", "%s",
			strerror(-ret));
}

static void check_progress(void)
{
	static uint64_t steps[NR_WORKERS];
	static long since[NR_WORKERS];
	char text[128];
	unsigned int i;

	for (i = 0; i < NR_WORKERS; i++) {
		if (shared->progress[i].steps != steps[i] || !since[i]) {
			steps[i] = shared->progress[i].steps;
			since[i] = now_seconds();
		} else if (now_seconds() - since[i] > HANG_SECONDS) {
			snprintf(text, sizeof(text), "worker %u: %s", i,
				 shared->progress[i].doing);
			hangs(text);
		}
	}
}

static void stress(struct vmm *steady, uint64_t seed, long seconds)
{
	struct worker w = { .random = seed_for(seed, 77) };
	long until = now_seconds() + seconds;
	uint64_t starts = 100;
	unsigned int i;

	operator = fork();
	if (operator < 0)
		give_up("fork: %s", strerror(errno));
	if (!operator)
		operator_process(seed);
	for (i = 0; i < NR_VMMS; i++)
		start_vmm(i, seed_for(seed, starts++));

	while (now_seconds() < until) {
		sleep_ms(any(&w, 800));
		i = any(&w, NR_VMMS);
		kill_vmm(i);
		if (any(&w, 2))
			drop_all_of(i);
		start_vmm(i, seed_for(seed, starts++));
		if (!any(&w, 3)) {
			if (!vmm_dma_works(steady))
				verdict(false, "the DMA of the VMM beside them goes on",
					"bytes did not arrive");
			transfers++;
		}
		check_progress();
	}

	shared->stop = true;
	reap(operator, "the operator");
	for (i = 0; i < NR_VMMS; i++) {
		kill_vmm(i);
		drop_all_of(i);
	}
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void map_devices(void)
{
	char link[32];
	unsigned int i;

	for (i = 0; i < NR_DEVS; i++) {
		struct vmm vmm = view(i);

		if (vfio_open_device(&vmm))
			give_up("opening the VFIO device of %s", bdfs[i]);
		snprintf(link, sizeof(link), "/proc/self/fd/%d", vmm.dev);
		if (readlink(link, device_file[i], sizeof(device_file[i]) - 1) < 0)
			give_up("%s: %s", link, strerror(errno));
		close(vmm.dev);
		edu_open_raw(&raw[i], bdfs[i]);
		/*
		 * Of the registers for a transfer some may be written while the device is
		 * closed. QEMU ends if the place in its buffer is none.
		 */
		edu_write(&raw[i], 0, SLOT_IOVA(0), FAULT_LEN);
	}
}

/* Something of everything has happened, or this was no test of it. */
static void check_coverage(void)
{
	const char *missing = NULL;
	unsigned int i;

	for (i = 0; i < NR_ALL; i++) {
		say("stress", "%s: %lu times, refused %lu times", calls[i].name,
		    shared->done[i], shared->refused[i]);
		if (i <= C_PREPARE || i == C_CANCEL)
			missing = shared->done[i] ? missing : calls[i].name;
	}
	if (param_nr("coverage", 1))
		verdict(!missing, "every call has succeeded at least once", "%s has not",
			missing);
	verdict(shared->refused[C_REBOOT] && shared->refused[C_FAIL_PREPARE],
		"reboots and PREPAREs have failed", "they have not");
	verdict(!shared->done[C_REBOOT] && !shared->done[C_REBOOT_NO_KHO],
		"no reboot was said to have succeeded", "one was");
	verdict(kills > NR_VMMS && transfers, "VMMs were killed", "they were not");
	say("stress", "%lu VMMs killed, %lu times DMA beside them", kills, transfers);
}

static void leave(void)
{
	uint64_t seed = param_nr("seed", 1);
	long seconds = param_nr("seconds", 20);
	static struct vmm steady, vmm;
	struct counters before;
	struct keeper k;

	shared = share(sizeof(*shared));
	faults = fault_injection();
	say("stress", "seed %llu, %ld seconds%s", (unsigned long long)seed, seconds,
	    faults ? ", with failing allocations" : "");
	map_devices();
	/* Some pages stay with a device once it was attached. */
	vmm_start(&steady, "vmm", DEV_BDF, STEADY_SEED);
	vmm_close(&steady);
	before = count_all();

	vmm_start(&steady, "vmm", DEV_BDF, STEADY_SEED);
	keeper_open(&k, NULL);
	luo = k.luo;
	keep_device(&k, &steady);
	stress(&steady, seed, seconds);

	verdict(true, "nothing hangs", "%s", "");
	verdict(vmm_dma_works(&steady), "the DMA of the VMM beside them goes on",
		"bytes did not arrive");
	check_coverage();
	verdict(luo_state(luo) == LIVEUPDATE_STATE_NORMAL, "the state is normal", "it is '%s'",
		luo_state_name(luo_state(luo)));
	if (drop_device(&k, &steady))
		give_up("unpreserving the VMM beside them");
	vmm_close(&steady);
	check_counters(&before);

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	verdict(vmm_dma_works(&vmm), "after all that a VMM can be started",
		"bytes did not arrive");
	keep_device(&k, &vmm);
	/* What is in the device's buffer now lands after the jump. */
	works(luo_prepare(luo), "PREPARE succeeds");
	jump(2, NULL);
}

static void arrive(void)
{
	static const struct range landed[] = { { LANDS_OFF, EDU_BUF_LEN } };
	static struct vmm vmm;
	struct keeper k;
	struct edu dev;

	log_mark();
	edu_map_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA + LANDS_OFF, EDU_BUF_LEN);
	edu_unmap_raw(&dev);
	keeper_reopen(&k, NULL);
	vmm_come_back(&vmm, &k, "vmm", DEV_BDF, SEED);
	verdict(is_pattern(vmm.big.va + LANDS_OFF, EDU_BUF_LEN, vmm.ram.seed, LOAD_OFF),
		"then a live update succeeds, in which the device goes on",
		"the DMA did not land");
	fill_pattern(vmm.big.va + LANDS_OFF, EDU_BUF_LEN, vmm.big.seed, LANDS_OFF);
	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "the device can be attached");
	works(luo_finish(k.luo, false), "FINISH succeeds");
	verdict(vmm_dma_works(&vmm) && !faults_of(DEV_BDF, 20),
		"after FINISH the device reaches its VMM's memory",
		"bytes did not arrive");
	fill_pattern(vmm.big.va + LANDS_OFF, EDU_BUF_LEN, vmm.big.seed, LANDS_OFF);
	verdict(mem_first_difference(&vmm.ram, landed, 0) < 0,
		"no byte of the memory is wrong", "RAM differs at %#lx",
		mem_first_difference(&vmm.ram, landed, 0));
	vmm_close(&vmm);
	close(k.luo);
}

void scen_stress(int stage)
{
	if (stage == 9)
		give_up("a reboot that must fail has succeeded");
	if (stage == 1)
		leave();
	arrive();
}
