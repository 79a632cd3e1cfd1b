// SPDX-License-Identifier: GPL-2.0
/*
 * Resets of a device with ATS, which the IOMMU core blocks meanwhile. In the old kernel
 * everybody may reset the device, whatever the stage of the live update is: it goes on
 * being preserved, and its user sets it up anew. In the new kernel a reset is refused
 * before FINISH. ilu.dev is a virtio-rng-pci.
 *
 * ilu.pasid=1: a PASID of it is attached as well, to a page table of its own.
 * ilu.end=open: the device's file is not preserved, so that VFIO resets the device in the
 * new kernel when it is opened. What the PASID inherited stays.
 */
#include <errno.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "agent.h"

#define SEED	0xc1
#define PASID	1
#define WAIT_MS	20000

#define TEST_FAIL	"/sys/kernel/debug/liveupdate_test/fail"
#define TEST_REGISTER	"/sys/kernel/debug/liveupdate_test/register"

static struct vmm vmm, pasid;
static struct virtio_rng rng;
static struct keeper k;
static char bdf[16], reset_method[64];
static bool has_pasid, reopened;

static void must(int ret, const char *what)
{
	if (ret)
		give_up("%s: %s", what, strerror(-ret));
}

static bool fills(void)
{
	virtio_rng_post(&rng);
	return virtio_rng_filled(&vmm, WAIT_MS);
}

static void check_fills(const char *promise)
{
	verdict(fills(), promise, "%u buffers were not filled", virtio_rng_pending(&vmm));
}

/* Its bus mastering stays, so it does DMA as soon as it is told to. */
static void set_up_again(const char *after)
{
	context(after);
	virtio_rng_start(&rng);
	check_fills("a preserved device that was reset does DMA when it is set up again");
}

/* The page tables of the device and of its PASID */
static void attach(void)
{
	must(vfio_map_bar(&vmm), "mapping its BAR");
	must(ioas_alloc(&vmm), "IOMMU_IOAS_ALLOC");
	must(ioas_map_file(&vmm, &vmm.ram, 0, RAM_IOVA, RAM_LEN), "mapping RAM");
	must(ioas_map_file(&vmm, &vmm.big, 0, BIG_IOVA, BIG_LEN), "mapping BIG");
	must(hwpt_alloc(&vmm, has_pasid ? IOMMU_HWPT_ALLOC_PASID : 0), "IOMMU_HWPT_ALLOC");
	works(vfio_attach(&vmm, vmm.hwpt), "the device is attached");
	if (!has_pasid)
		return;
	pasid = vmm;
	must(ioas_alloc(&pasid), "IOMMU_IOAS_ALLOC");
	must(ioas_map_file(&pasid, &pasid.big, 0, RAM_IOVA, BIG_LEN), "mapping BIG");
	must(hwpt_alloc(&pasid, IOMMU_HWPT_ALLOC_PASID), "IOMMU_HWPT_ALLOC");
	works(vfio_attach_pasid(&vmm, PASID, pasid.hwpt), "its PASID is attached");
}

static bool has_entry(struct pasid_entry was)
{
	struct pasid_entry is = pasid_entry(bdf, PASID);

	return is.text[0] && !strcmp(is.text, was.text);
}

static void check_pasid(const struct pasid_entry *was)
{
	if (has_pasid)
		verdict(has_entry(*was), "the entry of its PASID is as it was before", "%s, was %s",
			pasid_entry(bdf, PASID).text, was->text);
}

static void check_resets(const char *stage)
{
	struct pasid_entry was = { "" };

	if (has_pasid)
		was = pasid_entry(bdf, PASID);
	log_mark();
	context(stage);
	works(write_file(reset_method, "bus"), "reset_method can be set");
	check_fills("a device does not notice that reset_method is set");
	works(write_file(reset_method, "default"), "and set back");
	works(reset_device(bdf), "a reset through sysfs works");
	set_up_again(stage);
	check_pasid(&was);
	works(vfio_reset(&vmm), "VFIO_DEVICE_RESET works");
	set_up_again(stage);
	check_pasid(&was);
	verdict(!faults_of(bdf, 0), "the device has caused no IOMMU fault", "it has");
	context(NULL);
}

/* ---- outgoing kernel --------------------------------------------------------- */

static void while_freezing(void)
{
	pid_t operator;

	write_file(TEST_FAIL, "b:freeze -71 15000");
	operator = in_child(start_next_kernel);
	while (luo_state(k.luo) != LIVEUPDATE_STATE_FROZEN)
		sleep_ms(10);
	check_resets("frozen");
	refused(result_of(operator), EPROTO, "the reboot, in the end,");
	write_file(TEST_FAIL, "\n");
}

static int reset_all_the_time(void)
{
	unsigned int n;
	int ret = 0;

	for (n = 0; n < 20 && !ret; n++)
		ret = reset_device(bdf);
	return ret;
}

/* A reset lasts 100 ms. If there is none the last one to be frozen fails. */
static void while_resetting(void)
{
	unsigned int n;
	pid_t pid;
	int ret;

	write_file(TEST_FAIL, "b:freeze -71");
	pid = in_child(reset_all_the_time);
	for (n = 0, ret = -EPROTO; n < 20 && ret == -EPROTO; n++) {
		sleep_ms(30);
		log_mark();
		ret = start_next_kernel();
	}
	say("refused", "a reboot while the device is being reset: %s", strerror(-ret));
	verdict(ret < 0 && ret != -EPROTO, "a reboot while the device is being reset is refused",
		"%s", strerror(-ret));
	verdict(log_count("failed to freeze", NULL) == 1, "the log has the reason",
		"it has not");
	works(result_of(pid), "all resets succeed");
	write_file(TEST_FAIL, "\n");
	set_up_again("after many resets");
	context(NULL);
}

static void leave(void)
{
	char extra[96];

	/* What was registered last is frozen last, after the IOMMU driver. */
	must(write_file(TEST_REGISTER, "-b"), TEST_REGISTER);
	must(write_file(TEST_REGISTER, "+b"), TEST_REGISTER);
	vmm_create(&vmm, "vmm", bdf, SEED);
	must(vfio_bind(&vmm), "binding the device");
	attach();
	virtio_rng_find(&rng, &vmm);
	virtio_rng_start(&rng);
	check_fills("before the update the device reaches its VMM's memory");
	keeper_open(&k, NULL);
	if (reopened)
		keep_vmm(&k, &vmm);
	else
		keep_device(&k, &vmm);
	check_resets("preserved");
	works(luo_prepare(k.luo), "PREPARE succeeds");
	check_resets("prepared");
	snprintf(extra, sizeof(extra), "ilu.entry=%s",
		 has_pasid ? pasid_entry(bdf, PASID).text : "");
	must(load_next_kernel(2, extra), "kexec_file_load");
	if (!reopened) {
		while_freezing();
		while_resetting();
	}
	say("operator", "reboots");
	must(start_next_kernel(), "the reboot");
}

/* ---- incoming kernel --------------------------------------------------------- */

static void check_refused(void)
{
	context("restored");
	works(write_file(reset_method, "bus"), "reset_method can be set");
	works(write_file(reset_method, "default"), "and set back");
	refused(reset_device(bdf), EBUSY, "a reset through sysfs");
	refused(vfio_reset(&vmm), EBUSY, "VFIO_DEVICE_RESET");
	verdict(!log_count("has been reset", bdf + 5), "it is not reset", "it is");
	check_fills("the device goes on by what it inherited");
	context(NULL);
}

static void check_taken_over(const struct pasid_entry *was)
{
	char text[80];

	if (!reopened)
		verdict(log_count("goes on with the page table of this kernel", bdf + 5),
			"the new page table took over", "the log does not say so");
	if (!has_pasid)
		return;
	snprintf(text, sizeof(text), "PASID %u goes on with the page table of this kernel", PASID);
	verdict(log_count(text, bdf), "and that of its PASID", "the log does not say so");
	verdict(pasid_entry(bdf, PASID).text[0] && !has_entry(*was),
		"whose entry has another page table", "%s", pasid_entry(bdf, PASID).text);
}

static void arrive(void)
{
	struct pasid_entry was;

	snprintf(was.text, sizeof(was.text), "%s", param("entry", ""));
	check_pasid(&was);
	keeper_reopen(&k, NULL);
	log_mark();
	if (reopened) {
		vmm_retrieve(&vmm, &k, "vmm", bdf, SEED);
		must(vfio_open_device(&vmm), "opening the device");
	} else {
		vmm_come_back(&vmm, &k, "vmm", bdf, SEED);
	}
	must(vfio_bind(&vmm), "binding the device");
	check_pasid(&was);
	attach();
	virtio_rng_find(&rng, &vmm);
	if (reopened) {
		verdict(log_count("has been reset, it does not go on", bdf + 5),
			"VFIO has reset the device", "the log does not say so");
		set_up_again("opened anew");
		/* Its PASID is staged now */
		works(vfio_reset(&vmm), "VFIO_DEVICE_RESET works");
		set_up_again("reset when it is attached");
		context(NULL);
	} else {
		check_refused();
	}
	check_pasid(&was);
	verdict(!faults_of(bdf, 0), "the device has caused no IOMMU fault", "it has");
	log_mark();
	works(keeper_finish(&k), "FINISH succeeds");
	check_taken_over(&was);
	check_fills("after FINISH the device fills buffers");
	check_resets("finished");
	vmm_close(&vmm);
}

void scen_reset(int stage)
{
	snprintf(bdf, sizeof(bdf), "%s", param("dev", DEV_BDF));
	snprintf(reset_method, sizeof(reset_method),
		 "/sys/bus/pci/devices/%s/reset_method", bdf);
	has_pasid = param_nr("pasid", 0);
	reopened = !strcmp(param("end", "finish"), "open");
	if (stage == 1)
		leave();
	arrive();
}
