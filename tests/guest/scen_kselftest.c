// SPDX-License-Identifier: GPL-2.0
/*
 * The kselftest of the workflow, run as a user runs it: once in each kernel, with
 * the device's name as its argument. ilu.mock=1: the one with mock devices, which
 * lets each allocation fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define PROGRAM "/iommufd_liveupdate"
#define MOCK_PROGRAM "/iommufd_liveupdate_fail_nth"

struct run {
	pid_t pid;
	FILE *out;
};

static void start(struct run *run, bool session, bool reboots, bool mock)
{
	char *args[5] = { mock ? MOCK_PROGRAM : PROGRAM }, **arg = args;
	int out[2];

	if (session)
		*++arg = "-s";
	if (reboots)
		*++arg = "-k";
	if (!mock)
		*++arg = DEV_BDF;

	if (access(args[0], X_OK))
		give_up("%s is not in the initramfs", args[0]);
	if (pipe(out))
		give_up("pipe: %s", strerror(errno));
	run->pid = fork();
	if (run->pid < 0)
		give_up("fork: %s", strerror(errno));
	if (!run->pid) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		execv(args[0], args);
		_exit(127);
	}
	close(out[1]);
	run->out = fdopen(out[0], "r");
}

/*
 * Shows its output until a line that has @until (or the end); true if it came. A
 * check that failed or was skipped is a broken promise, whatever the exit status.
 */
static bool follow(struct run *run, const char *until)
{
	char text[512];

	while (fgets(text, sizeof(text), run->out)) {
		text[strcspn(text, "\n")] = '\0';
		say("vmm", "%s", text);
		if (strstr(text, "not ok ") || strstr(text, "# SKIP"))
			verdict(false, "each of its checks passes", "%s", text);
		if (until && strstr(text, until))
			return true;
	}
	return false;
}

static int exit_status(struct run *run)
{
	int status;

	waitpid(run->pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void scen_kselftest(int stage)
{
	bool reboots = param_nr("reboot", 0), mock = param_nr("mock", 0);
	struct run run;
	int status;

	if (!mock && bind_driver(DEV_BDF, "vfio-pci") && stage == 1)
		give_up("binding vfio-pci");
	if (stage == 1 && reboots && load_next_kernel(2, NULL))
		give_up("kexec_file_load");
	start(&run, !strcmp(param("api", "direct"), "session"),
	      stage == 1 && reboots, mock);
	if (stage == 1) {
		if (follow(&run, reboots ? NULL : "reboot now"))
			jump(2, NULL);
		verdict(false, "the first run preserves and gets to the reboot",
			"it ended with status %d", exit_status(&run));
		return;
	}
	follow(&run, NULL);
	status = exit_status(&run);
	verdict(!status,
		"the second run finds and finishes what the first preserved",
		"exit status %d", status);
}
