// SPDX-License-Identifier: GPL-2.0
/*
 * Receives numbered frames with QEMU's e1000e: one ring of legacy descriptors,
 * each with a buffer of its own that never moves. Interrupts are for those who ask;
 * frames are found by looking at the descriptors.
 */
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "e1000e.h"

#define CTRL		0x0000
#define  CTRL_FD	(1U << 0)
#define  CTRL_SLU	(1U << 6)
#define  CTRL_RST	(1U << 26)
#define ICR		0x00c0
#define ITR		0x00c4
#define IMS		0x00d0
#define IMC		0x00d8
#define EIAC		0x00dc
#define IVAR		0x00e4
#define  IVAR_RXQ0_VEC0	0x8
#define  INT_RXT0	(1U << 7)
#define  INT_RXQ0	(1U << 20)
#define RCTL		0x0100
#define  RCTL_EN	(1U << 1)
#define  RCTL_UPE	(1U << 3)
#define  RCTL_MPE	(1U << 4)
#define  RCTL_BAM	(1U << 15)
#define  RCTL_SECRC	(1U << 26)
#define RDBAL		0x2800
#define RDBAH		0x2804
#define RDLEN		0x2808
#define RDH		0x2810
#define RDT		0x2818
#define RDTR		0x2820
#define RXDCTL		0x2828
#define RADV		0x282c
#define RXCSUM		0x5000
#define RFCTL		0x5008
#define MRQC		0x5818

struct rx_desc {
	uint64_t addr;
	uint16_t len;
	uint16_t csum;
	uint8_t status;
	uint8_t errors;
	uint16_t special;
};

#define RXD_DD		0x01
#define RXD_EOP		0x02

#define NIC_MAGIC	0x3143494e554c49ULL	/* "ILUNIC1" */

#define PAGE_UP(n)	(((n) + 4095) & ~4095ULL)
#define RING_OFF	PAGE_UP(sizeof(struct nic_state))
#define BUF_OFF		PAGE_UP(RING_OFF + NIC_RING * sizeof(struct rx_desc))

/* Frames after which buffers are given back while more are waiting. */
#define REFILL		256

size_t nic_mem_len(void)
{
	return BUF_OFF + (size_t)NIC_RING * NIC_BUF_LEN;
}

static uint32_t get(const struct nic *nic, unsigned int reg)
{
	return *(volatile uint32_t *)(nic->bar + reg);
}

static void set(const struct nic *nic, unsigned int reg, uint32_t val)
{
	*(volatile uint32_t *)(nic->bar + reg) = val;
}

static volatile struct rx_desc *desc(const struct nic *nic, uint64_t nr)
{
	return (volatile struct rx_desc *)(nic->mem->va + RING_OFF) + nr % NIC_RING;
}

static uint8_t *buffer(const struct nic *nic, uint64_t nr)
{
	return nic->mem->va + BUF_OFF + nr % NIC_RING * NIC_BUF_LEN;
}

static uint64_t buffer_iova(const struct nic *nic, uint64_t nr)
{
	return nic->iova + BUF_OFF + nr % NIC_RING * NIC_BUF_LEN;
}

/*
 * One descriptor always stays with us: the ring would look empty without. Nothing is
 * written if there is nothing new. In QEMU the write also starts what waits in the
 * network queue, and that is lost if the device is no bus master just then.
 */
static void give_back(const struct nic *nic)
{
	uint32_t tail = (nic->state->cleaned + NIC_RING - 1) % NIC_RING;

	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (nic->bar && get(nic, RDT) != tail)
		set(nic, RDT, tail);
}

/* What is left of the last frame must not pass for one that never arrived. */
static void empty(const struct nic *nic, uint64_t nr)
{
	memset(buffer(nic, nr), 0, FRAME_MIN);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	desc(nic, nr)->errors = 0;
	desc(nic, nr)->len = 0;
	desc(nic, nr)->status = 0;
}

void nic_start(struct nic *nic)
{
	struct nic_state *s = (struct nic_state *)nic->mem->va;
	unsigned int i;

	if (nic->mem->len < nic_mem_len())
		give_up("the NIC's memory is too small");
	set(nic, IMC, ~0U);
	set(nic, RCTL, 0);
	set(nic, CTRL, get(nic, CTRL) | CTRL_RST);
	sleep_ms(10);
	set(nic, IMC, ~0U);
	get(nic, ICR);

	memset(nic->mem->va, 0, nic_mem_len());
	s->magic = NIC_MAGIC;
	s->size = sizeof(*s);
	s->ring = NIC_RING;
	s->iova = nic->iova;
	nic->state = s;
	for (i = 0; i < NIC_RING; i++)
		desc(nic, i)->addr = buffer_iova(nic, i);

	/* The reset may not have touched these, not in QEMU 7.2 anyway. */
	set(nic, RFCTL, 0);
	set(nic, RXCSUM, 0);
	set(nic, MRQC, 0);
	set(nic, RDTR, 0);
	set(nic, RADV, 0);
	set(nic, RXDCTL, 0);
	set(nic, RDBAL, (uint32_t)(nic->iova + RING_OFF));
	set(nic, RDBAH, (nic->iova + RING_OFF) >> 32);
	set(nic, RDLEN, NIC_RING * sizeof(struct rx_desc));
	set(nic, RDH, 0);
	set(nic, RDT, 0);
	set(nic, CTRL, (get(nic, CTRL) & ~CTRL_RST) | CTRL_SLU | CTRL_FD);
	set(nic, RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_BAM | RCTL_SECRC);
	give_back(nic);
}

void nic_adopt(struct nic *nic, volatile uint8_t *bar, struct mem *mem, uint64_t iova)
{
	struct nic_state *s = (struct nic_state *)mem->va;

	*nic = (struct nic){ .bar = bar, .mem = mem, .iova = iova, .state = s };
	if (mem->len < nic_mem_len() || s->magic != NIC_MAGIC ||
	    s->size != sizeof(*s) || s->ring != NIC_RING)
		give_up("this memory does not hold a NIC's ring");
	if (s->iova != iova)
		give_up("the NIC's memory was at IOVA %#llx, not %#llx",
			(unsigned long long)s->iova, (unsigned long long)iova);
	if (s->recording != s->cleaned && s->recording != s->cleaned + 1)
		give_up("the NIC's state contradicts itself");
	/* Who was here before may not have come to that. It isn't the device's yet. */
	if (s->cleaned)
		empty(nic, s->cleaned - 1);
}

static void note(uint64_t *list, uint64_t *nr, uint64_t seq)
{
	if (*nr < NIC_LIST)
		list[*nr] = seq;
	++*nr;
}

/* @again: this may have been recorded already. */
static void record(struct nic_state *s, uint64_t seq, bool again)
{
	uint64_t nr;

	if (s->marking) {
		s->last = seq;
		s->marker = seq;
		s->marking = 0;
		say("frames", "marker %llu", (unsigned long long)seq);
	}
	if (!s->marker) {
		s->before++;
		return;
	}
	nr = seq - s->marker;
	if (seq < s->marker) {
		note(s->dup, &s->nr_dup, seq);
	} else if (nr >= NIC_NUMBERS) {
		s->nr_beyond++;
	} else if (s->seen[nr / 8] & 1 << nr % 8) {
		if (!again)
			note(s->dup, &s->nr_dup, seq);
	} else {
		s->seen[nr / 8] |= 1 << nr % 8;
		if (seq > s->last)
			s->last = seq;
	}
}

static void look_at(struct nic *nic, bool again)
{
	struct nic_state *s = nic->state;
	volatile struct rx_desc *d = desc(nic, s->cleaned);
	const uint8_t *buf = buffer(nic, s->cleaned);
	const struct frame *f = (const struct frame *)buf;

	if (d->addr == buffer_iova(nic, s->cleaned) && d->status & RXD_EOP &&
	    !d->errors && d->len <= NIC_BUF_LEN && frame_good(buf, d->len))
		record(s, f->seq, again);
	else if (s->marker)
		note(s->bad, &s->nr_bad, f->magic == FRAME_MAGIC ? f->seq : 0);
	else
		s->before++;
}

/*
 * A device whose DMA fails uses descriptors up without writing to them, and goes on
 * behind them. How many there are in front of the next frame, or of the device if
 * it can be asked.
 */
static unsigned int holes(const struct nic *nic)
{
	uint64_t next = nic->state->cleaned;
	/* Moves on after a descriptor was written. */
	uint32_t head = nic->bar ? get(nic, RDH) : ~0U;
	unsigned int i, end = NIC_RING - 1;

	if (head < NIC_RING)
		end = (head + NIC_RING - next % NIC_RING) % NIC_RING;
	for (i = 0; i < end && !(desc(nic, next + i)->status & RXD_DD); i++)
		;
	/* Without the device's word nothing is known of those behind the last frame. */
	if (i == end && head >= NIC_RING)
		return 0;
	/* The first one may have come meanwhile. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return desc(nic, next)->status & RXD_DD ? 0 : i;
}

unsigned int nic_collect(struct nic *nic)
{
	struct nic_state *s = nic->state;
	unsigned int i, skip = 0, frames = 0;

	/* Bounded: whoever calls has other things to do. */
	for (i = 0; i < NIC_RING; i++) {
		bool again = s->recording != s->cleaned;
		bool done = desc(nic, s->cleaned)->status & RXD_DD;

		if (!done && !skip)
			skip = holes(nic);
		if (!done && !skip)
			break;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		__atomic_store_n(&s->recording, s->cleaned + 1, __ATOMIC_RELEASE);
		if (done)
			look_at(nic, again);
		else if (s->marker)
			s->nr_holes++;
		frames += done;
		skip -= !!skip;
		__atomic_store_n(&s->cleaned, s->cleaned + 1, __ATOMIC_RELEASE);
		empty(nic, s->cleaned - 1);
		if (i % REFILL == REFILL - 1)
			give_back(nic);
	}
	/* Even if there was nothing: others may have collected without a BAR. */
	give_back(nic);
	return frames;
}

void nic_mark(struct nic *nic)
{
	struct nic_state *s = nic->state;

	s->marker = 0;
	s->last = 0;
	s->nr_dup = 0;
	s->nr_bad = 0;
	s->nr_beyond = 0;
	s->nr_holes = 0;
	memset(s->seen, 0, sizeof(s->seen));
	s->marking = 1;
}

uint64_t nic_last(const struct nic *nic)
{
	return nic->state->last;
}

static bool seen(const struct nic_state *s, uint64_t seq)
{
	uint64_t nr = seq - s->marker;

	return s->seen[nr / 8] & 1 << nr % 8;
}

uint64_t nic_received(const struct nic *nic)
{
	const struct nic_state *s = nic->state;
	uint64_t seq, n = 0;

	if (!s->marker)
		return 0;
	for (seq = s->marker; seq <= s->last; seq++)
		n += seen(s, seq);
	return n;
}

static size_t blame(char *buf, size_t len, size_t n, const char *what, uint64_t nr,
		    uint64_t first)
{
	if (nr && n < len)
		n += snprintf(buf + n, len - n, ", %llu %s", (unsigned long long)nr, what);
	if (nr && first && n < len)
		n += snprintf(buf + n, len - n, " (first %llu)", (unsigned long long)first);
	return n;
}

bool nic_verdict(const struct nic *nic, char *buf, size_t len)
{
	const struct nic_state *s = nic->state;
	uint64_t received = nic_received(nic), first, missing;
	size_t n;

	if (!received) {
		snprintf(buf, len, "no good frame arrived, but %llu bad ones",
			 (unsigned long long)s->nr_bad);
		return false;
	}
	missing = s->last - s->marker + 1 - received;
	if (!missing && !s->nr_dup && !s->nr_bad && !s->nr_beyond && !s->nr_holes) {
		snprintf(buf, len, "%llu frames, %llu to %llu, all whole and none twice",
			 (unsigned long long)received, (unsigned long long)s->marker,
			 (unsigned long long)s->last);
		return true;
	}
	for (first = s->marker; first < s->last && seen(s, first); first++)
		;
	n = snprintf(buf, len, "%llu of the frames %llu to %llu", (unsigned long long)received,
		     (unsigned long long)s->marker, (unsigned long long)s->last);
	n = blame(buf, len, n, "missing", missing, first);
	n = blame(buf, len, n, "twice", s->nr_dup, s->dup[0]);
	n = blame(buf, len, n, "wrong", s->nr_bad, s->bad[0]);
	n = blame(buf, len, n, "more than can be counted", s->nr_beyond, 0);
	blame(buf, len, n, "descriptors used up unwritten", s->nr_holes, 0);
	return false;
}

static void report_list(const char *what, const uint64_t *list, uint64_t nr)
{
	uint64_t i;

	for (i = 0; i < nr && i < NIC_LIST; i++)
		say("frames", "%s %llu", what, (unsigned long long)list[i]);
}

/* Lines of what a kernel log record holds, as many as a reader could want. */
void nic_report(const struct nic *nic)
{
	const struct nic_state *s = nic->state;
	unsigned int lines = 0, used = 0;
	uint64_t seq, first = 0;
	char text[600];

	say("frames", "marker %llu", (unsigned long long)s->marker);
	for (seq = s->marker; s->marker && seq <= s->last && lines < 200; seq++) {
		if (!seen(s, seq))
			continue;
		if (!first)
			first = seq;
		if (seq < s->last && seen(s, seq + 1))
			continue;
		used += snprintf(text + used, sizeof(text) - used, " %llu-%llu",
				 (unsigned long long)first, (unsigned long long)seq);
		first = 0;
		if (used > sizeof(text) - 50 || seq == s->last) {
			say("frames", "received%s", text);
			used = 0;
			lines++;
		}
	}
	report_list("dup", s->dup, s->nr_dup);
	report_list("bad", s->bad, s->nr_bad);
	say("frames", "%llu times round the ring, %llu frames before, %llu holes",
	    (unsigned long long)(s->cleaned / NIC_RING),
	    (unsigned long long)s->before, (unsigned long long)s->nr_holes);
}

void nic_enable_interrupt(struct nic *nic, bool msix)
{
	set(nic, IMC, ~0U);
	set(nic, ITR, 0);
	set(nic, RDTR, 0);
	set(nic, RADV, 0);
	set(nic, IVAR, msix ? IVAR_RXQ0_VEC0 : 0);
	/* No automatic clearing: that would clear the mask's bit as well. */
	set(nic, EIAC, 0);
	/* A cause from before would be no event for MSI. */
	get(nic, ICR);
	set(nic, IMS, msix ? INT_RXQ0 : INT_RXT0);
}

void nic_disable_interrupt(struct nic *nic)
{
	set(nic, IMC, ~0U);
	get(nic, ICR);
	/*
	 * QEMU's timer against too many interrupts asserts that MSI-X is on. It runs for
	 * 128 us after one, plus what QEMU's main loop is late.
	 */
	sleep_ms(20);
}

uint32_t nic_ack(struct nic *nic)
{
	uint32_t causes = get(nic, ICR);

	/* Reading clears it, but not with MSI-X. */
	if (get(nic, IMS) & INT_RXQ0)
		set(nic, ICR, INT_RXQ0);
	return causes;
}

void nic_stop(struct nic *nic)
{
	nic_disable_interrupt(nic);
	set(nic, RCTL, 0);
}
