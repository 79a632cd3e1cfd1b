// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel says about itself: page counters, KHO's tree of preserved
 * pages, and its log.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

/* ---- page counters -------------------------------------------------------- */

static long vmstat(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	if (!p)
		give_up("/proc/vmstat has no %s", name);
	return strtol(p + strlen(name), NULL, 10);
}

struct iommu_pages count_iommu_pages(void)
{
	struct iommu_pages pages;
	char text[16384];
	ssize_t len;

	/* Each CPU counts for itself; reading this adds that up. */
	if (read_file("/proc/sys/vm/stat_refresh", text, 1) < 0)
		give_up("this kernel has no /proc/sys/vm/stat_refresh");
	len = read_file("/proc/vmstat", text, sizeof(text) - 1);
	text[len > 0 ? len : 0] = '\0';
	pages.iommu = vmstat(text, "nr_iommu_pages ");
	pages.secondary = vmstat(text, "nr_sec_page_table_pages ");
	return pages;
}

long meminfo_kib(const char *name)
{
	char text[4096];
	ssize_t len = read_file("/proc/meminfo", text, sizeof(text) - 1);
	const char *p;

	text[len > 0 ? len : 0] = '\0';
	p = strstr(text, name);
	if (!p)
		give_up("/proc/meminfo has no %s", name);
	return strtol(p + strlen(name), NULL, 10);
}

long mem_total_kib(void)
{
	return meminfo_kib("MemTotal:");
}

/* ---- physical memory, through the ELF files of this and a crashed kernel ------ */

struct phys_reader {
	int fd;
	Elf64_Ehdr eh;
	Elf64_Phdr ph[64];
};

static int phys_open(struct phys_reader *r, const char *path)
{
	r->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (r->fd < 0)
		return -errno;
	if (pread(r->fd, &r->eh, sizeof(r->eh), 0) != sizeof(r->eh) ||
	    r->eh.e_phnum > ARRAY_SIZE(r->ph) ||
	    pread(r->fd, r->ph, r->eh.e_phnum * sizeof(r->ph[0]), r->eh.e_phoff) !=
	    (ssize_t)(r->eh.e_phnum * sizeof(r->ph[0])))
		return -EIO;
	return 0;
}

static int phys_read_page(struct phys_reader *r, uint64_t phys, void *buf)
{
	unsigned int i;

	for (i = 0; i < r->eh.e_phnum; i++) {
		Elf64_Phdr *ph = &r->ph[i];

		if (ph->p_type == PT_LOAD && ph->p_paddr != -1ULL &&
		    phys >= ph->p_paddr && phys < ph->p_paddr + ph->p_filesz)
			return pread(r->fd, buf, 4096, ph->p_offset + phys -
				     ph->p_paddr) == 4096 ? 0 : -EIO;
	}
	return -ENXIO;
}

int phys_read(uint64_t phys, void *page)
{
	struct phys_reader r;
	int ret = phys_open(&r, "/proc/kcore");

	if (!ret)
		ret = phys_read_page(&r, phys, page);
	if (r.fd >= 0)
		close(r.fd);
	return ret;
}

/* A page at @off in each @step bytes of memory */
static int find_in_segment(struct phys_reader *r, const Elf64_Phdr *ph, uint64_t off,
			   uint64_t step, bool (*wanted)(const void *page), void *page)
{
	uint64_t phys = ph->p_paddr / step * step + off;

	for (; phys + 4096 <= ph->p_paddr + ph->p_filesz; phys += step)
		if (phys >= ph->p_paddr && !phys_read_page(r, phys, page) && wanted(page))
			return 0;
	return -ENOENT;
}

int find_crashed_page(uint64_t off, bool (*wanted)(const void *page), void *page)
{
	static const uint64_t steps[] = { MIB(2), KIB(4) };
	struct phys_reader r;
	unsigned int s, i;
	int ret;

	ret = phys_open(&r, "/proc/vmcore");
	if (ret)
		goto out;
	ret = -ENOENT;
	for (s = 0; s < ARRAY_SIZE(steps); s++)
		for (i = 0; ret && i < r.eh.e_phnum; i++)
			if (r.ph[i].p_type == PT_LOAD && r.ph[i].p_paddr != -1ULL)
				ret = find_in_segment(&r, &r.ph[i], off % steps[s],
						      steps[s], wanted, page);
out:
	if (r.fd >= 0)
		close(r.fd);
	return ret;
}

uint64_t phys_of(const volatile void *va)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)va / 4096 * 8) != 8 ||
	    !(entry >> 63))
		give_up("where a page is in memory cannot be told");
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * 4096;
}

/* ---- KHO's tree ---------------------------------------------------------------- */

#define RADIX_TOP	5
#define RADIX_SLOTS	512
#define LEAF_WORDS	512
#define LEAF_BITS_LG2	15

/* A key has one bit above the page number: bit 52 - order. */
static long pages_of_key(uint64_t key)
{
	unsigned int bit = 63 - __builtin_clzll(key);

	return 1L << (52 - bit);
}

static long count_node(struct phys_reader *r, uint64_t phys, int level, uint64_t key)
{
	uint64_t *slots = malloc(4096);
	long sum = 0, n;
	unsigned int i;

	if (phys_read_page(r, phys, slots)) {
		free(slots);
		return -EIO;
	}
	for (i = 0; i < (level ? RADIX_SLOTS : LEAF_WORDS); i++) {
		if (!slots[i])
			continue;
		if (level) {
			n = count_node(r, slots[i], level - 1, key | (uint64_t)i <<
				       (LEAF_BITS_LG2 + 9 * (level - 1)));
			if (n < 0) {
				sum = n;
				break;
			}
			sum += n;
		} else {
			sum += __builtin_popcountll(slots[i]) *
			       pages_of_key(key | i * 64);
		}
	}
	free(slots);
	return sum;
}

/*
 * The physical address of the tree: the root node's first property of 8 bytes.
 * Its name can't be looked up: the file is as long as the tree was at boot, and
 * the names have moved behind that since.
 */
static int tree_root(const uint8_t *fdt, size_t len, uint64_t *phys)
{
	size_t off = be32toh(((const uint32_t *)fdt)[2]);

	for (; off + 20 <= len; off += 4) {
		const uint32_t *p = (const uint32_t *)(fdt + off);

		if (be32toh(p[0]) == 3 /* FDT_PROP */ && be32toh(p[1]) == 8) {
			memcpy(phys, &p[3], 8);
			return 0;
		}
	}
	return -ENOENT;
}

long kho_preserved_pages(void)
{
	static uint8_t fdt[65536];
	struct phys_reader r;
	uint64_t root;
	ssize_t len;
	long ret;

	len = read_file("/sys/kernel/debug/kho/out/fdt", fdt, sizeof(fdt));
	if (len < 40)
		return len < 0 ? len : -EIO;
	ret = tree_root(fdt, len, &root);
	if (ret)
		return ret;
	ret = phys_open(&r, "/proc/kcore");
	if (!ret)
		ret = count_node(&r, root, RADIX_TOP, 0);
	if (r.fd >= 0)
		close(r.fd);
	return ret;
}

/* ---- memory that nobody has a pointer to ------------------------------------- */

#define KMEMLEAK "/sys/kernel/debug/kmemleak"

bool leak_detector(void)
{
	return !access(KMEMLEAK, F_OK);
}

const char *leaked_memory(void)
{
	static char text[1024];
	unsigned int i;
	ssize_t len;

	/* What is young does not count, and a pointer may be in a register. */
	sleep_ms(6000);
	for (i = 0; i < 2; i++)
		if (write_file(KMEMLEAK, "scan"))
			give_up(KMEMLEAK);
	len = read_file(KMEMLEAK, text, sizeof(text) - 1);
	text[len > 0 ? len : 0] = '\0';
	for (i = 0; text[i]; i++)
		if (text[i] == '\n')
			text[i] = ' ';
	return text[0] ? text : NULL;
}

/* ---- the IOMMU's tables -------------------------------------------------------- */

struct pasid_entry pasid_entry(const char *bdf, uint32_t nr)
{
	static char text[65536];
	struct pasid_entry entry = { "" };
	char *line, *save, found_bdf[16];
	uint32_t found;
	ssize_t n = read_file("/sys/kernel/debug/iommu/intel/dmar_translation_struct",
			      text, sizeof(text) - 1);

	if (n < 0)
		give_up("this kernel does not show its tables");
	text[n] = '\0';
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (sscanf(line, "%15s %*s %*s %u %63s", found_bdf, &found, entry.text) == 3 &&
		    !strcmp(found_bdf, bdf + 5) && found == nr)
			return entry;
	entry.text[0] = '\0';
	return entry;
}

/* ---- log --------------------------------------------------------------------- */

static uint64_t mark;	/* sequence number of the first record that counts */

/* Calls @seen for every kernel record from @from on; its true stops. */
static uint64_t walk_log(uint64_t from, bool (*seen)(char *text, void *arg), void *arg)
{
	uint64_t next = from;
	char rec[8192];
	ssize_t len;
	int fd;

	fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		give_up("/dev/kmsg: %s", strerror(errno));
	for (;;) {
		unsigned long long pri, seq;
		char *text;

		len = read(fd, rec, sizeof(rec) - 1);
		if (len < 0 && errno == EPIPE)
			continue;	/* overwritten before it was read */
		if (len <= 0)
			break;
		rec[len] = '\0';
		text = strchr(rec, ';');
		if (!text || sscanf(rec, "%llu,%llu", &pri, &seq) != 2)
			continue;
		if (seq < from)
			continue;
		next = seq + 1;
		/* Facility 0 is the kernel; the agent's own lines are user's. */
		if (pri >> 3 == 0 && seen && seen(text + 1, arg))
			break;
	}
	close(fd);
	return next;
}

void log_mark(void)
{
	mark = walk_log(mark, NULL, NULL);
}

struct count {
	const char *a, *b;
	unsigned int n;
};

static bool count_line(char *text, void *arg)
{
	struct count *c = arg;

	c->n += strstr(text, c->a) && (!c->b || strstr(text, c->b));
	return false;
}

unsigned int log_count(const char *needle, const char *needle2)
{
	struct count c = { needle, needle2 };

	walk_log(mark, count_line, &c);
	return c.n;
}

void log_rewind(void)
{
	mark = 0;
}

struct find {
	const char *needle;
	char *line;
	size_t len;
};

static bool find_line(char *text, void *arg)
{
	struct find *f = arg;

	if (!strstr(text, f->needle))
		return false;
	snprintf(f->line, f->len, "%s", text);
	f->line[strcspn(f->line, "\n")] = '\0';
	return true;
}

bool log_find(const char *needle, char *line, size_t len)
{
	struct find f = { needle, line, len };

	line[0] = '\0';
	walk_log(0, find_line, &f);
	return line[0];
}

unsigned int faults_of(const char *bdf, unsigned int wait_ms)
{
	char device[64];
	unsigned int n;

	snprintf(device, sizeof(device), "Request device [%s]", bdf);
	for (;;) {
		n = log_count("DMAR: [DMA", device);
		if (n || !wait_ms)
			return n;
		sleep_ms(10);
		wait_ms = wait_ms > 10 ? wait_ms - 10 : 0;
	}
}

static bool is_complaint(char *text, void *arg)
{
	static const char * const bad[] = {
		"WARNING:", "BUG:", "Oops", "KASAN", "UBSAN", "general protection",
		"possible recursive locking", "circular locking", "inconsistent lock",
		"suspicious RCU", "sleeping function called", "refcount_t:",
		"bad page state", "blocked for more than",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (!strstr(text, bad[i]))
			continue;
		snprintf(arg, 256, "%.255s", text);
		return true;
	}
	return false;
}

const char *log_complaint(void)
{
	static char line[256];

	line[0] = '\0';
	walk_log(0, is_complaint, line);
	line[strcspn(line, "\n")] = '\0';
	return line[0] ? line : NULL;
}
