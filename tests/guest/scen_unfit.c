// SPDX-License-Identifier: GPL-2.0
/*
 * Devices whose page table can be preserved, and whose file cannot: they would not go on
 * by themselves. One of them can when it is in D0 again, and then stays there.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define VGA_BDF		"0000:00:16.0"
#define PM_BDF		"0000:01:00.0"	/* has a power management capability */
#define PF_BDF		"0000:02:00.0"
#define VF_LINK		"/sys/bus/pci/devices/" PF_BDF "/virtfn0"

#define TOKEN		0xf0

static struct keeper k;

/* Its iommufd is preserved, with one memfd */
static void start(struct vmm *vmm, const char *bdf)
{
	*vmm = (struct vmm){ .name = "vmm" };
	snprintf(vmm->edu.bdf, sizeof(vmm->edu.bdf), "%s", bdf);
	mem_create(&vmm->ram, MIB(1), 0x48, false);
	if (iommufd_open(vmm) || vfio_open_device(vmm) || vfio_bind(vmm) ||
	    ioas_alloc(vmm) || ioas_map_file(vmm, &vmm->ram, 0, RAM_IOVA, MIB(1)) ||
	    hwpt_alloc(vmm, 0) || vfio_attach(vmm, vmm->hwpt))
		give_up("attaching %s", bdf);
	if (keep(&k, TOKEN, vmm->ram.fd) || keep(&k, TOKEN + 1, vmm->iommufd))
		give_up("preserving the iommufd of %s", bdf);
}

static void end(struct vmm *vmm)
{
	luo_fd_unpreserve(k.luo, TOKEN + 1);
	luo_fd_unpreserve(k.luo, TOKEN);
	close(vmm->dev);
	close(vmm->iommufd);
	mem_close(&vmm->ram);
	unbind_driver(vmm->edu.bdf);
}

static void file_refused(struct vmm *vmm, int err, const char *reason)
{
	long kho = kho_preserved_pages();

	context(reason);
	log_mark();
	refused(keep(&k, TOKEN + 2, vmm->dev), err, "preserving the file of a device");
	verdict(log_count(reason, vmm->edu.bdf), "that is logged with device and reason",
		"no line has '%s' and %s", reason, vmm->edu.bdf);
	verdict(kho_preserved_pages() == kho, "KHO preserves what it did before",
		"%ld pages, %ld before", kho_preserved_pages(), kho);
	context(NULL);
}

static void never_fit(const char *bdf, const char *reason)
{
	struct vmm vmm;

	start(&vmm, bdf);
	file_refused(&vmm, EOPNOTSUPP, reason);
	end(&vmm);
}

static unsigned int power_register(const struct vmm *vmm)
{
	return find_capability(vmm->edu.bdf, PCI_CAP_ID_PM) + PCI_PM_CTRL;
}

static void set_power(struct vmm *vmm, uint16_t state)
{
	if (vfio_config(vmm, true, power_register(vmm), &state, sizeof(state)))
		give_up("writing to the power management control register");
}

static unsigned int power(struct vmm *vmm)
{
	return config_read16(vmm->edu.bdf, power_register(vmm)) & PCI_PM_CTRL_STATE_MASK;
}

static void power_states(void)
{
	struct vmm vmm;

	start(&vmm, PM_BDF);
	set_power(&vmm, 3);
	file_refused(&vmm, EOPNOTSUPP, "is in D3hot and not in D0");
	set_power(&vmm, 0);
	works(vfio_low_power(&vmm, true), "the user can put the device into low power state");
	file_refused(&vmm, EAGAIN, "its user has put it into low power state");
	works(vfio_low_power(&vmm, false), "and out of it");
	works(keep(&k, TOKEN + 2, vmm.dev), "the file can be preserved in D0");
	set_power(&vmm, 3);
	verdict(power(&vmm) == 0, "a preserved device stays in D0 when its user writes D3hot",
		"it is in D%u", power(&vmm));
	works(luo_prepare(k.luo), "PREPARE succeeds");
	set_power(&vmm, 3);
	verdict(power(&vmm) == 0, "and when it is prepared", "it is in D%u", power(&vmm));
	works(luo_cancel(k.luo), "CANCEL succeeds");
	works(luo_fd_unpreserve(k.luo, TOKEN + 2), "the file can be unpreserved");
	set_power(&vmm, 3);
	verdict(power(&vmm) == 3, "then the device obeys its user", "it is in D%u",
		power(&vmm));
	set_power(&vmm, 0);
	end(&vmm);
}

static void vf(void)
{
	char link[64], *bdf;
	ssize_t len;

	if (bind_driver(PF_BDF, NATIVE) ||
	    write_file("/sys/bus/pci/devices/" PF_BDF "/sriov_numvfs", "1"))
		give_up("making a VF of %s", PF_BDF);
	len = readlink(VF_LINK, link, sizeof(link) - 1);
	if (len < 0)
		give_up(VF_LINK);
	link[len] = 0;
	bdf = strrchr(link, '/') + 1;
	never_fit(bdf, "has SR-IOV in use");
	works(write_file("/sys/bus/pci/devices/" PF_BDF "/sriov_numvfs", "0"),
	      "the VF can go");
	unbind_driver(PF_BDF);
}

void scen_unfit(int stage)
{
	(void)stage;
	keeper_open(&k, NULL);
	never_fit(VGA_BDF, "is a display device");
	power_states();
	vf();
	close(k.luo);
}
