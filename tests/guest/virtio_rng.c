// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU's virtio-rng-pci (1af4:1044) as a device with ATS: it writes random bytes to the
 * buffers that it was given, one after the other, whenever its timer lets it. The
 * virtqueue is in the VMM's memory, so that both kernels know it.
 */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "agent.h"

/* Where the virtqueue is in RAM */
#define QUEUE_OFF	MIB(4)
#define AVAIL_OFF	(QUEUE_OFF + 0x1000)
#define USED_OFF	(QUEUE_OFF + 0x2000)
#define BUFFERS_OFF	(QUEUE_OFF + 0x3000)
#define BUFFER_LEN	64

static volatile struct virtio_pci_common_cfg *common(struct virtio_rng *rng)
{
	return (void *)(rng->vmm->edu.bar + rng->common);
}

/* Where the structure of @type is in the BAR; the multiplier only for notifications */
static uint32_t find_structure(struct vmm *vmm, uint8_t type, uint32_t *multiplier)
{
	struct virtio_pci_notify_cap cap;
	uint8_t pos = 0;

	vfio_config(vmm, false, PCI_CAPABILITY_LIST, &pos, 1);
	while (pos) {
		if (vfio_config(vmm, false, pos, &cap, sizeof(cap)))
			break;
		if (cap.cap.cap_vndr == PCI_CAP_ID_VNDR && cap.cap.cfg_type == type &&
		    cap.cap.bar == vmm->bar) {
			if (multiplier)
				*multiplier = cap.notify_off_multiplier;
			return cap.cap.offset;
		}
		pos = cap.cap.cap_next;
	}
	give_up("%s: no virtio structure of type %u", vmm->edu.bdf, type);
}

void virtio_rng_find(struct virtio_rng *rng, struct vmm *vmm)
{
	uint32_t multiplier = 0;

	rng->vmm = vmm;
	rng->common = find_structure(vmm, VIRTIO_PCI_CAP_COMMON_CFG, NULL);
	rng->notify = find_structure(vmm, VIRTIO_PCI_CAP_NOTIFY_CFG, &multiplier);
	common(rng)->queue_select = 0;
	rng->notify += common(rng)->queue_notify_off * multiplier;
}

static void set_queue(volatile __le32 *lo, volatile __le32 *hi, uint64_t off)
{
	*lo = RAM_IOVA + off;
	*hi = 0;
}

void virtio_rng_start(struct virtio_rng *rng)
{
	volatile struct virtio_pci_common_cfg *cfg = common(rng);
	struct vring_desc *desc = (void *)(rng->vmm->ram.va + QUEUE_OFF);
	unsigned int i;

	cfg->device_status = 0;
	cfg->device_status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	cfg->guest_feature_select = 1;
	cfg->guest_feature = 1U << (VIRTIO_F_VERSION_1 - 32) |
			     1U << (VIRTIO_F_ACCESS_PLATFORM - 32);
	cfg->device_status |= VIRTIO_CONFIG_S_FEATURES_OK;
	cfg->queue_select = 0;
	if (!(cfg->device_status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    cfg->queue_size < RNG_BUFFERS)
		give_up("%s cannot do what is wanted", rng->vmm->edu.bdf);

	memset(desc, 0, BUFFERS_OFF - QUEUE_OFF);
	for (i = 0; i < RNG_BUFFERS; i++)
		desc[i] = (struct vring_desc){
			.addr = RAM_IOVA + BUFFERS_OFF + i * BUFFER_LEN,
			.len = BUFFER_LEN, .flags = VRING_DESC_F_WRITE,
		};
	cfg->queue_size = RNG_BUFFERS;
	set_queue(&cfg->queue_desc_lo, &cfg->queue_desc_hi, QUEUE_OFF);
	set_queue(&cfg->queue_avail_lo, &cfg->queue_avail_hi, AVAIL_OFF);
	set_queue(&cfg->queue_used_lo, &cfg->queue_used_hi, USED_OFF);
	cfg->queue_enable = 1;
	cfg->device_status |= VIRTIO_CONFIG_S_DRIVER_OK;
}

void virtio_rng_post(struct virtio_rng *rng)
{
	volatile struct vring_avail *avail = (void *)(rng->vmm->ram.va + AVAIL_OFF);
	uint16_t idx = avail->idx;
	unsigned int i;

	memset(rng->vmm->ram.va + BUFFERS_OFF, 0, RNG_BUFFERS * BUFFER_LEN);
	for (i = 0; i < RNG_BUFFERS; i++)
		avail->ring[(idx + i) % RNG_BUFFERS] = i;
	__sync_synchronize();
	avail->idx = idx + RNG_BUFFERS;
	__sync_synchronize();
	*(volatile uint16_t *)(rng->vmm->edu.bar + rng->notify) = 0;
}

unsigned int virtio_rng_pending(const struct vmm *vmm)
{
	const volatile struct vring_avail *avail = (void *)(vmm->ram.va + AVAIL_OFF);
	const volatile struct vring_used *used = (void *)(vmm->ram.va + USED_OFF);

	return (uint16_t)(avail->idx - used->idx);
}

bool virtio_rng_filled(const struct vmm *vmm, unsigned int ms)
{
	static const uint8_t nothing[BUFFER_LEN];
	unsigned int i;

	for (; ms && virtio_rng_pending(vmm); ms -= ms < 10 ? ms : 10)
		sleep_ms(10);
	for (i = 0; i < RNG_BUFFERS; i++)
		if (!memcmp(vmm->ram.va + BUFFERS_OFF + i * BUFFER_LEN, nothing,
			    BUFFER_LEN))
			return false;
	return !virtio_rng_pending(vmm);
}
