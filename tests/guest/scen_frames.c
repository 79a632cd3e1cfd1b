// SPDX-License-Identifier: GPL-2.0
/*
 * A NIC that receives frames all the time, from before the first preserve until
 * after the last FINISH, through ilu.rounds live updates. The host sends them with
 * numbers; none may be missing, twice, or wrong. In each new kernel the VMM takes
 * the NIC over, gives buffers back to it, sets up its interrupt again, and has a new
 * page table take over from the inherited one.
 *
 * If the initramfs has two kernels, each starts the other one. ilu.nic is the
 * device, ilu.api=session uses a session, ilu.iommufd=0 preserves the memory alone:
 * what a kernel without the series can do, for the negative control.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"
#include "e1000e.h"
#include "vfio_irq.h"

#define SESSION	"nic"
#define NIC_IOVA	MIB(16)

enum { TOKEN_MEM = 1, TOKEN_IOMMUFD, TOKEN_DEVICE };

static const char *session;
static bool with_iommufd;
static char nic_bdf[16];

/* Collects, and gives buffers back, for so long. */
static unsigned int run_for(struct nic *nic, unsigned int ms)
{
	unsigned int n = 0, left;

	for (left = ms; left > 20; left -= 20) {
		n += nic_collect(nic);
		sleep_ms(20);
	}
	return n + nic_collect(nic);
}

static int map_nic(struct vmm *vmm, struct mem *mem)
{
	int ret = ioas_alloc(vmm);

	if (!ret)
		ret = ioas_map_file(vmm, mem, 0, NIC_IOVA, mem->len);
	if (!ret)
		ret = hwpt_alloc(vmm, 0);
	if (!ret)
		ret = vfio_attach(vmm, vmm->hwpt);
	return ret;
}

/* ---- outgoing kernel --------------------------------------------------------- */

static void start(struct vmm *vmm, struct nic *nic, struct mem *mem)
{
	struct vfio_irq irq;
	int ret;

	mem_create(mem, nic_mem_len(), 1, false);
	if (iommufd_open(vmm) || vfio_open_device(vmm) || vfio_bind(vmm) ||
	    vfio_map_bar(vmm) || map_nic(vmm, mem))
		give_up("the VMM cannot be set up with %s", nic_bdf);
	*nic = (struct nic){ .bar = vmm->edu.bar, .mem = mem, .iova = NIC_IOVA };
	nic_start(nic);
	say("vmm", "the NIC %s receives", nic_bdf + 5);
	/* What queued up before the NIC was started comes with gaps. */
	if (run_for(nic, 1000) < 20)
		give_up("the host sends no frames");
	nic_mark(nic);
	run_for(nic, 500);
	if (!with_iommufd)
		return;
	/* It is on, and comes, when the machine reboots. */
	ret = vfio_irq_setup(&irq, vmm->dev, VFIO_PCI_MSI_IRQ_INDEX, 1);
	if (ret)
		give_up("setting up the interrupt: %s", strerror(-ret));
	nic_enable_interrupt(nic, false);
	verdict(vfio_irq_wait(&irq, 0, 2000) > 0, "the NIC's interrupts come",
		"none came");
}

static void must_keep(struct keeper *k, uint64_t token, int fd, const char *what)
{
	int ret = keep(k, token, fd);

	if (ret)
		give_up("preserving the %s: %s", what, strerror(-ret));
}

static void leave(int stage, struct vmm *vmm, struct nic *nic, struct mem *mem,
		  const char *extra)
{
	char handover[256];
	struct utsname uts;
	struct keeper k;
	int ret;

	uname(&uts);
	snprintf(handover, sizeof(handover), "ilu.release=%s %s", uts.release, extra);
	ret = load_next_kernel(stage + 1, handover);
	if (ret)
		give_up("kexec_file_load: %s", strerror(-ret));
	keeper_open(&k, session);
	must_keep(&k, TOKEN_MEM, mem->fd, "memory");
	if (with_iommufd) {
		must_keep(&k, TOKEN_IOMMUFD, vmm->iommufd, "iommufd");
		must_keep(&k, TOKEN_DEVICE, vmm->dev, "device file");
	}
	say("vmm", "preserved its memory%s",
	    with_iommufd ? ", iommufd and device file" : " alone");
	run_for(nic, 300);
	if (!session) {
		works(luo_prepare(k.luo), "PREPARE succeeds");
		say("operator", "PREPARE");
	}
	run_for(nic, 100);
	say("operator", "reboots into the next kernel");
	nic_collect(nic);
	ret = start_next_kernel();
	give_up("the reboot was refused: %s", strerror(-ret));
}

/* ---- incoming kernel ----------------------------------------------------------- */

static int must_get(struct keeper *k, uint64_t token, const char *what)
{
	int fd = get_back(k, token);

	if (fd < 0)
		give_up("getting the %s back: %s", what, strerror(-fd));
	return fd;
}

/*
 * Interrupts were off, and the vectors are forgotten. What came meanwhile is lost,
 * so the VMM injects one per vector. Then real ones come again.
 */
static void check_interrupt(struct vmm *vmm, struct nic *nic)
{
	struct vfio_irq irq;
	int ret;

	ret = vfio_irq_setup(&irq, vmm->dev, VFIO_PCI_MSI_IRQ_INDEX, 1);
	if (!works(ret, "the interrupt can be set up again"))
		return;
	works(vfio_irq_inject_all(&irq), "one is injected into each vector");
	verdict(vfio_irq_wait(&irq, 0, 0) > 0, "the guest gets that", "it does not");
	nic_enable_interrupt(nic, false);
	ret = vfio_irq_wait(&irq, 0, 2000);
	verdict(ret > 0, "the NIC's own interrupts come again", "%d came", ret);
	nic_ack(nic);
	nic_disable_interrupt(nic);
	works(vfio_irq_disable(&irq), "the interrupt can be given back");
}

static void take_over(struct keeper *k, struct vmm *vmm, struct nic *nic,
		      struct mem *mem)
{
	vmm->iommufd = must_get(k, TOKEN_IOMMUFD, "iommufd");
	vmm->dev = must_get(k, TOKEN_DEVICE, "device file");
	if (vfio_bind(vmm) || vfio_map_bar(vmm))
		give_up("the device cannot be bound again");
	nic_adopt(nic, vmm->edu.bar, mem, NIC_IOVA);
	nic_collect(nic);
	say("vmm", "got its iommufd and device file back, gives buffers to the NIC again");
	works(map_nic(vmm, mem), "the device is attached to a new HWPT");
	say("vmm", "attached the NIC to a new HWPT");
	check_interrupt(vmm, nic);
	run_for(nic, 200);
	works(keeper_finish(k), "FINISH succeeds");
	say("operator", "FINISH");
	verdict(log_count("goes on with the page table of this kernel", nic_bdf + 5),
		"the new page table took over", "the log does not say so");
	run_for(nic, 300);
}

static void check_interrupts_off(void)
{
	unsigned int msi = find_capability(nic_bdf, PCI_CAP_ID_MSI);
	unsigned int msix = find_capability(nic_bdf, PCI_CAP_ID_MSIX);

	verdict(msi && msix &&
			!(config_read16(nic_bdf, msi + PCI_MSI_FLAGS) &
			  PCI_MSI_FLAGS_ENABLE) &&
			!(config_read16(nic_bdf, msix + PCI_MSIX_FLAGS) &
			  PCI_MSIX_FLAGS_ENABLE) &&
			(config_read16(nic_bdf, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE),
		"INTx, MSI and MSI-X are off in the new kernel", "they are not");
}

static void arrive(struct vmm *vmm, struct nic *nic, struct mem *mem)
{
	struct utsname uts;
	struct keeper k;

	log_mark();
	if (with_iommufd)
		check_interrupts_off();
	uname(&uts);
	say("kernel", "Linux %s", uts.release);
	if (!access("/kernel-b", F_OK))
		verdict(strcmp(uts.release, param("release", "")),
			"another kernel runs than before", "it is %s again", uts.release);
	keeper_reopen(&k, session);
	mem_adopt(mem, must_get(&k, TOKEN_MEM, "memory"), nic_mem_len(), 1);
	nic_adopt(nic, NULL, mem, NIC_IOVA);
	nic_collect(nic);
	say("vmm", "got its memory back: %llu frames so far",
	    (unsigned long long)nic_received(nic));
	verdict(run_for(nic, 200),
		"frames go on arriving before anybody claims the device", "none came");
	if (with_iommufd)
		take_over(&k, vmm, nic, mem);
	if (k.session >= 0)
		close(k.session);
	close(k.luo);
}

static void end(struct vmm *vmm, struct nic *nic)
{
	char text[200];
	bool ok;

	if (with_iommufd)
		verdict(run_for(nic, 1500) > 50, "frames arrive until the end",
			"they stopped");
	ok = nic_verdict(nic, text, sizeof(text));
	say("frames", "%s", text);
	verdict(ok, "no frame is missing, none twice, no byte wrong", "%s", text);
	verdict(!faults_of(nic_bdf, 20), "the NIC causes no IOMMU fault",
		"there are some in the log");
	nic_report(nic);
	if (!with_iommufd)
		return;
	nic_stop(nic);
	vmm_close_device(vmm);
	close(vmm->iommufd);
}

void scen_frames(int stage)
{
	static struct vmm vmm = { .name = "vmm", .iommufd = -1, .dev = -1 };
	int rounds = param_nr("rounds", 1);
	static struct nic nic;
	static struct mem mem;
	char extra[96];

	snprintf(nic_bdf, sizeof(nic_bdf), "%s", param("nic", "0000:00:12.0"));
	snprintf(vmm.edu.bdf, sizeof(vmm.edu.bdf), "%s", nic_bdf);
	session = strcmp(param("api", "direct"), "session") ? NULL : SESSION;
	with_iommufd = param_nr("iommufd", 1);
	if (stage == 1) {
		check_pages(stage, extra, sizeof(extra));
		start(&vmm, &nic, &mem);
	} else {
		snprintf(extra, sizeof(extra), "ilu.pages=%s", param("pages", ""));
		arrive(&vmm, &nic, &mem);
	}
	if (stage <= rounds)
		leave(stage, &vmm, &nic, &mem, extra);
	end(&vmm, &nic);
	mem_close(&mem);
	unbind_driver(nic_bdf);
	/* Against the first kernel, which had no VMM either. */
	check_pages(stage > 1 ? 2 : 1, extra, sizeof(extra));
}
