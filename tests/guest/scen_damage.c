// SPDX-License-Identifier: GPL-2.0
/*
 * What is handed over is damaged, in each kernel of a chain in another way. Two VMMs
 * hand over a device each. Whatever was done: the next kernel boots, a device whose
 * records or entries were damaged goes on in its own memory or is blocked, the other
 * one goes on and gets its next page table, a device that was not preserved reaches
 * nothing, and the log says why. After that both devices can be used, and handed over
 * once more, if need be after one more boot.
 *
 * Needs a kernel with tests/damage/damage.patch, which does the damage. The case of
 * round N is number ilu.case + (N - 1) * ilu.step of all there are, ilu.rounds of
 * them; ilu.seed says which bit or word of it. ilu.cases is how many there are;
 * ilu.scalable=1: there are PASID tables. ilu.only=WHAT,OP: nothing but that, with
 * checksums that are right.
 */
#include <errno.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define THIRD_BDF	"0000:00:12.0"

/*
 * One fault. The kernel logs about three in five seconds, all devices together; of what
 * comes later the host looks for in QEMU's trace.
 */
#define PROBE_LEN	4

#define ENDED_IOVA	(BIG_IOVA + 0x300000)	/* and a page for each round */

#define LOAD_LAND	0x201000	/* BIG: what the device had in its buffer */
#define SRC_OFF		0x3000		/* RAM: what it reads in the next kernel */
#define SRC_LAND	0x205000	/* BIG: where that goes */

enum kind { HEADER, RECORDS, TABLE };

static const struct target {
	const char *what;
	enum kind kind;
	bool scalable;	/* only there in scalable mode */
	bool late;	/* read when a file is wanted back */
	bool all;	/* one checksum for the records of all devices */
	const char *once; /* one more thing to do, with checksums that are right */
} targets[] = {
	{ "luo.header", HEADER, .all = true, .once = "lie" },
	{ "luo.entries", RECORDS, .all = true },
	{ "core.header", HEADER, .all = true },
	{ "core.domains", RECORDS },
	{ "core.devices", RECORDS },
	{ "vtd.header", HEADER, .all = true, .once = "lie" },
	{ "vtd.units", RECORDS, .all = true },
	{ "vtd.rids", RECORDS, .all = true, .once = "absent" },
	{ "vtd.pasids", RECORDS, .scalable = true, .all = true },
	{ "vtd.root", TABLE },
	{ "vtd.context", TABLE },
	{ "vtd.dir", TABLE, .scalable = true },
	{ "vtd.table", TABLE, .scalable = true },
	{ "pci.header", HEADER, .all = true, .once = "lie" },
	{ "pci.devices", RECORDS, .all = true },
	{ "iommufd.header", HEADER, .late = true, .once = "lie" },
	{ "iommufd.hwpts", RECORDS, .late = true },
	{ "vfio", RECORDS, .late = true },
};

static const char *const header_ops[] = { "flip", "word", "zero", "ones", "cut", "version" };
static const char *const record_ops[] = { "flip", "word", "zero", "ones", "cut", "dup", "swap" };
static const char *const table_ops[] = { "flip", "word", "zero", "ones", "cut", "dup", "swap", "extra" };

/* What this kernel was started with */
struct damage {
	char text[64];
	char line[300];		/* what the kernel says that it did */
	const struct target *target;
	char op[12];
	bool fix;		/* checksums are right */
};

static const struct vmm_id {
	const char *name, *bdf;
	uint32_t seed;
} ids[] = {
	{ "vmm", DEV_BDF, 0x500 },
	{ "other", OTHER_BDF, 0x600 },
};

/* ---- the cases --------------------------------------------------------------------- */

/* Case @nr of @target in @text; @nr counts down if it has not so many */
static bool target_case(const struct target *target, unsigned int *nr, char *text,
			size_t len)
{
	const char *const *ops = record_ops;
	unsigned int nr_ops = ARRAY_SIZE(record_ops), total;

	if (target->kind == HEADER) {
		ops = header_ops;
		nr_ops = ARRAY_SIZE(header_ops);
	} else if (target->kind == TABLE) {
		ops = table_ops;
		nr_ops = ARRAY_SIZE(table_ops);
	}
	/* Tables have no checksum, and a lie that does not fit its checksum is none */
	total = nr_ops * (target->kind == TABLE ? 1 : 2) + !!target->once;
	if (*nr >= total) {
		*nr -= total;
		return false;
	}
	if (target->once && *nr == total - 1)
		snprintf(text, len, "%s,%s,%%u,fix", target->what, target->once);
	else
		snprintf(text, len, "%s,%s,%%u%s", target->what, ops[*nr % nr_ops],
			 *nr >= nr_ops ? ",fix" : "");
	return true;
}

/* Returns false if there are not so many; then @nr is less by what there are. */
static bool get_case(unsigned int *nr, char *text, size_t len)
{
	bool scalable = param_nr("scalable", 0);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(targets); i++)
		if ((scalable || !targets[i].scalable) &&
		    target_case(&targets[i], nr, text, len))
			return true;
	return false;
}

static void case_of(int round, char *text, size_t len)
{
	unsigned int nr = param_nr("case", 0) + (round - 1) * param_nr("step", 1);
	unsigned int seed = param_nr("seed", 1) * 1000 + nr, all;
	const char *only = param("only", NULL);
	char fmt[64];

	if (only) {
		snprintf(text, len, "%s,%u,fix", only, seed);
		return;
	}
	all = ~0U;
	get_case(&all, fmt, sizeof(fmt));
	all = ~0U - all;
	if (all != param_nr("cases", all))
		give_up("there are %u cases", all);
	nr %= all;
	get_case(&nr, fmt, sizeof(fmt));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, len, fmt, seed);
#pragma GCC diagnostic pop
}

static void read_damage(struct damage *d)
{
	const char *what = param("damage", NULL);
	char *save, *p, text[64];
	unsigned int i;

	if (!what)
		give_up("ilu.damage is missing");
	snprintf(d->text, sizeof(d->text), "%s", what);
	snprintf(text, sizeof(text), "%s", what);
	p = strtok_r(text, ",", &save);
	for (i = 0; i < ARRAY_SIZE(targets); i++)
		if (!strcmp(targets[i].what, p))
			d->target = &targets[i];
	snprintf(d->op, sizeof(d->op), "%s", strtok_r(NULL, ",", &save));
	strtok_r(NULL, ",", &save);
	d->fix = strtok_r(NULL, ",", &save);
}

/* Once the kernel has done it, it says which devices that is about. */
static bool is_hit(struct damage *d, const char *bdf)
{
	char hit[24];

	if (!log_find("ilu_damage: ", d->line, sizeof(d->line)))
		return false;
	if (d->target->all && !d->fix)
		return true;
	snprintf(hit, sizeof(hit), "hits=%s", bdf + 5);
	return strstr(d->line, "hits=all") || strstr(d->line, hit);
}

/* The unit that translates for the device, as the record has it, is not there */
static bool has_no_unit(const struct damage *d)
{
	return !strcmp(d->op, "absent");
}

/* Does it have to be noticed, so that the devices that it hits are blocked? */
static bool must_block(const struct damage *d)
{
	if (has_no_unit(d))
		return true;
	if (d->fix || d->target->late || !strncmp(d->target->what, "pci.", 4))
		return false;
	/* Each record has its checksum, and their order does not matter */
	return strcmp(d->op, "extra") &&
	       (d->target->all || d->target->kind == TABLE || strcmp(d->op, "swap"));
}

/* ---- outgoing kernel --------------------------------------------------------------- */

static void leave(int round)
{
	static struct vmm vmms[ARRAY_SIZE(ids)];
	char text[64], extra[96];
	struct keeper k;
	unsigned int i;

	keeper_open(&k, NULL);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		vmm_start(&vmms[i], ids[i].name, ids[i].bdf, ids[i].seed + round);
		/* This leaves RAM's pattern at LOAD_OFF in the device's buffer */
		verdict(vmm_dma_works(&vmms[i]),
			"before the update both devices reach their VMM's memory",
			"%s does not", ids[i].bdf);
		keeper_create(&k, k.luo, ids[i].name);
		keep_device(&k, &vmms[i]);
	}
	case_of(round, text, sizeof(text));
	snprintf(extra, sizeof(extra), "ilu.damage=%s ilu.again=0", text);
	jump(round + 1, extra);
}

/* ---- incoming kernel --------------------------------------------------------------- */

/* What is known of a device: its memory, and what its first DMA came to */
struct state {
	const struct vmm_id *id;
	struct vmm vmm;
	struct keeper k;
	bool hit, landed, faulted, master;
};

static const struct range changes[] = {
	{ LOAD_LAND, EDU_BUF_LEN }, { SRC_LAND, EDU_BUF_LEN },
};

/* As it runs, without its VMM, and without being made a bus master. */
static void first_dma(struct state *s)
{
	struct edu dev;

	s->master = config_read16(s->id->bdf, PCI_COMMAND) & PCI_COMMAND_MASTER;
	log_mark();
	edu_map_raw(&dev, s->id->bdf);
	edu_write(&dev, 0, BIG_IOVA + LOAD_LAND, PROBE_LEN);
	s->faulted = faults_of(s->id->bdf, s->master ? 200 : 0);
	if (!s->faulted && s->master) {
		edu_write(&dev, 0, BIG_IOVA + LOAD_LAND, EDU_BUF_LEN);
		edu_read(&dev, RAM_IOVA + SRC_OFF, 0, EDU_BUF_LEN);
		edu_write(&dev, 0, BIG_IOVA + SRC_LAND, EDU_BUF_LEN);
	}
	edu_unmap_raw(&dev);
}

static void third_dma(void)
{
	struct edu third;

	log_mark();
	edu_open_raw(&third, THIRD_BDF);
	edu_write(&third, 0, BIG_IOVA, PROBE_LEN);
	edu_close_raw(&third);
	verdict(faults_of(THIRD_BDF, 1000),
		"DMA of a device that was not preserved faults", "no fault was logged");
}

static void get_memory(struct state *s, int luo, int round)
{
	uint32_t seed = s->id->seed + round;
	struct mem *ram = &s->vmm.ram, *big = &s->vmm.big;
	int fd;

	s->vmm.token = (uint64_t)seed << 4;
	keeper_retrieve(&s->k, luo, s->id->name);
	fd = get_back(&s->k, s->vmm.token | 1);
	if (fd < 0)
		give_up("the memory of %s does not come back: %s", s->id->name, strerror(-fd));
	mem_adopt(ram, fd, RAM_LEN, seed);
	fd = get_back(&s->k, s->vmm.token | 2);
	if (fd < 0)
		give_up("the memory of %s does not come back: %s", s->id->name, strerror(-fd));
	mem_adopt(big, fd, BIG_LEN, seed | 0x8000);
}

static void check_first_dma(struct state *s, struct damage *d)
{
	uint8_t *big = s->vmm.big.va;

	s->hit = is_hit(d, s->id->bdf);
	s->landed = is_pattern(big + LOAD_LAND, EDU_BUF_LEN, s->vmm.ram.seed, LOAD_OFF) &&
		    is_pattern(big + SRC_LAND, EDU_BUF_LEN, s->vmm.ram.seed, SRC_OFF);
	verdict(mem_first_difference(&s->vmm.ram, NULL, 0) < 0 &&
			mem_first_difference(&s->vmm.big, changes,
					     s->landed ? ARRAY_SIZE(changes) : 0) < 0,
		"no other byte of preserved memory changes",
		"%s: RAM differs at %#lx, BIG at %#lx (-1: nowhere)", s->id->bdf,
		mem_first_difference(&s->vmm.ram, NULL, 0),
		mem_first_difference(&s->vmm.big, changes, s->landed ? ARRAY_SIZE(changes) : 0));
	if (s->landed)
		verdict(!s->faulted, "a device that goes on does not fault", "%s did",
			s->id->bdf);
	else
		verdict(s->faulted || !s->master, "the DMA of a device that is blocked faults",
			"%s: no fault was logged", s->id->bdf);
	if (!s->hit)
		verdict(s->landed, "a device that was not damaged goes on", "%s does not",
			s->id->bdf);
	else if (must_block(d))
		verdict(!s->landed, "a device that was damaged is blocked", "%s goes on",
			s->id->bdf);
	say(s->id->name, "%s %s%s", s->id->bdf + 5, s->landed ? "goes on" : "is blocked",
	    s->hit ? ", it was damaged" : "");
}

/* The errno of the first step that does not work, with its name in @step. */
static int claim(struct state *s, const char **step)
{
	struct vmm *vmm = &s->vmm;
	int ret;

	vmm->dev = -1;
	*step = "getting the iommufd back";
	vmm->iommufd = get_back(&s->k, vmm->token);
	if (vmm->iommufd < 0)
		return vmm->iommufd;
	*step = "getting the device file back";
	vmm->dev = get_back(&s->k, vmm->token | 3);
	if (vmm->dev < 0)
		return vmm->dev;
	snprintf(vmm->edu.bdf, sizeof(vmm->edu.bdf), "%s", s->id->bdf);
	*step = "binding it";
	ret = vfio_bind(vmm);
	if (!ret)
		ret = vfio_map_bar(vmm);
	if (!ret)
		ret = ioas_alloc(vmm);
	if (!ret)
		ret = ioas_map_file(vmm, &vmm->ram, 0, RAM_IOVA, RAM_LEN);
	if (!ret)
		ret = ioas_map_file(vmm, &vmm->big, 0, BIG_IOVA, BIG_LEN);
	if (!ret)
		ret = hwpt_alloc(vmm, 0);
	if (ret)
		return ret;
	*step = "attaching it";
	ret = vfio_attach(vmm, vmm->hwpt);
	if (ret)
		return ret;
	*step = "FINISH";
	return session_finish(s->k.session);
}

/* With bus mastering forced on: what nobody has any more reaches nothing. */
static void check_ended(struct state *s, int round)
{
	uint64_t iova = ENDED_IOVA + round * 0x1000;
	struct edu dev;
	long at;

	fill_pattern(s->vmm.big.va + LOAD_LAND, EDU_BUF_LEN, s->vmm.big.seed, LOAD_LAND);
	fill_pattern(s->vmm.big.va + SRC_LAND, EDU_BUF_LEN, s->vmm.big.seed, SRC_LAND);
	edu_open_raw(&dev, s->id->bdf);
	edu_write(&dev, 0, iova, PROBE_LEN);
	edu_close_raw(&dev);
	at = mem_first_difference(&s->vmm.big, NULL, 0);
	verdict(at < 0, "after the end of its session a device reaches nothing",
		"%s: BIG differs at %#lx", s->id->bdf, at);
	say("fault", "%s %#llx", s->id->bdf + 5, (unsigned long long)iova);
}

static void check_no_driver(const char *bdf)
{
	int ret = bind_driver(bdf, NATIVE);

	verdict(ret == -EBUSY, "a device whose unit is not there gets no driver", "%s: %s",
		bdf, strerror(-ret));
}

static void finish(struct state *s, struct damage *d, int round)
{
	const char *step;
	int ret;

	ret = claim(s, &step);
	s->hit = is_hit(d, s->id->bdf);
	if (s->hit && has_no_unit(d))
		check_no_driver(s->id->bdf);
	if (!s->hit) {
		verdict(!ret, "a device that was not damaged gets its next page table",
			"%s: %s: %s", s->id->bdf, step, strerror(-ret));
		verdict(!ret && vmm_dma_works(&s->vmm), "and goes on with it",
			"%s does not", s->id->bdf);
	} else if (d->target->late && !d->fix) {
		verdict(ret == -EBADMSG, "a file whose record was damaged is not given back",
			"%s: %s: %s", s->id->bdf, step, strerror(-ret));
	}
	say(s->id->name, "%s: %s", step, strerror(-ret));
	close(s->k.session);
	if (s->vmm.dev >= 0)
		vmm_close_device(&s->vmm);
	if (s->vmm.iommufd >= 0)
		close(s->vmm.iommufd);
	unbind_driver(s->id->bdf);
	if (s->hit && has_no_unit(d))
		check_no_driver(s->id->bdf);
	check_ended(s, round);
	mem_close(&s->vmm.ram);
	mem_close(&s->vmm.big);
}

static bool log_explains(void)
{
	static const char *const reasons[] = {
		"damaged", "not usable", "does not match", "was not preserved", "no valid record",
		"another device is here", "makes no sense", "no entry of", "handed over in version",
		"is recorded", "has two records", "is not found", "cannot", "not found", "can't", "blocked", "is revoked",
		"is leaked",
	};
	unsigned int i;

	log_rewind();
	for (i = 0; i < ARRAY_SIZE(reasons); i++)
		if (log_count("live", reasons[i]) || log_count("luo", reasons[i]) ||
		    log_count("DMAR", reasons[i]))
			return true;
	return false;
}

static void arrive(int round)
{
	static struct state states[ARRAY_SIZE(ids)];
	struct damage d = {};
	bool blocked = false;
	unsigned int i;
	int luo;

	read_damage(&d);
	context(d.text);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		states[i] = (struct state){ .id = &ids[i] };
		first_dma(&states[i]);
	}
	third_dma();
	luo = luo_open();
	if (luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-luo));
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		get_memory(&states[i], luo, round);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		check_first_dma(&states[i], &d);
		blocked |= !states[i].landed;
	}
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		finish(&states[i], &d, round);
	if (verdict(log_find("ilu_damage: ", d.line, sizeof(d.line)),
		    "the damage was done", "it was not"))
		say("kernel", "%s", d.line);
	if (blocked || (d.target->late && !d.fix))
		verdict(log_explains(), "the log says why a device is blocked", "it does not");
	verdict(luo_state(luo) == LIVEUPDATE_STATE_NORMAL, "the state is 'normal' after that", "it is '%s'",
		luo_state_name(luo_state(luo)));
	close(luo);
	context(NULL);
}

/* No driver can have it before the next boot */
static bool is_stranded(const char *bdf)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	return access(path, F_OK);
}

void scen_damage(int stage)
{
	unsigned int i;

	if (stage > 1 && !param_nr("again", 0))
		arrive(stage - 1);
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		if (is_stranded(ids[i].bdf))
			jump(stage, "ilu.again=1");
	if (stage <= param_nr("rounds", 1))
		leave(stage);
	check_device_is_free();
}
