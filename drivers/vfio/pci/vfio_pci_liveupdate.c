// SPDX-License-Identifier: GPL-2.0-only
/*
 * Carry an open device file over a live update
 *
 * What is preserved
 *   The device goes on with its DMA all the time: the PCI core keeps it running,
 *   and the IOMMU core keeps it translating, because the iommufd that it is bound
 *   to is preserved. The file comes back in the next kernel. Once it is bound to
 *   the iommufd that came back, the device is open as it was.
 *
 * What is not preserved
 *   Interrupts. They are off from the reboot on, and the VMM sets them up again
 *   with VFIO_DEVICE_SET_IRQS. Virtualized config space, mappings of BARs, dma-bufs,
 *   ioeventfds and the association with a VM are gone as well.
 *
 * In restored state, which is until the file is finished, the device cannot be
 * opened through another file (vfio_main.c), is not stopped or reset by the open,
 * and stays in D0 (vfio_pci_core.c).
 *
 * Locking: LUO calls all operations under the mutex of the session. Below it, one
 * after the other: what the IOMMU core takes, the lock of the PCI core's live
 * update, and vfio_pci_core_device::memory_lock. The lock of the device is not
 * taken, as it is held while the removal of the driver waits for LUO to put the
 * file, and neither is vfio_device_set::lock, under which VFIO waits for page
 * faults of its users.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": liveupdate: " fmt

#include <linux/crc32.h>
#include <linux/io.h>
#include <linux/iommu-liveupdate.h>
#include <linux/iommufd.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/vfio_pci.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/pci-liveupdate.h>

#include "vfio_pci_priv.h"

static struct vfio_pci_core_device *file_to_vdev(struct file *file)
{
	return container_of(vfio_cdev_file_device(file),
			    struct vfio_pci_core_device, vdev);
}

static u32 ser_crc(const struct vfio_pci_luo_ser *ser)
{
	return crc32_le(~0, (const void *)ser, offsetof(typeof(*ser), crc));
}

static bool vfio_pci_luo_can_preserve(struct liveupdate_file_handler *handler,
				      struct file *file)
{
	struct vfio_device *device = vfio_cdev_file_device(file);

	return device && device->ops == &vfio_pci_ops;
}

/* What the user of the device, or an administrator, can end at any time */
static int check_running(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pdev = vdev->pdev;
	struct vfio_device *device;

	/*
	 * Whoever unbinds the driver holds the lock of the device, and waits for
	 * LUO to put the file. device_shutdown() would wait for that lock.
	 */
	device = vfio_device_get_from_dev(&pdev->dev);
	if (!device) {
		pci_warn(pdev, "live update: is being removed or unbound, it cannot be preserved\n");
		return -ENODEV;
	}
	vfio_device_put_registration(device);

	if (!iommu_device_is_preserved(&pdev->dev)) {
		pci_warn(pdev, "live update: is not attached to a preserved HWPT\n");
		return -ENXIO;
	}

	guard(rwsem_read)(&vdev->memory_lock);

	if (vdev->pm_runtime_engaged) {
		pci_warn(pdev, "live update: its user has put it into low power state, it cannot be preserved\n");
		return -EAGAIN;
	}
	return 0;
}

static int vfio_pci_luo_preserve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_core_device *vdev = file_to_vdev(args->file);
	struct pci_dev *pdev = vdev->pdev;
	struct vfio_pci_luo_ser *ser;
	struct iommufd_ctx *ictx;
	u64 token;
	int rc;

	ictx = vfio_cdev_file_ictx(args->file);
	if (!ictx) {
		pci_warn(pdev, "live update: is not bound to an iommufd by this file\n");
		return -ENOTCONN;
	}

	/* Regions that firmware or other devices have a part in */
	if (vfio_pci_is_vga(pdev) || vfio_pci_is_intel_display(pdev)) {
		pci_warn(pdev, "live update: is a display device, it cannot be preserved\n");
		return -EOPNOTSUPP;
	}

	rc = liveupdate_file_require(args, iommufd_ctx_file(ictx), &token);
	if (rc) {
		pci_warn(pdev, "live update: its iommufd is not preserved in this session, preserve it first: %pe\n",
			 ERR_PTR(rc));
		return rc;
	}

	rc = check_running(vdev);
	if (rc)
		return rc;

	rc = pci_liveupdate_preserve(pdev, vdev->vdev.ops->name);
	if (rc)
		return rc;

	ser = kho_alloc_preserve(sizeof(*ser));
	if (IS_ERR(ser)) {
		pci_liveupdate_unpreserve(pdev);
		return PTR_ERR(ser);
	}

	ser->length = sizeof(*ser);
	ser->segment = pci_domain_nr(pdev->bus);
	ser->bdf = pci_dev_id(pdev);
	ser->vendor = pdev->vendor;
	ser->device = pdev->device;
	ser->reset_works = vdev->reset_works;
	ser->iommufd_token = token;
	ser->crc = ser_crc(ser);

	args->private_data = ser;
	args->serialized_data = virt_to_phys(ser);
	return 0;
}

static void vfio_pci_luo_unpreserve(struct liveupdate_file_op_args *args)
{
	pci_liveupdate_unpreserve(file_to_vdev(args->file)->pdev);
	kho_unpreserve_free(args->private_data);
}

/* The PCI core checks the device itself, and after all files */
static int vfio_pci_luo_freeze(struct liveupdate_file_op_args *args)
{
	return check_running(file_to_vdev(args->file));
}

static struct vfio_pci_luo_ser *get_ser(u64 data)
{
	struct vfio_pci_luo_ser *ser = kho_restorable(data, sizeof(*ser));

	if (ser && ser->crc == ser_crc(ser) && ser->length == sizeof(*ser))
		return ser;

	pr_err("record of a preserved device is damaged\n");
	return NULL;
}

static struct pci_dev *get_pdev(const struct vfio_pci_luo_ser *ser)
{
	struct pci_dev *pdev;

	pdev = pci_liveupdate_get_restored(ser->segment, ser->bdf);
	/* To be able to tell what is wrong */
	if (!pdev)
		pdev = pci_get_domain_bus_and_slot(ser->segment,
						   PCI_BUS_NUM(ser->bdf),
						   ser->bdf & 0xff);
	if (!pdev)
		pr_err("%04x:%02x:%02x.%d (%04x:%04x) was preserved, and is not there\n",
		       ser->segment, PCI_BUS_NUM(ser->bdf), PCI_SLOT(ser->bdf),
		       PCI_FUNC(ser->bdf), ser->vendor, ser->device);
	return pdev;
}

/*
 * The driver override of a restored device lets vfio-pci bind to it as soon as
 * its module is loaded, which LUO does to find this handler. If it is not bound
 * that is still going on, or somebody has unbound it. Binding it here would need
 * the lock of the device.
 */
static struct vfio_device *get_device_of(struct pci_dev *pdev)
{
	struct vfio_device *device;

	device = vfio_device_get_from_dev(&pdev->dev);
	if (device && device->ops == &vfio_pci_ops)
		return device;

	pci_err(pdev, "live update: was preserved, and is not bound to %s\n",
		vfio_pci_ops.name);
	if (device)
		vfio_device_put_registration(device);
	return NULL;
}

static int vfio_pci_luo_retrieve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_luo_ser *ser = get_ser(args->serialized_data);
	struct pci_dev *pdev __free(pci_dev_put) = NULL;
	struct vfio_device *device;
	struct file *file;
	int rc;

	if (!ser)
		return -EBADMSG;

	pdev = get_pdev(ser);
	if (!pdev)
		return -ENODEV;

	if (!pci_liveupdate_restored(pdev)) {
		pci_err(pdev, "live update: did not come through it as a preserved device\n");
		return -ENXIO;
	}

	rc = pci_liveupdate_restored_error(pdev);
	if (rc) {
		pci_err(pdev, "live update: cannot be given back to its user: %pe\n",
			ERR_PTR(rc));
		return rc;
	}

	device = get_device_of(pdev);
	if (!device)
		return -EAGAIN;

	file = vfio_cdev_make_file(device);
	vfio_device_put_registration(device);
	if (IS_ERR(file))
		return PTR_ERR(file);

	/* The open does not find out. Only this file can open the device. */
	file_to_vdev(file)->reset_works = ser->reset_works;
	args->private_data = no_free_ptr(pdev);
	args->file = file;
	return 0;
}

/*
 * LUO finishes the iommufd after this. If nobody has opened the device, it is
 * stopped here, and reaches nothing any more: that is freed soon, whether the
 * iommufd's record says what the device has to do with it or not.
 */
static void vfio_pci_luo_finish(struct liveupdate_file_op_args *args)
{
	struct pci_dev *pdev __free(pci_dev_put) = args->private_data;
	struct vfio_pci_luo_ser *ser;

	/* If the record is damaged, that happens when the PCI core finishes */
	if (!pdev) {
		ser = get_ser(args->serialized_data);
		pdev = ser ? get_pdev(ser) : NULL;
	}
	if (pdev && !pci_liveupdate_finish(pdev))
		iommu_restored_device_release(&pdev->dev);
	kho_restore_free(phys_to_virt(args->serialized_data));
}

static const struct liveupdate_file_ops vfio_pci_luo_file_ops = {
	.can_preserve = vfio_pci_luo_can_preserve,
	.preserve = vfio_pci_luo_preserve,
	.unpreserve = vfio_pci_luo_unpreserve,
	.freeze = vfio_pci_luo_freeze,
	.retrieve = vfio_pci_luo_retrieve,
	.finish = vfio_pci_luo_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler vfio_pci_luo_handler = {
	.ops = &vfio_pci_luo_file_ops,
	.compatible = VFIO_PCI_LUO_FH_COMPATIBLE,
};

/* LUO loads the module by this when a preserved device file is wanted back */
MODULE_ALIAS("luo-" VFIO_PCI_LUO_FH_COMPATIBLE);
MODULE_IMPORT_NS("IOMMUFD");

/**
 * vfio_pci_liveupdate_init() - Let LUO preserve device files
 *
 * Return: 0, also if live update is not enabled, or a negative errno.
 */
int __init vfio_pci_liveupdate_init(void)
{
	int rc;

	rc = liveupdate_register_file_handler(&vfio_pci_luo_handler);
	return rc == -EOPNOTSUPP ? 0 : rc;
}

/**
 * vfio_pci_liveupdate_exit() - Undo vfio_pci_liveupdate_init()
 */
void vfio_pci_liveupdate_exit(void)
{
	liveupdate_unregister_file_handler(&vfio_pci_luo_handler);
}
