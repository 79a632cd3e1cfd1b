// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each memory allocation of a live update of an iommufd fails once, as in
 * iommufd_fail_nth. The devices are those of the mock driver.
 *
 *	iommufd_liveupdate_fail_nth
 *
 * Run it twice. In the old kernel it preserves an iommufd and takes it back, with
 * failures, preserves it without, and waits for the reboot. In the new kernel,
 * which it knows by the state UPDATED, it has the file retrieved, the devices
 * probed, HWPTs staged, and finishes, with failures.
 *
 * A step that fails has to leave everything as it was, and the next attempt can
 * succeed: each step is tried again with another allocation failing, until there is
 * none left. Needs CONFIG_IOMMUFD_TEST and fault injection.
 */
#include <linux/liveupdate.h>
#include <sys/mman.h>

#define __EXPORTED_HEADERS__

#include "iommufd_utils.h"

#define MAX_FAILURES	1000
#define IOVA		MOCK_APERTURE_START
#define PASID		100

#define TOKEN_MEMFD	0x1000
#define TOKEN_IOMMUFD	0x1001
#define TOKEN_UNCLAIMED	0x1002

/* Mock devices, by the number that the next kernel finds them by. */
#define DEV		1
#define DEV_UNCLAIMED	2
#define DEV_PROBED	3	/* one for each allocation of a probe */
#define NR_PROBED	250

/*
 * @undo:    takes back a success of @step, so that it can be tried again. NULL if that is
 *           not possible
 * @certain: @step cannot fail
 */
struct step {
	const char *what;
	int (*step)(void);
	int (*undo)(void);
	bool certain;
};

static int luo, iommufd = -1, unclaimed = -1;
static int fail_nth_fd;
static __u32 ioas_id, stdev_id, idev_id, hwpt_id, second_hwpt_id;

/* ---- fault injection ---------------------------------------------------------- */

static void write_knob(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, val, strlen(val)) < 0)
		ksft_print_msg("writing %s: %s\n", path, strerror(errno));
	close(fd);
}

static void setup_fault_injection(void)
{
	write_knob("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	write_knob("/sys/kernel/debug/failslab/verbose", "0");
	write_knob("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_knob("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	write_knob("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	write_knob("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	write_knob("/sys/kernel/debug/fail_iommufd/verbose", "0");
	fail_nth_fd = open("/proc/self/fail-nth", O_RDWR);
	if (fail_nth_fd < 0)
		ksft_exit_skip("fault injection is not enabled in the kernel\n");
}

static void arm(unsigned int nth)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%u", nth);

	if (pwrite(fail_nth_fd, buf, len, 0) != len)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
}

/* Has the allocation failed? */
static bool disarm(void)
{
	char buf[16] = "";

	if (pread(fail_nth_fd, buf, sizeof(buf) - 1, 0) <= 0)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
	arm(0);
	return buf[0] == '0';
}

/* Pages of page tables, those of the IOMMU among them. */
static long count_tables(void)
{
	char line[128];
	long nr = -1;
	FILE *f;

	/* Each CPU counts for itself; reading this adds that up. */
	f = fopen("/proc/sys/vm/stat_refresh", "r");
	if (f) {
		if (fgets(line, sizeof(line), f))
			ksft_print_msg("%s", line);
		fclose(f);
	}
	f = fopen("/proc/vmstat", "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "nr_iommu_pages %ld", &nr);
	if (f)
		fclose(f);
	return nr;
}

static void each_fails(const struct step *s)
{
	long tables = count_tables();
	unsigned int nth, points = 0;
	bool ok = true;
	int rc = 0;

	for (nth = 1; nth <= MAX_FAILURES; nth++) {
		bool failed;

		arm(nth);
		rc = s->step();
		if (rc)
			rc = -errno;
		failed = disarm();
		points += failed;
		if (!failed || (!rc && !s->undo))
			break;
		/* iommufd has a fault of its own: an object that is gone. */
		if (rc && (s->certain || (rc != -ENOMEM && rc != -ENOENT &&
					  rc != -ENODEV))) {
			ksft_print_msg("%s, allocation %u: %s\n", s->what, nth,
				       strerror(-rc));
			ok = false;
		}
		if (!rc && s->undo()) {
			ksft_print_msg("%s, allocation %u: cannot be undone: %s\n",
				       s->what, nth, strerror(errno));
			ok = false;
			break;
		}
		if (count_tables() != tables) {
			ksft_print_msg("%s, allocation %u: leaves %ld tables, %ld before\n",
				       s->what, nth, count_tables(), tables);
			ok = false;
			break;
		}
	}
	if (rc)
		ksft_print_msg("%s: %s\n", s->what, strerror(-rc));
	ksft_print_msg("%s: %u points\n", s->what, points);
	ksft_test_result(ok && !rc && (points || s->certain), "%s\n", s->what);
}

static void must(int rc, const char *what)
{
	if (rc < 0)
		ksft_exit_fail_msg("%s: %s\n", what, strerror(errno));
}

/* ---- LUO ----------------------------------------------------------------------- */

static int preserve(int fd, __u64 token)
{
	struct liveupdate_ioctl_fd_preserve cmd = {
		.size = sizeof(cmd), .fd = fd, .token = token,
	};

	return ioctl(luo, LIVEUPDATE_IOCTL_FD_PRESERVE, &cmd);
}

static int unpreserve(__u64 token)
{
	struct liveupdate_ioctl_fd_unpreserve cmd = {
		.size = sizeof(cmd), .token = token,
	};

	return ioctl(luo, LIVEUPDATE_IOCTL_FD_UNPRESERVE, &cmd);
}

static int restore(__u64 token)
{
	struct liveupdate_ioctl_fd_restore cmd = {
		.size = sizeof(cmd), .token = token,
	};

	return ioctl(luo, LIVEUPDATE_IOCTL_FD_RESTORE, &cmd) ? -1 : cmd.fd;
}

static int get_state(void)
{
	struct liveupdate_ioctl_get_state cmd = { .size = sizeof(cmd) };

	return ioctl(luo, LIVEUPDATE_IOCTL_GET_STATE, &cmd) ? -1 : (int)cmd.state;
}

static int set_event(__u32 event)
{
	struct liveupdate_ioctl_set_event cmd = {
		.size = sizeof(cmd), .event = event,
	};

	return ioctl(luo, LIVEUPDATE_IOCTL_SET_EVENT, &cmd);
}

/* ---- what both kernels build --------------------------------------------------- */

static int add_device(int fd, __u32 pt_id, unsigned int nr, __u32 *stdev, __u32 *idev)
{
	__u32 flags = MOCK_FLAGS_DEVICE_LIVEUPDATE |
		      nr << MOCK_FLAGS_DEVICE_LIVEUPDATE_ID_SHIFT;
	__u32 hwpt;

	/* Some have a PASID, so that the probe of that fails as well. */
	if (nr != DEV_UNCLAIMED)
		flags |= MOCK_FLAGS_DEVICE_PASID;
	return _test_cmd_mock_domain_flags(fd, pt_id, flags, stdev, &hwpt, idev);
}

static int alloc_hwpt(__u32 *hwpt)
{
	return _test_cmd_hwpt_alloc(iommufd, idev_id, ioas_id, 0, IOMMU_HWPT_ALLOC_PASID,
				    hwpt, IOMMU_HWPT_DATA_NONE, NULL, 0);
}

static int map_memory(int fd, __u32 ioas)
{
	__u64 iova = IOVA;

	return _test_ioctl_ioas_map_file(fd, ioas, mfd, 0, BUFFER_SIZE, &iova,
					 IOMMU_IOAS_MAP_FIXED_IOVA |
					 IOMMU_IOAS_MAP_WRITEABLE |
					 IOMMU_IOAS_MAP_READABLE);
}

static int unmap_memory(void)
{
	struct iommu_ioas_unmap cmd = {
		.size = sizeof(cmd), .ioas_id = ioas_id, .iova = IOVA,
		.length = BUFFER_SIZE,
	};

	return ioctl(iommufd, IOMMU_IOAS_UNMAP, &cmd);
}

/* The device with one HWPT, and its PASID with another one. */
static void build(void)
{
	__u32 hwpt;

	must(_test_ioctl_ioas_alloc(iommufd, &ioas_id), "allocating an IOAS");
	must(add_device(iommufd, ioas_id, DEV, &stdev_id, &idev_id), "adding a device");
	must(alloc_hwpt(&hwpt_id), "allocating a HWPT");
	must(alloc_hwpt(&second_hwpt_id), "allocating another HWPT");
	must(_test_cmd_mock_domain_replace(iommufd, stdev_id, hwpt_id, &hwpt),
	     "attaching the HWPT");
}

/* ---- the old kernel ------------------------------------------------------------- */

static int preserve_memfd(void)
{
	return preserve(mfd, TOKEN_MEMFD);
}

static int unpreserve_memfd(void)
{
	return unpreserve(TOKEN_MEMFD);
}

static int preserve_iommufd(void)
{
	return preserve(iommufd, TOKEN_IOMMUFD);
}

static int unpreserve_iommufd(void)
{
	return unpreserve(TOKEN_IOMMUFD);
}

static int prepare(void)
{
	return set_event(LIVEUPDATE_EVENT_PREPARE);
}

static int cancel(void)
{
	return set_event(LIVEUPDATE_EVENT_CANCEL);
}

static const struct step first_steps[] = {
	{ "preserve the memfd", preserve_memfd, unpreserve_memfd },
	{ "preserve the iommufd", preserve_iommufd, unpreserve_iommufd },
	{ "prepare", prepare, cancel },
	{ "cancel", cancel, prepare, true },
	{ "unpreserve the iommufd", unpreserve_iommufd, preserve_iommufd, true },
};

static void first_run(void)
{
	__u32 other_ioas = 0, stdev, idev;
	unsigned int i;

	ksft_set_plan(ARRAY_SIZE(first_steps) + 1);
	iommufd = open("/dev/iommu", O_RDWR);
	must(iommufd, "/dev/iommu");
	build();
	must(map_memory(iommufd, ioas_id), "mapping the memfd");
	must(_test_cmd_pasid_attach(iommufd, stdev_id, PASID, second_hwpt_id),
	     "attaching to a PASID");
	for (i = 0; i < ARRAY_SIZE(first_steps); i++)
		each_fails(&first_steps[i]);
	ksft_test_result(!unmap_memory() && !map_memory(iommufd, ioas_id),
			 "mappings can change after that\n");

	for (i = 0; i < NR_PROBED; i++)
		must(add_device(iommufd, hwpt_id, DEV_PROBED + i, &stdev, &idev),
		     "adding devices");
	unclaimed = open("/dev/iommu", O_RDWR);
	must(unclaimed, "/dev/iommu");
	must(_test_ioctl_ioas_alloc(unclaimed, &other_ioas), "allocating an IOAS");
	must(add_device(unclaimed, other_ioas, DEV_UNCLAIMED, &stdev, &idev),
	     "adding a device");
	must(preserve_iommufd(), "preserving the iommufd");
	must(preserve(unclaimed, TOKEN_UNCLAIMED), "preserving the other iommufd");
	must(prepare(), "PREPARE");
	ksft_print_msg("to be continued by a second run in the next kernel\n");
	ksft_print_msg("waiting, reboot now\n");
	for (;;)
		pause();
}

/* ---- the new kernel -------------------------------------------------------------- */

static int restore_memfd(void)
{
	mfd = restore(TOKEN_MEMFD);
	return mfd < 0 ? -1 : 0;
}

static int restore_iommufd(void)
{
	iommufd = restore(TOKEN_IOMMUFD);
	return iommufd < 0 ? -1 : 0;
}

static int stage_second(void)
{
	__u32 hwpt;

	return _test_cmd_mock_domain_replace(iommufd, stdev_id, second_hwpt_id, &hwpt);
}

static int stage_first(void)
{
	__u32 hwpt;

	return _test_cmd_mock_domain_replace(iommufd, stdev_id, hwpt_id, &hwpt);
}

static int stage_pasid(void)
{
	return _test_cmd_pasid_attach(iommufd, stdev_id, PASID, second_hwpt_id);
}

static int unstage_pasid(void)
{
	return _test_cmd_pasid_detach(iommufd, stdev_id, PASID);
}

static int finish(void)
{
	return set_event(LIVEUPDATE_EVENT_FINISH);
}

static const struct step retrieve_steps[] = {
	{ "retrieve the memfd", restore_memfd },
	{ "retrieve the iommufd", restore_iommufd },
};

static const struct step stage_steps[] = {
	{ "stage", stage_second, stage_first },
	{ "stage for a PASID", stage_pasid, unstage_pasid },
};

static const struct step finish_step = { "finish", finish };

/*
 * A device whose probe or first attach fails is gone for this live update, so there
 * is one for each allocation.
 */
static void probe_devices(void)
{
	unsigned int nth, added = 0;
	__u32 stdev, idev;
	bool failed = true;
	int rc = 0;

	for (nth = 1; failed && nth <= NR_PROBED; nth++) {
		arm(nth);
		rc = add_device(iommufd, ioas_id, DEV_PROBED + nth - 1, &stdev, &idev);
		failed = disarm();
		added += !rc;
	}
	ksft_print_msg("probe devices: %u points\n", nth - 2);
	ksft_print_msg("%u devices go on with what they inherited\n", added);
	ksft_test_result(!failed && !rc && nth > 2, "probe devices\n");
}

static void second_run(void)
{
	unsigned int i;

	ksft_set_plan(ARRAY_SIZE(retrieve_steps) + ARRAY_SIZE(stage_steps) + 5);
	for (i = 0; i < ARRAY_SIZE(retrieve_steps); i++)
		each_fails(&retrieve_steps[i]);
	build();
	for (i = 0; i < ARRAY_SIZE(stage_steps); i++)
		each_fails(&stage_steps[i]);
	must(stage_first(), "staging the first HWPT again");
	ksft_test_result(finish() && errno == ENOENT,
			 "finish is refused while the memfd is not mapped\n");
	must(map_memory(iommufd, ioas_id), "mapping the memfd");
	probe_devices();
	each_fails(&finish_step);
	ksft_test_result(get_state() == LIVEUPDATE_STATE_NORMAL, "the state is NORMAL\n");
	ksft_test_result(!unmap_memory(), "mappings can change after that\n");
	must(unstage_pasid(), "detaching the PASID");
	close(iommufd);
	ksft_finished();
}

int main(void)
{
	int state;

	PAGE_SIZE = sysconf(_SC_PAGE_SIZE);
	BUFFER_SIZE = 64 * PAGE_SIZE;
	/* Whoever waits for "reboot now" may read from a pipe. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	luo = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);
	if (luo < 0)
		ksft_exit_skip("/dev/liveupdate: %s\n", strerror(errno));
	setup_fault_injection();
	state = get_state();
	if (state == LIVEUPDATE_STATE_UPDATED)
		second_run();
	if (state != LIVEUPDATE_STATE_NORMAL)
		ksft_exit_skip("a live update is under way (state %d)\n", state);
	mfd_buffer = memfd_mmap(BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, &mfd);
	if (mfd_buffer == MAP_FAILED)
		ksft_exit_fail_msg("creating a memfd: %s\n", strerror(errno));
	memset(mfd_buffer, 0x5a, BUFFER_SIZE);
	first_run();
	return KSFT_FAIL;
}
