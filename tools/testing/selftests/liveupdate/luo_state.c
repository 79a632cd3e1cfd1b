// SPDX-License-Identifier: GPL-2.0-only

/*
 * The state of the system across a live update, and what happens when one fails.
 *
 * Stage 1 tries to reboot with a file or a subsystem that fails to prepare or to
 * freeze, looks how that is undone, and leaves a prepared system for the reboot.
 * Stage 2 goes from UPDATED to NORMAL, with files and sessions that refuse.
 *
 * Needs CONFIG_LIVEUPDATE_SUBSYSTEM_TEST. What "f1:freeze" and the like mean is told
 * in lib/tests/liveupdate_subsystem.c.
 */

#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libliveupdate.h>

#define STATE_SESSION "luo_state_tracking"
#define STATE_TOKEN 999

#define USER_SESSION "luo_state_user"
#define USER_MEMFD_TOKEN 1
#define USER_FILE_TOKEN 2

/* One page, less a header of 16 bytes, of entries of 80 bytes */
#define SESSIONS_PER_BLOCK ((getpagesize() - 16) / 80)

/* Without a session */
#define MEMFD_TOKEN 0x11
#define FILE1_TOKEN 0x12
#define FILE2_TOKEN 0x13

#define KERNEL_TOKEN 0x14

#define MEMFD_DATA "what no session held"

/* Where init.c has it in stage 1 */
#define KERNEL "/kernel"

static char buf[LUO_FACILITY_SIZE];

/* The calls when nothing fails */
#define PREPARE_SUBSYSTEMS	"a:prepare b:prepare "
#define CANCEL_SUBSYSTEMS	"b:cancel a:cancel "
#define FREEZE_FILES		"f1:freeze f2:freeze f3:freeze "
#define UNFREEZE_FILES		"f3:unfreeze f2:unfreeze f1:unfreeze "
#define FAIL_FREEZE_SUBSYSTEMS	"a:freeze b:freeze a:unfreeze "
#define CAN_FINISH_FILES	"f1:can_finish f2:can_finish "
#define FINISH_PREPARE_FILES	"f1:finish_prepare f2:finish_prepare "

#define CHECK(_expr, _expected)	check(__LINE__, #_expr, _expr, _expected)
#define CHECK_CALLS(_expected)	check_calls(__LINE__, _expected)

static void check(int line, const char *expr, long value, long expected)
{
	if (value != expected)
		fail_exit("line %d: %s is %ld instead of %ld", line, expr, value, expected);
}

static void check_calls(int line, const char *expected)
{
	CHECK(luo_facility_read("calls", buf, sizeof(buf)), 0);
	if (strcmp(buf, expected))
		fail_exit("line %d: calls are '%s' instead of '%s'", line, buf, expected);
	CHECK(luo_facility_write("calls", "\n"), 0);
}

static void check_text(const char *name, const char *expected)
{
	CHECK(luo_facility_read(name, buf, sizeof(buf)), 0);
	if (strcmp(buf, expected))
		fail_exit("%s is '%s' instead of '%s'", name, buf, expected);
}

static void fail_next(const char *what)
{
	CHECK(luo_facility_write("fail", what), 0);
}

static long try_reboot(void)
{
	return reboot(RB_KEXEC) ? -errno : 0;
}

/* A process that sees the state become FROZEN, in one second. */
static pid_t fork_watcher(int luo_fd)
{
	pid_t pid = fork();
	int i;

	if (pid < 0)
		fail_exit("fork");
	if (pid)
		return pid;

	for (i = 0; i < 1000; i++) {
		if (luo_get_state(luo_fd) == LIVEUPDATE_STATE_FROZEN)
			_exit(0);
		usleep(1000);
	}
	_exit(1);
}

static void preserve_memfd(int luo_fd)
{
	int fd = memfd_create("luo_state", 0);

	if (fd < 0)
		fail_exit("memfd_create");
	if (write(fd, MEMFD_DATA, sizeof(MEMFD_DATA)) != sizeof(MEMFD_DATA))
		fail_exit("write to the memfd");
	CHECK(luo_fd_preserve(luo_fd, fd, MEMFD_TOKEN), 0);
	close(fd);
}

static void copy(int from, int to)
{
	ssize_t len;

	while ((len = read(from, buf, sizeof(buf))) > 0) {
		if (write(to, buf, len) != len)
			fail_exit("write");
	}
	if (len < 0)
		fail_exit("read");
}

/* Stage 2 needs a kernel to try a reboot with. */
static void preserve_kernel(int luo_fd)
{
	int kernel = open(KERNEL, O_RDONLY);
	int fd = memfd_create("luo_state_kernel", 0);

	if (kernel < 0 || fd < 0)
		fail_exit("open the kernel, or a memfd for it");
	copy(kernel, fd);
	CHECK(luo_fd_preserve(luo_fd, fd, KERNEL_TOKEN), 0);
	close(kernel);
	close(fd);
}

static void load_preserved_kernel(int luo_fd)
{
	int fd, kernel;

	fd = luo_fd_restore(luo_fd, KERNEL_TOKEN);
	if (fd < 0)
		fail_exit("restore of the kernel");
	CHECK(lseek(fd, 0, SEEK_SET), 0);
	kernel = open(KERNEL, O_RDWR | O_CREAT, 0600);
	if (kernel < 0)
		fail_exit("create %s", KERNEL);
	copy(fd, kernel);
	close(kernel);
	close(fd);

	kernel = open(KERNEL, O_RDONLY);
	if (syscall(__NR_kexec_file_load, kernel, -1, 1UL, "",
		    (unsigned long)KEXEC_FILE_NO_INITRAMFS))
		fail_exit("kexec_file_load");
	close(kernel);
}

static void preserve_file(int luo_fd, int id, int token)
{
	int fd = luo_facility_open_file(id);

	if (fd < 0)
		ksft_exit_skip("no CONFIG_LIVEUPDATE_SUBSYSTEM_TEST, or no debugfs\n");
	CHECK(luo_fd_preserve(luo_fd, fd, token), 0);
	close(fd);
}

static void create_user_session(int luo_fd)
{
	int fd = luo_facility_open_file(3);
	int session;

	session = luo_create_session(luo_fd, USER_SESSION);
	if (session < 0)
		fail_exit("luo_create_session");
	CHECK(create_and_preserve_memfd(session, USER_MEMFD_TOKEN, "session"), 0);
	CHECK(luo_session_preserve_fd(session, fd, USER_FILE_TOKEN), 0);
	close(fd);
	/* The session stays open until the reboot. */
}

/*
 * As many sessions as fit into one block for the next kernel, and one that fails.
 * They hold no file, so the next kernel has nothing to finish for them.
 */
static void create_empty_sessions(int luo_fd)
{
	int have = 3; /* the state's, the user's and the kernel's */
	char name[32];
	int i;

	for (i = have; i < SESSIONS_PER_BLOCK; i++) {
		snprintf(name, sizeof(name), "luo_state_empty_%d", i);
		if (luo_create_session(luo_fd, name) < 0)
			fail_exit("luo_create_session");
	}
	CHECK(luo_create_session(luo_fd, name), -EEXIST);
}

static void fail_when_prepared(int luo_fd)
{
	pid_t watcher;
	int status;

	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	CHECK_CALLS(PREPARE_SUBSYSTEMS);

	ksft_print_msg("[STAGE 1] A file fails to freeze...\n");
	fail_next("f2:freeze -33");
	CHECK(try_reboot(), -EDOM);
	CHECK_CALLS("f1:freeze f2:freeze f1:unfreeze ");
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_PREPARED);

	ksft_print_msg("[STAGE 1] A subsystem fails to freeze...\n");
	/* What it would hand over is not what it gets back when it is cancelled. */
	CHECK(luo_facility_write("data_a", "0x3333"), 0);
	fail_next("b:freeze -33 500");
	watcher = fork_watcher(luo_fd);
	CHECK(try_reboot(), -EDOM);
	CHECK_CALLS(FREEZE_FILES FAIL_FREEZE_SUBSYSTEMS UNFREEZE_FILES);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_PREPARED);
	CHECK(waitpid(watcher, &status, 0), watcher);
	CHECK(status, 0);

	ksft_print_msg("[STAGE 1] Everything works on...\n");
	CHECK(luo_fd_unpreserve(luo_fd, FILE2_TOKEN), 0);
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_NORMAL);
	preserve_file(luo_fd, 2, FILE2_TOKEN);
	CHECK_CALLS("f2:unpreserve " CANCEL_SUBSYSTEMS "f2:preserve ");
}

static void fail_when_not_prepared(int luo_fd)
{
	ksft_print_msg("[STAGE 1] A subsystem fails to prepare for the reboot...\n");
	fail_next("b:prepare -33");
	CHECK(try_reboot(), -EDOM);
	CHECK_CALLS("a:prepare b:prepare a:cancel ");
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_NORMAL);

	ksft_print_msg("[STAGE 1] A file fails to freeze...\n");
	fail_next("f1:freeze -33");
	CHECK(try_reboot(), -EDOM);
	CHECK_CALLS(PREPARE_SUBSYSTEMS "f1:freeze " CANCEL_SUBSYSTEMS);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_NORMAL);

	ksft_print_msg("[STAGE 1] A subsystem fails to freeze...\n");
	fail_next("b:freeze -33");
	CHECK(try_reboot(), -EDOM);
	CHECK_CALLS(PREPARE_SUBSYSTEMS FREEZE_FILES FAIL_FREEZE_SUBSYSTEMS UNFREEZE_FILES
		    CANCEL_SUBSYSTEMS);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_NORMAL);
	fail_next("\n");
}

static void run_stage_1(int luo_fd)
{
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_NORMAL);

	create_state_file(luo_fd, STATE_SESSION, STATE_TOKEN, 2);
	preserve_memfd(luo_fd);
	preserve_file(luo_fd, 1, FILE1_TOKEN);
	preserve_file(luo_fd, 2, FILE2_TOKEN);
	preserve_kernel(luo_fd);
	create_user_session(luo_fd);
	create_empty_sessions(luo_fd);
	CHECK_CALLS("flb:preserve f1:preserve f2:preserve f3:preserve ");

	fail_when_prepared(luo_fd);
	fail_when_not_prepared(luo_fd);

	ksft_print_msg("[STAGE 1] Freeze changes what prepare has set...\n");
	CHECK(luo_facility_write("data_a", "0"), 0);
	CHECK(luo_facility_write("data_b", "0x2222"), 0);
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	CHECK(luo_facility_write("data_a", "0x1111"), 0);
	CHECK(luo_facility_write("data_b", "0"), 0);

	close(luo_fd);
	daemonize_and_wait();
}

static void look_around(int luo_fd)
{
	ksft_print_msg("[STAGE 2] The state is UPDATED...\n");
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_UPDATED);
	check_text("incoming_early", "a 0 0x1111\nb -2 0x0\n");
	check_text("incoming", "a 0 0x1111\nb -2 0x0\n");
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_PREPARE, 0), -EBUSY);
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_CANCEL, 0), -ESRCH);
	CHECK(luo_retrieve_session(luo_fd, LIVEUPDATE_SESSION_KERNEL_NAME), -EPERM);
}

static void restore_without_handler(int luo_fd)
{
	char data[sizeof(MEMFD_DATA)] = {};
	int fd;

	ksft_print_msg("[STAGE 2] A handler that comes late...\n");
	CHECK(luo_facility_write("register", "-f"), 0);
	CHECK(luo_fd_restore(luo_fd, FILE1_TOKEN), -ENODEV);
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_FINISH, 0), -ENODEV);

	fd = luo_fd_restore(luo_fd, MEMFD_TOKEN);
	if (fd < 0)
		fail_exit("restore of the memfd");
	CHECK(lseek(fd, 0, SEEK_SET), 0);
	CHECK(read(fd, data, sizeof(data)), sizeof(data));
	CHECK(strcmp(data, MEMFD_DATA), 0);
	close(fd);

	CHECK(luo_facility_write("register", "+f"), 0);
	fd = luo_fd_restore(luo_fd, FILE1_TOKEN);
	if (fd < 0)
		fail_exit("restore of file 1");
	CHECK(read(fd, data, sizeof(data)), 2);
	CHECK(data[0], '1');
	close(fd);
	CHECK_CALLS("f1:retrieve ");
	/* Once more is the same file. */
	fd = luo_fd_restore(luo_fd, FILE1_TOKEN);
	if (fd < 0)
		fail_exit("restore of file 1");
	close(fd);
	CHECK_CALLS("");
	CHECK(luo_fd_restore(luo_fd, USER_FILE_TOKEN), -ENOENT);
}

static void update_again_too_early(int luo_fd)
{
	ksft_print_msg("[STAGE 2] Another live update has to wait...\n");
	load_preserved_kernel(luo_fd);
	preserve_file(luo_fd, 4, FILE1_TOKEN);
	CHECK(try_reboot(), -EBUSY);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_UPDATED);
	CHECK(luo_fd_unpreserve(luo_fd, FILE1_TOKEN), 0);
	CHECK_CALLS("flb:preserve f4:preserve f4:unpreserve flb:unpreserve ");
}

static void finish_without_session(int luo_fd)
{
	ksft_print_msg("[STAGE 2] FINISH fails as a whole...\n");
	fail_next("f2:can_finish -33");
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_FINISH, 0), -EBUSY);
	CHECK_CALLS(CAN_FINISH_FILES);

	fail_next("f2:finish_prepare -33");
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_FINISH, 0), -EDOM);
	CHECK_CALLS(CAN_FINISH_FILES FINISH_PREPARE_FILES "f1:finish_abort ");
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_UPDATED);

	ksft_print_msg("[STAGE 2] FINISH gives up what refuses...\n");
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_FINISH, LIVEUPDATE_FINISH_ABANDON), 0);
	CHECK_CALLS(CAN_FINISH_FILES FINISH_PREPARE_FILES "f2:abandon flb:retrieve f1:finish ");

	/* Gone, and the other sessions are not finished. */
	CHECK(luo_fd_restore(luo_fd, MEMFD_TOKEN), -ENOENT);
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_FINISH, 0), 0);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_UPDATED);
	CHECK_CALLS("");
}

static void finish_sessions(int luo_fd, int state_session)
{
	int session;

	session = luo_retrieve_session(luo_fd, USER_SESSION);
	if (session < 0)
		fail_exit("luo_retrieve_session");

	ksft_print_msg("[STAGE 2] A session is left...\n");
	CHECK(luo_session_finish(state_session), 0);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_UPDATED);

	ksft_print_msg("[STAGE 2] Closing gives up what refuses to finish...\n");
	fail_next("f3:can_finish -33");
	CHECK(luo_session_finish(session), -EBUSY);
	CHECK_CALLS("f3:can_finish ");
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_UPDATED);
	close(session);
	CHECK_CALLS("f3:can_finish f3:abandon flb:finish a:finish ");

	ksft_print_msg("[STAGE 2] The state is NORMAL...\n");
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_NORMAL);
	CHECK(luo_retrieve_session(luo_fd, USER_SESSION), -ENOENT);
	check_text("incoming", "a -61 0x0\nb -2 0x0\n");
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_FINISH, 0), -ENODATA);
	close(state_session);
	CHECK_CALLS("");
}

static void run_stage_2(int luo_fd, int state_session)
{
	int stage;

	restore_and_read_stage(state_session, STATE_TOKEN, &stage);
	CHECK(stage, 2);

	look_around(luo_fd);
	restore_without_handler(luo_fd);
	update_again_too_early(luo_fd);
	finish_without_session(luo_fd);
	finish_sessions(luo_fd, state_session);

	ksft_print_msg("[STAGE 2] Another live update can begin...\n");
	preserve_file(luo_fd, 1, FILE1_TOKEN);
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_PREPARE, 0), 0);
	CHECK(luo_get_state(luo_fd), LIVEUPDATE_STATE_PREPARED);
	CHECK(luo_set_event(luo_fd, LIVEUPDATE_EVENT_CANCEL, 0), 0);
	CHECK(luo_fd_unpreserve(luo_fd, FILE1_TOKEN), 0);

	ksft_print_msg("\n--- STATE TEST PASSED ---\n");
}

int main(int argc, char *argv[])
{
	return luo_test(argc, argv, STATE_SESSION, run_stage_1, run_stage_2);
}
