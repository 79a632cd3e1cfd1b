// SPDX-License-Identifier: GPL-2.0
/* Memfds whose every byte is known, so that one changed byte is found. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define SHMEM_HUGE	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

static uint64_t word(uint32_t seed, uint64_t nr)
{
	uint64_t v = ((uint64_t)seed << 40) + nr + 1;

	v *= 0x9e3779b97f4a7c15ULL;
	return v ^ (v >> 29);
}

void fill_pattern(void *buf, size_t len, uint32_t seed, uint64_t off)
{
	uint64_t *p = buf;
	size_t i;

	for (i = 0; i < len / 8; i++)
		p[i] = word(seed, off / 8 + i);
}

static size_t pattern_len(const void *buf, size_t len, uint32_t seed, uint64_t off)
{
	const uint64_t *p = buf;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (p[i] != word(seed, off / 8 + i))
			return i * 8;
	return len;
}

bool is_pattern(const void *buf, size_t len, uint32_t seed, uint64_t off)
{
	return pattern_len(buf, len, seed, off) == len;
}

void mem_adopt(struct mem *mem, int fd, size_t len, uint32_t seed)
{
	*mem = (struct mem){ .fd = fd, .len = len, .seed = seed };
	mem->va = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem->va == MAP_FAILED)
		give_up("mapping a memfd: %s", strerror(errno));
}

void mem_allow_huge(bool allow)
{
	write_file(SHMEM_HUGE, allow ? "force" : "deny");
}

void mem_create(struct mem *mem, size_t len, uint32_t seed, bool huge)
{
	int fd;

	mem_allow_huge(huge);
	fd = memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, len) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		give_up("creating a memfd: %s", strerror(errno));
	mem_adopt(mem, fd, len, seed);
	fill_pattern(mem->va, len, seed, 0);
}

void mem_close(struct mem *mem)
{
	munmap(mem->va, mem->len);
	close(mem->fd);
	mem->fd = -1;
}

long mem_first_difference(const struct mem *mem, const struct range *changed,
			  unsigned int nr_changed)
{
	uint64_t off = 0;
	unsigned int i;
	size_t same;

	/* @changed is sorted. */
	for (i = 0; i <= nr_changed; i++) {
		uint64_t end = i < nr_changed ? changed[i].start : mem->len;

		same = pattern_len(mem->va + off, end - off, mem->seed, off);
		if (off + same != end)
			return off + same;
		if (i < nr_changed)
			off = end + changed[i].len;
	}
	return -1;
}
