// SPDX-License-Identifier: GPL-2.0-only

/*
 * What subsystems handed over arrives damaged: the new kernel boots, tells those
 * who ask, and sessions are not concerned.
 *
 * Needs CONFIG_LIVEUPDATE_SUBSYSTEM_TEST.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <libliveupdate.h>

#define STATE_SESSION "luo_damage_tracking"
#define STATE_TOKEN 999

/* The errno of liveupdate_subsystem_get_incoming() is -EBADMSG. */
#define INCOMING "a -74 0x0\nb -74 0x0\n"

static void run_stage_1(int luo_fd)
{
	if (luo_facility_write("data_a", "0x1111"))
		ksft_exit_skip("no CONFIG_LIVEUPDATE_SUBSYSTEM_TEST, or no debugfs\n");
	if (luo_facility_write("corrupt", "1"))
		fail_exit("write to corrupt");

	create_state_file(luo_fd, STATE_SESSION, STATE_TOKEN, 2);

	close(luo_fd);
	daemonize_and_wait();
}

static void run_stage_2(int luo_fd, int state_session)
{
	char buf[LUO_FACILITY_SIZE];
	int stage;

	restore_and_read_stage(state_session, STATE_TOKEN, &stage);
	if (stage != 2)
		fail_exit("Expected stage 2, but state file contains %d", stage);

	if (luo_facility_read("incoming_early", buf, sizeof(buf)))
		fail_exit("read of incoming_early");
	if (strcmp(buf, INCOMING))
		fail_exit("incoming_early is '%s'", buf);

	if (luo_get_state(luo_fd) != LIVEUPDATE_STATE_UPDATED)
		fail_exit("state is not UPDATED");
	if (luo_session_finish(state_session))
		fail_exit("luo_session_finish");
	if (luo_get_state(luo_fd) != LIVEUPDATE_STATE_NORMAL)
		fail_exit("state is not NORMAL");

	/* Nobody was called to finish what could not be trusted. */
	if (luo_facility_read("calls", buf, sizeof(buf)))
		fail_exit("read of calls");
	if (buf[0])
		fail_exit("calls are '%s'", buf);

	ksft_print_msg("\n--- DAMAGE TEST PASSED ---\n");
}

int main(int argc, char *argv[])
{
	return luo_test(argc, argv, STATE_SESSION, run_stage_1, run_stage_2);
}
