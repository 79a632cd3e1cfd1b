/* SPDX-License-Identifier: GPL-2.0 */
/* Interrupts of a VFIO device as eventfds. */
#ifndef ILU_VFIO_IRQ_H
#define ILU_VFIO_IRQ_H

#include <stdint.h>

#define VFIO_IRQ_VECTORS	8

struct vfio_irq {
	int dev;		/* VFIO device */
	unsigned int index;	/* VFIO_PCI_INTX_IRQ_INDEX, ..MSI.. or ..MSIX.. */
	unsigned int nr;
	int eventfd[VFIO_IRQ_VECTORS];
};

/* How many vectors @dev has of that kind, or -errno. */
int vfio_irq_count(int dev, unsigned int index);
/* @nr vectors with an eventfd each. 0 or -errno. */
int vfio_irq_setup(struct vfio_irq *irq, int dev, unsigned int index, unsigned int nr);
/* Interrupts since the last call, 0 if none came within @timeout_ms, or -errno. */
int vfio_irq_wait(struct vfio_irq *irq, unsigned int vector, unsigned int timeout_ms);
/* One by software, for who waits: what a VMM does for its guest. 0 or -errno. */
int vfio_irq_inject(struct vfio_irq *irq, unsigned int vector);
/* One into each vector. */
int vfio_irq_inject_all(struct vfio_irq *irq);
/* The kernel signals the vector's eventfd as if the device had. */
int vfio_irq_trigger(struct vfio_irq *irq, unsigned int vector);
/* INTx is masked when it comes. */
int vfio_irq_unmask(struct vfio_irq *irq);
/* Also closes the eventfds. 0 or -errno. */
int vfio_irq_disable(struct vfio_irq *irq);

#endif
