// SPDX-License-Identifier: GPL-2.0
/* What the scenarios have in common that do things at random, in many processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

uint64_t seed_for(uint64_t seed, uint64_t nr)
{
	uint64_t state = (seed << 20 ^ nr) + 0x9e3779b97f4a7c15ULL;

	next_random(&state);
	return state;
}

long now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

void *share(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		give_up("no shared memory");
	return mem;
}

void hangs(const char *what)
{
	write_file("/proc/sysrq-trigger", "w");
	verdict(false, "nothing hangs", "%s", what);
	/* Power off would wait as well, for the lock of a device. */
	sleep_ms(500);
	write_file("/proc/sysrq-trigger", "b");
	power_off();
}

void reap(pid_t pid, const char *what)
{
	long start = now_seconds();

	while (waitpid(pid, NULL, WNOHANG) != pid) {
		if (now_seconds() - start > HANG_SECONDS)
			hangs(what);
		sleep_ms(1);
	}
}

struct counters count_all(void)
{
	return (struct counters){ count_iommu_pages(), kho_preserved_pages() };
}

void check_counters(const struct counters *then)
{
	struct counters c;
	unsigned int ms;

	/* Freed after a grace period, some of it. */
	for (ms = 0; ms < 3000; ms += 100) {
		c = count_all();
		if (!memcmp(&c, then, sizeof(c)))
			break;
		sleep_ms(100);
	}
	verdict(c.kho == then->kho, "after all that no page is left preserved in KHO",
		"%ld, %ld before", c.kho, then->kho);
	verdict(c.pages.iommu == then->pages.iommu &&
		c.pages.secondary == then->pages.secondary,
		"after all that all table pages are free again", "%ld+%ld, %ld+%ld before",
		c.pages.iommu, c.pages.secondary, then->pages.iommu,
		then->pages.secondary);
}
