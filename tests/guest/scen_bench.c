// SPDX-License-Identifier: GPL-2.0
/*
 * What a live update costs, for scripts/bench: one small memfd is mapped so often that
 * ilu.gib GiB of IOVA lead to it, in pages of ilu.page (4k or 2m; 4s: 4 KiB, and no two
 * of the tables are beside each other), and ilu.devices devices are attached to that one
 * HWPT. Nothing is printed while something is
 * measured. The kernel's marks and those of this program come at the end, as
 *
 *	ILU-BENCH: WHICH NAME VALUE COUNT
 *
 * where WHICH is the kernel, old or new. Values are of the TSC, or bytes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "agent.h"

#define MARKS		"/sys/kernel/debug/bench"
#define LOGLEVEL	"/proc/sys/kernel/printk"
#define MAX_DEVICES	64
#define SEED		0x701
#define MEM_LEN		MIB(64)
#define FIRST_IOVA	(4ULL << 30)
/* What one table of 4 KiB pages translates */
#define TABLE_LEN	MIB(2)

enum { TOKEN_MEM = 1, TOKEN_IOMMUFD, TOKEN_DEVICE };

static struct vmm vmms[MAX_DEVICES];
static unsigned int nr_devices;
static struct mem mem;
static uint64_t gib;
static bool small, scattered;

static void must(int ret, const char *what)
{
	if (ret < 0)
		give_up("%s: %s", what, strerror(-ret));
}

static int is_device(const struct dirent *de)
{
	char path[300], id[8] = "";

	/* Those on the root bus share groups, or are for other things. */
	if (strncmp(de->d_name, "0000:", 5) || !strncmp(de->d_name, "0000:00:", 8))
		return 0;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", de->d_name);
	return read_file(path, id, 6) == 6 && !strncmp(id, "0x11e8", 6);
}

static void find_devices(void)
{
	struct dirent **found;
	unsigned int i;
	int n;

	nr_devices = param_nr("devices", 1);
	n = scandir("/sys/bus/pci/devices", &found, is_device, alphasort);
	if (n < (int)nr_devices || nr_devices > MAX_DEVICES)
		give_up("there are %d devices behind bridges, not %u", n, nr_devices);
	for (i = 0; i < nr_devices; i++) {
		vmms[i] = (struct vmm){ .name = "vmm", .iommufd = -1, .dev = -1 };
		snprintf(vmms[i].edu.bdf, sizeof(vmms[i].edu.bdf), "%.15s",
			 found[i]->d_name);
	}
}

/*
 * On a host that has run for long, what is contiguous in a file seldom is in memory.
 * Every other page goes to another memfd, which stays.
 */
static void create_memory(void)
{
	static struct mem between;
	size_t off;

	if (!small || !param_nr("scatter", 1)) {
		mem_create(&mem, MEM_LEN, SEED, !small);
		return;
	}
	mem_create(&mem, MEM_LEN, SEED, false);
	mem_create(&between, MEM_LEN, SEED + 1, false);
	fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MEM_LEN);
	fallocate(between.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MEM_LEN);
	for (off = 0; off < MEM_LEN; off += KIB(4)) {
		fill_pattern(mem.va + off, KIB(4), SEED, off);
		fill_pattern(between.va + off, KIB(4), SEED + 1, off);
	}
}

static void only_small_pages(uint32_t ioas)
{
	struct iommu_option option = {
		.size = sizeof(option), .option_id = IOMMU_OPTION_HUGE_PAGES,
		.op = IOMMU_OPTION_OP_SET, .object_id = ioas,
	};

	if (ioctl(vmms[0].iommufd, IOMMU_OPTION, &option))
		give_up("IOMMU_OPTION_HUGE_PAGES: %s", strerror(errno));
}

static void new_ioas(struct vmm *vmm)
{
	must(ioas_alloc(vmm), "IOMMU_IOAS_ALLOC");
	if (small)
		only_small_pages(vmm->ioas);
}

static void map_all(struct vmm *vmm)
{
	uint64_t off;

	new_ioas(vmm);
	for (off = 0; off < gib << 30; off += MEM_LEN)
		must(ioas_map_file(vmm, &mem, 0, FIRST_IOVA + off, MEM_LEN), "mapping");
	must(hwpt_alloc(vmm, 0), "IOMMU_HWPT_ALLOC");
}

/* Every other table page goes to a HWPT that is gone when all is mapped. */
static void map_scattered(struct vmm *vmm)
{
	struct vmm between = *vmm;
	uint64_t off;

	new_ioas(vmm);
	new_ioas(&between);
	must(hwpt_alloc(vmm, 0), "IOMMU_HWPT_ALLOC");
	must(hwpt_alloc(&between, 0), "IOMMU_HWPT_ALLOC");
	for (off = 0; off < gib << 30; off += TABLE_LEN) {
		must(ioas_map_file(vmm, &mem, off % MEM_LEN, FIRST_IOVA + off, TABLE_LEN),
		     "mapping");
		must(ioas_map_file(&between, &mem, off % MEM_LEN, FIRST_IOVA + off,
				   TABLE_LEN), "mapping");
	}
	must(iommufd_destroy(&between, between.hwpt), "IOMMU_DESTROY");
	must(iommufd_destroy(&between, between.ioas), "IOMMU_DESTROY");
}

/* Binds the devices to the iommufd, maps all by @map, and attaches. */
static void build(void (*map)(struct vmm *vmm))
{
	struct vmm *vmm = vmms;
	unsigned int i;

	for (i = 0; i < nr_devices; i++) {
		vmms[i].iommufd = vmm->iommufd;
		must(vfio_bind(&vmms[i]), "binding a device");
		must(vfio_map_bar(&vmms[i]), "mapping a BAR");
	}
	map(vmm);
	for (i = 0; i < nr_devices; i++)
		must(vfio_attach(&vmms[i], vmm->hwpt), "attaching a device");
}

static void leave(void)
{
	struct keeper k;
	unsigned int i;

	create_memory();
	must(iommufd_open(vmms), "opening /dev/iommu");
	for (i = 0; i < nr_devices; i++)
		must(vfio_open_device(&vmms[i]), "opening a device");
	build(scattered ? map_scattered : map_all);
	must(hwpt_set_token(vmms, vmms->hwpt, 1), "setting the token");
	say("vmm", "mapped %llu GiB, attached %u devices", (unsigned long long)gib,
	    nr_devices);
	must(load_next_kernel(2, NULL), "kexec_file_load");

	keeper_open(&k, NULL);
	must(keep(&k, TOKEN_MEM, mem.fd), "preserving the memory");
	must(keep(&k, TOKEN_IOMMUFD, vmms->iommufd), "preserving the iommufd");
	for (i = 0; i < nr_devices; i++)
		must(keep(&k, TOKEN_DEVICE + i, vmms[i].dev), "preserving a device");
	must(luo_prepare(k.luo), "PREPARE");
	say("vmm", "preserved and prepared");
	write_file(LOGLEVEL, "4");
	must(start_next_kernel(), "reboot");
}

static void print_marks(uint64_t finish)
{
	static char text[16384];
	char *line, *save;
	ssize_t n = read_file(MARKS, text, sizeof(text) - 1);

	if (n < 0)
		give_up("this kernel has no marks");
	text[n] = '\0';
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		dprintf(1, "ILU-BENCH: %s\n", line);
	dprintf(1, "ILU-BENCH: new finish.ioctl %llu 1\n", (unsigned long long)finish);
}

static void arrive(void)
{
	struct keeper k;
	unsigned int i;
	uint64_t start;
	int fd;

	keeper_reopen(&k, NULL);
	fd = get_back(&k, TOKEN_MEM);
	must(fd, "getting the memory back");
	mem_adopt(&mem, fd, MEM_LEN, SEED);
	vmms->iommufd = get_back(&k, TOKEN_IOMMUFD);
	must(vmms->iommufd, "getting the iommufd back");
	for (i = 0; i < nr_devices; i++) {
		vmms[i].dev = get_back(&k, TOKEN_DEVICE + i);
		must(vmms[i].dev, "getting a device back");
	}
	build(map_all);
	say("vmm", "is back");
	start = __rdtsc();
	must(keeper_finish(&k), "FINISH");
	start = __rdtsc() - start;
	verdict(log_count("goes on with the page table of this kernel", "") == nr_devices,
		"all devices go on", "%u do",
		log_count("goes on with the page table of this kernel", ""));
	print_marks(start);
}

void scen_bench(int stage)
{
	write_file(LOGLEVEL, "6");
	gib = param_nr("gib", 1);
	scattered = !strcmp(param("page", "4k"), "4s");
	small = scattered || !strcmp(param("page", "4k"), "4k");
	find_devices();
	if (stage == 1)
		leave();
	arrive();
}
