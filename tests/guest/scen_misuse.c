// SPDX-License-Identifier: GPL-2.0
/*
 * The old kernel is used wrongly, and the live update succeeds all the same. Everything
 * that somebody could do to a preserved device, its page table or the machine is done
 * when it is preserved, when it is prepared, and by a second process while a reboot
 * freezes; the table is that of Documentation/userspace-api/iommufd.rst. The device's
 * DMA works after each.
 *
 * The device is an edu device behind a root port with a slot. While the last reboot
 * freezes another VMM detaches its device.
 *
 * ilu.end=restart: when it is prepared the machine is restarted, without kexec.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define SEED		0xb1
#define SEED_OTHER	0xb2
#define NEW_IOVA	MIB(128)
#define SRC_OFF		0x3000		/* RAM */
#define LAND_OFF	0x201000	/* BIG */

#define BDF		"0000:01:00.0"
#define PORT_BDF	"0000:00:14.0"
#define SLOT_POWER	"/sys/bus/pci/slots/1/power"
#define GROUP_TYPE	"/sys/bus/pci/devices/" BDF "/iommu_group/type"
#define RESET_METHOD	"/sys/bus/pci/devices/" BDF "/reset_method"
#define OVERRIDE	"/sys/bus/pci/devices/" BDF "/driver_override"
#define BIND		"/sys/bus/pci/drivers/pci-pf-stub/bind"

#define PM_STATE	"/sys/power/state"
#define PM_TEST		"/sys/power/pm_test"
#define PM_TEST_DELAY	"/sys/module/suspend/parameters/pm_test_delay"

#define TEST_FAIL	"/sys/kernel/debug/liveupdate_test/fail"
/* drivers/pci/pcie/aer_inject.c */
#define AER_INJECT	"/dev/aer_inject"
#define TEST_REGISTER	"/sys/kernel/debug/liveupdate_test/register"
/* As long as everything takes that is done meanwhile, and more */
#define FREEZE_FAILS	"b:freeze -71 40000"
#define FREEZE_LASTS	"b:freeze 0 3000"

static struct vmm vmm;
static struct keeper k;

static void must(int ret, const char *what)
{
	if (ret)
		give_up("%s: %s", what, strerror(-ret));
}

/* ---- what can be done --------------------------------------------------------- */

static int map_file(void)
{
	return ioas_map_file(&vmm, &vmm.ram, 0, NEW_IOVA, KIB(4));
}

static int map_anon(void)
{
	void *va = mmap(NULL, KIB(4), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret = ioas_map_anon(&vmm, va, NEW_IOVA, KIB(4));

	munmap(va, KIB(4));
	return ret;
}

static int copy_mapping(void)
{
	return ioas_copy(&vmm, vmm.ioas, RAM_IOVA, NEW_IOVA, KIB(4));
}

static int unmap_one(void)
{
	return ioas_unmap(&vmm, BIG_IOVA, BIG_LEN);
}

static int unmap_all(void)
{
	return ioas_unmap(&vmm, 0, UINT64_MAX);
}

/* To an HWPT of an IOAS of its own, which is not preserved */
static int attach_another_hwpt(void)
{
	struct vmm fresh = vmm;
	int ret;

	must(ioas_alloc(&fresh), "IOMMU_IOAS_ALLOC");
	must(hwpt_alloc(&fresh, 0), "IOMMU_HWPT_ALLOC");
	ret = vfio_attach(&fresh, fresh.hwpt);
	iommufd_destroy(&fresh, fresh.hwpt);
	iommufd_destroy(&fresh, fresh.ioas);
	return ret;
}

static int attach_another_device(void)
{
	struct vmm second = { .iommufd = vmm.iommufd, .edu.bdf = OTHER_BDF };
	int ret;

	must(vfio_open_device(&second), "opening another device");
	must(vfio_bind(&second), "binding another device");
	ret = vfio_attach(&second, vmm.hwpt);
	close(second.dev);
	return ret;
}

static int destroy_hwpt(void)
{
	return iommufd_destroy(&vmm, vmm.hwpt);
}

static int destroy_ioas(void)
{
	return iommufd_destroy(&vmm, vmm.ioas);
}

static int set_token(void)
{
	return hwpt_set_token(&vmm, vmm.hwpt, 0x77);
}

static int change_process(void)
{
	return iommufd_change_process(&vmm);
}

static int low_power(void)
{
	return vfio_low_power(&vmm, true);
}

static int remove_it(void)
{
	return remove_device(BDF);
}

static int remove_port(void)
{
	return remove_device(PORT_BDF);
}

static int slot_off(void)
{
	return write_file(SLOT_POWER, "0");
}

static int group_identity(void)
{
	return write_file(GROUP_TYPE, "identity");
}

static int group_auto(void)
{
	return write_file(GROUP_TYPE, "auto");
}

static int bind_another_driver(void)
{
	int ret;

	write_file(OVERRIDE, "pci-pf-stub");
	ret = write_file(BIND, BDF);
	write_file(OVERRIDE, "vfio-pci");
	return ret;
}

static int reset_sysfs(void)
{
	return reset_device(BDF);
}

static int reset_vfio(void)
{
	return vfio_reset(&vmm);
}

static int set_reset_method(void)
{
	return write_file(RESET_METHOD, "bus");
}

/* Up to the point where all devices are suspended; then it comes back by itself */
static int suspend(void)
{
	return write_file(PM_STATE, "freeze");
}

static void test_suspend(void)
{
	must(write_file(PM_TEST, "devices"), PM_TEST);
	must(write_file(PM_TEST_DELAY, "0"), PM_TEST_DELAY);
}

static int second_operator(void)
{
	int luo = luo_open();

	if (luo >= 0)
		close(luo);
	return luo < 0 ? luo : 0;
}

struct op {
	const char *what;
	int err;
	int (*run)(void);
};

static const struct op ops[] = {
	{ "mapping a memfd", EBUSY, map_file },
	{ "mapping memory of a process", EBUSY, map_anon },
	{ "copying a mapping", EBUSY, copy_mapping },
	{ "unmapping a range", EBUSY, unmap_one },
	{ "unmapping everything", EBUSY, unmap_all },
	{ "attaching another HWPT to the device", EBUSY, attach_another_hwpt },
	{ "attaching another device to the HWPT", EBUSY, attach_another_device },
	{ "destroying the HWPT", EBUSY, destroy_hwpt },
	{ "destroying the IOAS", EBUSY, destroy_ioas },
	{ "setting the token of the HWPT", EBUSY, set_token },
	{ "IOMMU_IOAS_CHANGE_PROCESS", 0, change_process },
	{ "entering low power state", EBUSY, low_power },
	{ "removing the device", EBUSY, remove_it },
	{ "removing the port above it", EBUSY, remove_port },
	{ "turning off its slot", EBUSY, slot_off },
	{ "setting the type of its group to identity", EBUSY, group_identity },
	{ "setting the type of its group to auto", EBUSY, group_auto },
	{ "binding another driver", EBUSY, bind_another_driver },
	{ "a write to reset_method", 0, set_reset_method },
	{ "a reset through sysfs", 0, reset_sysfs },
	{ "VFIO_DEVICE_RESET", 0, reset_vfio },
	{ "suspending the machine", EBUSY, suspend },
	{ "opening /dev/liveupdate again", EBUSY, second_operator },
};

static void do_all(void)
{
	char text[96];
	unsigned int i;

	log_mark();
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		if (ops[i].err) {
			refused(ops[i].run(), ops[i].err, ops[i].what);
		} else {
			snprintf(text, sizeof(text), "%s works", ops[i].what);
			works(ops[i].run(), text);
		}
		snprintf(text, sizeof(text), "DMA works after %s", ops[i].what);
		verdict(vmm_dma_works(&vmm), text, "bytes did not arrive");
	}
	verdict(!faults_of(BDF, 0), "the device has caused no IOMMU fault", "it has");
}

/* ---- images and reboots --------------------------------------------------------- */

static void load_next(void)
{
	must(load_next_kernel(2, NULL), "kexec_file_load");
}

/* While a reboot freezes it would wait for that. */
static void hibernate(void)
{
	refused(write_file(PM_STATE, "disk"), EBUSY, "hibernating the machine");
}

static void check_state(int state)
{
	verdict(luo_state(k.luo) == state, "the state is what it was", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
}

static void reboot_without_kho(int state)
{
	must(load_image_without_kho(), "kexec_load");
	refused(start_next_kernel(), ENOEXEC, "rebooting into an image of kexec_load()");
	unload_image();
	refused(start_next_kernel(), EINVAL, "rebooting with no image loaded");
	load_next();
	check_state(state);
	verdict(vmm_dma_works(&vmm), "DMA works after a reboot was refused",
		"bytes did not arrive");
}

static bool runs(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

static void wait_for_state(int state)
{
	unsigned int ms;

	for (ms = 0; ms < 20000; ms += 10) {
		if (luo_state(k.luo) == state)
			return;
		sleep_ms(10);
	}
	give_up("the state is '%s'", luo_state_name(luo_state(k.luo)));
}

/* ---- detached, unbound ------------------------------------------------------------ */

static void preserve_again(bool prepared)
{
	works(luo_fd_unpreserve(k.luo, vmm.token | 3), "its file can be unpreserved");
	works(luo_fd_unpreserve(k.luo, vmm.token), "and its iommufd");
	works(vfio_attach(&vmm, vmm.hwpt), "then it is attached as before");
	if (prepared) {
		refused(keep(&k, vmm.token, vmm.iommufd), EBUSY,
			"preserving while it is prepared");
		works(luo_cancel(k.luo), "CANCEL succeeds");
	}
	works(keep(&k, vmm.token, vmm.iommufd), "the iommufd can be preserved again");
	works(keep(&k, vmm.token | 3, vmm.dev), "and the file of the device");
	if (prepared)
		works(luo_prepare(k.luo), "PREPARE succeeds again");
	verdict(vmm_dma_works(&vmm), "DMA works after it was preserved again",
		"bytes did not arrive");
}

static void detach(void)
{
	log_mark();
	works(vfio_detach(&vmm), "the device can be detached");
	verdict(log_count("detached while it was preserved", BDF),
		"that is logged with the device's name", "it is not");
	refused(vfio_attach(&vmm, vmm.hwpt), EBUSY,
		"attaching it to the preserved HWPT again");
}

static void detach_and_back(bool prepared)
{
	detach();
	refused(start_next_kernel(), ENXIO, "a reboot with the device detached");
	preserve_again(prepared);
}

static int unbind(void)
{
	/* What it has of the VMM by fork() would keep it waiting */
	vmm_close_device(&vmm);
	return unbind_driver(BDF);
}

static void start_again(void)
{
	vmm_start(&vmm, "vmm", BDF, SEED);
	keep_device(&k, &vmm);
}

/* Ends when LUO has put the file and the VMM has closed it, as with any user of VFIO. */
static void unbind_and_back(bool prepared)
{
	pid_t pid = in_child(unbind);

	sleep_ms(100);
	verdict(runs(pid), "unbinding vfio-pci waits", "it does not");
	verdict(vmm_dma_works(&vmm), "DMA works meanwhile", "bytes did not arrive");
	refused(start_next_kernel(), ENODEV, "a reboot while vfio-pci is being unbound");
	drop_device(&k, &vmm);
	verdict(runs(pid), "it waits for the VMM to close the device", "it does not");
	vmm_close(&vmm);
	works(result_of(pid), "it ends when the VMM has closed the device");
	if (prepared)
		works(luo_cancel(k.luo), "CANCEL succeeds");
	start_again();
	if (prepared)
		works(luo_prepare(k.luo), "PREPARE succeeds with another VMM");
}

/* ---- an error, from which AER recovers --------------------------------------------- */

/* An uncorrectable one of the port above the device: what is below it is reset. */
static int inject_error(void)
{
	const struct {
		uint8_t bus, dev, fn;
		uint32_t uncor_status, cor_status, header_log[4], domain;
	} error = { 0, 0x14, 0, PCI_ERR_UNC_MALF_TLP, 0, { 0 }, 0 };
	int fd = open(AER_INJECT, O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, &error, sizeof(error)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* It has lost what it was programmed with, and so has what would be handed over. */
static void after_error(void)
{
	unsigned int ms;

	context("after an error");
	log_mark();
	must(inject_error(), "injecting an error of the port");
	for (ms = 0; ms < 10000 && !log_count("device recovery", PORT_BDF); ms += 10)
		sleep_ms(10);
	verdict(log_count("device recovery successful", PORT_BDF), "AER recovers",
		"that is not in the log");
	refused(luo_prepare(k.luo), ESTALE, "PREPARE");
	refused(start_next_kernel(), ESTALE, "a reboot");
	check_state(LIVEUPDATE_STATE_NORMAL);
	drop_device(&k, &vmm);
	vmm_close(&vmm);
	start_again();
	verdict(vmm_dma_works(&vmm), "another VMM gets the device, whose DMA works",
		"bytes did not arrive");
}

/* ---- by a second process while a reboot freezes ----------------------------------- */

#define EXTRA_TOKEN	0xfff

static struct mem extra_mem;

static int preserve_extra(void)
{
	return luo_fd_preserve(k.luo, EXTRA_TOKEN, extra_mem.fd);
}

static void while_freezing(void)
{
	pid_t operator, late;

	context("frozen");
	write_file(TEST_FAIL, FREEZE_FAILS);
	load_next();
	operator = in_child(start_next_kernel);
	wait_for_state(LIVEUPDATE_STATE_FROZEN);
	/* Files and all but the last subsystem will be frozen by then */
	sleep_ms(200);
	late = in_child(preserve_extra);
	do_all();
	refused(load_next_kernel(2, NULL), EBUSY, "kexec_file_load()");
	refused(load_image_without_kho(), EBUSY, "kexec_load()");
	refused(load_crash_kernel(2, NULL), EBUSY, "loading a crash kernel");
	detach();
	verdict(runs(late), "preserving waits", "it does not");
	verdict(luo_state(k.luo) == LIVEUPDATE_STATE_FROZEN && runs(operator),
		"the reboot has been freezing all the time", "it is '%s'",
		luo_state_name(luo_state(k.luo)));
	refused(result_of(operator), EPROTO, "the reboot, in the end,");
	works(result_of(late), "then the file that waited is preserved");
	write_file(TEST_FAIL, "\n");
	luo_fd_unpreserve(k.luo, EXTRA_TOKEN);
	context("after the freeze failed");
	check_state(LIVEUPDATE_STATE_NORMAL);
	refused(start_next_kernel(), ENXIO, "a reboot with the device detached");
	preserve_again(false);
}

/* ---- the live update --------------------------------------------------------------- */

/* Its device is in the tables for the jump by the time it is detached. */
static void other_vmm(int ready)
{
	static struct vmm other;

	vmm_start(&other, "other", OTHER_BDF, SEED_OTHER);
	keep_vmm(&k, &other);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	wait_for_state(LIVEUPDATE_STATE_FROZEN);
	sleep_ms(300);
	if (!vmm_dma_works(&other))
		give_up("the other VMM's DMA does not work");
	works(vfio_detach(&other), "another device is detached when all is frozen");
	for (;;)
		pause();
}

static void start_other_vmm(void)
{
	int ready[2];
	char c;

	if (pipe(ready))
		give_up("pipe: %s", strerror(errno));
	if (!fork())
		other_vmm(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		give_up("the other VMM did not come up");
}

static void __attribute__((noreturn)) restart(void)
{
	edu_read(&vmm.edu, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	edu_start_write(&vmm.edu, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	verdict(!log_complaint(), "the kernel's log has no warning", "%s",
		log_complaint());
	verdict(true, "the scenario came to its end", "%s", "");
	reboot(RB_AUTOBOOT);
	give_up("the machine does not restart");
}

static void leave(void)
{
	int ret;

	test_suspend();
	/* What was registered last is frozen last, after the IOMMU driver. */
	if (write_file(TEST_REGISTER, "-b") || write_file(TEST_REGISTER, "+b"))
		give_up(TEST_REGISTER);
	mem_create(&extra_mem, MIB(1), 0xb3, false);
	vmm_start(&vmm, "vmm", BDF, SEED);
	works(suspend(), "the machine can be suspended before");
	keeper_open(&k, NULL);
	load_next();
	keep_device(&k, &vmm);

	if (strcmp(param("end", "finish"), "restart")) {
		context("preserved");
		do_all();
		hibernate();
		reboot_without_kho(LIVEUPDATE_STATE_NORMAL);
		detach_and_back(false);
		unbind_and_back(false);
		if (!access(AER_INJECT, F_OK))
			after_error();
		else
			skip("this kernel cannot inject errors");
	}
	context("prepared");
	works(luo_prepare(k.luo), "PREPARE succeeds");
	if (!strcmp(param("end", "finish"), "restart"))
		restart();
	do_all();
	hibernate();
	reboot_without_kho(LIVEUPDATE_STATE_PREPARED);
	detach_and_back(true);
	unbind_and_back(true);
	works(luo_cancel(k.luo), "CANCEL succeeds");
	while_freezing();
	context(NULL);

	start_other_vmm();
	edu_read(&vmm.edu, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
	load_next();
	write_file(TEST_FAIL, FREEZE_LASTS);
	log_mark();
	say("operator", "reboots");
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

/* ---- incoming kernel ---------------------------------------------------------------- */

static void check_other(void)
{
	struct edu other;

	verdict(log_count("no entry of 00:11.0 is left", NULL),
		"the log says that a device which was detached meanwhile is blocked",
		"it does not");
	log_mark();
	edu_open_raw(&other, OTHER_BDF);
	edu_write(&other, 0, BIG_IOVA + LAND_OFF, FAULT_LEN);
	edu_close_raw(&other);
	verdict(faults_of(OTHER_BDF, 1000), "its DMA faults", "no fault was logged");
}

static void arrive(void)
{
	struct mem other_big;
	struct edu dev;
	int fd;

	test_suspend();
	edu_map_raw(&dev, BDF);
	edu_write(&dev, 0, BIG_IOVA + LAND_OFF, EDU_BUF_LEN);
	edu_unmap_raw(&dev);
	check_other();

	keeper_reopen(&k, NULL);
	vmm_come_back(&vmm, &k, "vmm", BDF, SEED);
	verdict(is_pattern(vmm.big.va + LAND_OFF, EDU_BUF_LEN, vmm.ram.seed, SRC_OFF),
		"after all that a live update succeeds: the device's DMA lands",
		"the memory does not hold it");
	fill_pattern(vmm.big.va + LAND_OFF, EDU_BUF_LEN, vmm.big.seed, LAND_OFF);
	verdict(mem_first_difference(&vmm.big, NULL, 0) < 0 &&
			mem_first_difference(&vmm.ram, NULL, 0) < 0,
		"no other byte changed", "RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(&vmm.ram, NULL, 0),
		mem_first_difference(&vmm.big, NULL, 0));
	fd = luo_fd_restore(k.luo, SEED_OTHER << 4 | 2);
	must(fd < 0 ? fd : 0, "getting the other VMM's memory back");
	mem_adopt(&other_big, fd, BIG_LEN, SEED_OTHER | 0x8000);
	verdict(mem_first_difference(&other_big, NULL, 0) < 0,
		"the blocked device's DMA changed nothing", "BIG differs at %#lx",
		mem_first_difference(&other_big, NULL, 0));

	vmm_build(&vmm);
	works(vfio_attach(&vmm, vmm.hwpt), "the device is attached to a new HWPT");
	context("restored");
	refused(suspend(), EBUSY, "suspending the machine");
	works(set_reset_method(), "a write to reset_method works");
	refused(reset_sysfs(), EBUSY, "a reset through sysfs");
	refused(reset_vfio(), EBUSY, "VFIO_DEVICE_RESET");
	verdict(vmm_dma_works(&vmm), "DMA works after that", "bytes did not arrive");
	context(NULL);
	log_mark();
	works(keeper_finish(&k), "FINISH succeeds");
	verdict(log_count("goes on with the page table of this kernel", BDF),
		"the new page table took over", "the log does not say so");
	verdict(vmm_dma_works(&vmm), "after FINISH DMA works", "bytes did not arrive");
	vmm_close(&vmm);
	unbind_driver(BDF);
	works(suspend(), "after FINISH the machine can be suspended");
}

void scen_misuse(int stage)
{
	if (stage == 1)
		leave();
	arrive();
}
