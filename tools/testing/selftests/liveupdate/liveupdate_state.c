// SPDX-License-Identifier: GPL-2.0

/*
 * Selftests for the ioctls of /dev/liveupdate that need no session, and for the
 * state of the system. This is what can be tested without a reboot; luo_state.c has
 * the rest.
 *
 * Tests that look at subsystems, or at files that depend on each other, need
 * CONFIG_LIVEUPDATE_SUBSYSTEM_TEST and debugfs, and are skipped without them.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libliveupdate.h>
#include <linux/liveupdate.h>

#include "../kselftest.h"
#include "../kselftest_harness.h"

#define TOKEN_A 0xa
#define TOKEN_B 0xb
#define TOKEN_C 0xc

FIXTURE(device) {
	int luo;
	int memfd;
};

FIXTURE_SETUP(device)
{
	self->memfd = -1;
	self->luo = luo_open_device();
	if (self->luo < 0 && errno == ENOENT)
		SKIP(return, "%s does not exist", LUO_DEVICE);
	ASSERT_GE(self->luo, 0);
	ASSERT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);

	self->memfd = memfd_create("liveupdate_state", 0);
	ASSERT_GE(self->memfd, 0);
	ASSERT_EQ(ftruncate(self->memfd, getpagesize()), 0);
}

/* A failed test must not leave anything to the next one. */
FIXTURE_TEARDOWN(device)
{
	luo_facility_write("fail", "\n");
	luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0);
	luo_fd_unpreserve(self->luo, TOKEN_C);
	luo_fd_unpreserve(self->luo, TOKEN_B);
	luo_fd_unpreserve(self->luo, TOKEN_A);
	close(self->memfd);
	close(self->luo);
}

TEST_F(device, preserve_and_unpreserve_without_a_session)
{
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);
	ASSERT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
}

TEST_F(device, a_token_is_used_once)
{
	int other = memfd_create("other", 0);

	ASSERT_GE(other, 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, other, TOKEN_A), -EEXIST);
	EXPECT_EQ(luo_fd_preserve(self->luo, other, TOKEN_B), 0);
	close(other);
}

TEST_F(device, a_file_is_preserved_once)
{
	int session = luo_create_session(self->luo, "once");

	ASSERT_GE(session, 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_B), -EBUSY);
	EXPECT_EQ(luo_session_preserve_fd(session, self->memfd, TOKEN_B), -EBUSY);
	ASSERT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
	EXPECT_EQ(luo_session_preserve_fd(session, self->memfd, TOKEN_B), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), -EBUSY);
	close(session);
}

TEST_F(device, tokens_of_sessions_are_apart)
{
	int session = luo_create_session(self->luo, "apart");
	int other = memfd_create("other", 0);

	ASSERT_GE(session, 0);
	ASSERT_GE(other, 0);
	ASSERT_EQ(luo_session_preserve_fd(session, other, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), -ENOENT);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	close(other);
	close(session);
}

TEST_F(device, unknown_tokens_are_refused)
{
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), -ENOENT);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_B), -ENOENT);
	/* What is preserved here is for the next kernel, not for this one. */
	EXPECT_EQ(luo_fd_restore(self->luo, TOKEN_A), -ENOENT);
}

TEST_F(device, bad_fds_are_refused)
{
	int null = open("/dev/null", O_RDWR);

	ASSERT_GE(null, 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, -1, TOKEN_A), -EBADF);
	EXPECT_EQ(luo_fd_preserve(self->luo, 12345, TOKEN_A), -EBADF);
	EXPECT_EQ(luo_fd_preserve(self->luo, null, TOKEN_A), -ENOENT);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->luo, TOKEN_A), -ENOENT);
	/* Nothing of that has used up the token. */
	EXPECT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	close(null);
}

TEST_F(device, preserved_files_outlive_the_process)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(luo_fd_preserve(self->luo, self->memfd, TOKEN_A) ? 1 : 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);

	close(self->memfd);
	close(self->luo);
	self->luo = luo_open_device();
	ASSERT_GE(self->luo, 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
}

TEST_F(device, the_kernels_session_is_not_for_users)
{
	EXPECT_EQ(luo_create_session(self->luo, LIVEUPDATE_SESSION_KERNEL_NAME), -EPERM);
	EXPECT_EQ(luo_retrieve_session(self->luo, LIVEUPDATE_SESSION_KERNEL_NAME), -EPERM);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	EXPECT_EQ(luo_create_session(self->luo, LIVEUPDATE_SESSION_KERNEL_NAME), -EPERM);
}

TEST_F(device, reserved_fields_must_be_zero)
{
	struct liveupdate_ioctl_fd_unpreserve unpreserve = {
		.size = sizeof(unpreserve),
		.reserved = 1,
		.token = TOKEN_A,
	};
	struct liveupdate_ioctl_set_event event = {
		.size = sizeof(event),
		.event = LIVEUPDATE_EVENT_PREPARE,
		.reserved = 1,
	};

	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	EXPECT_EQ(ioctl(self->luo, LIVEUPDATE_IOCTL_FD_UNPRESERVE, &unpreserve), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(ioctl(self->luo, LIVEUPDATE_IOCTL_SET_EVENT, &event), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);
}

TEST_F(device, unknown_events_and_flags_are_refused)
{
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_FREEZE, 0), -EOPNOTSUPP);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL + 1, 0), -EOPNOTSUPP);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_FINISH, 1 << 1), -EOPNOTSUPP);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 1 << 31), -EOPNOTSUPP);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, LIVEUPDATE_FINISH_ABANDON),
		  -EINVAL);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, LIVEUPDATE_FINISH_ABANDON),
		  -EINVAL);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);
}

/* What each ioctl says when its arguments are all 0. */
static const struct {
	unsigned long cmd;
	__u32 size;
	int err;
} luo_ioctls[] = {
	{ LIVEUPDATE_IOCTL_FD_PRESERVE,
	  sizeof(struct liveupdate_ioctl_fd_preserve), ENOENT },
	{ LIVEUPDATE_IOCTL_FD_UNPRESERVE,
	  sizeof(struct liveupdate_ioctl_fd_unpreserve), ENOENT },
	{ LIVEUPDATE_IOCTL_FD_RESTORE,
	  sizeof(struct liveupdate_ioctl_fd_restore), ENOENT },
	{ LIVEUPDATE_IOCTL_GET_STATE,
	  sizeof(struct liveupdate_ioctl_get_state), 0 },
	{ LIVEUPDATE_IOCTL_SET_EVENT,
	  sizeof(struct liveupdate_ioctl_set_event), 0 },
	{ LIVEUPDATE_IOCTL_CHECK_IMAGE,
	  sizeof(struct liveupdate_ioctl_check_image), ENOENT },
};

TEST_F(device, structures_may_grow_and_not_shrink)
{
	union {
		__u32 size;
		__u64 space[16];
	} arg;
	int null, ret;
	size_t i;

	/* 0 is a valid fd, of a type that is never preserved. */
	null = open("/dev/null", O_RDWR);
	ASSERT_GE(null, 0);
	ASSERT_EQ(dup2(null, 0), 0);

	for (i = 0; i < ARRAY_SIZE(luo_ioctls); i++) {
		TH_LOG("ioctl %zu", i);

		memset(&arg, 0, sizeof(arg));
		arg.size = luo_ioctls[i].size - 4;
		EXPECT_EQ(ioctl(self->luo, luo_ioctls[i].cmd, &arg), -1);
		EXPECT_EQ(errno, EINVAL);

		memset(&arg, 0, sizeof(arg));
		arg.size = luo_ioctls[i].size + 8;
		ret = ioctl(self->luo, luo_ioctls[i].cmd, &arg);
		EXPECT_EQ(ret ? errno : 0, luo_ioctls[i].err);
		luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0);

		memset(&arg, 0, sizeof(arg));
		arg.size = luo_ioctls[i].size + 8;
		((__u8 *)&arg)[arg.size - 1] = 1;
		EXPECT_EQ(ioctl(self->luo, luo_ioctls[i].cmd, &arg), -1);
		EXPECT_EQ(errno, E2BIG);
		EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);

		EXPECT_EQ(ioctl(self->luo, luo_ioctls[i].cmd, NULL), -1);
		EXPECT_EQ(errno, EFAULT);
	}

	close(null);
}

TEST_F(device, prepare_leads_to_prepared_and_cancel_back)
{
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_PREPARED);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);
	/* The file is still preserved. */
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
}

/* luo_no_kho.c loads one that would not do. */
TEST_F(device, prepare_needs_no_image)
{
	EXPECT_EQ(luo_check_image(self->luo), -ENOENT);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_EQ(luo_check_image(self->luo), -ENOENT);
}

TEST_F(device, events_are_refused_in_the_wrong_state)
{
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), -ESRCH);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_FINISH, 0), -ENODATA);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_FINISH, LIVEUPDATE_FINISH_ABANDON),
		  -ENODATA);

	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), -EALREADY);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_FINISH, 0), -ENODATA);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_FREEZE, 0), -EOPNOTSUPP);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_PREPARED);

	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), -ESRCH);
}

TEST_F(device, nothing_is_preserved_while_prepared)
{
	int session = luo_create_session(self->luo, "prepared");

	ASSERT_GE(session, 0);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), -EBUSY);
	EXPECT_EQ(luo_session_preserve_fd(session, self->memfd, TOKEN_A), -EBUSY);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	EXPECT_EQ(luo_session_preserve_fd(session, self->memfd, TOKEN_A), 0);
	close(session);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
}

TEST_F(device, holders_can_leave_while_prepared)
{
	int session = luo_create_session(self->luo, "leaving");
	int other = memfd_create("other", 0);

	ASSERT_GE(session, 0);
	ASSERT_GE(other, 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	ASSERT_EQ(luo_session_preserve_fd(session, other, TOKEN_A), 0);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
	close(session);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_PREPARED);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	/* Both are gone. */
	EXPECT_EQ(luo_fd_preserve(self->luo, self->memfd, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, other, TOKEN_B), 0);
	close(other);
}

TEST_F(device, prepared_outlives_the_device_fd)
{
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	close(self->luo);
	self->luo = luo_open_device();
	ASSERT_GE(self->luo, 0);
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_PREPARED);
}

/* With the test facility */

FIXTURE(facility) {
	int luo;
	int file_a;
	int file_b;
	char calls[LUO_FACILITY_SIZE];
};

FIXTURE_SETUP(facility)
{
	self->luo = -1;
	self->file_a = luo_facility_open_file(1);
	if (self->file_a == -ENOENT)
		SKIP(return, "no CONFIG_LIVEUPDATE_SUBSYSTEM_TEST, or no debugfs");
	ASSERT_GE(self->file_a, 0);
	self->file_b = luo_facility_open_file(2);
	ASSERT_GE(self->file_b, 0);

	self->luo = luo_open_device();
	if (self->luo < 0 && errno == ENOENT)
		SKIP(return, "%s does not exist", LUO_DEVICE);
	ASSERT_GE(self->luo, 0);
	ASSERT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);
	ASSERT_EQ(luo_facility_write("calls", "\n"), 0);
}

FIXTURE_TEARDOWN(facility)
{
	if (self->luo < 0)
		return;

	luo_facility_write("fail", "\n");
	luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0);
	luo_fd_unpreserve(self->luo, TOKEN_C);
	luo_fd_unpreserve(self->luo, TOKEN_B);
	luo_fd_unpreserve(self->luo, TOKEN_A);
	close(self->file_a);
	close(self->file_b);
	close(self->luo);
}

#define EXPECT_CALLS(_calls) do {						\
	ASSERT_EQ(luo_facility_read("calls", self->calls, sizeof(self->calls)), 0);	\
	EXPECT_STREQ(self->calls, _calls);					\
	ASSERT_EQ(luo_facility_write("calls", "\n"), 0);			\
} while (0)

#define PRESERVE_FILES		"f1:preserve f2:preserve "
#define UNPRESERVE_FILES	"f2:unpreserve f1:unpreserve "

static int make_dependent(int fd, int needed)
{
	char line[32];

	snprintf(line, sizeof(line), "require %d", needed);

	return write(fd, line, strlen(line)) < 0 ? -errno : 0;
}

TEST_F(facility, subsystems_are_prepared_in_order_and_cancelled_in_reverse)
{
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_CALLS("a:prepare b:prepare ");
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	EXPECT_CALLS("b:cancel a:cancel ");
}

TEST_F(facility, a_failed_prepare_changes_nothing)
{
	ASSERT_EQ(luo_facility_write("fail", "b:prepare -33"), 0);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), -EDOM);
	EXPECT_CALLS("a:prepare b:prepare a:cancel ");
	EXPECT_EQ(luo_get_state(self->luo), LIVEUPDATE_STATE_NORMAL);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), -ESRCH);

	ASSERT_EQ(luo_facility_write("fail", "\n"), 0);
	EXPECT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
}

TEST_F(facility, a_name_is_registered_once)
{
	EXPECT_EQ(luo_facility_write("register", "+b"), -EEXIST);
	ASSERT_EQ(luo_facility_write("register", "-b"), 0);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_CALLS("a:prepare ");
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	EXPECT_EQ(luo_facility_write("register", "+b"), 0);
}

TEST_F(facility, nobody_joins_when_prepared)
{
	ASSERT_EQ(luo_facility_write("register", "-b"), 0);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	EXPECT_EQ(luo_facility_write("register", "+b"), -EBUSY);
	ASSERT_EQ(luo_set_event(self->luo, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	EXPECT_EQ(luo_facility_write("register", "+b"), 0);
}

TEST_F(facility, nothing_was_handed_over_to_this_kernel)
{
	ASSERT_EQ(luo_facility_read("incoming", self->calls, sizeof(self->calls)), 0);
	EXPECT_STREQ(self->calls, "a -2 0x0\nb -2 0x0\n");
}

TEST_F(facility, a_needed_file_stays_preserved)
{
	ASSERT_EQ(make_dependent(self->file_b, self->file_a), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->file_a, TOKEN_A), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->file_b, TOKEN_B), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), -EBUSY);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_B), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
	EXPECT_CALLS("flb:preserve " PRESERVE_FILES UNPRESERVE_FILES "flb:unpreserve ");
}

TEST_F(facility, a_needed_file_must_be_preserved_before)
{
	ASSERT_EQ(make_dependent(self->file_b, self->file_a), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->file_b, TOKEN_B), -ENOENT);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->file_a, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->file_b, TOKEN_B), 0);
}

TEST_F(facility, a_needed_file_must_be_in_the_same_session)
{
	int session = luo_create_session(self->luo, "elsewhere");

	ASSERT_GE(session, 0);
	ASSERT_EQ(make_dependent(self->file_b, self->file_a), 0);
	ASSERT_EQ(luo_session_preserve_fd(session, self->file_a, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->file_b, TOKEN_B), -ENOENT);
	EXPECT_EQ(luo_session_preserve_fd(session, self->file_b, TOKEN_B), 0);
	/* Closing takes them in the right order. */
	ASSERT_EQ(luo_facility_write("calls", "\n"), 0);
	close(session);
	EXPECT_CALLS(UNPRESERVE_FILES "flb:unpreserve ");
}

TEST_F(facility, a_memfd_is_needed_whatever_fd_it_is_known_by)
{
	int memfd = memfd_create("needed", 0);
	char path[64];
	int again;

	ASSERT_GE(memfd, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	again = open(path, O_RDWR);
	ASSERT_GE(again, 0);

	ASSERT_EQ(make_dependent(self->file_b, again), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, memfd, TOKEN_A), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->file_b, TOKEN_B), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), -EBUSY);
	close(memfd);
	close(again);
}

TEST_F(facility, a_failed_preserve_needs_nothing)
{
	ASSERT_EQ(make_dependent(self->file_b, self->file_a), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->file_a, TOKEN_A), 0);
	ASSERT_EQ(luo_facility_write("fail", "f2:preserve -33"), 0);
	EXPECT_EQ(luo_fd_preserve(self->luo, self->file_b, TOKEN_B), -EDOM);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
}

TEST_F(facility, any_file_of_many_can_be_unpreserved)
{
	int memfd = memfd_create("third", 0);

	ASSERT_GE(memfd, 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->file_a, TOKEN_A), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, self->file_b, TOKEN_B), 0);
	ASSERT_EQ(luo_fd_preserve(self->luo, memfd, TOKEN_C), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_B), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), 0);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_A), -ENOENT);
	EXPECT_EQ(luo_fd_unpreserve(self->luo, TOKEN_C), 0);
	close(memfd);
}

TEST_HARNESS_MAIN
