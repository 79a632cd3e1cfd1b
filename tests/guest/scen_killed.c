// SPDX-License-Identifier: GPL-2.0
/*
 * Two VMMs, each a process with a device of its own, preserve what they have; one
 * is killed before the jump. The other is not harmed, in either kernel. The killed
 * one's device is detached with it (its VFIO file is not preserved), so in the new
 * kernel its DMA must fault.
 *
 * ilu.when=prepared kills it after PREPARE, when the tables for the jump have an
 * entry of its device. ilu.held says who else holds the killed VMM's preserved state: nobody (its session
 * ends with it), store (another process holds its session), or luo (it was preserved
 * without a session).
 */
#include <errno.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define SEED_KILLED 0x61
#define SEED_LIVES 0x62
#define LANDS_OFF 0x201000

struct child {
	pid_t pid;
	int to, from;
};

static const struct range changes[] = { { LANDS_OFF, EDU_BUF_LEN } };

static void child_main(struct child *io, struct keeper *k, const char *name,
		       const char *bdf, uint32_t seed)
{
	struct vmm vmm;
	char c;

	vmm_start(&vmm, name, bdf, seed);
	keep_vmm(k, &vmm);
	c = vmm_dma_works(&vmm) ? 'y' : 'n';
	while (write(io->from, &c, 1) == 1 && read(io->to, &c, 1) == 1)
		c = vmm_dma_works(&vmm) ? 'y' : 'n';
	_exit(0);
}

/* The child lives in @k; the caller's copy of it stays. */
static void start_child(struct child *child, struct keeper *k, const char *name,
			const char *bdf, uint32_t seed)
{
	struct child io;
	int to[2], from[2];
	char c;

	if (pipe(to) || pipe(from))
		give_up("pipe: %s", strerror(errno));
	child->pid = fork();
	if (child->pid < 0)
		give_up("fork: %s", strerror(errno));
	if (!child->pid) {
		io = (struct child){ .to = to[0], .from = from[1] };
		close(to[1]);
		close(from[0]);
		child_main(&io, k, name, bdf, seed);
	}
	close(to[0]);
	close(from[1]);
	child->to = to[1];
	child->from = from[0];
	if (read(child->from, &c, 1) != 1 || c != 'y')
		give_up("%s did not come up", name);
}

static bool child_dma_works(struct child *child)
{
	char c = 'd';

	return write(child->to, &c, 1) == 1 && read(child->from, &c, 1) == 1 &&
	       c == 'y';
}

static void kill_vmm(struct child *child, const char *held)
{
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	say("operator", "killed the VMM of %s; its state is held by: %s",
	    OTHER_BDF + 5, held);
}

static void leave(const char *held, bool prepared)
{
	struct keeper dies, lives;
	struct child killed, survivor;
	int luo;

	/* Sessions are made here, so that this process can hold one. */
	luo = luo_open();
	if (luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-luo));
	keeper_create(&lives, luo, "lives");
	dies = (struct keeper){ .luo = luo, .session = -1 };
	start_child(&survivor, &lives, "vmm", DEV_BDF, SEED_LIVES);
	if (strcmp(held, "luo"))
		keeper_create(&dies, luo, "dies");
	start_child(&killed, &dies, "other", OTHER_BDF, SEED_KILLED);
	if (!strcmp(held, "nobody"))
		close(dies.session);

	if (prepared)
		works(luo_prepare(luo), "PREPARE succeeds before a VMM is killed");
	kill_vmm(&killed, held);
	verdict(child_dma_works(&survivor),
		"after another VMM was killed DMA goes on",
		"bytes did not arrive");
	if (!prepared) {
		works(luo_prepare(luo), "PREPARE succeeds after a VMM was killed");
		verdict(child_dma_works(&survivor), "after PREPARE DMA goes on",
			"bytes did not arrive");
	}
	jump(2, NULL);
}

static void check_survivor(int luo)
{
	struct iommu_liveupdate_hwpt hwpts[2] = {};
	struct mem big;
	uint64_t token = SEED_LIVES << 4;
	uint32_t count = ARRAY_SIZE(hwpts);
	int session, fd, ret;

	session = session_retrieve(luo, "lives");
	if (!works(session < 0 ? session : 0,
		   "the surviving VMM's session comes back"))
		return;
	fd = session_restore(session, token | 2);
	if (fd < 0)
		give_up("getting the surviving VMM's memfd back: %s",
			strerror(-fd));
	mem_adopt(&big, fd, BIG_LEN, SEED_LIVES | 0x8000);
	verdict(is_pattern(big.va + LANDS_OFF, EDU_BUF_LEN, SEED_LIVES,
			   LOAD_OFF) &&
			mem_first_difference(&big, changes, 1) < 0,
		"DMA of the surviving VMM's device lands in its memory, and only there",
		"the memfd does not hold it");
	fd = session_restore(session, token);
	ret = fd < 0 ? fd : list_hwpts(fd, hwpts, &count);
	verdict(!ret && count == 1 && hwpts[0].nr_devices == 1,
		"the surviving VMM's iommufd has its HWPT and device",
		"%s, %u HWPTs, %u devices", strerror(-ret), count,
		hwpts[0].nr_devices);
	works(session_finish(session), "the surviving VMM's session finishes");
	close(fd);
	close(session);
	mem_close(&big);
}

static void check_killed(int luo, const char *held)
{
	bool direct = !strcmp(held, "luo");
	uint64_t token = SEED_KILLED << 4;
	struct mem big;
	int session, fd;

	if (direct) {
		fd = luo_fd_restore(luo, token | 2);
	} else {
		session = session_retrieve(luo, "dies");
		if (!strcmp(held, "nobody")) {
			refused(session, ENOENT,
				"retrieving the session that ended with its VMM");
			return;
		}
		if (!works(session < 0 ? session : 0,
			   "the session that was held elsewhere comes back"))
			return;
		fd = session_restore(session, token | 2);
	}
	if (!works(fd < 0 ? fd : 0,
		   "the killed VMM's memfd comes back with it"))
		return;
	mem_adopt(&big, fd, BIG_LEN, SEED_KILLED | 0x8000);
	verdict(mem_first_difference(&big, NULL, 0) < 0,
		"DMA of the killed VMM's device changes nothing",
		"differs at %#lx", mem_first_difference(&big, NULL, 0));
	works(direct ? luo_finish(luo, false) : session_finish(session),
	      "the killed VMM's state finishes");
	if (!direct)
		close(session);
	mem_close(&big);
}

static void arrive(const char *held)
{
	struct edu dev, other;
	int luo;

	log_mark();
	edu_open_raw(&dev, DEV_BDF);
	edu_write(&dev, 0, BIG_IOVA + LANDS_OFF, EDU_BUF_LEN);
	edu_close_raw(&dev);
	edu_open_raw(&other, OTHER_BDF);
	edu_write(&other, 0, BIG_IOVA + LANDS_OFF, FAULT_LEN);
	edu_close_raw(&other);
	verdict(faults_of(OTHER_BDF, 1000),
		"DMA of the killed VMM's device faults", "no fault was logged");
	verdict(!faults_of(DEV_BDF, 0),
		"DMA of the surviving VMM's device causes no fault", "it does");

	luo = luo_open();
	if (luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-luo));
	check_killed(luo, held);
	if (!strcmp(held, "luo"))
		verdict(luo_state(luo) == LIVEUPDATE_STATE_UPDATED,
			"the state stays updated while a session is unfinished",
			"it is '%s'", luo_state_name(luo_state(luo)));
	check_survivor(luo);
	verdict(luo_state(luo) == LIVEUPDATE_STATE_NORMAL,
		"when the last one finished the state is normal", "it is '%s'",
		luo_state_name(luo_state(luo)));
	close(luo);
}

void scen_killed(int stage)
{
	char held[16];
	bool prepared;

	snprintf(held, sizeof(held), "%s", param("held", "nobody"));
	prepared = !strcmp(param("when", "preserved"), "prepared");
	if (stage == 1)
		leave(held, prepared);
	arrive(held);
}
