// SPDX-License-Identifier: GPL-2.0
/* Files, kernel parameters, driver binding, and the jump to the next kernel. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/pci_regs.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../modules.h"
#include "agent.h"

#define CMDLINE_LEN	2048
#define KERNEL_B	"/kernel-b"

ssize_t read_file(const char *path, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (got < len) {
		n = read(fd, (char *)buf + got, len - got);
		if (n <= 0)
			break;
		got += n;
	}
	close(fd);
	return got;
}

long read_nr(const char *path)
{
	char text[24] = "";
	ssize_t len = read_file(path, text, sizeof(text) - 1);

	return len < 0 ? len : strtol(text, NULL, 10);
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static void read_cmdline(char *buf, size_t len)
{
	ssize_t n = read_file("/proc/cmdline", buf, len - 1);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

const char *param(const char *key, const char *def)
{
	static char cmdline[CMDLINE_LEN];
	char *tok, *save;
	size_t len = strlen(key);

	read_cmdline(cmdline, sizeof(cmdline));
	for (tok = strtok_r(cmdline, " ", &save); tok;
	     tok = strtok_r(NULL, " ", &save)) {
		if (!strncmp(tok, "ilu.", 4) && !strncmp(tok + 4, key, len) &&
		    tok[4 + len] == '=')
			return tok + 5 + len;
	}
	return def;
}

long param_nr(const char *key, long def)
{
	const char *val = param(key, NULL);

	return val ? strtol(val, NULL, 0) : def;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

bool has_driver(const char *driver)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s", driver);
	return !access(path, F_OK);
}

int unbind_driver(const char *bdf)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", bdf);
	ret = write_file(path, bdf);
	return ret == -ENOENT ? 0 : ret;
}

unsigned int find_capability(const char *bdf, unsigned int id)
{
	unsigned int pos = config_read16(bdf, PCI_CAPABILITY_LIST) & 0xfc;
	unsigned int n;

	for (n = 0; pos && n < 48; n++) {
		uint16_t cap = config_read16(bdf, pos);

		if ((cap & 0xff) == id)
			return pos;
		pos = cap >> 8 & 0xfc;
	}
	return 0;
}

bool bound_to(const char *bdf, const char *driver)
{
	char link[128], now[256];
	ssize_t len;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/driver", bdf);
	len = readlink(link, now, sizeof(now) - 1);
	if (len <= 0)
		return false;
	now[len] = '\0';
	return !strcmp(strrchr(now, '/') + 1, driver);
}

int bind_driver(const char *bdf, const char *driver)
{
	char path[128];
	int ret;

	if (bound_to(bdf, driver))
		return 0;
	ret = unbind_driver(bdf);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", bdf);
	ret = write_file(path, driver);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/bind", driver);
	return write_file(path, bdf);
}

void load_modules(void)
{
	int n = load_all_modules();

	if (n < 0)
		give_up("a module cannot be loaded");
	if (n)
		say("kernel", "loaded %d modules, iommufd and vfio among them", n);
}

void load_modules_when_needed(void)
{
	if (!access(MODULES_DIR, F_OK) &&
	    write_file("/proc/sys/kernel/modprobe", "/init"))
		give_up("the kernel cannot ask for modules");
}

bool fault_injection(void)
{
	static const char *const knobs[][2] = {
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
		{ "/sys/kernel/debug/fail_iommufd/verbose", "0" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		if (write_file(knobs[i][0], knobs[i][1]))
			return false;
	return !access("/proc/self/fail-nth", F_OK);
}

static int fail_nth_fd(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		give_up("/proc/self/fail-nth: %s", strerror(errno));
	return fd;
}

void fail_allocation(unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fail_nth_fd(), text, len, 0) != len)
		give_up("writing to /proc/self/fail-nth: %s", strerror(errno));
}

bool allocation_failed(void)
{
	char text[16] = "";

	/* What was not reached is still to come. */
	if (pread(fail_nth_fd(), text, sizeof(text) - 1, 0) <= 0)
		give_up("reading /proc/self/fail-nth: %s", strerror(errno));
	fail_allocation(0);
	return text[0] == '0';
}

static int open_config(const char *bdf)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", bdf);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		give_up("%s: %s", path, strerror(errno));
	return fd;
}

uint16_t config_read16(const char *bdf, unsigned int off)
{
	int fd = open_config(bdf);
	uint16_t val;

	if (pread(fd, &val, 2, off) != 2)
		give_up("reading the config space of %s: %s", bdf, strerror(errno));
	close(fd);
	return val;
}

void config_write16(const char *bdf, unsigned int off, uint16_t val)
{
	int fd = open_config(bdf);

	if (pwrite(fd, &val, 2, off) != 2)
		give_up("writing the config space of %s: %s", bdf, strerror(errno));
	close(fd);
}

int reset_device(const char *bdf)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", bdf);
	return write_file(path, "1");
}

int remove_device(const char *bdf)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", bdf);
	return write_file(path, "1");
}

static bool same_key(const char *tok, const char *list)
{
	size_t len = strcspn(tok, "=");
	const char *p = list;

	while (p && *p) {
		if (!strncmp(p, tok, len) && (p[len] == '=' || p[len] == ' ' || !p[len]))
			return true;
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	return false;
}

static void next_cmdline(char *out, size_t len, const char *replace)
{
	char now[CMDLINE_LEN];
	char *tok, *save;
	size_t used = 0;

	read_cmdline(now, sizeof(now));
	out[0] = '\0';
	for (tok = strtok_r(now, " ", &save); tok; tok = strtok_r(NULL, " ", &save)) {
		if (same_key(tok, replace))
			continue;
		used += snprintf(out + used, len - used, "%s ", tok);
		if (used >= len)
			give_up("command line too long");
	}
	if (used + strlen(replace) >= len)
		give_up("command line too long");
	snprintf(out + used, len - used, "%s", replace);
}

/* An initramfs may have two, told apart by their names: each starts the other. */
static const char *other_kernel(void)
{
	struct utsname uts;

	uname(&uts);
	if (access(KERNEL_B, F_OK) || strstr(uts.release, "-b"))
		return "/kernel";
	return KERNEL_B;
}

static int load_kernel(int stage, const char *extra, unsigned long flags)
{
	char cmdline[CMDLINE_LEN], replace[768], report[256];
	int kernel, initrd;
	long ret;

	report_handover(report, sizeof(report));
	snprintf(replace, sizeof(replace), "ilu.stage=%d %s%s%s", stage, report,
		 extra ? " " : "", extra ? extra : "");
	next_cmdline(cmdline, sizeof(cmdline), replace);

	kernel = open(other_kernel(), O_RDONLY | O_CLOEXEC);
	/* The initramfs this kernel was started with, thanks to retain_initrd. */
	initrd = open("/sys/firmware/initrd", O_RDONLY | O_CLOEXEC);
	if (kernel < 0 || initrd < 0)
		give_up("the kernel or /sys/firmware/initrd is missing");
	ret = syscall(SYS_kexec_file_load, kernel, initrd, strlen(cmdline) + 1,
		      cmdline, flags);
	if (ret)
		ret = -errno;
	close(kernel);
	close(initrd);
	return ret;
}

int load_next_kernel(int stage, const char *extra)
{
	return load_kernel(stage, extra, 0);
}

int load_crash_kernel(int stage, const char *extra)
{
	return load_kernel(stage, extra, KEXEC_FILE_ON_CRASH);
}

int load_image_without_kho(void)
{
	static char page[4096] __attribute__((aligned(4096)));
	struct kexec_segment segment = {
		.buf = page,
		.bufsz = sizeof(page),
		.mem = (void *)MIB(32),
		.memsz = sizeof(page),
	};

	return syscall(SYS_kexec_load, MIB(32), 1UL, &segment,
		       KEXEC_ARCH_DEFAULT) ? -errno : 0;
}

void unload_image(void)
{
	syscall(SYS_kexec_load, 0UL, 0UL, NULL, KEXEC_ARCH_DEFAULT);
}

int start_next_kernel(void)
{
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_KEXEC, NULL);
	return -errno;
}

pid_t in_child(int (*fn)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		give_up("fork: %s", strerror(errno));
	if (!pid)
		_exit(-fn());
	return pid;
}

int result_of(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		give_up("a child ended with status %#x", status);
	return -WEXITSTATUS(status);
}

void jump(int stage, const char *extra)
{
	int ret = load_next_kernel(stage, extra);

	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	say("operator", "reboots into the next kernel%s%s",
	    extra ? " with " : "", extra ? extra : "");
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

void power_off(void)
{
	/* A kernel without ACPI can't power off; QEMU ends at a reset as well. */
	bool acpi = !access("/sys/firmware/acpi/tables", F_OK);

	sync();
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		acpi ? LINUX_REBOOT_CMD_POWER_OFF : LINUX_REBOOT_CMD_RESTART, NULL);
	for (;;)
		pause();
}
