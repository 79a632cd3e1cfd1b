/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Frames with numbers, and a receiver for them: QEMU's e1000e (82574L, 8086:10d3)
 * with everything it needs in one memfd, so that it goes on receiving while the
 * kernel, and with it the VMM, is replaced. tests/host/frames.c is the sender.
 */
#ifndef ILU_E1000E_H
#define ILU_E1000E_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- the frames, for sender and receiver ----------------------------------- */

#define FRAME_MIN	64	/* nobody pads these */
#define FRAME_MAX	1514
#define FRAME_MAGIC	0x46554c49	/* "ILUF" */
#define FRAME_TYPE	0xb588		/* 0x88b5 on the wire: for experiments */

struct frame {
	uint8_t dst[6], src[6];
	uint16_t type;
	uint32_t magic;
	uint64_t seq;		/* from 1 */
	uint64_t sent_ns;	/* CLOCK_REALTIME of the sender */
	uint16_t len;		/* of all, the CRC at the end included */
	uint8_t pattern[];	/* then the CRC32 of all before it */
} __attribute__((packed));

#define FRAME_CRC_LEN	4

static inline uint32_t frame_crc(const void *buf, size_t len)
{
	static uint32_t table[256];
	const uint8_t *p = buf;
	uint32_t crc = ~0U;
	unsigned int i, k;

	if (!table[1]) {
		for (i = 0; i < 256; i++) {
			uint32_t c = i;

			for (k = 0; k < 8; k++)
				c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
			table[i] = c;
		}
	}
	while (len--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}

static inline uint8_t frame_byte(uint64_t seq, size_t off)
{
	return (seq * 0x9e3779b97f4a7c15ULL >> (off % 8 * 8)) + off;
}

static inline void frame_make(void *buf, size_t len, uint64_t seq, uint64_t now_ns)
{
	struct frame *f = buf;
	size_t end = len - FRAME_CRC_LEN;
	uint32_t crc;
	size_t i;

	memset(f->dst, 0xff, sizeof(f->dst));
	memcpy(f->src, "\x02\0\0\0\0\x01", sizeof(f->src));
	f->type = FRAME_TYPE;
	f->magic = FRAME_MAGIC;
	f->seq = seq;
	f->sent_ns = now_ns;
	f->len = len;
	for (i = sizeof(*f); i < end; i++)
		((uint8_t *)buf)[i] = frame_byte(seq, i);
	crc = frame_crc(buf, end);
	memcpy((uint8_t *)buf + end, &crc, sizeof(crc));
}

/* Is every byte of it as frame_make() made it? */
static inline bool frame_good(const void *buf, size_t len)
{
	const struct frame *f = buf;
	size_t end = len - FRAME_CRC_LEN;
	uint32_t crc;
	size_t i;

	if (len < FRAME_MIN || len > FRAME_MAX)
		return false;
	for (i = 0; i < sizeof(f->dst); i++)
		if (f->dst[i] != 0xff)
			return false;
	if (memcmp(f->src, "\x02\0\0\0\0\x01", sizeof(f->src)) ||
	    f->type != FRAME_TYPE || f->magic != FRAME_MAGIC || !f->seq ||
	    f->len != len)
		return false;
	for (i = sizeof(*f); i < end; i++)
		if (((const uint8_t *)buf)[i] != frame_byte(f->seq, i))
			return false;
	crc = frame_crc(buf, end);
	return !memcmp((const uint8_t *)buf + end, &crc, sizeof(crc));
}

/* ---- the receiver ----------------------------------------------------------- */

#define NIC_RING	4096		/* descriptors, and buffers of NIC_BUF_LEN */
#define NIC_BUF_LEN	2048
#define NIC_NUMBERS	(1U << 20)	/* frames that can be told apart after a marker */
#define NIC_LIST	64

/*
 * First in the memfd, before the ring and the buffers. All that is known is here:
 * whoever maps it next, in whatever kernel, goes on from it. Whoever had it mapped
 * may have been stopped between any two instructions.
 */
struct nic_state {
	uint64_t magic;
	uint32_t size, ring;
	uint64_t iova;
	uint64_t cleaned;	/* descriptors that are dealt with; next is % NIC_RING */
	uint64_t recording;	/* cleaned + 1 once its frame is being recorded */
	uint64_t marker;	/* number that counting began with, 0 before */
	uint64_t last;		/* highest number since */
	uint64_t before;	/* frames before the marker */
	uint64_t nr_dup, nr_bad, nr_beyond;
	uint64_t nr_holes;	/* descriptors that the device used up and never wrote */
	uint64_t dup[NIC_LIST], bad[NIC_LIST];	/* the first of them */
	uint32_t marking;	/* the next frame is the marker */
	uint8_t seen[NIC_NUMBERS / 8];	/* bit N: marker + N has arrived */
};

struct mem;

struct nic {
	volatile uint8_t *bar;	/* BAR 0, or NULL: frames can be collected all the same */
	struct mem *mem;
	uint64_t iova;		/* of @mem for the device */
	struct nic_state *state;
};

size_t nic_mem_len(void);
/* With bar, mem and iova set: sets up memory and device from nothing. */
void nic_start(struct nic *nic);
/*
 * Goes on with what another nic_start() left in @mem. Doesn't touch a register;
 * @bar may be NULL. What can't be that memory ends the run.
 */
void nic_adopt(struct nic *nic, volatile uint8_t *bar, struct mem *mem, uint64_t iova);
/*
 * Checks and records what has arrived since the last call, and gives the buffers
 * back to the device; without a BAR the next call with one does that. Better without
 * while the device is no bus master: see give_back(). Returns how many frames.
 */
unsigned int nic_collect(struct nic *nic);
/*
 * Numbers count from the next frame on; what was recorded before is forgotten. For
 * when frames have come steadily for a while: what waited in QEMU and in its socket
 * for the NIC to start comes first, with gaps.
 */
void nic_mark(struct nic *nic);
/* Good frames since the marker, each number once; highest number. */
uint64_t nic_received(const struct nic *nic);
uint64_t nic_last(const struct nic *nic);
/*
 * Did every number arrive from the marker to the last one received, once and with
 * the right bytes? What is wrong, or how many there were, goes to @buf. That frames
 * still come at all must be seen from nic_last().
 */
bool nic_verdict(const struct nic *nic, char *buf, size_t len);
/* Says what scripts/netlib.sh makes a list of received numbers from. */
void nic_report(const struct nic *nic);
/* Lets each received frame raise an interrupt: MSI or INTx, or vector 0 with MSI-X. */
void nic_enable_interrupt(struct nic *nic, bool msix);
/*
 * To be called before VFIO's interrupts are disabled or its device is closed: QEMU
 * 7.2 aborts if MSI-X is turned off right after an interrupt.
 */
void nic_disable_interrupt(struct nic *nic);
/* Takes the interrupt back so that the next frame raises one again; its causes. */
uint32_t nic_ack(struct nic *nic);
/* No interrupt and no reception any more. */
void nic_stop(struct nic *nic);

#endif
