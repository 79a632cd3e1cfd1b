// SPDX-License-Identifier: GPL-2.0-only

/*
 * A kexec image that carries no KHO is refused if anything is preserved or
 * prepared, and is an ordinary kexec otherwise, which no subsystem can stop. Who
 * asks before, or prepares with that image loaded, is told.
 *
 * The image is not a kernel, but a few instructions that print a text on the first
 * serial port and reset the machine: that the test has passed, if it was time to
 * reboot. So this is for a virtual machine, and x86_64 only. Needs CONFIG_KEXEC and
 * CONFIG_LIVEUPDATE_SUBSYSTEM_TEST.
 */

#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <libliveupdate.h>

#define TOKEN 1

#ifdef __x86_64__

/* Anywhere in RAM, away from what firmware uses. */
#define LOAD_ADDRESS 0x4000000UL

asm(".pushsection .rodata\n"
	"image_start:\n"
	"	leaq	image_text(%rip), %rsi\n"
	"	cld\n"
	"1:	lodsb\n"
	"	testb	%al, %al\n"
	"	jz	3f\n"
	"	movb	%al, %cl\n"
	"	movw	$0x3fd, %dx\n"		/* wait for room to transmit */
	"2:	inb	%dx, %al\n"
	"	testb	$0x20, %al\n"
	"	jz	2b\n"
	"	movw	$0x3f8, %dx\n"
	"	movb	%cl, %al\n"
	"	outb	%al, %dx\n"
	"	jmp	1b\n"
	"3:	movb	$0xfe, %al\n"		/* reset by the keyboard controller */
	"	outb	%al, $0x64\n"
	"4:	hlt\n"
	"	jmp	4b\n"
	"image_text:\n"			/* what load_image() was told */
	".popsection\n");

static int load_image(const char *text)
{
	static char image[4096];
	const char *start, *end;
	struct {
		const void *buf;
		size_t bufsz;
		unsigned long mem;
		size_t memsz;
	} segment = {
		.buf = image,
		.bufsz = sizeof(image),
		.mem = LOAD_ADDRESS,
		.memsz = sizeof(image),
	};

	asm("leaq image_start(%%rip), %0" : "=r" (start));
	asm("leaq image_text(%%rip), %0" : "=r" (end));
	memcpy(image, start, end - start);
	memcpy(image + (end - start), text, strlen(text) + 1);

	if (syscall(__NR_kexec_load, LOAD_ADDRESS, 1UL, &segment,
		    (unsigned long)KEXEC_ARCH_DEFAULT))
		return -errno;

	return 0;
}

static int unload_image(void)
{
	return syscall(__NR_kexec_load, 0UL, 0UL, NULL, (unsigned long)KEXEC_ARCH_DEFAULT) ?
	       -errno : 0;
}

#else

static int unload_image(void)
{
	return 0;
}

static int load_image(const char *text)
{
	ksft_exit_skip("there is an image for x86_64 only\n");
}

#endif

static void check_refused(const char *what)
{
	if (!reboot(RB_KEXEC) || errno != ENOEXEC)
		fail_exit("reboot with %s did not fail with ENOEXEC", what);
}

int main(int argc, char *argv[])
{
	int luo_fd, memfd, session, ret;

	luo_fd = luo_open_device();
	if (luo_fd < 0)
		ksft_exit_skip("Failed to open %s\n", LUO_DEVICE);
	if (luo_facility_write("fail", "\n"))
		ksft_exit_skip("no CONFIG_LIVEUPDATE_SUBSYSTEM_TEST, or no debugfs\n");
	ret = load_image("\r\n--- this reboot was to be refused ---\r\n");
	if (ret)
		fail_exit("kexec_load: %d", ret);

	memfd = memfd_create("luo_no_kho", 0);
	if (memfd < 0)
		fail_exit("memfd_create");
	session = luo_create_session(luo_fd, "luo_no_kho");
	if (session < 0)
		fail_exit("luo_create_session");

	ret = luo_fd_preserve(luo_fd, memfd, TOKEN);
	if (ret)
		fail_exit("luo_fd_preserve: %d", ret);
	check_refused("a file preserved without a session");
	ret = luo_fd_unpreserve(luo_fd, TOKEN);
	if (ret)
		fail_exit("luo_fd_unpreserve: %d", ret);

	ret = luo_check_image(luo_fd);
	if (ret != -ENOEXEC)
		fail_exit("CHECK_IMAGE returned %d", ret);
	ret = luo_set_event(luo_fd, LIVEUPDATE_EVENT_PREPARE, 0);
	if (ret != -ENOEXEC)
		fail_exit("PREPARE with that image loaded: %d", ret);
	if (luo_get_state(luo_fd) != LIVEUPDATE_STATE_NORMAL)
		fail_exit("state is not NORMAL");

	ret = unload_image();
	if (ret)
		fail_exit("unloading: %d", ret);
	ret = luo_set_event(luo_fd, LIVEUPDATE_EVENT_PREPARE, 0);
	if (ret)
		fail_exit("PREPARE: %d", ret);
	ret = load_image("\r\n--- this reboot was to be refused ---\r\n");
	if (ret)
		fail_exit("kexec_load: %d", ret);
	check_refused("subsystems prepared");
	if (luo_get_state(luo_fd) != LIVEUPDATE_STATE_PREPARED)
		fail_exit("state is not PREPARED");
	ret = luo_set_event(luo_fd, LIVEUPDATE_EVENT_CANCEL, 0);
	if (ret)
		fail_exit("CANCEL: %d", ret);

	ret = luo_session_preserve_fd(session, memfd, TOKEN);
	if (ret)
		fail_exit("luo_session_preserve_fd: %d", ret);
	check_refused("a session");
	close(session);

	/* Nothing is left, so nobody is asked. */
	ret = load_image("\r\n--- NO KHO TEST PASSED ---\r\n");
	if (ret)
		fail_exit("kexec_load: %d", ret);
	if (luo_facility_write("fail", "a:prepare -33"))
		fail_exit("write to fail");
	reboot(RB_KEXEC);
	fail_exit("the reboot failed");
}
