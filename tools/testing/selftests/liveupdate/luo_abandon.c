// SPDX-License-Identifier: GPL-2.0-only

/*
 * A session is closed in the new kernel without having been finished. What it held is
 * given back, or, if a file of it has no handler there, stays where it is, because that
 * file may be what still uses it. In neither case is the session stuck.
 *
 * Needs CONFIG_LIVEUPDATE_SUBSYSTEM_TEST.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libliveupdate.h>

#define STATE_SESSION "luo_abandon_tracking"
#define STATE_TOKEN 999

#define PLAIN_SESSION "luo_abandon_plain"
#define NEEDED_SESSION "luo_abandon_needed"

#define MEMFD_TOKEN 1
#define FILE_TOKEN 2

#define MEMFD_KIB 4096

/* What a kernel needs for itself at the same time. */
#define SLACK_KIB 512

/* Without what is still preserved. */
static long mem_total_kib(void)
{
	char buf[256] = {};
	const char *p = buf + 9;
	int fd;

	fd = open("/proc/meminfo", O_RDONLY);
	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) <= 0)
		fail_exit("/proc/meminfo");
	close(fd);
	if (strncmp(buf, "MemTotal:", 9))
		fail_exit("/proc/meminfo starts with '%s'", buf);

	while (*p == ' ')
		p++;

	return atol(p);
}

static int create_session(int luo_fd, const char *name)
{
	int session, memfd;
	char *mem;

	session = luo_create_session(luo_fd, name);
	if (session < 0)
		fail_exit("luo_create_session");
	memfd = memfd_create("luo_abandon", 0);
	if (memfd < 0 || ftruncate(memfd, MEMFD_KIB * 1024))
		fail_exit("memfd_create");
	mem = mmap(NULL, MEMFD_KIB * 1024, PROT_WRITE, MAP_SHARED, memfd, 0);
	if (mem == MAP_FAILED)
		fail_exit("mmap");
	memset(mem, 0x5a, MEMFD_KIB * 1024);
	munmap(mem, MEMFD_KIB * 1024);
	if (luo_session_preserve_fd(session, memfd, MEMFD_TOKEN))
		fail_exit("luo_session_preserve_fd");
	close(memfd);

	return session;
}

static void run_stage_1(int luo_fd)
{
	int session, fd;

	fd = luo_facility_open_file(1);
	if (fd < 0)
		ksft_exit_skip("no CONFIG_LIVEUPDATE_SUBSYSTEM_TEST, or no debugfs\n");

	create_state_file(luo_fd, STATE_SESSION, STATE_TOKEN, 2);
	create_session(luo_fd, PLAIN_SESSION);
	session = create_session(luo_fd, NEEDED_SESSION);
	if (luo_session_preserve_fd(session, fd, FILE_TOKEN))
		fail_exit("luo_session_preserve_fd of the facility's file");

	close(luo_fd);
	daemonize_and_wait();
}

/* Returns how much memory came back. */
static long close_session(int luo_fd, const char *name, int finish_err)
{
	long before;
	int session;

	session = luo_retrieve_session(luo_fd, name);
	if (session < 0)
		fail_exit("luo_retrieve_session of %s", name);
	if (finish_err && luo_session_finish(session) != finish_err)
		fail_exit("finish of %s did not fail with %d", name, finish_err);
	before = mem_total_kib();
	close(session);
	if (luo_retrieve_session(luo_fd, name) != -ENOENT)
		fail_exit("%s is still there after it was closed", name);

	return mem_total_kib() - before;
}

static void run_stage_2(int luo_fd, int state_session)
{
	char buf[LUO_FACILITY_SIZE];
	long kib;
	int stage;

	restore_and_read_stage(state_session, STATE_TOKEN, &stage);
	if (stage != 2)
		fail_exit("Expected stage 2, but state file contains %d", stage);
	if (luo_facility_write("register", "-f"))
		fail_exit("unregistering the handler");

	kib = close_session(luo_fd, PLAIN_SESSION, 0);
	if (kib < MEMFD_KIB || kib > MEMFD_KIB + SLACK_KIB)
		fail_exit("%ld KiB came back with a session of %d", kib, MEMFD_KIB);

	kib = close_session(luo_fd, NEEDED_SESSION, -ENODEV);
	if (kib < -SLACK_KIB || kib > SLACK_KIB)
		fail_exit("%ld KiB came back with a session that may be in use", kib);
	if (luo_facility_read("calls", buf, sizeof(buf)))
		fail_exit("read of calls");
	if (buf[0])
		fail_exit("calls are '%s'", buf);

	if (luo_get_state(luo_fd) != LIVEUPDATE_STATE_UPDATED)
		fail_exit("state is not UPDATED while a session is left");
	if (luo_session_finish(state_session))
		fail_exit("luo_session_finish");
	if (luo_get_state(luo_fd) != LIVEUPDATE_STATE_NORMAL)
		fail_exit("state is not NORMAL");

	ksft_print_msg("\n--- ABANDON TEST PASSED ---\n");
}

int main(int argc, char *argv[])
{
	return luo_test(argc, argv, STATE_SESSION, run_stage_1, run_stage_2);
}
