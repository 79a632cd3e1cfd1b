/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keep PCI devices running over a live update.
 *
 * The driver of a device, or whoever preserves its file, tells the PCI core in
 * the old kernel that the device is preserved, and in the new one that its live
 * update is finished.
 */
#ifndef _LINUX_PCI_LIVEUPDATE_H
#define _LINUX_PCI_LIVEUPDATE_H

#include <linux/types.h>

struct pci_dev;

#ifdef CONFIG_PCI_LIVEUPDATE

int pci_liveupdate_preserve(struct pci_dev *pdev, const char *driver);
void pci_liveupdate_unpreserve(struct pci_dev *pdev);

bool pci_liveupdate_restored(struct pci_dev *pdev);
bool pci_liveupdate_must_run(struct pci_dev *pdev);
bool pci_liveupdate_claim(struct pci_dev *pdev);
void pci_liveupdate_unclaim(struct pci_dev *pdev);
struct pci_dev *pci_liveupdate_get_restored(u32 segment, u16 bdf);
int pci_liveupdate_restored_error(struct pci_dev *pdev);
bool pci_liveupdate_finish(struct pci_dev *pdev);

#else /* CONFIG_PCI_LIVEUPDATE */

static inline bool pci_liveupdate_restored(struct pci_dev *pdev)
{
	return false;
}

static inline bool pci_liveupdate_must_run(struct pci_dev *pdev)
{
	return false;
}

static inline bool pci_liveupdate_claim(struct pci_dev *pdev)
{
	return false;
}

static inline void pci_liveupdate_unclaim(struct pci_dev *pdev)
{
}

#endif /* CONFIG_PCI_LIVEUPDATE */
#endif /* _LINUX_PCI_LIVEUPDATE_H */
