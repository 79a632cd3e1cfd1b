// SPDX-License-Identifier: GPL-2.0
/*
 * The part of a VMM that this is about: guest memory in memfds, an iommufd with
 * one IOAS and one HWPT, and a VFIO device attached to it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define MAP_RW	(IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | \
		 IOMMU_IOAS_MAP_WRITEABLE)

#define STORE_OFF	0x1fe000	/* in BIG, where vmm_dma_works() puts it */

static int sys_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

static int find_cdev(const char *bdf, char *path, size_t len)
{
	char dir[128];
	struct dirent *de;
	DIR *d;

	snprintf(dir, sizeof(dir), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	d = opendir(dir);
	if (!d)
		return -errno;
	while ((de = readdir(d)))
		if (!strncmp(de->d_name, "vfio", 4))
			break;
	if (de)
		snprintf(path, len, "/dev/vfio/devices/%.32s", de->d_name);
	closedir(d);
	return de ? 0 : -ENOENT;
}

int vfio_open_device(struct vmm *vmm)
{
	char path[64];
	int ret;

	ret = bind_driver(vmm->edu.bdf, "vfio-pci");
	if (ret)
		return ret;
	ret = find_cdev(vmm->edu.bdf, path, sizeof(path));
	if (ret)
		return ret;
	vmm->dev = open(path, O_RDWR | O_CLOEXEC);
	return vmm->dev < 0 ? -errno : 0;
}

int vfio_bind(struct vmm *vmm)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind), .iommufd = vmm->iommufd,
	};
	int ret = sys_ioctl(vmm->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind);

	vmm->dev_id = bind.out_devid;
	return ret;
}

/* Also makes the device a bus master: VFIO hands it out without. */
int vfio_map_bar(struct vmm *vmm)
{
	struct vfio_region_info info, bar = {};
	uint16_t cmd;
	unsigned int i;
	void *va;
	int ret;

	for (i = VFIO_PCI_BAR0_REGION_INDEX; i <= VFIO_PCI_BAR5_REGION_INDEX; i++) {
		info = (struct vfio_region_info){ .argsz = sizeof(info), .index = i };
		ret = sys_ioctl(vmm->dev, VFIO_DEVICE_GET_REGION_INFO, &info);
		if (ret)
			return ret;
		if (info.size > bar.size)
			bar = info;
	}
	va = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, vmm->dev,
		  bar.offset);
	if (va == MAP_FAILED)
		return -errno;
	vmm->edu.bar = va;
	vmm->bar = bar.index - VFIO_PCI_BAR0_REGION_INDEX;
	vmm->bar_len = bar.size;
	ret = vfio_config(vmm, false, PCI_COMMAND, &cmd, 2);
	if (ret)
		return ret;
	cmd |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	return vfio_config(vmm, true, PCI_COMMAND, &cmd, 2);
}

int vfio_attach(struct vmm *vmm, uint32_t pt_id)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach), .pt_id = pt_id,
	};

	return sys_ioctl(vmm->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

int vfio_detach(struct vmm *vmm)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	return sys_ioctl(vmm->dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

int vfio_attach_pasid(struct vmm *vmm, uint32_t pasid, uint32_t pt_id)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach), .flags = VFIO_DEVICE_ATTACH_PASID,
		.pt_id = pt_id, .pasid = pasid,
	};

	return sys_ioctl(vmm->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

int vfio_detach_pasid(struct vmm *vmm, uint32_t pasid)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach), .flags = VFIO_DEVICE_DETACH_PASID,
		.pasid = pasid,
	};

	return sys_ioctl(vmm->dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

int vfio_reset(struct vmm *vmm)
{
	return sys_ioctl(vmm->dev, VFIO_DEVICE_RESET, NULL);
}

int vfio_low_power(struct vmm *vmm, bool enter)
{
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_SET |
			 (enter ? VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY :
				  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT),
	};

	return sys_ioctl(vmm->dev, VFIO_DEVICE_FEATURE, &feature);
}

int vfio_config(struct vmm *vmm, bool write, unsigned int off, void *val,
		unsigned int len)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	ssize_t n;
	int ret;

	ret = sys_ioctl(vmm->dev, VFIO_DEVICE_GET_REGION_INFO, &config);
	if (ret)
		return ret;
	n = write ? pwrite(vmm->dev, val, len, config.offset + off) :
		    pread(vmm->dev, val, len, config.offset + off);
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -EIO;
	return 0;
}

int iommufd_open(struct vmm *vmm)
{
	vmm->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	return vmm->iommufd < 0 ? -errno : 0;
}

int ioas_alloc(struct vmm *vmm)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	int ret = sys_ioctl(vmm->iommufd, IOMMU_IOAS_ALLOC, &alloc);

	vmm->ioas = alloc.out_ioas_id;
	return ret;
}

static int map_file(struct vmm *vmm, const struct mem *mem, uint64_t off,
		    uint64_t iova, uint64_t len, uint32_t flags)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = flags, .ioas_id = vmm->ioas,
		.fd = mem->fd, .start = off, .length = len, .iova = iova,
	};

	return sys_ioctl(vmm->iommufd, IOMMU_IOAS_MAP_FILE, &map);
}

int ioas_map_file(struct vmm *vmm, const struct mem *mem, uint64_t off,
		  uint64_t iova, uint64_t len)
{
	return map_file(vmm, mem, off, iova, len, MAP_RW);
}

int ioas_map_file_ro(struct vmm *vmm, const struct mem *mem, uint64_t off,
		     uint64_t iova, uint64_t len)
{
	return map_file(vmm, mem, off, iova, len,
			MAP_RW & ~IOMMU_IOAS_MAP_WRITEABLE);
}

int ioas_map_anon(struct vmm *vmm, void *va, uint64_t iova, uint64_t len)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map), .flags = MAP_RW, .ioas_id = vmm->ioas,
		.user_va = (uintptr_t)va, .length = len, .iova = iova,
	};

	return sys_ioctl(vmm->iommufd, IOMMU_IOAS_MAP, &map);
}

int ioas_copy(struct vmm *vmm, uint32_t from, uint64_t src, uint64_t iova,
	      uint64_t len)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy), .flags = MAP_RW, .dst_ioas_id = vmm->ioas,
		.src_ioas_id = from, .length = len, .dst_iova = iova,
		.src_iova = src,
	};

	return sys_ioctl(vmm->iommufd, IOMMU_IOAS_COPY, &copy);
}

int iommufd_change_process(struct vmm *vmm)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };

	return sys_ioctl(vmm->iommufd, IOMMU_IOAS_CHANGE_PROCESS, &change);
}

int ioas_unmap(struct vmm *vmm, uint64_t iova, uint64_t len)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = vmm->ioas, .iova = iova,
		.length = len,
	};

	return sys_ioctl(vmm->iommufd, IOMMU_IOAS_UNMAP, &unmap);
}

int hwpt_alloc(struct vmm *vmm, uint32_t flags)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = flags, .dev_id = vmm->dev_id,
		.pt_id = vmm->ioas,
	};
	int ret = sys_ioctl(vmm->iommufd, IOMMU_HWPT_ALLOC, &alloc);

	vmm->hwpt = alloc.out_hwpt_id;
	return ret;
}

int hwpt_set_token(struct vmm *vmm, uint32_t hwpt, uint64_t token)
{
	struct iommu_hwpt_liveupdate_set_token set = {
		.size = sizeof(set), .hwpt_id = hwpt, .token = token,
	};

	return sys_ioctl(vmm->iommufd, IOMMU_HWPT_LIVEUPDATE_SET_TOKEN, &set);
}

int list_hwpts(int iommufd, struct iommu_liveupdate_hwpt *hwpts, uint32_t *count)
{
	struct iommu_liveupdate_list_hwpts list = {
		.size = sizeof(list), .count = *count,
		.entry_len = sizeof(*hwpts), .hwpts = (uintptr_t)hwpts,
	};
	int ret = sys_ioctl(iommufd, IOMMU_LIVEUPDATE_LIST_HWPTS, &list);

	*count = list.count;
	return ret;
}

int iommufd_destroy(struct vmm *vmm, uint32_t id)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };

	return sys_ioctl(vmm->iommufd, IOMMU_DESTROY, &destroy);
}

static void must(struct vmm *vmm, int ret, const char *what)
{
	if (ret)
		give_up("%s: %s: %s", vmm->name, what, strerror(-ret));
}

static void vmm_init(struct vmm *vmm, const char *name, const char *bdf,
		     uint32_t seed)
{
	*vmm = (struct vmm){ .name = name, .iommufd = -1, .dev = -1 };
	snprintf(vmm->edu.bdf, sizeof(vmm->edu.bdf), "%s", bdf);
	vmm->token = seed << 4;
	vmm->hwpt_token = vmm->token | 0xf;
}

void vmm_build(struct vmm *vmm)
{
	must(vmm, vfio_bind(vmm), "binding its device to the iommufd");
	must(vmm, vfio_map_bar(vmm), "mapping its BAR");
	must(vmm, ioas_alloc(vmm), "IOMMU_IOAS_ALLOC");
	must(vmm, ioas_map_file(vmm, &vmm->ram, 0, RAM_IOVA, RAM_LEN), "mapping RAM");
	must(vmm, ioas_map_file(vmm, &vmm->big, 0, BIG_IOVA, BIG_LEN), "mapping BIG");
	must(vmm, hwpt_alloc(vmm, 0), "IOMMU_HWPT_ALLOC");
}

void vmm_create(struct vmm *vmm, const char *name, const char *bdf, uint32_t seed)
{
	vmm_init(vmm, name, bdf, seed);
	mem_create(&vmm->ram, RAM_LEN, seed, false);
	vmm->ram.token = vmm->token | 1;
	mem_create(&vmm->big, BIG_LEN, seed | 0x8000, true);
	vmm->big.token = vmm->token | 2;

	must(vmm, iommufd_open(vmm), "opening /dev/iommu");
	must(vmm, vfio_open_device(vmm), "opening the VFIO device");
}

void vmm_start(struct vmm *vmm, const char *name, const char *bdf, uint32_t seed)
{
	vmm_create(vmm, name, bdf, seed);
	vmm_build(vmm);
	must(vmm, vfio_attach(vmm, vmm->hwpt), "attaching the device");
	say(name, "maps %llu MiB of sealed memfds at IOVA %#llx and %#llx, attaches %s",
	    (RAM_LEN + BIG_LEN) >> 20,
	    RAM_IOVA, BIG_IOVA, bdf + 5);
}

pid_t vmm_start_child(struct keeper *k, const char *name, const char *bdf,
		      uint32_t seed)
{
	struct vmm vmm;
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		give_up("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		give_up("fork: %s", strerror(errno));
	if (!pid) {
		vmm_start(&vmm, name, bdf, seed);
		keep_device(k, &vmm);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		give_up("the VMM %s did not come up", name);
	close(ready[0]);
	return pid;
}

static int must_get(struct vmm *vmm, struct keeper *k, uint64_t token,
		    const char *what)
{
	int fd = get_back(k, token);

	if (fd < 0)
		give_up("%s: getting its %s back: %s", vmm->name, what,
			strerror(-fd));
	return fd;
}

void vmm_retrieve(struct vmm *vmm, struct keeper *k, const char *name,
		  const char *bdf, uint32_t seed)
{
	vmm_init(vmm, name, bdf, seed);
	mem_adopt(&vmm->ram, must_get(vmm, k, vmm->token | 1, "RAM"), RAM_LEN,
		  seed);
	vmm->ram.token = vmm->token | 1;
	mem_adopt(&vmm->big, must_get(vmm, k, vmm->token | 2, "other memory"),
		  BIG_LEN, seed | 0x8000);
	vmm->big.token = vmm->token | 2;
	vmm->iommufd = must_get(vmm, k, vmm->token, "iommufd");
}

void vmm_come_back(struct vmm *vmm, struct keeper *k, const char *name,
		   const char *bdf, uint32_t seed)
{
	vmm_retrieve(vmm, k, name, bdf, seed);
	vmm->dev = must_get(vmm, k, vmm->token | 3, "device file");
	say(name, "got its memory, iommufd and device file back");
}

bool vmm_dma_works(struct vmm *vmm)
{
	struct edu *edu = &vmm->edu;
	bool works;

	edu_read(edu, RAM_IOVA + LOAD_OFF, 0, EDU_BUF_LEN);
	edu_write(edu, 0, BIG_IOVA + STORE_OFF, EDU_BUF_LEN);
	works = is_pattern(vmm->big.va + STORE_OFF, EDU_BUF_LEN, vmm->ram.seed,
			   LOAD_OFF);
	fill_pattern(vmm->big.va + STORE_OFF, EDU_BUF_LEN, vmm->big.seed, STORE_OFF);
	return works;
}

void vmm_close_device(struct vmm *vmm)
{
	if (vmm->edu.bar)
		munmap((void *)vmm->edu.bar, vmm->bar_len);
	vmm->edu.bar = NULL;
	close(vmm->dev);
	vmm->dev = -1;
}

void vmm_close(struct vmm *vmm)
{
	vmm_close_device(vmm);
	close(vmm->iommufd);
	vmm->iommufd = -1;
	mem_close(&vmm->ram);
	mem_close(&vmm->big);
}
