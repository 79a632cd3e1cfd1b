// SPDX-License-Identifier: GPL-2.0
/*
 * The next kernel is started in another way than was meant: with ilu.next on its
 * command line (";" stands for a space), or with something of the machine hidden.
 * Where it was promised, the preserved device's DMA goes on to its own memory, before
 * and after the jump; the other device's never reaches anything.
 *
 * ilu.keep=device preserves the device file too, so that the device runs on by itself,
 * with a transfer on its way at the jump; by default it is the iommufd, and the DMA is
 * started by hand. ilu.dev is the device.
 * ilu.then says what becomes of the device in the next kernel:
 *   runs      it goes on, until FINISH stops it (the default)
 *   stopped   it was stopped when it was found
 *   gone      it is not found
 *   exchanged another one is found in its place
 *   stranded  it goes on, and no driver can have it before the next boot
 * ilu.finish=abandon: what handles a file is missing, so FINISH is refused, and then
 * forced. ilu.others=physical: devices that are not preserved use physical addresses
 * in the next kernel, so their DMA isn't tried. ilu.free=native: VFIO is missing.
 * ilu.hide=dmar spoils the name of ACPI's table of remapping units before the jump.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define SEED 0x71
#define FLIGHT_OFF 0x101000	/* BIG: where a transfer lands that is on its way */
#define LANDS_OFF 0x201000	/* BIG: where the device writes in the next kernel */

static char dev_bdf[16];
static bool keeps_device, physical;
static char then[16];

static bool is_then(const char *what)
{
	return !strcmp(then, what);
}

/* The device that was preserved is not there any more */
static bool is_lost(void)
{
	return is_then("gone") || is_then("exchanged");
}

/* ---- outgoing kernel --------------------------------------------------------- */

/* ACPI's tables are in memory that the kernel does not use */
static uint8_t *map_phys(int fd, uint64_t phys, size_t len)
{
	uint64_t start = phys & ~0xfffULL;
	uint8_t *va = mmap(NULL, len + phys - start, PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, start);

	if (va == MAP_FAILED)
		give_up("mapping %#llx: %s", (unsigned long long)phys, strerror(errno));
	return va + (phys - start);
}

static void hide_dmar(void)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	uint8_t *bios, *rsdt, *table;
	uint32_t phys, len, i;

	if (fd < 0)
		give_up("/dev/mem: %s", strerror(errno));
	bios = map_phys(fd, 0xe0000, 0x20000);
	for (i = 0; i < 0x20000; i += 16)
		if (!memcmp(bios + i, "RSD PTR ", 8))
			break;
	if (i == 0x20000)
		give_up("ACPI's root pointer is not found");
	memcpy(&phys, bios + i + 16, 4);
	rsdt = map_phys(fd, phys, 0x1000);
	memcpy(&len, rsdt + 4, 4);
	for (i = 36; i + 4 <= len; i += 4) {
		memcpy(&phys, rsdt + i, 4);
		table = map_phys(fd, phys, 36);
		if (memcmp(table, "DMAR", 4))
			continue;
		/* The sum of all bytes stays */
		memcpy(table, "DMRA", 4);
		say("firmware", "has no DMAR table any more");
		close(fd);
		return;
	}
	give_up("there is no DMAR table");
}

static void leave(void)
{
	static struct vmm vmm, other;
	struct keeper k;
	char next[192], *p;
	int ret;

	vmm_start(&vmm, "vmm", dev_bdf, SEED);
	vmm_start(&other, "other", OTHER_BDF, SEED + 1);
	verdict(vmm_dma_works(&vmm) && vmm_dma_works(&other),
		"before the update both devices reach their VMM's memory",
		"bytes did not arrive");
	keeper_open(&k, NULL);
	if (keeps_device)
		keep_device(&k, &vmm);
	else
		keep_vmm(&k, &vmm);
	snprintf(next, sizeof(next), "ilu.lands=%#llx %s",
		 (unsigned long long)phys_of(vmm.big.va + LANDS_OFF),
		 param("next", "liveupdate=off"));
	for (p = next; *p; p++)
		if (*p == ';')
			*p = ' ';
	ret = load_next_kernel(2, next);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	works(luo_prepare(k.luo), "PREPARE succeeds");
	if (!strcmp(param("hide", ""), "dmar"))
		hide_dmar();
	say("operator", "reboots into the next kernel with %s", next);
	if (keeps_device) {
		edu_start_write(&vmm.edu, 0, BIG_IOVA + FLIGHT_OFF, EDU_BUF_LEN);
		edu_start_write(&other.edu, 0, BIG_IOVA + FLIGHT_OFF, EDU_BUF_LEN);
	}
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

/* ---- incoming kernel ---------------------------------------------------------- */

static bool is_master(const char *bdf)
{
	return config_read16(bdf, PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* As it was left, or with bus mastering forced on */
static void dma_of_preserved(void)
{
	struct edu dev;

	if (keeps_device) {
		verdict(is_master(dev_bdf) != is_then("stopped"),
			is_then("stopped") ? "the preserved device has been stopped" :
			"the preserved device has never stopped to be a bus master",
			"its command register is %#x", config_read16(dev_bdf, PCI_COMMAND));
		edu_map_raw(&dev, dev_bdf);
	} else {
		edu_open_raw(&dev, dev_bdf);
	}
	edu_write(&dev, 0, BIG_IOVA + LANDS_OFF, EDU_BUF_LEN);
	if (keeps_device)
		edu_unmap_raw(&dev);
	else
		edu_close_raw(&dev);
	say("device", "%s wrote %llu bytes at IOVA %#llx", dev_bdf + 5, EDU_BUF_LEN,
	    BIG_IOVA + LANDS_OFF);
}

static void dma_of_other(void)
{
	struct edu other;

	verdict(!is_master(OTHER_BDF), "the device that is not preserved has been stopped",
		"it is a bus master");
	if (physical)
		return;
	edu_open_raw(&other, OTHER_BDF);
	edu_write(&other, 0, BIG_IOVA + LANDS_OFF, FAULT_LEN);
	edu_close_raw(&other);
	say("other", "%s tried the same", OTHER_BDF + 5);
}

/* Without a memfd, as nobody can get it back */
static void check_landed_in_place(void)
{
	uint64_t phys = strtoull(param("lands", "0"), NULL, 0);
	static uint8_t page[4096];
	int ret = phys_read(phys, page);

	verdict(!ret && is_pattern(page, EDU_BUF_LEN, SEED, LOAD_OFF),
		"DMA of the preserved device lands where its memory was",
		"%s", ret ? strerror(-ret) : "other bytes are there");
}

/* It cannot do DMA, so hardware's tables have to say what it would reach */
static void check_reaches_nothing(void)
{
	char path[96], text[256];
	ssize_t len;

	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/iommu/intel/%s/domain_translation_struct", dev_bdf);
	len = read_file(path, text, sizeof(text));
	verdict(!len, "that device reaches nothing before FINISH",
		"%s", len < 0 ? strerror(-len) : "something is mapped for it");
}

static struct mem get_memory(int luo, unsigned int nr, size_t len, uint32_t seed)
{
	struct mem mem;
	int fd = luo_fd_restore(luo, SEED << 4 | nr);

	if (fd < 0)
		give_up("getting a memfd back: %s", strerror(-fd));
	mem_adopt(&mem, fd, len, seed);
	return mem;
}

static void check_memory(const struct mem *ram, const struct mem *big)
{
	static const struct range flight_and_lands[] = {
		{ FLIGHT_OFF, EDU_BUF_LEN }, { LANDS_OFF, EDU_BUF_LEN },
	};
	bool runs = is_then("runs") || is_then("stranded");
	unsigned int flight = keeps_device;
	long diff;

	/* It lands before the device is found, if that can do DMA until then */
	if (keeps_device && !is_lost() && !is_then("stopped"))
		verdict(is_pattern(big->va + FLIGHT_OFF, EDU_BUF_LEN, SEED, LOAD_OFF),
			"a transfer that was on its way lands in the preserved memfd",
			"the memfd does not hold it");
	if (runs)
		verdict(is_pattern(big->va + LANDS_OFF, EDU_BUF_LEN, SEED, LOAD_OFF),
			"DMA of the preserved device lands in the preserved memfd",
			"the memfd does not hold it");
	diff = mem_first_difference(big, flight_and_lands + !flight, flight + runs);
	verdict(diff < 0 && mem_first_difference(ram, NULL, 0) < 0,
		"no other byte of the preserved memory changed",
		"RAM differs at %#lx, BIG at %#lx (-1: nowhere)",
		mem_first_difference(ram, NULL, 0), diff);
}

static void finish(int luo)
{
	if (!strcmp(param("finish", ""), "abandon")) {
		refused(luo_finish(luo, false), ENODEV,
			"FINISH without what handles a preserved file");
		works(luo_finish(luo, LUO_ABANDON), "FINISH succeeds when it is forced");
	} else {
		works(luo_finish(luo, false), "FINISH succeeds");
	}
}

static void check_stopped(const struct mem *big)
{
	struct edu dev;

	verdict(!is_master(dev_bdf), "after FINISH an unclaimed device is stopped",
		"its command register is %#x", config_read16(dev_bdf, PCI_COMMAND));
	if (physical || is_then("stranded"))
		return;
	edu_open_raw(&dev, dev_bdf);
	edu_write(&dev, 0, BIG_IOVA, FAULT_LEN);
	edu_close_raw(&dev);
	verdict(is_pattern(big->va, FAULT_LEN, big->seed, 0),
		"after FINISH an unclaimed device's DMA changes nothing",
		"bytes changed");
}

static void check_no_driver(const char *when)
{
	context(when);
	refused(bind_driver(dev_bdf, NATIVE), EBUSY,
		"a driver for a device whose IOMMU nobody controls");
	context(NULL);
}

static void check_free(void)
{
	if (is_then("stranded")) {
		check_no_driver("after FINISH");
	} else if (!strcmp(param("free", ""), "native")) {
		works(bind_driver(dev_bdf, NATIVE), "a driver that uses the DMA API binds");
		unbind_driver(dev_bdf);
	} else if (!strcmp(dev_bdf, DEV_BDF)) {
		check_device_is_free();
	}
}

static void arrive(void)
{
	struct mem ram, big;
	char path[64];
	int luo;

	log_mark();
	if (is_then("gone")) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", dev_bdf);
		verdict(access(path, F_OK), "the preserved device is gone", "it is there");
	} else if (is_then("exchanged")) {
		verdict(config_read16(dev_bdf, PCI_DEVICE_ID) != EDU_DEVICE_ID &&
				!is_master(dev_bdf),
			"another device is in its place, and is no bus master",
			"its ID is %04x, its command register %#x",
			config_read16(dev_bdf, PCI_DEVICE_ID),
			config_read16(dev_bdf, PCI_COMMAND));
		check_reaches_nothing();
	} else {
		dma_of_preserved();
	}
	dma_of_other();
	if (is_then("runs") || is_then("stranded"))
		check_landed_in_place();
	if (is_then("stranded"))
		check_no_driver("before FINISH");

	luo = luo_open();
	if (!strcmp(param("next", "liveupdate=off"), "liveupdate=off"))
		verdict(luo == -ENOENT, "with liveupdate=off there is no /dev/liveupdate",
			"%s", luo < 0 ? strerror(-luo) : "there is");
	if (luo < 0) {
		say("kernel",
		    "there is no /dev/liveupdate here: nobody can take the memory back");
		return;
	}
	ram = get_memory(luo, 1, RAM_LEN, SEED);
	big = get_memory(luo, 2, BIG_LEN, SEED | 0x8000);
	check_memory(&ram, &big);
	finish(luo);
	close(luo);
	if (!is_lost())
		check_stopped(&big);
	if (!is_then("gone"))
		check_free();
	mem_close(&ram);
	mem_close(&big);
	/* The last transfer of the run must fault, and reach no memory */
	if (physical)
		works(write_file("/sys/bus/pci/devices/" OTHER_BDF "/iommu_group/type",
				 "DMA"), "the other device gets a domain of its own");
}

void scen_options(int stage)
{
	snprintf(dev_bdf, sizeof(dev_bdf), "%s", param("dev", DEV_BDF));
	snprintf(then, sizeof(then), "%s", param("then", "runs"));
	keeps_device = !strcmp(param("keep", "iommufd"), "device");
	physical = !strcmp(param("others", ""), "physical");
	if (stage == 1)
		leave();
	arrive();
}
