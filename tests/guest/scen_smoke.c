// SPDX-License-Identifier: GPL-2.0
/* The agent's own tools on one kernel: DMA works where mapped, faults elsewhere. */
#include <string.h>

#include "agent.h"

void scen_smoke(int stage)
{
	struct vmm vmm;
	long kho = kho_preserved_pages();

	(void)stage;
	verdict(kho > 0, "KHO's tree of preserved pages can be read", "%s",
		strerror(kho < 0 ? -kho : 0));
	vmm_start(&vmm, "vmm", DEV_BDF, 0x11);
	log_mark();
	verdict(vmm_dma_works(&vmm), "a device reaches memory mapped for it",
		"bytes did not arrive");
	verdict(!faults_of(DEV_BDF, 0), "translated DMA causes no fault",
		"it did");
	edu_write(&vmm.edu, 0, BIG_IOVA + BIG_LEN, 8);
	verdict(faults_of(DEV_BDF, 1000), "DMA outside of the mappings faults",
		"no fault was logged");
	vmm_close(&vmm);
	check_device_is_free();
}
