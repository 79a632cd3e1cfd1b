// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel crashes, and the domain ids that its devices go on with are not given out
 * again by the crash kernel.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

#define USED	"/sys/class/iommu/dmar0/intel-iommu/domains_used"

static long domains_used(void)
{
	char text[24] = "";

	if (read_file(USED, text, sizeof(text) - 1) < 0)
		give_up("this kernel does not tell the domain ids in use");
	return strtol(text, NULL, 10);
}

static void crash(void)
{
	static struct vmm vmm;
	char extra[32];
	int ret;

	vmm_start(&vmm, "vmm", DEV_BDF, 0xa1);
	verdict(vmm_dma_works(&vmm), "before the crash the device reaches its VMM's memory",
		"bytes did not arrive");
	snprintf(extra, sizeof(extra), "ilu.used=%ld", domains_used());
	ret = load_crash_kernel(2, extra);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	say("operator", "crashes with %ld domain ids in use", domains_used());
	write_file("/proc/sysrq-trigger", "c");
	give_up("the kernel did not crash");
}

void scen_kdump(int stage)
{
	if (stage == 1)
		crash();
	verdict(log_count("Copied translation tables", ""),
		"the crash kernel goes on with the tables", "it does not");
	verdict(domains_used() == param_nr("used", 0),
		"all domain ids that are in use stay reserved", "%ld are, %ld were in use",
		domains_used(), param_nr("used", 0));
}
