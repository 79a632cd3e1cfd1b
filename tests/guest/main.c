// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1: mounts what the agent reads, runs the stage, ends the scenario. Started by
 * the kernel in the place of modprobe it loads modules instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

static const struct scenario scenarios[] = {
	{ "both", scen_both },
	{ "smoke", scen_smoke },
	{ "cycle", scen_cycle },
	{ "cancel", scen_cancel },
	{ "refuse", scen_refuse },
	{ "owned", scen_owned },
	{ "killed", scen_killed },
	{ "freeze", scen_freeze },
	{ "options", scen_options },
	{ "image", scen_image },
	{ "damaged", scen_damaged },
	{ "kselftest", scen_kselftest },
	{ "faults", scen_faults },
	{ "emptied", scen_emptied },
	{ "takeover", scen_takeover },
	{ "unfit", scen_unfit },
	{ "many", scen_many },
	{ "frames", scen_frames },
	{ "bench", scen_bench },
	{ "ats", scen_ats },
	{ "pasid", scen_pasid },
	{ "kdump", scen_kdump },
	{ "damage", scen_damage },
	{ "soak", scen_soak },
	{ "misuse", scen_misuse },
	{ "removed", scen_removed },
	{ "reset", scen_reset },
	{ "stress", scen_stress },
	{ "fuzz", scen_fuzz },
	{ "collapse", scen_collapse },
};

static void mount_all(void)
{
	static const struct {
		const char *type, *dir;
	} fs[] = {
		{ "devtmpfs", "/dev" },
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "debugfs", "/sys/kernel/debug" },
		{ "tmpfs", "/tmp" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fs); i++) {
		mkdir(fs[i].dir, 0755);
		if (mount(fs[i].type, fs[i].dir, fs[i].type, 0, NULL) && errno != EBUSY)
			dprintf(1, "agent: mounting %s: %s\n", fs[i].dir, strerror(errno));
	}
}

/*
 * The last transfer of a run is one that must fault. In QEMU's trace it marks
 * where the test ends (power off turns translation off, rightly), and it shows
 * that translation was still on there.
 */
static void mark_end(void)
{
	struct edu other;

	log_mark();
	unbind_driver(OTHER_BDF);
	edu_open_raw(&other, OTHER_BDF);
	edu_write(&other, 0, END_MARK_IOVA, 8);
	edu_close_raw(&other);
}

static void __attribute__((noreturn)) end_of_scenario(void)
{
	const char *complaint = log_complaint();

	context(NULL);
	verdict(!complaint, "the kernel's log has no warning", "%s",
		complaint);
	mark_end();
	verdict(true, "the scenario came to its end", "%s", "");
	power_off();
}

int main(void)
{
	char name[32];
	int stage;
	unsigned int i;

	if (getpid() != 1) {
		report_init();
		load_modules();
		return 0;
	}
	mount_all();
	report_init();
	stage = param_nr("stage", 1);
	snprintf(name, sizeof(name), "%s", param("scenario", "none"));
	/* A cycle goes without as long as it can. */
	if (stage == 1 || strcmp(name, "cycle"))
		load_modules();
	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		if (strcmp(scenarios[i].name, name))
			continue;
		scenarios[i].run(stage);
		end_of_scenario();
	}
	give_up("there is no scenario '%s'", name);
}
