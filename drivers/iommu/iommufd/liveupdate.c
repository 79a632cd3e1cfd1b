// SPDX-License-Identifier: GPL-2.0-only
/*
 * Carry an iommufd over a live update
 *
 * What is preserved
 *   Each HWPT_PAGING object that is attached to a device, as a token and the
 *   domain behind it, and those devices. The domain goes on translating all the
 *   time. In the new kernel the file lists the HWPTs, until it is finished.
 *
 * What is not preserved
 *   IOAS objects, their mappings, HWPTs that are not attached, and bindings of
 *   devices. The VMM makes them again in the iommufd that it gets back, which is
 *   the only one that can bind the devices. What it attaches to them takes over
 *   when the file is finished, after it was found to translate alike.
 *
 * What is refused, because it could not be carried
 *   Mappings that are not of a memfd which was preserved in the same session
 *   before, HWPTs that track dirty pages or can be the parent of nested ones,
 *   PASIDs of a device to which nothing else is attached, no-IOMMU mode, and an
 *   iommufd with access, fault, nested HWPT or vIOMMU objects in it. What the
 *   IOMMU core and driver refuse comes on top.
 *
 * From preserve to unpreserve, and while the file is being finished, the IOAS of
 * such a HWPT cannot be changed (io_pagetable.c), the HWPT cannot be destroyed, and
 * no device can be attached to it (device.c).
 *
 * Locking: LUO calls all operations under the mutex of the session. Below it,
 * one after the other: iommufd_group::lock, io_pagetable::domains_rwsem with
 * iova_rwsem, iommufd_ioas::mutex, and what the IOMMU core takes.
 * iommufd_ctx::restored_lock protects a pointer, nothing is taken under it.
 */
#define pr_fmt(fmt) "iommufd: liveupdate: " fmt

#include <linux/anon_inodes.h>
#include <linux/crc32.h>
#include <linux/file.h>
#include <linux/generic_pt/iommu.h>
#include <linux/io.h>
#include <linux/iommu-liveupdate.h>
#include <linux/iommufd.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/iommufd.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <uapi/linux/iommufd.h>

#include "io_pagetable.h"
#include "iommufd_private.h"

/**
 * struct iommufd_luo_hwpt - A HWPT that is being preserved
 * @list: Entry in &iommufd_luo.hwpts
 * @hwpt: The HWPT, with a reference to users
 * @domain_id: Id of its domain in the next kernel
 * @ioas_frozen: Its IOAS has been frozen for it
 * @domain_preserved: Its domain is preserved
 */
struct iommufd_luo_hwpt {
	struct list_head list;
	struct iommufd_hwpt_paging *hwpt;
	u32 domain_id;
	bool ioas_frozen;
	bool domain_preserved;
};

/**
 * struct iommufd_luo_device - A device, or a PASID of it, that is being preserved
 * @list: Entry in &iommufd_luo.devices, that of the device before its PASIDs
 * @dev: The device, with a reference
 * @id: Id of its object
 * @pasid: What is attached is attached to this PASID, or to IOMMU_NO_PASID
 * @domain: What is attached to it
 * @preserved: It is preserved in the IOMMU core. Not used when finishing
 */
struct iommufd_luo_device {
	struct list_head list;
	struct device *dev;
	u32 id;
	ioasid_t pasid;
	struct iommu_domain *domain;
	bool preserved;
};

/**
 * struct iommufd_luo - An iommufd that is being preserved or finished
 * @args: The arguments of the operation that is going on
 * @ictx: The iommufd
 * @finishing: Only devices in restored state count, with what is staged for them
 * @hwpts: List of &struct iommufd_luo_hwpt
 * @nr_hwpts: Length of @hwpts
 * @devices: List of &struct iommufd_luo_device
 * @nr_devices: Length of @devices
 * @ser: What is handed over
 */
struct iommufd_luo {
	struct liveupdate_file_op_args *args;
	struct iommufd_ctx *ictx;
	bool finishing;
	struct list_head hwpts;
	unsigned int nr_hwpts;
	struct list_head devices;
	unsigned int nr_devices;
	struct iommufd_luo_ser *ser;
};

/* Objects that cannot be carried; a VMM tells the reasons by the errno */
static const struct {
	const char *name;
	int err;
} iommufd_luo_refused[IOMMUFD_OBJ_MAX] = {
	[IOMMUFD_OBJ_HWPT_NESTED] = { "nested HWPT", -EMULTIHOP },
	[IOMMUFD_OBJ_ACCESS] = { "access", -EUSERS },
	[IOMMUFD_OBJ_FAULT] = { "fault queue", -EPROTONOSUPPORT },
	[IOMMUFD_OBJ_VIOMMU] = { "vIOMMU", -EMULTIHOP },
	[IOMMUFD_OBJ_VDEVICE] = { "vDEVICE", -EMULTIHOP },
	[IOMMUFD_OBJ_VEVENTQ] = { "vEVENTQ", -EMULTIHOP },
	[IOMMUFD_OBJ_HW_QUEUE] = { "hardware queue", -EMULTIHOP },
};

static int check_objects(struct iommufd_ctx *ictx)
{
	struct iommufd_object *obj;
	unsigned long index;
	int rc = 0;

	if (ictx->no_iommu_mode) {
		pr_warn("no-IOMMU mode cannot be preserved\n");
		return -EOPNOTSUPP;
	}

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		rc = iommufd_luo_refused[obj->type].err;
		if (rc) {
			pr_warn("object %u is a %s, it cannot be preserved\n",
				obj->id, iommufd_luo_refused[obj->type].name);
			break;
		}
	}
	xa_unlock(&ictx->objects);
	return rc;
}

static struct iommufd_luo_hwpt *find_hwpt(struct iommufd_luo *luo,
					  struct iommufd_hwpt_paging *hwpt)
{
	struct iommufd_luo_hwpt *lhwpt;

	list_for_each_entry(lhwpt, &luo->hwpts, list)
		if (lhwpt->hwpt == hwpt)
			return lhwpt;
	return NULL;
}

static int check_hwpt(struct iommufd_luo *luo, struct iommufd_hwpt_paging *hwpt)
{
	const char *reason;
	int rc;

	if (luo->finishing)
		return 0;

	if (hwpt->common.fault) {
		reason = "handles I/O page faults";
		rc = -EPROTONOSUPPORT;
	} else if (hwpt->nest_parent) {
		reason = "can be the parent of nested ones";
		rc = -EMULTIHOP;
	} else if (READ_ONCE(hwpt->dirty_tracking)) {
		reason = "tracks dirty pages";
		rc = -EINPROGRESS;
	} else {
		return 0;
	}

	pr_warn("HWPT %u %s, it cannot be preserved\n", hwpt->common.obj.id,
		reason);
	return rc;
}

/* igroup->lock is held, so that the HWPT stays attached meanwhile */
static int add_hwpt(struct iommufd_luo *luo, struct iommufd_hwpt_paging *hwpt)
{
	struct iommufd_luo_hwpt *lhwpt;
	int rc;

	if (find_hwpt(luo, hwpt))
		return 0;

	rc = check_hwpt(luo, hwpt);
	if (rc)
		return rc;

	lhwpt = kzalloc_obj(*lhwpt, GFP_KERNEL_ACCOUNT);
	if (!lhwpt)
		return -ENOMEM;

	/* One that is still being made by its first attach may be gone soon */
	rc = iommufd_try_inc_users(luo->ictx, &hwpt->common.obj);
	if (rc) {
		pr_warn("HWPT %u is being allocated, it cannot be preserved\n",
			hwpt->common.obj.id);
		kfree(lhwpt);
		return rc;
	}

	/* From here on no attach begins, and the token stays */
	xa_lock(&luo->ictx->objects);
	WRITE_ONCE(hwpt->preserved, true);
	xa_unlock(&luo->ictx->objects);
	lhwpt->hwpt = hwpt;
	list_add_tail(&lhwpt->list, &luo->hwpts);
	luo->nr_hwpts++;
	return 0;
}

static int add_attach(struct iommufd_luo *luo, struct iommufd_device *idev,
		      ioasid_t pasid, struct iommufd_attach *attach)
{
	struct iommufd_luo_device *ldev;
	int rc;

	/* Only what is attached to take over from what was inherited */
	if (luo->finishing &&
	    !iommu_restored_device_staged(idev->dev, pasid, attach->hwpt->domain))
		return 0;

	if (!hwpt_is_paging(attach->hwpt)) {
		dev_warn(idev->dev, "live update: a nested HWPT is attached, it cannot be preserved\n");
		return -EMULTIHOP;
	}

	rc = add_hwpt(luo, to_hwpt_paging(attach->hwpt));
	if (rc)
		return rc;

	/* An earlier walk has seen it */
	list_for_each_entry(ldev, &luo->devices, list)
		if (ldev->dev == idev->dev && ldev->pasid == pasid)
			return 0;

	ldev = kzalloc_obj(*ldev, GFP_KERNEL_ACCOUNT);
	if (!ldev)
		return -ENOMEM;

	ldev->dev = get_device(idev->dev);
	ldev->id = idev->obj.id;
	ldev->pasid = pasid;
	ldev->domain = attach->hwpt->domain;
	list_add_tail(&ldev->list, &luo->devices);
	luo->nr_devices++;
	return 0;
}

static int add_device(struct iommufd_luo *luo, struct iommufd_device *idev)
{
	struct iommufd_group *igroup = idev->igroup;
	struct iommufd_attach *attach;
	unsigned long pasid;
	int rc;

	guard(mutex)(&igroup->lock);

	/* IOMMU_NO_PASID is the first one */
	xa_for_each(&igroup->pasid_attach, pasid, attach) {
		if (!xa_load(&attach->device_array, idev->obj.id))
			continue;
		if (!luo->finishing &&
		    !xa_load(&igroup->pasid_attach, IOMMU_NO_PASID)) {
			dev_warn(idev->dev, "live update: only PASIDs of it are attached, it cannot be preserved\n");
			return -EADDRINUSE;
		}
		rc = add_attach(luo, idev, pasid, attach);
		if (rc)
			return rc;
	}
	return 0;
}

/* Find the devices that are attached, and what to, by one walk over all */
static int walk_devices(struct iommufd_luo *luo)
{
	struct iommufd_ctx *ictx = luo->ictx;
	struct iommufd_object *obj;
	unsigned long index = 0;
	int rc = 0;

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		if (obj->type != IOMMUFD_OBJ_DEVICE || !iommufd_lock_obj(obj))
			continue;
		xa_unlock(&ictx->objects);

		rc = add_device(luo, container_of(obj, struct iommufd_device, obj));

		iommufd_put_object(ictx, obj);
		if (rc)
			return rc;
		xa_lock(&ictx->objects);
	}
	xa_unlock(&ictx->objects);
	return 0;
}

/*
 * An attach that looked before its HWPT was marked in add_hwpt() is complete
 * when the walk takes the lock of its group once more.
 */
static int collect_devices(struct iommufd_luo *luo)
{
	unsigned int nr_hwpts;
	int rc;

	do {
		nr_hwpts = luo->nr_hwpts;
		rc = walk_devices(luo);
	} while (!rc && luo->nr_hwpts != nr_hwpts);
	return rc;
}

static void warn_area(struct iopt_area *area, const char *reason)
{
	pr_warn("IOVA %#lx-%#lx %s, it cannot be preserved\n",
		iopt_area_iova(area), iopt_area_last_iova(area), reason);
}

struct check_pages {
	struct address_space *mapping;
	loff_t pos;
};

/* The pages are pinned, so they are what they were when they were mapped */
static int check_run(phys_addr_t phys, u64 len, void *data)
{
	unsigned long last = PHYS_PFN(phys + len - 1);
	unsigned long pfn = PHYS_PFN(phys);
	struct check_pages *check = data;
	pgoff_t index = check->pos >> PAGE_SHIFT;
	struct folio *folio;
	struct page *page;
	unsigned long n;

	if (offset_in_page(phys) != offset_in_page(check->pos))
		return -ESTALE;
	check->pos += len;

	do {
		page = pfn_to_page(pfn);
		folio = page_folio(page);
		n = 1;
		if (folio_test_large(folio)) {
			n = folio_page_idx(folio, page);
			index -= n;
			pfn -= n;
			n = folio_nr_pages(folio);
		}
		if (READ_ONCE(folio->mapping) != check->mapping ||
		    folio->index != index)
			return -ESTALE;
		index += n;
		pfn += n;
	} while (pfn <= last);
	return 0;
}

/*
 * A hole may have been punched into the memfd after its pages were pinned for
 * the mapping. Then it is not those pages that LUO preserves. Asking the page
 * cache for each page would take many times as long as all the rest.
 */
static int check_pages(struct iopt_area *area, struct iommu_domain *domain)
{
	struct pt_iommu *table = iommupt_from_domain(domain);
	unsigned long iova = iopt_area_iova(area);
	struct check_pages check = {
		.mapping = area->pages->file->f_mapping,
		.pos = area->pages->start + iopt_area_start_byte(area, iova),
	};

	/* Nor can it be preserved */
	if (!table || !table->ops->walk_runs)
		return -EOPNOTSUPP;
	return table->ops->walk_runs(table, iova, iopt_area_length(area),
				     check_run, &check);
}

/* Called by iopt_freeze() for each area */
static int check_area(struct iopt_area *area, struct iommu_domain *domain,
		      void *data)
{
	struct iommufd_luo *luo = data;
	u64 token;
	int rc;

	if (area->pages->type != IOPT_ADDRESS_FILE) {
		warn_area(area, area->pages->type == IOPT_ADDRESS_DMABUF ?
			  "maps a dma-buf" : "maps memory of a process");
		return -EMEDIUMTYPE;
	}

	rc = liveupdate_file_require(luo->args, area->pages->file, &token);
	if (rc) {
		warn_area(area, "maps a file that is not preserved in this session");
		return rc;
	}

	rc = check_pages(area, domain);
	if (rc == -ESTALE)
		warn_area(area, "maps pages that are not in its file any more");
	else if (rc)
		warn_area(area, "is in a page table that cannot be read");
	return rc;
}

static int preserve_hwpts(struct iommufd_luo *luo)
{
	struct iommufd_luo_hwpt *lhwpt;
	int rc;

	list_for_each_entry(lhwpt, &luo->hwpts, list) {
		struct iommufd_hwpt_paging *hwpt = lhwpt->hwpt;

		rc = iopt_freeze(&hwpt->ioas->iopt, hwpt->common.domain,
				 check_area, luo);
		if (rc)
			return rc;
		lhwpt->ioas_frozen = true;

		/* What was checked before cannot change any more */
		scoped_guard(mutex, &hwpt->ioas->mutex)
			rc = check_hwpt(luo, hwpt);
		if (rc)
			return rc;

		rc = iommu_domain_preserve(hwpt->common.domain,
					   &lhwpt->domain_id);
		if (rc) {
			pr_warn("HWPT %u cannot be preserved by its IOMMU: %pe\n",
				hwpt->common.obj.id, ERR_PTR(rc));
			return rc;
		}
		lhwpt->domain_preserved = true;
	}
	return 0;
}

static int preserve_device(struct iommufd_luo *luo,
			   struct iommufd_luo_device *ldev)
{
	struct iommufd_object *obj;
	int rc = -ENODEV;

	/* While it is held the device stays bound, and its IOMMU data stays */
	obj = iommufd_get_object(luo->ictx, ldev->id, IOMMUFD_OBJ_DEVICE);
	if (!IS_ERR(obj)) {
		if (container_of(obj, struct iommufd_device, obj)->dev == ldev->dev)
			rc = iommu_device_preserve(ldev->dev, ldev->pasid,
						   ldev->domain);
		iommufd_put_object(luo->ictx, obj);
	}

	if (rc == -ENODEV)
		dev_warn(ldev->dev, "live update: was unbound meanwhile, it cannot be preserved\n");
	return rc;
}

static int preserve_devices(struct iommufd_luo *luo)
{
	unsigned int nr_devices = luo->nr_devices, nr_hwpts = luo->nr_hwpts;
	struct iommufd_luo_device *ldev;
	int rc;

	list_for_each_entry(ldev, &luo->devices, list) {
		rc = preserve_device(luo, ldev);
		if (rc)
			return rc;
		ldev->preserved = true;
	}

	/*
	 * To what is preserved nothing can be attached any more. What has been
	 * detached since may be attached to something else.
	 */
	rc = walk_devices(luo);
	if (!rc && (luo->nr_devices != nr_devices || luo->nr_hwpts != nr_hwpts)) {
		pr_warn("something was attached meanwhile, it cannot be preserved\n");
		rc = -EBUSY;
	}
	return rc;
}

static u32 header_crc(struct iommufd_luo_ser *ser)
{
	return crc32_le(~0, (void *)ser, offsetof(typeof(*ser), crc));
}

static u32 hwpts_crc(struct iommufd_luo_ser *ser)
{
	return crc32_le(~0, (void *)ser->hwpts,
			flex_array_size(ser, hwpts, ser->nr_hwpts));
}

static int write_ser(struct iommufd_luo *luo)
{
	struct iommufd_luo_hwpt *lhwpt;
	struct iommufd_luo_ser *ser;
	unsigned int i;

	ser = kho_alloc_preserve(struct_size(ser, hwpts, luo->nr_hwpts));
	if (IS_ERR(ser))
		return PTR_ERR(ser);
	luo->ser = ser;

	ser->length = struct_size(ser, hwpts, luo->nr_hwpts);
	list_for_each_entry(lhwpt, &luo->hwpts, list) {
		struct iommufd_hwpt_ser *hser = &ser->hwpts[ser->nr_hwpts];

		hser->token = lhwpt->hwpt->token;
		hser->domain_id = lhwpt->domain_id;
		hser->alloc_flags = lhwpt->hwpt->alloc_flags;
		for (i = 0; i < ser->nr_hwpts; i++) {
			if (ser->hwpts[i].token == hser->token) {
				pr_warn("two HWPTs have the token %#llx\n",
					hser->token);
				return -EEXIST;
			}
		}
		ser->nr_hwpts++;
	}
	ser->hwpts_crc = hwpts_crc(ser);
	ser->crc = header_crc(ser);
	return 0;
}

/* Undo as much of a preserve as was done */
static void iommufd_luo_free(struct iommufd_luo *luo)
{
	struct iommufd_luo_device *ldev, *next_dev;
	struct iommufd_luo_hwpt *lhwpt, *next_hwpt;

	list_for_each_entry_safe_reverse(ldev, next_dev, &luo->devices, list) {
		if (ldev->preserved)
			iommu_device_unpreserve(ldev->dev, ldev->pasid,
						ldev->domain);
		put_device(ldev->dev);
		kfree(ldev);
	}

	list_for_each_entry_safe_reverse(lhwpt, next_hwpt, &luo->hwpts, list) {
		struct iommufd_hwpt_paging *hwpt = lhwpt->hwpt;

		if (lhwpt->domain_preserved)
			iommu_domain_unpreserve(hwpt->common.domain);
		if (lhwpt->ioas_frozen)
			iopt_unfreeze(&hwpt->ioas->iopt);
		WRITE_ONCE(hwpt->preserved, false);
		iommufd_hw_pagetable_put(luo->ictx, &hwpt->common);
		kfree(lhwpt);
	}

	if (luo->ser)
		kho_unpreserve_free(luo->ser);
	kfree(luo);
}

static struct iommufd_luo *iommufd_luo_alloc(struct liveupdate_file_op_args *args)
{
	struct iommufd_luo *luo;

	luo = kzalloc_obj(*luo, GFP_KERNEL_ACCOUNT);
	if (!luo)
		return NULL;
	luo->args = args;
	luo->ictx = args->file->private_data;
	INIT_LIST_HEAD(&luo->hwpts);
	INIT_LIST_HEAD(&luo->devices);
	return luo;
}

static bool iommufd_luo_can_preserve(struct liveupdate_file_handler *handler,
				     struct file *file)
{
	struct iommufd_ctx *ictx = iommufd_ctx_from_file(file);

	if (IS_ERR(ictx))
		return false;
	iommufd_ctx_put(ictx);
	return true;
}

static int iommufd_luo_preserve(struct liveupdate_file_op_args *args)
{
	struct iommufd_luo *luo;
	int rc;

	rc = check_objects(args->file->private_data);
	if (rc)
		return rc;

	luo = iommufd_luo_alloc(args);
	if (!luo)
		return -ENOMEM;

	rc = collect_devices(luo);
	if (rc)
		goto err_free;
	rc = preserve_hwpts(luo);
	if (rc)
		goto err_free;
	rc = preserve_devices(luo);
	if (rc)
		goto err_free;
	rc = write_ser(luo);
	if (rc)
		goto err_free;

	luo->args = NULL;
	args->private_data = luo;
	args->serialized_data = virt_to_phys(luo->ser);
	return 0;

err_free:
	iommufd_luo_free(luo);
	return rc;
}

static void iommufd_luo_unpreserve(struct liveupdate_file_op_args *args)
{
	iommufd_luo_free(args->private_data);
}

static struct iommufd_luo_ser *get_ser(u64 data)
{
	struct iommufd_luo_ser *ser = kho_restorable(data, sizeof(*ser));

	if (ser && ser->crc == header_crc(ser) &&
	    ser->length == struct_size(ser, hwpts, ser->nr_hwpts) &&
	    kho_restorable(data, ser->length) &&
	    ser->hwpts_crc == hwpts_crc(ser))
		return ser;

	pr_err("record of a preserved iommufd is damaged\n");
	return NULL;
}

static int iommufd_luo_retrieve(struct liveupdate_file_op_args *args)
{
	struct iommufd_luo_ser *ser = get_ser(args->serialized_data);
	struct iommufd_luo_ser *restored;
	struct iommufd_ctx *ictx;
	struct file *file;
	u32 i;

	if (!ser)
		return -EBADMSG;

	restored = kmemdup(ser, ser->length, GFP_KERNEL_ACCOUNT);
	if (!restored)
		return -ENOMEM;

	file = iommufd_anon_file();
	if (IS_ERR(file)) {
		kfree(restored);
		return PTR_ERR(file);
	}

	ictx = file->private_data;
	ictx->restored = restored;
	/* LUO holds the file until it is finished, when the domains are released */
	for (i = 0; i < ser->nr_hwpts; i++)
		iommu_restored_domain_set_owner(ser->hwpts[i].domain_id, ictx);
	args->file = file;
	return 0;
}

/*
 * A dma-buf can be revoked by its exporter at any time, which changes the domain,
 * and cannot be refused.
 */
static int check_area_finish(struct iopt_area *area,
			     struct iommu_domain *domain, void *data)
{
	if (area->pages->type != IOPT_ADDRESS_DMABUF)
		return 0;
	pr_warn("IOVA %#lx-%#lx maps a dma-buf, it cannot be finished\n",
		iopt_area_iova(area), iopt_area_last_iova(area));
	return -EMEDIUMTYPE;
}

static int verify_devices(struct iommufd_luo *luo)
{
	struct iommufd_luo_device *ldev;
	struct iommufd_luo_hwpt *lhwpt;
	int rc;

	list_for_each_entry(lhwpt, &luo->hwpts, list) {
		struct iommufd_hwpt_paging *hwpt = lhwpt->hwpt;

		rc = iopt_freeze(&hwpt->ioas->iopt, hwpt->common.domain,
				 check_area_finish, NULL);
		if (rc)
			return rc;
		lhwpt->ioas_frozen = true;
	}

	list_for_each_entry(ldev, &luo->devices, list) {
		rc = iommu_restored_device_verify(ldev->dev, ldev->pasid,
						  ldev->domain);
		if (rc)
			return rc;
	}
	return 0;
}

static void abort_finish(struct iommufd_luo *luo)
{
	struct iommufd_luo_ser *restored = luo->ictx->restored;
	u32 i;

	for (i = 0; i < restored->nr_hwpts; i++)
		iommu_restored_domain_abort_finish(restored->hwpts[i].domain_id);
	iommufd_luo_free(luo);
}

/* Takes long where much is mapped. DMA goes on meanwhile. */
static int iommufd_luo_finish_prepare(struct liveupdate_file_op_args *args)
{
	struct iommufd_luo_ser *restored;
	struct iommufd_luo *luo;
	int rc;
	u32 i;

	/* Nobody could attach anything */
	if (!args->file)
		return 0;

	luo = iommufd_luo_alloc(args);
	if (!luo)
		return -ENOMEM;
	luo->finishing = true;

	restored = luo->ictx->restored;
	for (i = 0; i < restored->nr_hwpts; i++)
		iommu_restored_domain_begin_finish(restored->hwpts[i].domain_id);

	rc = collect_devices(luo);
	if (!rc)
		rc = verify_devices(luo);
	if (rc) {
		abort_finish(luo);
		return rc;
	}

	luo->args = NULL;
	args->private_data = luo;
	return 0;
}

static void iommufd_luo_finish_abort(struct liveupdate_file_op_args *args)
{
	if (!args->private_data)
		return;
	abort_finish(args->private_data);
	args->private_data = NULL;
}

static void forget_restored(struct iommufd_ctx *ictx)
{
	guard(mutex)(&ictx->restored_lock);
	kfree(ictx->restored);
	ictx->restored = NULL;
}

static void iommufd_luo_finish(struct liveupdate_file_op_args *args)
{
	struct iommufd_ctx *ictx = args->file ? args->file->private_data : NULL;
	struct iommufd_luo_ser *ser;
	u32 i;

	/* The copy has been checked */
	ser = ictx ? ictx->restored : get_ser(args->serialized_data);
	if (ser) {
		for (i = 0; i < ser->nr_hwpts; i++)
			iommu_restored_domain_release(ser->hwpts[i].domain_id);
	} else {
		/*
		 * Which domains are its own cannot be known, and the memory
		 * that they map is freed next.
		 */
		iommu_restored_release_unowned();
	}

	/* Only now may what took over be changed */
	if (args->private_data)
		iommufd_luo_free(args->private_data);
	if (ictx)
		forget_restored(ictx);
	kho_restore_free(phys_to_virt(args->serialized_data));
}

static const struct liveupdate_file_ops iommufd_luo_file_ops = {
	.can_preserve = iommufd_luo_can_preserve,
	.preserve = iommufd_luo_preserve,
	.unpreserve = iommufd_luo_unpreserve,
	.retrieve = iommufd_luo_retrieve,
	.finish_prepare = iommufd_luo_finish_prepare,
	.finish_abort = iommufd_luo_finish_abort,
	.finish = iommufd_luo_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler iommufd_luo_handler = {
	.ops = &iommufd_luo_file_ops,
	.compatible = IOMMUFD_LUO_FH_COMPATIBLE,
};

/* LUO loads the module by this when a preserved iommufd is wanted back */
MODULE_ALIAS("luo-" IOMMUFD_LUO_FH_COMPATIBLE);

/**
 * iommufd_hwpt_set_token() - IOMMU_HWPT_LIVEUPDATE_SET_TOKEN
 * @ucmd: The command
 *
 * Return: 0, -ENOENT if there is no such HWPT_PAGING, -EEXIST if another one has
 * the token, -EBUSY if the HWPT is preserved.
 */
int iommufd_hwpt_set_token(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_liveupdate_set_token *cmd = ucmd->cmd;
	struct iommufd_ctx *ictx = ucmd->ictx;
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_object *obj;
	unsigned long index;
	int rc = 0;

	hwpt = iommufd_get_hwpt_paging(ucmd, cmd->hwpt_id);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);

	xa_lock(&ictx->objects);
	xa_for_each(&ictx->objects, index, obj) {
		if (obj->type == IOMMUFD_OBJ_HWPT_PAGING &&
		    obj != &hwpt->common.obj &&
		    container_of(obj, struct iommufd_hwpt_paging,
				 common.obj)->token == cmd->token)
			rc = -EEXIST;
	}
	if (READ_ONCE(hwpt->preserved))
		rc = -EBUSY;
	if (!rc)
		hwpt->token = cmd->token;
	xa_unlock(&ictx->objects);

	iommufd_put_object(ictx, &hwpt->common.obj);
	return rc;
}

static struct iommufd_luo_ser *copy_restored(struct iommufd_ctx *ictx)
{
	guard(mutex)(&ictx->restored_lock);

	if (!ictx->restored)
		return NULL;
	return kmemdup(ictx->restored, ictx->restored->length,
		       GFP_KERNEL_ACCOUNT) ?: ERR_PTR(-ENOMEM);
}

/**
 * iommufd_list_restored_hwpts() - IOMMU_LIVEUPDATE_LIST_HWPTS
 * @ucmd: The command
 *
 * Return: 0, -EOPNOTSUPP for unknown flags, -EINVAL if entries are shorter than
 * they have ever been, -E2BIG if they are longer than a page, -EMSGSIZE if there
 * are more HWPTs than there is room for, -ENOMEM, -EFAULT.
 */
int iommufd_list_restored_hwpts(struct iommufd_ucmd *ucmd)
{
	struct iommu_liveupdate_list_hwpts *cmd = ucmd->cmd;
	void __user *uptr = u64_to_user_ptr(cmd->hwpts);
	struct iommufd_luo_ser *restored __free(kfree) = NULL;
	u32 room = cmd->count;
	u32 i;
	int rc;

	if (cmd->flags)
		return -EOPNOTSUPP;
	if (cmd->entry_len < sizeof(struct iommu_liveupdate_hwpt))
		return -EINVAL;
	if (cmd->entry_len > PAGE_SIZE)
		return -E2BIG;

	/* Whoever finishes must not wait for this user's page faults */
	restored = copy_restored(ucmd->ictx);
	if (IS_ERR(restored))
		return PTR_ERR(restored);

	cmd->count = restored ? restored->nr_hwpts : 0;
	for (i = 0; i < min(room, cmd->count); i++) {
		const struct iommufd_hwpt_ser *ser = &restored->hwpts[i];
		struct iommu_liveupdate_hwpt hwpt = {
			.token = ser->token,
			.alloc_flags = ser->alloc_flags,
			.nr_devices = iommu_restored_domain_devices(ser->domain_id),
		};

		rc = copy_struct_to_user(uptr, cmd->entry_len, &hwpt,
					 sizeof(hwpt), NULL);
		if (rc)
			return rc;
		uptr += cmd->entry_len;
	}

	rc = iommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc)
		return rc;
	return room < cmd->count ? -EMSGSIZE : 0;
}

/**
 * iommufd_liveupdate_init() - Let LUO preserve iommufds
 *
 * Return: 0, also if live update is not enabled, or a negative errno.
 */
int __init iommufd_liveupdate_init(void)
{
	int rc;

	rc = liveupdate_register_file_handler(&iommufd_luo_handler);
	return rc == -EOPNOTSUPP ? 0 : rc;
}

/**
 * iommufd_liveupdate_exit() - Undo iommufd_liveupdate_init()
 */
void iommufd_liveupdate_exit(void)
{
	liveupdate_unregister_file_handler(&iommufd_luo_handler);
}
