// SPDX-License-Identifier: GPL-2.0
/*
 * Users that are not to be trusted: each new ioctl with each kind of wrong argument, what
 * a process without any rights sees and can do, and, for ilu.seconds, ioctls of all kinds
 * of files with arguments that are half right, from several processes. After that
 * everything works as before. In the next kernel the same with what was handed over, and
 * the live update ends as any other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <linux/vfio.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define SEED		0xa1
#define OTHER_SEED	0xa2
#define SESSION		"fuzz"
#define LANDS_OFF	0x201000

#define PAGE		4096UL
#define USER		1000

static int sys_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

/* ---- wrong arguments ---------------------------------------------------------------- */

/* One page that can be written, one that can be read, one that is not there. */
static uint8_t *rw, *ro, *none;

static void make_pages(void)
{
	uint8_t *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		give_up("no memory");
	ro = p;
	rw = p + PAGE;
	none = rw + PAGE;
	if (mprotect(none, PAGE, PROT_NONE))
		give_up("mprotect: %s", strerror(errno));
}

/* @arg in a page that cannot be written. */
static int read_only_ioctl(int fd, unsigned long cmd, const void *arg, size_t len)
{
	int ret;

	mprotect(ro, PAGE, PROT_READ | PROT_WRITE);
	memcpy(ro, arg, len);
	mprotect(ro, PAGE, PROT_READ);
	ret = sys_ioctl(fd, cmd, ro);
	return ret;
}

static void expect(int ret, int err, const char *name, const char *what)
{
	char promise[160];

	snprintf(promise, sizeof(promise), "%s with %s", name, what);
	if (err)
		verdict(ret == -err, promise, "%s, expected: %s",
			ret < 0 ? strerror(-ret) : "not refused", strerror(err));
	else
		works(ret, promise);
}

struct shape {
	const char *name;
	unsigned long cmd;
	size_t size, min;
	bool answers;
	int err;	/* if all of it is 0 but the size */
};

#define SHAPE(cmd, type, last, answers, err) \
	{ #cmd, cmd, sizeof(struct type), \
	  offsetof(struct type, last) + sizeof(((struct type *)0)->last), answers, err }

static const struct shape luo_shapes[] = {
	SHAPE(LIVEUPDATE_IOCTL_CREATE_SESSION, liveupdate_ioctl_create_session, name, true, EINVAL),
	SHAPE(LIVEUPDATE_IOCTL_RETRIEVE_SESSION, liveupdate_ioctl_retrieve_session, name, true, ENOENT),
	SHAPE(LIVEUPDATE_IOCTL_FD_PRESERVE, liveupdate_ioctl_fd_preserve, token, false, ENOENT),
	SHAPE(LIVEUPDATE_IOCTL_FD_UNPRESERVE, liveupdate_ioctl_fd_unpreserve, token, false, ENOENT),
	SHAPE(LIVEUPDATE_IOCTL_FD_RESTORE, liveupdate_ioctl_fd_restore, token, true, ENOENT),
	SHAPE(LIVEUPDATE_IOCTL_GET_STATE, liveupdate_ioctl_get_state, state, true, 0),
};

static const struct shape session_shapes[] = {
	SHAPE(LIVEUPDATE_SESSION_PRESERVE_FD, liveupdate_session_preserve_fd, token, false, ENOENT),
	SHAPE(LIVEUPDATE_SESSION_GET_NAME, liveupdate_session_get_name, name, true, 0),
};

static const struct shape iommufd_shapes[] = {
	SHAPE(IOMMU_HWPT_LIVEUPDATE_SET_TOKEN, iommu_hwpt_liveupdate_set_token, token, false, ENOENT),
	SHAPE(IOMMU_LIVEUPDATE_LIST_HWPTS, iommu_liveupdate_list_hwpts, hwpts, true, EINVAL),
};

/* At the end of the page, so that the next byte is not there. */
static void *at_end(size_t len, uint32_t size)
{
	uint8_t *p = none - len;

	memset(rw, 0, PAGE);
	memcpy(p, &size, sizeof(size));
	return p;
}

static void wrong_shape(int fd, const struct shape *s)
{
	const char *n = s->name;
	uint32_t *p;

	expect(sys_ioctl(fd, s->cmd, at_end(s->size, 0)), EINVAL, n, "size 0");
	expect(sys_ioctl(fd, s->cmd, at_end(s->size, s->min - 1)), EINVAL, n,
	       "a size that is too small");
	expect(sys_ioctl(fd, s->cmd, at_end(s->size, s->size)), s->err, n, "only a size");
	expect(sys_ioctl(fd, s->cmd, at_end(s->size + 8, s->size + 8)), s->err, n,
	       "zeros beyond the structure");
	p = at_end(s->size + 8, s->size + 8);
	none[-1] = 1;
	expect(sys_ioctl(fd, s->cmd, p), E2BIG, n, "something beyond the structure");
	expect(sys_ioctl(fd, s->cmd, at_end(s->size, s->size + 8)), EFAULT, n,
	       "a structure whose end is not there");
	expect(sys_ioctl(fd, s->cmd, at_end(s->size, UINT32_MAX)), EFAULT, n, "a huge size");
	expect(sys_ioctl(fd, s->cmd, NULL), EFAULT, n, "no structure");
	expect(sys_ioctl(fd, s->cmd, none), EFAULT, n, "a structure that is not there");
	expect(sys_ioctl(fd, s->cmd, (void *)0xffffffff81000000UL), EFAULT, n,
	       "a structure in the kernel");
	expect(sys_ioctl(fd, s->cmd, (void *)0x8000000000000000UL), EFAULT, n,
	       "an address that is none");
	/* As if it was made with _IOWR(). */
	expect(sys_ioctl(fd, s->cmd | 3UL << 30 | s->size << 16, at_end(s->size, s->size)),
	       ENOTTY, n, "direction and size in its number");
	if (s->answers && !s->err) {
		p = at_end(s->size, s->size);
		expect(read_only_ioctl(fd, s->cmd, p, s->size), EFAULT, n,
		       "a structure that is read only");
	}
}

static void wrong_shapes(int fd, const struct shape *s, unsigned int nr)
{
	while (nr--)
		wrong_shape(fd, s++);
}

static int create_named(int luo, const void *name, size_t len)
{
	struct liveupdate_ioctl_create_session arg = { .size = sizeof(arg) };
	int ret;

	memcpy(arg.name, name, len);
	ret = sys_ioctl(luo, LIVEUPDATE_IOCTL_CREATE_SESSION, &arg);
	if (!ret)
		close(arg.fd);
	return ret;
}

static int event(int luo, uint32_t event, uint32_t flags, uint32_t reserved)
{
	struct liveupdate_ioctl_set_event arg = {
		.size = sizeof(arg), .event = event, .flags = flags, .reserved = reserved,
	};

	return sys_ioctl(luo, LIVEUPDATE_IOCTL_SET_EVENT, &arg);
}

static void wrong_events(int luo)
{
	const char *n = "LIVEUPDATE_IOCTL_SET_EVENT";

	expect(sys_ioctl(luo, LIVEUPDATE_IOCTL_SET_EVENT, at_end(16, 15)), EINVAL, n,
	       "a size that is too small");
	expect(sys_ioctl(luo, LIVEUPDATE_IOCTL_SET_EVENT, at_end(16, 24)), EFAULT, n,
	       "a structure whose end is not there");
	expect(event(luo, UINT32_MAX, 0, 0), EOPNOTSUPP, n, "a huge event");
	expect(event(luo, LIVEUPDATE_EVENT_FREEZE, 0, 0), EOPNOTSUPP, n, "FREEZE");
	expect(event(luo, LIVEUPDATE_EVENT_PREPARE, UINT32_MAX, 0), EOPNOTSUPP, n,
	       "all flags");
	expect(event(luo, LIVEUPDATE_EVENT_CANCEL, LIVEUPDATE_FINISH_ABANDON, 0), EINVAL, n,
	       "a flag of another event");
	expect(event(luo, LIVEUPDATE_EVENT_PREPARE, 0, 1), EINVAL, n, "a reserved bit");
}

/* Files that cannot be preserved, by @preserve(). */
static void wrong_files(int (*preserve)(int fd, uint64_t token, int file), int fd,
			const char *n, const int *own)
{
	int pair[2], path, dir;

	expect(preserve(fd, 7, -1), EBADF, n, "fd -1");
	expect(preserve(fd, 7, INT_MIN), EBADF, n, "fd INT_MIN");
	expect(preserve(fd, 7, INT_MAX), EBADF, n, "fd INT_MAX");
	path = open("/dev/iommu", O_PATH | O_CLOEXEC);
	expect(preserve(fd, 7, path), EBADF, n, "an O_PATH fd of /dev/iommu");
	close(path);
	dir = open("/dev", O_RDONLY | O_CLOEXEC);
	expect(preserve(fd, 7, dir), ENOENT, n, "a directory");
	close(dir);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && pipe(pair))
		give_up("pipe: %s", strerror(errno));
	expect(preserve(fd, 7, pair[0]), ENOENT, n, "a pipe or socket");
	close(pair[0]);
	close(pair[1]);
	expect(preserve(fd, 7, own[0]), ENOENT, n, "/dev/liveupdate");
	expect(preserve(fd, 7, own[1]), ENOENT, n, "a session");
}

static void any_token(int (*preserve)(int fd, uint64_t token, int file), int fd,
		      const char *n, const struct mem *a, const struct mem *b)
{
	expect(preserve(fd, 0, a->fd), 0, n, "token 0");
	expect(preserve(fd, UINT64_MAX, b->fd), 0, n, "token ~0");
	expect(preserve(fd, 0, b->fd), EEXIST, n, "a token that is in use");
	expect(preserve(fd, 1, b->fd), EBUSY, n, "a file that is preserved");
}

static void wrong_luo(int luo, int session, struct vmm *vmm)
{
	const int own[] = { luo, session };
	char name[LIVEUPDATE_SESSION_NAME_LENGTH];
	struct vmm unbound = { .dev = -1 };

	wrong_shapes(luo, luo_shapes, ARRAY_SIZE(luo_shapes));
	wrong_shapes(session, session_shapes, ARRAY_SIZE(session_shapes));
	wrong_events(luo);

	memset(name, 'a', sizeof(name));
	expect(create_named(luo, name, sizeof(name)), EINVAL, "creating a session",
	       "a name without end");
	expect(create_named(luo, SESSION, sizeof(SESSION)), EEXIST, "creating a session",
	       "a name that is in use");

	expect(session_finish(session), EINVAL, "LIVEUPDATE_SESSION_FINISH",
	       "a session that is going out");
	expect(session_restore(session, 0), EINVAL, "LIVEUPDATE_SESSION_RETRIEVE_FD",
	       "a session that is going out");

	wrong_files(luo_fd_preserve, luo, "LIVEUPDATE_IOCTL_FD_PRESERVE", own);
	wrong_files(session_preserve, session, "LIVEUPDATE_SESSION_PRESERVE_FD", own);
	any_token(luo_fd_preserve, luo, "LIVEUPDATE_IOCTL_FD_PRESERVE", &vmm->ram, &vmm->big);
	expect(luo_fd_unpreserve(luo, 1), ENOENT, "LIVEUPDATE_IOCTL_FD_UNPRESERVE",
	       "a token that is not in use");
	works(luo_fd_unpreserve(luo, 0) | luo_fd_unpreserve(luo, UINT64_MAX),
	      "LIVEUPDATE_IOCTL_FD_UNPRESERVE with tokens 0 and ~0");

	snprintf(unbound.edu.bdf, sizeof(unbound.edu.bdf), "%s", OTHER_BDF);
	if (vfio_open_device(&unbound))
		give_up("opening %s", OTHER_BDF);
	expect(luo_fd_preserve(luo, 7, unbound.dev), ENOTCONN, "LIVEUPDATE_IOCTL_FD_PRESERVE",
	       "a device that is not bound");
	close(unbound.dev);
}

static int list(int iommufd, uint32_t count, uint32_t entry_len, void *hwpts)
{
	struct iommu_liveupdate_list_hwpts arg = {
		.size = sizeof(arg), .count = count, .entry_len = entry_len,
		.hwpts = (uintptr_t)hwpts,
	};

	return sys_ioctl(iommufd, IOMMU_LIVEUPDATE_LIST_HWPTS, &arg);
}

/*
 * While no HWPT is there nothing is pinned, and the file would only be held: by what is
 * preserved in it, and so for ever.
 */
static void wrong_mappings(const struct vmm *vmm, int session)
{
	const char *n = "IOMMU_IOAS_MAP_FILE";
	struct vmm other = *vmm;
	struct mem mem = { .fd = session };

	if (ioas_alloc(&other))
		give_up("a second IOAS");
	expect(ioas_map_file(&other, &mem, 0, RAM_IOVA, PAGE), EINVAL, n, "a session");
	mem.fd = vmm->iommufd;
	expect(ioas_map_file(&other, &mem, 0, RAM_IOVA, PAGE), EINVAL, n, "the iommufd");
	mem.fd = vmm->dev;
	expect(ioas_map_file(&other, &mem, 0, RAM_IOVA, PAGE), EINVAL, n, "a device");
	expect(ioas_map_file(&other, &vmm->ram, 0, RAM_IOVA, PAGE), 0, n, "a memfd");
	works(iommufd_destroy(&other, other.ioas), "that IOAS can be destroyed");
}

static void wrong_iommufd(struct vmm *vmm)
{
	const char *n = "IOMMU_HWPT_LIVEUPDATE_SET_TOKEN";

	wrong_shapes(vmm->iommufd, iommufd_shapes, ARRAY_SIZE(iommufd_shapes));
	expect(hwpt_set_token(vmm, 0, 1), ENOENT, n, "object 0");
	expect(hwpt_set_token(vmm, UINT32_MAX, 1), ENOENT, n, "object ~0");
	expect(hwpt_set_token(vmm, vmm->dev_id, 1), ENOENT, n, "a device");
	expect(hwpt_set_token(vmm, vmm->ioas, 1), ENOENT, n, "an IOAS");
	expect(hwpt_set_token(vmm, vmm->hwpt, 0), 0, n, "token 0");
	expect(hwpt_set_token(vmm, vmm->hwpt, UINT64_MAX), 0, n, "token ~0");
	n = "IOMMU_LIVEUPDATE_LIST_HWPTS";
	expect(list(vmm->iommufd, UINT32_MAX, sizeof(struct iommu_liveupdate_hwpt), none), 0,
	       n, "room for a huge number in a kernel that inherited nothing");
	expect(list(vmm->iommufd, 1, UINT32_MAX, rw), E2BIG, n, "a huge entry");
}

/* Each file knows its own ioctls only. */
static void wrong_file(int luo, int session, int iommufd)
{
	const int fds[] = { luo, session, iommufd };
	static const struct {
		const struct shape *shapes;
		unsigned int nr;
	} kinds[] = {
		{ luo_shapes, ARRAY_SIZE(luo_shapes) },
		{ session_shapes, ARRAY_SIZE(session_shapes) },
		{ iommufd_shapes, ARRAY_SIZE(iommufd_shapes) },
	};
	unsigned int i, k, s;
	int ret;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		for (k = 0; k < ARRAY_SIZE(kinds); k++) {
			for (s = 0; i != k && s < kinds[k].nr; s++) {
				const struct shape *shape = &kinds[k].shapes[s];

				ret = sys_ioctl(fds[i], shape->cmd,
						at_end(shape->size, shape->size));
				verdict(ret == -ENOTTY || ret == -EINVAL,
					"an ioctl of another kind of file is refused",
					"%s: %s", shape->name, strerror(-ret));
			}
		}
	}
}

/* ---- a process without any rights ------------------------------------------------------- */

struct given {
	int luo, session, iommufd;	/* of others; -1: it has none */
	uint32_t hwpt;
	pid_t pid;
};

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static void drop_rights(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_setgroups, 0UL, NULL) ||
	    syscall(SYS_setresgid, USER, USER, USER) ||
	    syscall(SYS_setresuid, USER, USER, USER))
		give_up("dropping all rights: %s", strerror(errno));
}

static void others_are_out_of_reach(const struct given *given)
{
	char path[64];
	int pidfd;

	expect(try_open("/dev/liveupdate", O_RDWR), EACCES, "a user", "/dev/liveupdate");
	expect(try_open("/sys/kernel/debug/kho/out/fdt", O_RDONLY), EACCES, "a user",
	       "KHO's tree");
	expect(try_open("/sys/kernel/debug/liveupdate_test/fail", O_WRONLY), EACCES, "a user",
	       "the test facility");
	expect(start_next_kernel(), EPERM, "a user", "a reboot into the next kernel");

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", given->pid, given->session);
	expect(try_open(path, O_RDWR), EACCES, "a user", "another user's session, by /proc");
	pidfd = syscall(SYS_pidfd_open, given->pid, 0);
	expect(pidfd < 0 ? -errno :
	       syscall(SYS_pidfd_getfd, pidfd, given->session, 0) < 0 ? -errno : 0,
	       EPERM, "a user", "another user's session, by pidfd_getfd()");
	close(pidfd);
}

/* Of the state of others nothing shows in an iommufd of its own. */
static void own_iommufd(void)
{
	struct iommu_liveupdate_hwpt hwpts[8];
	uint32_t count = ARRAY_SIZE(hwpts), id;
	struct vmm own = { .iommufd = -1 };
	struct mem mem = { .fd = memfd_create("own", MFD_CLOEXEC) };
	int ret = iommufd_open(&own), found = 0;

	if (!works(ret, "a user may open /dev/iommu if its mode says so"))
		return;
	ret = list_hwpts(own.iommufd, hwpts, &count);
	verdict(!ret && !count, "a user's own iommufd lists no HWPT of others",
		"%s, %u", strerror(-ret), count);
	for (id = 0; id < 64; id++)
		found += hwpt_set_token(&own, id, id) != -ENOENT;
	verdict(!found, "and no object of others can be given a token", "%d can", found);
	if (ftruncate(mem.fd, KIB(64)) || ioas_alloc(&own))
		give_up("a user's own IOAS");
	works(ioas_map_file(&own, &mem, 0, RAM_IOVA, KIB(64)), "a user may map its memfd");
	found = 0;
	for (id = 0; id < 64; id++)
		found += hwpt_set_token(&own, id, id) != -ENOENT;
	verdict(!found, "and an IOAS takes no token", "%d do", found);
	close(own.iommufd);
	close(mem.fd);
}

/* Whoever was given a descriptor may use it, as with any file. */
static void with_files_of_others(const struct given *given)
{
	struct liveupdate_session_get_name name = { .size = sizeof(name) };
	struct vmm theirs = { .iommufd = given->iommufd };
	int mem = memfd_create("own", MFD_CLOEXEC);

	works(sys_ioctl(given->session, LIVEUPDATE_SESSION_GET_NAME, &name),
	      "a user that was given a session may use it");
	works(ftruncate(mem, KIB(64)) ? -errno : session_preserve(given->session, 0x77, mem),
	      "and preserve its own memfd in it");
	refused(session_preserve(given->session, 0x78, given->iommufd), EBUSY,
		"preserving somebody's preserved iommufd again");
	refused(hwpt_set_token(&theirs, given->hwpt, 1), EBUSY,
		"changing the token of a preserved HWPT as a user");
	close(mem);
}

static void as_user(const struct given *given, void (*more)(const struct given *))
{
	pid_t pid;

	if (chmod("/dev/iommu", 0666))
		give_up("chmod: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		give_up("fork: %s", strerror(errno));
	if (!pid) {
		/* Messages do not need a right to /dev/kmsg then. */
		chmod("/dev/kmsg", 0666);
		drop_rights();
		others_are_out_of_reach(given);
		own_iommufd();
		if (more)
			more(given);
		_exit(0);
	}
	reap(pid, "a user");
	chmod("/dev/kmsg", 0644);
	chmod("/dev/iommu", 0660);
	pid = fork();
	if (!pid) {
		drop_rights();
		_exit(-try_open("/dev/iommu", O_RDWR));
	}
	if (waitpid(pid, &pid, 0) < 0)
		give_up("waitpid");
	expect(-WEXITSTATUS(pid), EACCES, "a user", "/dev/iommu as it is");
}

/* ---- at random ------------------------------------------------------------------------- */

#define NR_PROCESSES	3
#define NR_FDS		16
#define ARENA		MIB(1)

/*
 * Kinds of files, by the letter in struct kind, and what they are made of: one letter
 * for each field. s size, f flags, i an object's id, d a file, k a small number, t a
 * token, v an IOVA, l a length, p an address, q 8 bytes, z 4 bytes of 0, h 2 bytes, n a
 * name.
 */
static const struct kind {
	char file;
	unsigned long cmd;
	const char *fields;
	bool ends;	/* the live update, or makes a device somebody's */
} kinds[] = {
	{ 'L', LIVEUPDATE_IOCTL_CREATE_SESSION, "sdn" },
	{ 'L', LIVEUPDATE_IOCTL_RETRIEVE_SESSION, "sdn" },
	{ 'L', LIVEUPDATE_IOCTL_FD_PRESERVE, "sdt" },
	{ 'L', LIVEUPDATE_IOCTL_FD_PRESERVE, "sdt" },
	{ 'L', LIVEUPDATE_IOCTL_FD_UNPRESERVE, "szt" },
	{ 'L', LIVEUPDATE_IOCTL_FD_RESTORE, "sdt" },
	{ 'L', LIVEUPDATE_IOCTL_GET_STATE, "sz" },
	{ 'L', LIVEUPDATE_IOCTL_SET_EVENT, "skfz", true },
	{ 'S', LIVEUPDATE_SESSION_FINISH, "sz", true },
	{ 'S', LIVEUPDATE_SESSION_PRESERVE_FD, "sdt" },
	{ 'S', LIVEUPDATE_SESSION_RETRIEVE_FD, "sdt" },
	{ 'S', LIVEUPDATE_SESSION_GET_NAME, "szn" },
	{ 'I', IOMMU_HWPT_LIVEUPDATE_SET_TOKEN, "sit" },
	{ 'I', IOMMU_LIVEUPDATE_LIST_HWPTS, "sfkkp" },
	{ 'I', IOMMU_DESTROY, "si" },
	{ 'I', IOMMU_IOAS_ALLOC, "sfi" },
	{ 'I', IOMMU_IOAS_IOVA_RANGES, "sikzpq" },
	{ 'I', IOMMU_IOAS_ALLOW_IOVAS, "sikzp" },
	{ 'I', IOMMU_IOAS_MAP, "sfizplv" },
	{ 'I', IOMMU_IOAS_MAP_FILE, "sfidllv" },
	{ 'I', IOMMU_IOAS_COPY, "sfiilvv" },
	{ 'I', IOMMU_IOAS_UNMAP, "sivl" },
	{ 'I', IOMMU_OPTION, "skhhiq" },
	{ 'I', IOMMU_VFIO_IOAS, "sihh" },
	{ 'I', IOMMU_HWPT_ALLOC, "sfiiizkkpiz" },
	{ 'I', IOMMU_GET_HW_INFO, "sfikpkkq" },
	{ 'I', IOMMU_HWPT_SET_DIRTY_TRACKING, "sfiz" },
	{ 'I', IOMMU_HWPT_GET_DIRTY_BITMAP, "sifzvllp" },
	{ 'I', IOMMU_HWPT_INVALIDATE, "sipkkkz" },
	{ 'I', IOMMU_FAULT_QUEUE_ALLOC, "sfii" },
	{ 'I', IOMMU_VIOMMU_ALLOC, "sfkiiikzp" },
	{ 'I', IOMMU_VDEVICE_ALLOC, "siiiq" },
	{ 'I', IOMMU_VEVENTQ_ALLOC, "sfikkidz" },
	{ 'I', IOMMU_HW_QUEUE_ALLOC, "sfikkivl" },
	{ 'D', VFIO_DEVICE_BIND_IOMMUFD, "sfdip", true },
	{ 'D', VFIO_DEVICE_ATTACH_IOMMUFD_PT, "sfii" },
	{ 'D', VFIO_DEVICE_DETACH_IOMMUFD_PT, "sfi" },
	{ 'D', VFIO_DEVICE_GET_INFO, "sfkkk" },
	{ 'D', VFIO_DEVICE_GET_REGION_INFO, "sfkkqq" },
	{ 'D', VFIO_DEVICE_GET_IRQ_INFO, "sfkk" },
	{ 'D', VFIO_DEVICE_SET_IRQS, "sfkkkd" },
	{ 'D', VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, "sfkkk" },
	{ 'D', VFIO_DEVICE_PCI_HOT_RESET, "sfkd" },
	{ 'D', VFIO_DEVICE_FEATURE, "sfqq" },
};

struct fuzzer {
	uint64_t random;
	struct {
		int fd;
		char kind;	/* L, S, I, D, or M for a memfd and - for what is none */
	} fds[NR_FDS];
	unsigned int nr_fds;
	uint8_t *arena;
	uint32_t ids[8];	/* seen in answers */
	bool incoming;
};

static struct {
	uint64_t steps;
	unsigned long cmd;
} *progress;

static unsigned int any(struct fuzzer *f, unsigned int n)
{
	return (next_random(&f->random) >> 33) % n;
}

static const uint64_t odd_numbers[] = {
	0, 1, 2, 3, 7, 0x7fffffff, 0x80000000, 0xffffffff, 1ULL << 32, INT64_MAX, 1ULL << 63,
	UINT64_MAX, UINT64_MAX - 1, PAGE - 1, PAGE, 1ULL << 48, 1ULL << 52,
};

static uint64_t odd_number(struct fuzzer *f)
{
	return odd_numbers[any(f, ARRAY_SIZE(odd_numbers))];
}

static int some_fd(struct fuzzer *f, char kind)
{
	unsigned int i, at = any(f, f->nr_fds);

	for (i = 0; i < f->nr_fds; i++, at = (at + 1) % f->nr_fds)
		if (!kind || f->fds[at].kind == kind)
			return f->fds[at].fd;
	return -1;
}

static uint64_t value(struct fuzzer *f, char field)
{
	if (!any(f, 12))
		return odd_number(f);
	switch (field) {
	case 'f':
		return any(f, 4) ? any(f, 2) ? 0 : any(f, 8) : 1U << any(f, 32);
	case 'i':
		return any(f, 4) ? f->ids[any(f, ARRAY_SIZE(f->ids))] : any(f, 16);
	case 'd':
		return some_fd(f, any(f, 3) ? 0 : "IDMS"[any(f, 4)]);
	case 't':
		return any(f, 4);
	case 'v':
		return RAM_IOVA + any(f, 64) * PAGE;
	case 'l':
		return any(f, 64) * PAGE;
	case 'p':
		return (uintptr_t)f->arena + any(f, 64) * (any(f, 4) ? PAGE : 1);
	case 'q':
		return next_random(&f->random) >> any(f, 64);
	case 'z':
		return 0;
	default:
		return any(f, 24);
	}
}

static void put(uint8_t **p, uint64_t val, size_t len)
{
	memcpy(*p, &val, len);
	*p += len;
}

static size_t fill(struct fuzzer *f, uint8_t *buf, const char *fields)
{
	uint8_t *p = buf;
	const char *c;

	for (c = fields; *c; c++) {
		switch (*c) {
		case 't': case 'v': case 'l': case 'p': case 'q':
			put(&p, value(f, *c), 8);
			break;
		case 'h':
			put(&p, value(f, 'k'), 2);
			break;
		case 'n':
			memset(p, 0, LIVEUPDATE_SESSION_NAME_LENGTH);
			snprintf((char *)p, 16, any(f, 8) ? "f%u" : "", any(f, 4));
			p += LIVEUPDATE_SESSION_NAME_LENGTH;
			break;
		default:
			put(&p, value(f, *c), 4);
		}
	}
	return p - buf;
}

/* What comes back in the place of an id may be one. */
static void learn(struct fuzzer *f, const uint8_t *buf, const char *fields)
{
	const uint8_t *p = buf;
	const char *c;

	for (c = fields; *c; c++) {
		if (*c == 'i')
			memcpy(&f->ids[any(f, ARRAY_SIZE(f->ids))], p, 4);
		p += strchr("tvlpq", *c) ? 8 : *c == 'h' ? 2 :
		     *c == 'n' ? LIVEUPDATE_SESSION_NAME_LENGTH : 4;
	}
}

static void one_ioctl(struct fuzzer *f, unsigned int nr)
{
	const struct kind *k = &kinds[any(f, ARRAY_SIZE(kinds))];
	uint8_t *buf = f->arena + ARENA - PAGE;
	uint32_t size;
	int fd;

	if (k->ends && f->incoming)
		return;
	memset(buf, 0, 256);
	size = fill(f, buf, k->fields);
	if (any(f, 16))
		memcpy(buf, &size, 4);
	fd = some_fd(f, any(f, 32) ? k->file : 0);
	progress[nr].cmd = k->cmd;
	if (!ioctl(fd, k->cmd, any(f, 64) ? buf : none))
		learn(f, buf, k->fields);
	progress[nr].steps++;
}

static void add_fd(struct fuzzer *f, int fd, char kind)
{
	if (fd >= 0 && f->nr_fds < NR_FDS) {
		f->fds[f->nr_fds].fd = fd;
		f->fds[f->nr_fds++].kind = kind;
	}
}

static void own_files(struct fuzzer *f)
{
	static const char *const bdfs[] = { OTHER_BDF, "0000:00:12.0" };
	struct vmm vmm;
	unsigned int i;
	int mem;

	for (i = 0; i < 2; i++) {
		mem = memfd_create("fuzz", MFD_CLOEXEC);
		if (mem >= 0 && !ftruncate(mem, ARENA))
			add_fd(f, mem, 'M');
		iommufd_open(&vmm);
		add_fd(f, vmm.iommufd, 'I');
		snprintf(vmm.edu.bdf, sizeof(vmm.edu.bdf), "%s", bdfs[i]);
		if (!vfio_open_device(&vmm))
			add_fd(f, vmm.dev, 'D');
	}
	add_fd(f, open("/dev/null", O_RDWR | O_CLOEXEC), '-');
	add_fd(f, open("/dev/iommu", O_PATH | O_CLOEXEC), '-');
}

/* Ends by itself after a while, which closes what it has made. */
static void __attribute__((noreturn)) fuzz(struct fuzzer *f, unsigned int nr)
{
	char name[8];
	int i;

	f->arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (f->arena == MAP_FAILED)
		give_up("no memory");
	if (!f->incoming) {
		snprintf(name, sizeof(name), "own%u", nr);
		add_fd(f, session_create(some_fd(f, 'L'), name), 'S');
	}
	own_files(f);
	for (i = 0; i < 4000; i++)
		one_ioctl(f, nr);
	_exit(0);
}

static pid_t start_fuzzer(struct fuzzer *f, unsigned int nr, uint64_t seed)
{
	pid_t pid;

	f->random = seed;
	pid = fork();
	if (pid < 0)
		give_up("fork: %s", strerror(errno));
	if (!pid)
		fuzz(f, nr);
	return pid;
}

static uint64_t at_random(struct fuzzer *f, long seconds)
{
	pid_t pids[NR_PROCESSES];
	long until = now_seconds() + seconds, since = now_seconds();
	uint64_t seed = param_nr("seed", 1), nr = 1000, steps = 0, sum;
	unsigned int i;
	char what[64];

	for (i = 0; i < NR_PROCESSES; i++)
		pids[i] = start_fuzzer(f, i, seed_for(seed, nr++));
	while (now_seconds() < until) {
		sleep_ms(20);
		for (i = 0, sum = 0; i < NR_PROCESSES; i++) {
			sum += progress[i].steps;
			if (waitpid(pids[i], NULL, WNOHANG) == pids[i])
				pids[i] = start_fuzzer(f, i, seed_for(seed, nr++));
		}
		if (sum != steps)
			since = now_seconds();
		steps = sum;
		snprintf(what, sizeof(what), "ioctl %#lx", progress[0].cmd);
		if (now_seconds() - since > HANG_SECONDS)
			hangs(what);
	}
	for (i = 0; i < NR_PROCESSES; i++) {
		kill(pids[i], SIGKILL);
		snprintf(what, sizeof(what), "ioctl %#lx", progress[i].cmd);
		reap(pids[i], what);
	}
	verdict(true, "nothing hangs", "%s", "");
	say("fuzz", "%llu ioctls by %llu processes", (unsigned long long)steps,
	    (unsigned long long)nr - 1000);
	return steps;
}

/* What needs another one is in its way, so as often as something goes. */
static void drop_all(int luo)
{
	unsigned int i, gone;

	luo_cancel(luo);
	do {
		gone = 0;
		for (i = 0; i < ARRAY_SIZE(odd_numbers); i++)
			gone += !luo_fd_unpreserve(luo, odd_numbers[i]);
	} while (gone);
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void leave(void)
{
	static struct vmm vmm;
	struct fuzzer f = {};
	struct counters before;
	struct given given;
	struct keeper k;

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	vmm_close(&vmm);
	before = count_all();

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	keeper_open(&k, SESSION);
	wrong_luo(k.luo, k.session, &vmm);
	wrong_iommufd(&vmm);
	wrong_mappings(&vmm, k.session);
	wrong_file(k.luo, k.session, vmm.iommufd);

	keep_device(&k, &vmm);
	given = (struct given){ k.luo, k.session, vmm.iommufd, vmm.hwpt, getpid() };
	as_user(&given, with_files_of_others);
	verdict(vmm_dma_works(&vmm), "after wrong arguments DMA goes on",
		"bytes did not arrive");

	/* That VMM's files are not among those that are tried. */
	add_fd(&f, k.luo, 'L');
	verdict(at_random(&f, param_nr("seconds", 15)) > 1000, "something was tried",
		"nothing was");
	verdict(vmm_dma_works(&vmm), "after ioctls at random DMA goes on",
		"bytes did not arrive");
	drop_all(k.luo);
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL, "the state is normal", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	close(k.session);
	vmm_close(&vmm);
	check_counters(&before);

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	verdict(vmm_dma_works(&vmm), "after all that a VMM can be started",
		"bytes did not arrive");
	keeper_create(&k, k.luo, SESSION);
	keep_device(&k, &vmm);
	jump(2, NULL);
}

/* The file is there all the same, and comes with the next try. */
static void no_room_for_the_answer(struct keeper *k)
{
	struct liveupdate_session_retrieve_fd arg = {
		.size = sizeof(arg), .token = (uint64_t)SEED << 4,
	};

	expect(read_only_ioctl(k->session, LIVEUPDATE_SESSION_RETRIEVE_FD, &arg, sizeof(arg)),
	       EFAULT, "LIVEUPDATE_SESSION_RETRIEVE_FD", "a structure that is read only");
	arg.token |= 3;
	expect(read_only_ioctl(k->session, LIVEUPDATE_SESSION_RETRIEVE_FD, &arg, sizeof(arg)),
	       EFAULT, "LIVEUPDATE_SESSION_RETRIEVE_FD of a device",
	       "a structure that is read only");
}

static void wrong_incoming(struct keeper *k, struct vmm *vmm)
{
	struct liveupdate_session_finish finish = { .size = sizeof(finish), .reserved = 1 };
	const size_t len = sizeof(struct iommu_liveupdate_hwpt);
	const char *n = "IOMMU_LIVEUPDATE_LIST_HWPTS";

	expect(session_retrieve(k->luo, SESSION), EINVAL, "retrieving a session",
	       "one that was retrieved");
	expect(session_restore(k->session, 0x777), ENOENT, "LIVEUPDATE_SESSION_RETRIEVE_FD",
	       "a token that is not in use");
	expect(session_preserve(k->session, 7, vmm->ram.fd), EINVAL,
	       "LIVEUPDATE_SESSION_PRESERVE_FD", "a session that came in");
	expect(sys_ioctl(k->session, LIVEUPDATE_SESSION_FINISH, &finish), EINVAL,
	       "LIVEUPDATE_SESSION_FINISH", "a reserved bit");
	expect(event(k->luo, LIVEUPDATE_EVENT_PREPARE, 0, 0), EBUSY,
	       "LIVEUPDATE_IOCTL_SET_EVENT", "PREPARE in the state updated");

	expect(list(vmm->iommufd, 0, len, none), EMSGSIZE, n, "no room");
	expect(list(vmm->iommufd, 1, len, none), EFAULT, n, "room that is not there");
	expect(list(vmm->iommufd, 1, len, ro), EFAULT, n, "room that is read only");
	expect(list(vmm->iommufd, 1, len, (void *)0xffffffff81000000UL), EFAULT, n,
	       "room in the kernel");
	expect(list(vmm->iommufd, 1, PAGE, rw + 1), EFAULT, n,
	       "an entry whose end is not there");
	expect(list(vmm->iommufd, UINT32_MAX, len, none - len), 0, n,
	       "more room than there is, which nothing needs");
	verdict(((struct iommu_liveupdate_hwpt *)(none - len))->token == vmm->hwpt_token,
		"and the HWPT is in the list", "it is not");
}

static void arrive(void)
{
	static const struct range landed[] = { { LANDS_OFF, EDU_BUF_LEN } };
	static struct vmm vmm;
	struct fuzzer f = { .incoming = true };
	struct given given = { .iommufd = -1 };
	struct keeper k;
	struct edu dev;

	edu_map_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA + LANDS_OFF, EDU_BUF_LEN);
	edu_unmap_raw(&dev);
	keeper_reopen(&k, SESSION);
	given.luo = k.luo;
	given.session = k.session;
	given.pid = getpid();
	no_room_for_the_answer(&k);
	vmm_come_back(&vmm, &k, "vmm", DEV_BDF, SEED);
	wrong_incoming(&k, &vmm);
	as_user(&given, NULL);

	add_fd(&f, k.luo, 'L');
	add_fd(&f, k.session, 'S');
	add_fd(&f, vmm.iommufd, 'I');
	add_fd(&f, vmm.dev, 'D');
	at_random(&f, 1 + param_nr("seconds", 15) / 5);
	drop_all(k.luo);

	verdict(is_pattern(vmm.big.va + LANDS_OFF, EDU_BUF_LEN, vmm.ram.seed, LOAD_OFF),
		"then a live update succeeds, in which the device goes on",
		"the DMA did not land");
	verdict(mem_first_difference(&vmm.big, landed, 1) < 0 &&
		mem_first_difference(&vmm.ram, NULL, 0) < 0, "no other byte changed",
		"RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(&vmm.ram, NULL, 0),
		mem_first_difference(&vmm.big, landed, 1));
	fill_pattern(vmm.big.va + LANDS_OFF, EDU_BUF_LEN, vmm.big.seed, LANDS_OFF);
	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "the device can be attached");
	works(session_finish(k.session), "LIVEUPDATE_SESSION_FINISH succeeds");
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_NORMAL, "the state is normal", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	verdict(vmm_dma_works(&vmm), "after that the device reaches its VMM's memory",
		"bytes did not arrive");
	close(k.session);
	close(k.luo);
	vmm_close(&vmm);
}

void scen_fuzz(int stage)
{
	make_pages();
	progress = share(sizeof(*progress) * NR_PROCESSES);
	if (stage == 1)
		leave();
	arrive();
}
