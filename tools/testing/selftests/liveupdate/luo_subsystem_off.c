// SPDX-License-Identifier: GPL-2.0-only

/*
 * The next kernel is booted with liveupdate=off: it reads what subsystems handed
 * over all the same. Without a user session, so that the file that is preserved has
 * nobody to hold it when the reboot comes.
 *
 * Needs CONFIG_LIVEUPDATE_SUBSYSTEM_TEST.
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libliveupdate.h>

#define INCOMING "a 0 0x1111\nb 0 0x2222\n"

static void run_stage_1(void)
{
	int luo_fd, memfd, ret;

	luo_fd = luo_open_device();
	if (luo_fd < 0)
		ksft_exit_skip("Failed to open %s\n", LUO_DEVICE);
	if (luo_facility_write("data_a", "0x1111") ||
	    luo_facility_write("data_b", "0x2222"))
		ksft_exit_skip("no CONFIG_LIVEUPDATE_SUBSYSTEM_TEST, or no debugfs\n");

	memfd = memfd_create("luo_subsystem_off", 0);
	if (memfd < 0)
		fail_exit("memfd_create");
	ret = luo_fd_preserve(luo_fd, memfd, 1);
	if (ret)
		fail_exit("luo_fd_preserve: %d", ret);
	ret = luo_load_next_kernel("liveupdate=off");
	if (ret)
		fail_exit("luo_load_next_kernel: %d", ret);
}

static void run_stage_2(void)
{
	char buf[LUO_FACILITY_SIZE];

	if (luo_open_device() >= 0)
		fail_exit("live update is not off");
	if (luo_facility_read("incoming_early", buf, sizeof(buf)))
		fail_exit("read of incoming_early");
	if (strcmp(buf, INCOMING))
		fail_exit("incoming_early is '%s'", buf);
	if (luo_facility_read("incoming", buf, sizeof(buf)))
		fail_exit("read of incoming");
	if (strcmp(buf, INCOMING))
		fail_exit("incoming is '%s'", buf);

	ksft_print_msg("\n--- OFF TEST PASSED ---\n");
}

int main(int argc, char *argv[])
{
	if (argc == 3 && atoi(argv[2]) == 2)
		run_stage_2();
	else
		run_stage_1();

	return 0;
}
