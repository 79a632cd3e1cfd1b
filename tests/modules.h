/* SPDX-License-Identifier: GPL-2.0 */
/* Loads the modules that a guest's initramfs brings. */
#ifndef ILU_MODULES_H
#define ILU_MODULES_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULES_DIR "/modules"

static inline int load_module(const char *name)
{
	char path[300];
	int fd, ret;

	snprintf(path, sizeof(path), MODULES_DIR "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret == -EEXIST ? 0 : ret;
}

static inline int is_module(const struct dirent *de)
{
	return de->d_name[0] != '.';
}

/* Returns how many there are, 0 if this kernel has none, -1 if one can't be loaded. */
static inline int load_all_modules(void)
{
	struct dirent **mods;
	int i, n, left, before;

	n = scandir(MODULES_DIR, &mods, is_module, alphasort);
	if (n <= 0)
		return 0;
	/* A module can be loaded once those that it needs are there. */
	for (left = n, before = n + 1; left && left < before;) {
		before = left;
		left = 0;
		for (i = 0; i < n; i++)
			left += load_module(mods[i]->d_name) != 0;
	}
	return left ? -1 : n;
}

#endif
