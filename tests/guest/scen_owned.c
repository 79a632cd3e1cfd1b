// SPDX-License-Identifier: GPL-2.0
/*
 * In the new kernel a preserved device belongs to the live update until FINISH:
 * no driver that uses the DMA API binds, VFIO binds and can't claim, the group
 * keeps its type, and no further update starts. After FINISH all of this works.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define SEED 0x51

static int set_group_type(const char *type)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group/type",
		 DEV_BDF);
	return write_file(path, type);
}

static void leave(void)
{
	static struct vmm vmm;
	struct keeper k;

	vmm_start(&vmm, "vmm", DEV_BDF, SEED);
	keeper_open(&k, NULL);
	keep_vmm(&k, &vmm);
	close(k.luo);
	say("vmm", "closed /dev/liveupdate; nobody says PREPARE");
	jump(2, NULL);
}

static bool dma_translated(void)
{
	struct edu dev;

	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	edu_read(&dev, RAM_IOVA, 0, EDU_BUF_LEN);
	edu_write(&dev, 0, BIG_IOVA, EDU_BUF_LEN);
	edu_close_raw(&dev);
	return !faults_of(DEV_BDF, 50);
}

static void check_still(const char *after)
{
	context(after);
	verdict(dma_translated(), "the inherited translation is still there",
		"the device's DMA faults");
	context(NULL);
}

static void before_finish(int luo)
{
	struct vmm vmm = { .name = "other", .edu.bdf = DEV_BDF };

	verdict(luo_state(luo) == LIVEUPDATE_STATE_UPDATED,
		"a reboot without PREPARE prepares by itself",
		"the state is '%s'", luo_state_name(luo_state(luo)));
	check_still("after boot");

	refused(bind_driver(DEV_BDF, NATIVE), EBUSY,
		"binding a driver that uses the DMA API to a preserved device");
	check_still("after a native driver tried");

	refused(set_group_type("identity"), EBUSY,
		"changing the type of a preserved device's group");
	check_still("after the type was to be changed");

	if (iommufd_open(&vmm))
		give_up("opening /dev/iommu");
	works(vfio_open_device(&vmm),
	      "vfio-pci binds to a preserved device and its cdev opens");
	refused(vfio_bind(&vmm), EPERM,
		"binding a preserved device to a foreign iommufd");
	close(vmm.dev);
	close(vmm.iommufd);
	unbind_driver(DEV_BDF);
	check_still("after VFIO had it");

	log_mark();
	refused(remove_device(DEV_BDF), EBUSY,
		"removing a preserved device from its bus");
	verdict(log_count("refusing to remove", DEV_BDF),
		"that is logged with the device's name", "it is not");
	check_still("after it was to be removed");

	refused(luo_prepare(luo), EBUSY,
		"PREPARE while an update is unfinished");
	check_still("after a second PREPARE");
}

/* What a device that nobody owns lets be done with it. */
void check_device_is_free(void)
{
	static struct vmm vmm;
	int ret;

	works(bind_driver(DEV_BDF, NATIVE),
	      "a driver that uses the DMA API binds");
	unbind_driver(DEV_BDF);
	ret = set_group_type("identity");
	works(ret, "the group's type can be changed");
	if (!ret)
		works(set_group_type("DMA"), "and changed back");
	vmm_start(&vmm, "vmm", DEV_BDF, SEED + 1);
	verdict(vmm_dma_works(&vmm),
		"a fresh iommufd claims the device and maps for it",
		"bytes did not arrive");
	works(ioas_unmap(&vmm, BIG_IOVA, BIG_LEN), "unmapping works");
	vmm_close(&vmm);
}

void scen_owned(int stage)
{
	int luo;

	if (stage == 1)
		leave();
	luo = luo_open();
	if (luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-luo));
	before_finish(luo);
	works(luo_finish(luo, false),
	      "FINISH succeeds with nothing claimed or restored");
	say("operator", "FINISH: the state is '%s'",
	    luo_state_name(luo_state(luo)));
	verdict(luo_state(luo) == LIVEUPDATE_STATE_NORMAL,
		"FINISH leads to the state normal", "it is '%s'",
		luo_state_name(luo_state(luo)));
	close(luo);
	context("after FINISH");
	verdict(access("/sys/bus/pci/devices/" DEV_BDF "/driver", F_OK),
		"no driver is bound to the device by itself", "there is one");
	check_device_is_free();
	unbind_driver(DEV_BDF);
	works(remove_device(DEV_BDF), "the device can be removed from its bus");
	works(write_file("/sys/bus/pci/rescan", "1"), "and found again");
	check_device_is_free();
}
