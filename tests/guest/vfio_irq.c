// SPDX-License-Identifier: GPL-2.0
/* Interrupts of a VFIO device as eventfds. */
#include <errno.h>
#include <linux/vfio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.h"
#include "vfio_irq.h"

static int set_irqs(int dev, unsigned int index, uint32_t flags, unsigned int start,
		    unsigned int count, const int *fds)
{
	union {
		struct vfio_irq_set set;
		char room[sizeof(struct vfio_irq_set) + VFIO_IRQ_VECTORS * sizeof(int)];
	} arg = {
		.set = { .index = index, .flags = flags, .start = start, .count = count },
	};

	arg.set.argsz = sizeof(arg.set);
	if (fds) {
		memcpy(arg.set.data, fds, count * sizeof(*fds));
		arg.set.argsz += count * sizeof(*fds);
	}
	return ioctl(dev, VFIO_DEVICE_SET_IRQS, &arg.set) < 0 ? -errno : 0;
}

int vfio_irq_count(int dev, unsigned int index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	return ioctl(dev, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 ? -errno : (int)info.count;
}

static void close_eventfds(struct vfio_irq *irq)
{
	while (irq->nr)
		close(irq->eventfd[--irq->nr]);
}

int vfio_irq_setup(struct vfio_irq *irq, int dev, unsigned int index, unsigned int nr)
{
	int fd, ret;

	*irq = (struct vfio_irq){ .dev = dev, .index = index };
	if (!nr || nr > VFIO_IRQ_VECTORS)
		return -EINVAL;
	while (irq->nr < nr) {
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0) {
			ret = -errno;
			goto err;
		}
		irq->eventfd[irq->nr++] = fd;
	}
	ret = set_irqs(dev, index, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		       0, nr, irq->eventfd);
	if (!ret)
		return 0;
err:
	close_eventfds(irq);
	return ret;
}

int vfio_irq_wait(struct vfio_irq *irq, unsigned int vector, unsigned int timeout_ms)
{
	struct pollfd p = { .fd = irq->eventfd[vector], .events = POLLIN };
	uint64_t count;
	int ret;

	ret = poll(&p, 1, timeout_ms);
	if (ret <= 0)
		return ret ? -errno : 0;
	return read(p.fd, &count, sizeof(count)) == sizeof(count) ? (int)count : -errno;
}

int vfio_irq_inject(struct vfio_irq *irq, unsigned int vector)
{
	uint64_t one = 1;

	return write(irq->eventfd[vector], &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

int vfio_irq_inject_all(struct vfio_irq *irq)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < irq->nr && !ret; i++)
		ret = vfio_irq_inject(irq, i);
	return ret;
}

int vfio_irq_trigger(struct vfio_irq *irq, unsigned int vector)
{
	return set_irqs(irq->dev, irq->index,
			VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, vector, 1,
			NULL);
}

int vfio_irq_unmask(struct vfio_irq *irq)
{
	return set_irqs(irq->dev, irq->index,
			VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL);
}

int vfio_irq_disable(struct vfio_irq *irq)
{
	int ret = set_irqs(irq->dev, irq->index,
			   VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL);

	close_eventfds(irq);
	return ret;
}
