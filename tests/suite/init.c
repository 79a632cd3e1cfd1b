// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of a guest that runs kselftests: every program in /suite, in the order
 * of its name, each after the other, then power off. One line for each tells
 * how it ended:
 *
 *	SUITE: NAME exit STATUS
 *	SUITE: NAME signal NUMBER
 *
 * "suite.hugepages=N" on the command line reserves N huge pages first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../modules.h"

#define SUITE "/suite"

static void mount_on(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		printf("SUITE: cannot mount %s: %s\n", dir, strerror(errno));
}

static void reserve_huge_pages(void)
{
	char cmdline[4096] = "", *nr;
	int fd;

	fd = open("/proc/cmdline", O_RDONLY);
	if (fd < 0 || read(fd, cmdline, sizeof(cmdline) - 1) < 0)
		return;
	close(fd);
	nr = strstr(cmdline, "suite.hugepages=");
	if (!nr)
		return;
	nr += strlen("suite.hugepages=");
	fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);
	if (fd < 0 || write(fd, nr, strspn(nr, "0123456789")) < 0)
		printf("SUITE: no huge pages: %s\n", strerror(errno));
	close(fd);
}

static void run(const char *name)
{
	int status;
	pid_t pid;

	printf("SUITE: %s starts\n", name);
	pid = fork();
	if (pid < 0) {
		printf("SUITE: cannot fork: %s\n", strerror(errno));
		return;
	}
	if (!pid) {
		execl(name, name, NULL);
		printf("SUITE: cannot run %s: %s\n", name, strerror(errno));
		_exit(127);
	}
	/* Orphans of earlier programs are PID 1's as well. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		printf("SUITE: %s signal %d\n", name, WTERMSIG(status));
	else
		printf("SUITE: %s exit %d\n", name, WEXITSTATUS(status));
}

static int is_program(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

int main(void)
{
	struct rlimit nofile = { .rlim_cur = 1 << 20, .rlim_max = 1 << 20 };
	struct dirent **names;
	int i, n;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_on("devtmpfs", "/dev");
	mount_on("proc", "/proc");
	mount_on("sysfs", "/sys");
	mount_on("debugfs", "/sys/kernel/debug");
	mount_on("tmpfs", "/tmp");
	setrlimit(RLIMIT_NOFILE, &nofile);
	reserve_huge_pages();
	if (load_all_modules() < 0)
		printf("SUITE: a module cannot be loaded\n");

	n = scandir(SUITE, &names, is_program, alphasort);
	if (n < 0 || chdir(SUITE))
		printf("SUITE: nothing in " SUITE "\n");
	for (i = 0; i < n; i++)
		run(names[i]->d_name);

	printf("SUITE: done\n");
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
