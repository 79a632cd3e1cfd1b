// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU's edu device (1234:11e8) as a DMA engine: one transfer a command between
 * its 4 KiB buffer and memory, done by a timer 100 ms after the command. It has
 * no reset and no power management, so its buffer lives through a kexec: what the
 * old kernel's VMM loaded into it can be written out in the new kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define EDU_BAR_LEN	MIB(1)
#define EDU_ID		0x00
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define  EDU_DMA_RUN	1
#define  EDU_DMA_TO_RAM	2
#define EDU_BUF		0x40000

static void set_command(const char *bdf, uint16_t set, uint16_t clear)
{
	config_write16(bdf, PCI_COMMAND,
		       (config_read16(bdf, PCI_COMMAND) & ~clear) | set);
}

void edu_map_raw(struct edu *edu, const char *bdf)
{
	char path[128];
	void *bar;
	int fd;

	snprintf(edu->bdf, sizeof(edu->bdf), "%s", bdf);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", bdf);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		give_up("%s: %s", path, strerror(errno));
	bar = mmap(NULL, EDU_BAR_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (bar == MAP_FAILED)
		give_up("mapping %s: %s", path, strerror(errno));
	edu->bar = bar;
}

void edu_open_raw(struct edu *edu, const char *bdf)
{
	edu_map_raw(edu, bdf);
	set_command(bdf, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
	if ((*(volatile uint32_t *)edu->bar & 0xffff) != 0x00ed)
		give_up("%s is not an edu device", bdf);
}

void edu_unmap_raw(struct edu *edu)
{
	munmap((void *)edu->bar, EDU_BAR_LEN);
	edu->bar = NULL;
}

void edu_close_raw(struct edu *edu)
{
	set_command(edu->bdf, 0, PCI_COMMAND_MASTER);
	edu_unmap_raw(edu);
}

static volatile uint64_t *reg(struct edu *edu, unsigned int off)
{
	return (volatile uint64_t *)(edu->bar + off);
}

static void start(struct edu *edu, uint64_t src, uint64_t dst, unsigned int len,
		  uint64_t dir)
{
	*reg(edu, EDU_DMA_SRC) = src;
	*reg(edu, EDU_DMA_DST) = dst;
	*reg(edu, EDU_DMA_COUNT) = len;
	*reg(edu, EDU_DMA_CMD) = EDU_DMA_RUN | dir;
}

void edu_start_read(struct edu *edu, uint64_t iova, unsigned int off, unsigned int len)
{
	start(edu, iova, EDU_BUF + off, len, 0);
}

void edu_start_write(struct edu *edu, unsigned int off, uint64_t iova, unsigned int len)
{
	start(edu, EDU_BUF + off, iova, len, EDU_DMA_TO_RAM);
}

void edu_wait(struct edu *edu)
{
	unsigned int ms;

	for (ms = 0; ms < 5000; ms += 5) {
		if (!(*reg(edu, EDU_DMA_CMD) & EDU_DMA_RUN))
			return;
		sleep_ms(5);
	}
	give_up("%s never ended its transfer", edu->bdf);
}
