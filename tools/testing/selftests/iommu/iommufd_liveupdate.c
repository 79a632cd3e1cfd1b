// SPDX-License-Identifier: GPL-2.0
/*
 * Live update of an iommufd and one VFIO device, which is running all the time.
 *
 *	iommufd_liveupdate [-s] [-k] vfioN | PCI address
 *
 * Run it twice, with the same options. In the old kernel it maps a memfd for the
 * device, preserves memfd, iommufd and device file, says PREPARE, and waits for the
 * reboot. In the new kernel, which it knows by the state UPDATED, it takes all of
 * them back, maps the memfd for the device again, and finishes.
 *
 *	-s	preserve in a LUO session, not with /dev/liveupdate's own ioctls
 *	-k	reboot into the kernel that was loaded with kexec -s -l
 *
 * The device has to be bound to a VFIO driver, in its cdev mode. SIGINT or SIGTERM
 * while it waits undoes everything.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <linux/memfd.h>
#include <linux/reboot.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest.h"

#define MEM_SIZE	(4UL << 20)
#define MEM_IOVA	(16UL << 20)
#define SESSION_NAME	"iommufd_liveupdate"

/* In LUO, and the HWPT's in its iommufd. */
#define TOKEN_MEMFD	0x1000
#define TOKEN_IOMMUFD	0x1001
#define TOKEN_DEVICE	0x1002
#define TOKEN_HWPT	0x2000

static bool use_session;
static int luo = -1;
static int session = -1;

static int do_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

static void check(int ret, int expected, const char *what)
{
	if (ret != expected)
		ksft_print_msg("%s: returned %d (%s), expected %d\n", what, ret,
			       strerror(-ret), expected);
	ksft_test_result(ret == expected, "%s\n", what);
}

/* A failure after which nothing else makes sense. */
static void must(int ret, const char *what)
{
	check(ret < 0 ? ret : 0, 0, what);
	if (ret < 0)
		ksft_finished();
}

/* ---- LUO, with a session or without ---------------------------------------- */

static int get_state(void)
{
	struct liveupdate_ioctl_get_state arg = { .size = sizeof(arg) };
	int ret = do_ioctl(luo, LIVEUPDATE_IOCTL_GET_STATE, &arg);

	return ret ? ret : (int)arg.state;
}

static int set_event(__u32 event)
{
	struct liveupdate_ioctl_set_event arg = {
		.size = sizeof(arg), .event = event,
	};

	return do_ioctl(luo, LIVEUPDATE_IOCTL_SET_EVENT, &arg);
}

static int preserve(int fd, __u64 token)
{
	struct liveupdate_ioctl_fd_preserve direct = {
		.size = sizeof(direct), .fd = fd, .token = token,
	};
	struct liveupdate_session_preserve_fd in_session = {
		.size = sizeof(in_session), .fd = fd, .token = token,
	};

	if (use_session)
		return do_ioctl(session, LIVEUPDATE_SESSION_PRESERVE_FD, &in_session);
	return do_ioctl(luo, LIVEUPDATE_IOCTL_FD_PRESERVE, &direct);
}

static int unpreserve(__u64 token)
{
	struct liveupdate_ioctl_fd_unpreserve arg = {
		.size = sizeof(arg), .token = token,
	};

	return do_ioctl(luo, LIVEUPDATE_IOCTL_FD_UNPRESERVE, &arg);
}

static int restore(__u64 token)
{
	struct liveupdate_ioctl_fd_restore direct = {
		.size = sizeof(direct), .token = token,
	};
	struct liveupdate_session_retrieve_fd in_session = {
		.size = sizeof(in_session), .token = token,
	};
	int ret;

	if (use_session) {
		ret = do_ioctl(session, LIVEUPDATE_SESSION_RETRIEVE_FD, &in_session);
		return ret ? ret : in_session.fd;
	}
	ret = do_ioctl(luo, LIVEUPDATE_IOCTL_FD_RESTORE, &direct);
	return ret ? ret : direct.fd;
}

static int finish(void)
{
	struct liveupdate_session_finish arg = { .size = sizeof(arg) };

	if (use_session)
		return do_ioctl(session, LIVEUPDATE_SESSION_FINISH, &arg);
	return set_event(LIVEUPDATE_EVENT_FINISH);
}

static int create_session(void)
{
	struct liveupdate_ioctl_create_session arg = {
		.size = sizeof(arg), .name = SESSION_NAME,
	};
	int ret = do_ioctl(luo, LIVEUPDATE_IOCTL_CREATE_SESSION, &arg);

	return ret ? ret : arg.fd;
}

static int retrieve_session(void)
{
	struct liveupdate_ioctl_retrieve_session arg = {
		.size = sizeof(arg), .name = SESSION_NAME,
	};
	int ret = do_ioctl(luo, LIVEUPDATE_IOCTL_RETRIEVE_SESSION, &arg);

	return ret ? ret : arg.fd;
}

/* ---- VFIO and iommufd --------------------------------------------------------- */

static int open_device(const char *name)
{
	char dir[128], path[300];
	struct dirent *de;
	DIR *d;
	int fd;

	snprintf(path, sizeof(path), "/dev/vfio/devices/%.32s", name);
	if (strncmp(name, "vfio", 4)) {
		snprintf(dir, sizeof(dir), "/sys/bus/pci/devices/%.32s/vfio-dev", name);
		d = opendir(dir);
		if (!d)
			return -errno;
		do {
			de = readdir(d);
		} while (de && strncmp(de->d_name, "vfio", 4));
		if (de)
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", de->d_name);
		closedir(d);
		if (!de)
			return -ENOENT;
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int bind_device(int device, int iommufd, __u32 *dev_id)
{
	struct vfio_device_bind_iommufd arg = {
		.argsz = sizeof(arg), .iommufd = iommufd,
	};
	int ret = do_ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &arg);

	*dev_id = arg.out_devid;
	return ret;
}

static int attach_device(int device, __u32 pt_id)
{
	struct vfio_device_attach_iommufd_pt arg = {
		.argsz = sizeof(arg), .pt_id = pt_id,
	};

	return do_ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg);
}

static int alloc_ioas(int iommufd, __u32 *ioas)
{
	struct iommu_ioas_alloc arg = { .size = sizeof(arg) };
	int ret = do_ioctl(iommufd, IOMMU_IOAS_ALLOC, &arg);

	*ioas = arg.out_ioas_id;
	return ret;
}

static int alloc_hwpt(int iommufd, __u32 dev_id, __u32 ioas, __u32 *hwpt)
{
	struct iommu_hwpt_alloc arg = {
		.size = sizeof(arg), .dev_id = dev_id, .pt_id = ioas,
	};
	int ret = do_ioctl(iommufd, IOMMU_HWPT_ALLOC, &arg);

	*hwpt = arg.out_hwpt_id;
	return ret;
}

static int set_token(int iommufd, __u32 hwpt, __u64 token)
{
	struct iommu_hwpt_liveupdate_set_token arg = {
		.size = sizeof(arg), .hwpt_id = hwpt, .token = token,
	};

	return do_ioctl(iommufd, IOMMU_HWPT_LIVEUPDATE_SET_TOKEN, &arg);
}

static int map_memfd(int iommufd, __u32 ioas, int memfd)
{
	struct iommu_ioas_map_file arg = {
		.size = sizeof(arg), .ioas_id = ioas, .fd = memfd,
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.length = MEM_SIZE, .iova = MEM_IOVA,
	};

	return do_ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &arg);
}

static int unmap(int iommufd, __u32 ioas)
{
	struct iommu_ioas_unmap arg = {
		.size = sizeof(arg), .ioas_id = ioas, .iova = MEM_IOVA,
		.length = MEM_SIZE,
	};

	return do_ioctl(iommufd, IOMMU_IOAS_UNMAP, &arg);
}

/* ---- memory ---------------------------------------------------------------------- */

static uint64_t word(size_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15ULL;
}

static int create_memory(void)
{
	uint64_t *mem;
	size_t i;
	int fd;

	fd = syscall(SYS_memfd_create, "iommufd_liveupdate",
		     MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, MEM_SIZE) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return -errno;
	mem = mmap(NULL, MEM_SIZE, PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	for (i = 0; i < MEM_SIZE / sizeof(*mem); i++)
		mem[i] = word(i);
	munmap(mem, MEM_SIZE);
	return fd;
}

static int compare_memory(int fd)
{
	uint64_t *mem;
	int ret = 0;
	size_t i;

	mem = mmap(NULL, MEM_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	for (i = 0; !ret && i < MEM_SIZE / sizeof(*mem); i++)
		if (mem[i] != word(i))
			ret = -EILSEQ;
	munmap(mem, MEM_SIZE);
	return ret;
}

/* ---- the two runs ----------------------------------------------------------------- */

static void on_signal(int sig)
{
}

/* Until the reboot, or until a signal, which gives everything up. */
static void wait_for_reboot(bool reboot_now)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (reboot_now) {
		sync();
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			LINUX_REBOOT_CMD_KEXEC, NULL);
		ksft_test_result_fail("reboot into the next kernel: %s\n",
				      strerror(errno));
	} else {
		/* The operator's tool may want it, and only one can have it open. */
		close(luo);
		ksft_print_msg("preserved: reboot now, with kexec -e or the like\n");
		pause();
		luo = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);
	}
	check(set_event(LIVEUPDATE_EVENT_CANCEL), 0, "cancel");
	if (use_session) {
		close(session);
		return;
	}
	check(unpreserve(TOKEN_DEVICE), 0, "unpreserve the device file");
	check(unpreserve(TOKEN_IOMMUFD), 0, "unpreserve the iommufd");
	check(unpreserve(TOKEN_MEMFD), 0, "unpreserve the memfd");
}

static void first_run(const char *name, bool reboot_now)
{
	int device, iommufd, memfd;
	__u32 dev_id, ioas, hwpt;
	int ret;

	device = open_device(name);
	if (device < 0)
		ksft_exit_skip("no VFIO cdev of %s: %s\n", name, strerror(-device));
	iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (iommufd < 0)
		ksft_exit_skip("/dev/iommu: %s\n", strerror(errno));

	/* The last ones are only reached if the reboot does not happen. */
	ksft_set_plan(15 + (reboot_now ? 1 : 0) + (use_session ? 1 : 4));
	memfd = create_memory();
	must(memfd, "create memory");
	must(bind_device(device, iommufd, &dev_id), "bind the device to the iommufd");
	must(alloc_ioas(iommufd, &ioas), "allocate an IOAS");
	must(map_memfd(iommufd, ioas, memfd), "map the memfd");
	must(alloc_hwpt(iommufd, dev_id, ioas, &hwpt), "allocate a HWPT");
	must(set_token(iommufd, hwpt, TOKEN_HWPT), "set its token");
	must(attach_device(device, hwpt), "attach the device");

	if (use_session) {
		session = create_session();
		if (session < 0)
			ksft_exit_fail_msg("creating a session: %s\n", strerror(-session));
	}
	check(preserve(iommufd, TOKEN_IOMMUFD), -ENOENT,
	      "the iommufd is refused while its memfd is not preserved");
	must(preserve(memfd, TOKEN_MEMFD), "preserve the memfd");
	check(preserve(device, TOKEN_DEVICE), -ENOENT,
	      "the device file is refused while its iommufd is not preserved");
	ret = preserve(iommufd, TOKEN_IOMMUFD);
	if (ret == -EOPNOTSUPP || ret == -EPERM || ret == -EMLINK)
		ksft_exit_skip("%s cannot be preserved (%s), the kernel's log says why\n",
			       name, strerror(-ret));
	must(ret, "preserve the iommufd");
	must(preserve(device, TOKEN_DEVICE), "preserve the device file");
	check(unmap(iommufd, ioas), -EBUSY, "its mappings cannot change");
	must(set_event(LIVEUPDATE_EVENT_PREPARE), "prepare");
	check(get_state(), LIVEUPDATE_STATE_PREPARED, "the state is PREPARED");
	ksft_print_msg("to be continued by a second run in the next kernel\n");
	wait_for_reboot(reboot_now);
	ksft_finished();
}

static void check_refused(const char *name, int device)
{
	int other = open_device(name);
	int iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	__u32 dev_id;

	check(bind_device(device, iommufd, &dev_id), -EPERM,
	      "a foreign iommufd is refused");
	check(bind_device(other, iommufd, &dev_id), -EBUSY,
	      "another file of the device is refused");
	close(other);
	close(iommufd);
}

static void second_run(const char *name)
{
	struct iommu_liveupdate_hwpt hwpts[4] = {};
	struct iommu_liveupdate_list_hwpts list = {
		.size = sizeof(list), .entry_len = sizeof(hwpts[0]),
		.hwpts = (uintptr_t)hwpts,
	};
	int memfd, iommufd, device;
	__u32 dev_id, ioas, hwpt;

	ksft_set_plan(18);
	if (use_session) {
		session = retrieve_session();
		if (session < 0)
			ksft_exit_fail_msg("retrieving the session: %s\n",
					   strerror(-session));
	}
	memfd = restore(TOKEN_MEMFD);
	must(memfd, "restore the memfd");
	check(compare_memory(memfd), 0, "it holds what the old kernel had in it");
	iommufd = restore(TOKEN_IOMMUFD);
	must(iommufd, "restore the iommufd");
	check(do_ioctl(iommufd, IOMMU_LIVEUPDATE_LIST_HWPTS, &list), -EMSGSIZE,
	      "a list that does not fit is refused");
	list.count = ARRAY_SIZE(hwpts);
	check(do_ioctl(iommufd, IOMMU_LIVEUPDATE_LIST_HWPTS, &list), 0,
	      "list its HWPTs");
	ksft_test_result(list.count == 1 && hwpts[0].token == TOKEN_HWPT &&
			 hwpts[0].nr_devices == 1, "there is the one with the device\n");
	device = restore(TOKEN_DEVICE);
	must(device, "restore the device file");
	check_refused(name, device);
	must(bind_device(device, iommufd, &dev_id), "bind the device to the iommufd");
	must(alloc_ioas(iommufd, &ioas), "allocate an IOAS");
	must(alloc_hwpt(iommufd, dev_id, ioas, &hwpt), "allocate a HWPT");
	must(attach_device(device, hwpt), "attach the device");
	check(finish(), -ENOENT, "finish is refused while the memfd is not mapped");
	must(map_memfd(iommufd, ioas, memfd), "map the memfd");
	check(finish(), 0, "finish");
	check(get_state(), LIVEUPDATE_STATE_NORMAL, "the state is NORMAL");
	check(unmap(iommufd, ioas), 0, "its mappings can change");
	close(device);
	close(iommufd);
	close(memfd);
	ksft_finished();
}

int main(int argc, char **argv)
{
	bool reboot_now = false;
	int opt, state;

	while ((opt = getopt(argc, argv, "sk")) != -1) {
		switch (opt) {
		case 's':
			use_session = true;
			break;
		case 'k':
			reboot_now = true;
			break;
		default:
			fprintf(stderr, "usage: %s [-s] [-k] vfioN | PCI address\n",
				argv[0]);
			return KSFT_FAIL;
		}
	}
	/* Whoever waits for "reboot now" may read from a pipe. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	luo = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);
	if (luo < 0)
		ksft_exit_skip("/dev/liveupdate: %s\n", strerror(errno));
	if (optind + 1 != argc)
		ksft_exit_skip("which device? (vfioN or its PCI address)\n");
	state = get_state();
	switch (state) {
	case LIVEUPDATE_STATE_NORMAL:
		first_run(argv[optind], reboot_now);
		break;
	case LIVEUPDATE_STATE_UPDATED:
		second_run(argv[optind]);
		break;
	case -ENOTTY:
	case -EINVAL:
		ksft_exit_skip("this kernel does not tell the state of a live update\n");
	default:
		ksft_exit_skip("a live update is under way (state %d)\n", state);
	}
	return KSFT_FAIL;
}
