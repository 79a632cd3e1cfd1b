/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The test agent is PID 1 of the guest. It runs one stage of one scenario in
 * each kernel of a chain of live updates and reports what it saw in the lines
 * that scripts/README.md describes.
 *
 * One agent is one thread, apart from the processes that some scenarios fork to
 * kill them. Nothing here is freed for its own sake: a stage ends in kexec or
 * in power off. What a test is about (file descriptors, devices) is closed
 * explicitly, because closing it is an event.
 */
#ifndef ILU_AGENT_H
#define ILU_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define KIB(n)		((n) * 1024ULL)
#define MIB(n)		((n) * 1024ULL * 1024)

/* ---- report.c: timeline, verdicts, guest time --------------------------- */

void report_init(void);
/* An event for the timeline. */
void say(const char *who, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Verdict on @promise; @fmt is the reason, printed if it is broken. Returns @kept. */
bool verdict(bool kept, const char *promise, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* verdict() that @ret is 0. */
bool works(int ret, const char *promise);
/* verdict() that @ret is -@err: "@what is refused". */
bool refused(int ret, int err, const char *what);
/* Added to promises that are checked several times, until the next call. */
void context(const char *when);
/* Something can't be checked here. */
void skip(const char *reason);
/* A stage that cannot go on: reports why, then ends the run. */
void __attribute__((noreturn, format(printf, 1, 2))) give_up(const char *fmt, ...);
/* For the command line of the next kernel. */
void report_handover(char *buf, size_t len);

/* ---- sys.c: files, parameters, drivers, the jump ------------------------- */

ssize_t read_file(const char *path, void *buf, size_t len);
long read_nr(const char *path);	/* the number in a file, or -errno */
int write_file(const char *path, const char *text);	/* 0 or -errno */
/* Value of kernel parameter "ilu.@key", or @def. Valid until the next call. */
const char *param(const char *key, const char *def);
long param_nr(const char *key, long def);
void sleep_ms(unsigned int ms);
/* Binds @bdf to @driver by driver_override; 0 or -errno of the bind. */
int bind_driver(const char *bdf, const char *driver);
int unbind_driver(const char *bdf);
bool has_driver(const char *driver);
/* What is in /modules, if this kernel has modules; what fails ends the run. */
void load_modules(void);
/* From here on, when the kernel asks for one that it needs. */
void load_modules_when_needed(void);
/* Sets fault injection up; false if this kernel has none. */
bool fault_injection(void);
/* Lets the @nth allocation of the agent from now on fail, once. */
void fail_allocation(unsigned int nth);
/* Has it failed? Whether or not, none fails after this. */
bool allocation_failed(void);
bool bound_to(const char *bdf, const char *driver);
uint16_t config_read16(const char *bdf, unsigned int off);
void config_write16(const char *bdf, unsigned int off, uint16_t val);
/* Where capability @id is in the config space, 0 if there is none. */
unsigned int find_capability(const char *bdf, unsigned int id);
/* Resets @bdf through sysfs; 0 or -errno, -ENOENT if it can't be reset. */
int reset_device(const char *bdf);
/* Removes @bdf from its bus as by hotplug; 0 or -errno. */
int remove_device(const char *bdf);
/*
 * Loads /kernel, or /kernel-b if that exists and is not the one that runs, with the
 * running initramfs. The command line is the running
 * one with ilu.stage=@stage and with @extra ("a=b c=d") replacing parameters of
 * the same name. 0 or -errno.
 */
int load_next_kernel(int stage, const char *extra);
/* The same for a kernel that starts when this one crashes. */
int load_crash_kernel(int stage, const char *extra);
/* By kexec_load(2), as kexec -c -l does: a page that never runs. -ENOSYS if not here. */
int load_image_without_kho(void);
void unload_image(void);
/* Starts the loaded kernel; returns only when refused, with -errno. */
int start_next_kernel(void);
/* Both of the above; a refusal ends the run. */
void __attribute__((noreturn)) jump(int stage, const char *extra);
void __attribute__((noreturn)) power_off(void);
/* Has a child call @fn, which returns 0 or -errno; that is what result_of() waits for. */
pid_t in_child(int (*fn)(void));
int result_of(pid_t pid);

/* ---- edu.c: QEMU's edu device as a DMA engine ----------------------------- */

#define EDU_DEVICE_ID	0x11e8
#define EDU_BUF_LEN	KIB(2)	/* of 4 KiB: QEMU aborts when a range touches the end */

/*
 * Transfers that shall fault are short: QEMU reports a fault for each 4 bytes.
 * They are few as well: the kernel logs about three in five seconds.
 */
#define FAULT_LEN	8

struct edu {
	char bdf[16];
	volatile uint8_t *bar;
};

/* Maps the BAR through sysfs and sets memory decode and bus master by hand. */
void edu_open_raw(struct edu *edu, const char *bdf);
void edu_close_raw(struct edu *edu);	/* bus master off again */
/* Only maps the BAR: for a device that is running. */
void edu_map_raw(struct edu *edu, const char *bdf);
void edu_unmap_raw(struct edu *edu);
void edu_start_read(struct edu *edu, uint64_t iova, unsigned int off, unsigned int len);
void edu_start_write(struct edu *edu, unsigned int off, uint64_t iova, unsigned int len);
void edu_wait(struct edu *edu);
static inline void edu_read(struct edu *edu, uint64_t iova, unsigned int off,
			    unsigned int len)
{
	edu_start_read(edu, iova, off, len);
	edu_wait(edu);
}

static inline void edu_write(struct edu *edu, unsigned int off, uint64_t iova,
			     unsigned int len)
{
	edu_start_write(edu, off, iova, len);
	edu_wait(edu);
}

/* ---- mem.c: memfds with known contents ------------------------------------ */

struct mem {
	int fd;
	uint8_t *va;
	size_t len;
	uint32_t seed;
	uint64_t token;
};

struct range {
	uint64_t start, len;
};

void fill_pattern(void *buf, size_t len, uint32_t seed, uint64_t off);
bool is_pattern(const void *buf, size_t len, uint32_t seed, uint64_t off);
/* A sealed memfd of @len bytes filled with its pattern, of huge pages if @huge. */
void mem_create(struct mem *mem, size_t len, uint32_t seed, bool huge);
/* Does what is written from now on, and what khugepaged finds, get huge pages? */
void mem_allow_huge(bool allow);
void mem_adopt(struct mem *mem, int fd, size_t len, uint32_t seed);
void mem_close(struct mem *mem);
/* Offset of the first byte outside @changed that isn't the pattern, or -1. */
long mem_first_difference(const struct mem *mem, const struct range *changed,
			  unsigned int nr_changed);

/* ---- vmm.c: what a VMM does with iommufd and a VFIO device ----------------- */

/* Where the VMM's memory is for its device: same in every kernel. */
#define RAM_IOVA	MIB(16)		/* 4 KiB pages */
#define RAM_LEN		MIB(8)
#define BIG_IOVA	MIB(64)		/* 2 MiB pages if the kernel gives them */
#define BIG_LEN		MIB(4)

/* What vmm_dma_works() moves from RAM into the device's buffer. */
#define LOAD_OFF	0x5000

struct vmm {
	const char *name;	/* vmm, or other */
	struct edu edu;
	unsigned int bar;	/* the number of edu.bar */
	int iommufd;
	int dev;
	uint32_t dev_id;
	size_t bar_len;
	uint32_t ioas;
	uint32_t hwpt;
	uint64_t token;		/* iommufd's token in LUO */
	uint64_t hwpt_token;
	struct mem ram, big;
};

/* Each returns 0 or -errno; the fd or id goes to @vmm. */
int vfio_open_device(struct vmm *vmm);
int vfio_bind(struct vmm *vmm);
/* The largest one. */
int vfio_map_bar(struct vmm *vmm);
int vfio_attach(struct vmm *vmm, uint32_t pt_id);
int vfio_detach(struct vmm *vmm);
int vfio_attach_pasid(struct vmm *vmm, uint32_t pasid, uint32_t pt_id);
int vfio_detach_pasid(struct vmm *vmm, uint32_t pasid);
int vfio_reset(struct vmm *vmm);
int vfio_low_power(struct vmm *vmm, bool enter);
/* Reads or writes the device's config space as the VMM sees it; 0 or -errno. */
int vfio_config(struct vmm *vmm, bool write, unsigned int off, void *val,
		unsigned int len);
int iommufd_open(struct vmm *vmm);
int ioas_alloc(struct vmm *vmm);
int ioas_map_file(struct vmm *vmm, const struct mem *mem, uint64_t off,
		  uint64_t iova, uint64_t len);
int ioas_map_file_ro(struct vmm *vmm, const struct mem *mem, uint64_t off,
		     uint64_t iova, uint64_t len);
int ioas_map_anon(struct vmm *vmm, void *va, uint64_t iova, uint64_t len);
/* What is mapped at @src in the IOAS @from. */
int ioas_copy(struct vmm *vmm, uint32_t from, uint64_t src, uint64_t iova,
	      uint64_t len);
int ioas_unmap(struct vmm *vmm, uint64_t iova, uint64_t len);
/* Everything that the iommufd has pinned counts for this process from then on. */
int iommufd_change_process(struct vmm *vmm);
int hwpt_alloc(struct vmm *vmm, uint32_t flags);
int hwpt_set_token(struct vmm *vmm, uint32_t hwpt, uint64_t token);
int iommufd_destroy(struct vmm *vmm, uint32_t id);
struct iommu_liveupdate_hwpt;
/* @count: capacity of @hwpts in, number there are out. */
int list_hwpts(int iommufd, struct iommu_liveupdate_hwpt *hwpts, uint32_t *count);

/*
 * Everything from opening the device to a translated DMA in both directions;
 * what fails ends the run. @seed makes contents of different VMMs and rounds
 * differ.
 */
/* Only the memory, the iommufd and the device file. */
void vmm_create(struct vmm *vmm, const char *name, const char *bdf, uint32_t seed);
void vmm_start(struct vmm *vmm, const char *name, const char *bdf, uint32_t seed);
/*
 * vmm_start() and keep_device() in a process of its own, which can be killed; @k stays
 * with the caller, too.
 */
struct keeper;
pid_t vmm_start_child(struct keeper *k, const char *name, const char *bdf,
		      uint32_t seed);
/*
 * In the next kernel: the memory, the iommufd and the device file of a VMM that was
 * kept with keep_device(). What fails ends the run. @bdf, @seed as for vmm_start().
 */
void vmm_come_back(struct vmm *vmm, struct keeper *k, const char *name,
		   const char *bdf, uint32_t seed);
/* Without the device file, for keep_vmm(). */
void vmm_retrieve(struct vmm *vmm, struct keeper *k, const char *name,
		  const char *bdf, uint32_t seed);
/* Binds the device, maps its BAR, allocates an IOAS and a HWPT and maps the memory. */
void vmm_build(struct vmm *vmm);
/* The device reads from one place of the VMM's memory and writes to another. */
bool vmm_dma_works(struct vmm *vmm);
void vmm_close_device(struct vmm *vmm);
void vmm_close(struct vmm *vmm);

/* ---- virtio_rng.c: a device with ATS that writes by itself ------------------- */

#define RNG_BUFFERS	8

struct virtio_rng {
	struct vmm *vmm;
	uint32_t common, notify;	/* in the BAR */
};

void virtio_rng_find(struct virtio_rng *rng, struct vmm *vmm);
void virtio_rng_start(struct virtio_rng *rng);
/* Gives all buffers to the device, which has filled all that it had. */
void virtio_rng_post(struct virtio_rng *rng);
/* Buffers that the device has, and has not filled yet. */
unsigned int virtio_rng_pending(const struct vmm *vmm);
/* Have all been filled within @ms? */
bool virtio_rng_filled(const struct vmm *vmm, unsigned int ms);

/* ---- luo.c: /dev/liveupdate ------------------------------------------------ */

#define LUO_ABANDON	true

int luo_open(void);			/* fd or -errno */
int luo_fd_preserve(int luo, uint64_t token, int fd);
int luo_fd_unpreserve(int luo, uint64_t token);
int luo_fd_restore(int luo, uint64_t token);	/* fd or -errno */
int luo_state(int luo);				/* state or -errno */
int luo_prepare(int luo);
int luo_cancel(int luo);
int luo_finish(int luo, bool abandon);
/* What is said of the loaded image; 0 and @flags, or -errno. */
int luo_check_image(int luo, unsigned int *flags);
int session_create(int luo, const char *name);	/* fd or -errno */
int session_retrieve(int luo, const char *name);
int session_preserve(int session, uint64_t token, int fd);
int session_restore(int session, uint64_t token);
int session_finish(int session);
const char *luo_state_name(int state);

/* The same steps on a session or, with @session < 0, on /dev/liveupdate itself. */
struct keeper {
	int luo;
	int session;
};

void keeper_create(struct keeper *k, int luo, const char *session);
void keeper_retrieve(struct keeper *k, int luo, const char *session);
void keeper_open(struct keeper *k, const char *session);
void keeper_reopen(struct keeper *k, const char *session);
int keep(struct keeper *k, uint64_t token, int fd);
int get_back(struct keeper *k, uint64_t token);
int keeper_finish(struct keeper *k);
/* Memfds first, then the iommufd; what fails ends the run. */
void keep_memory(struct keeper *k, struct vmm *vmm);
void keep_vmm(struct keeper *k, struct vmm *vmm);
/* And the device file, with which the device goes on. */
void keep_device(struct keeper *k, struct vmm *vmm);
/* Unpreserves all that of a VMM without a session; 0, or the last -errno. */
int drop_device(struct keeper *k, const struct vmm *vmm);

/* ---- watch.c: what the kernel says about itself ---------------------------- */

struct iommu_pages {
	long iommu, secondary;
};

struct iommu_pages count_iommu_pages(void);
/* A line of /proc/meminfo, @name with its colon. */
long meminfo_kib(const char *name);
/* Without what the kernel keeps reserved, as preserved memory nobody took back. */
long mem_total_kib(void);
/* One page of physical memory that is RAM for this kernel; 0 or -errno. */
int phys_read(uint64_t phys, void *page);
/* Where a page that is there is in memory; what fails ends the run. */
uint64_t phys_of(const volatile void *va);
/* Pages marked as preserved in KHO's outgoing tree, or -errno. */
long kho_preserved_pages(void);
/* Has this kernel kmemleak? */
bool leak_detector(void);
/* What kmemleak says, NULL if nothing. Takes some seconds. */
const char *leaked_memory(void);
/*
 * In a crash kernel: a page of the kernel that crashed. @off is where it is in its 2 MiB,
 * if they are one page. 0 or -errno.
 */
int find_crashed_page(uint64_t off, bool (*wanted)(const void *page), void *page);
/* The entry that hardware uses for a PASID of @bdf, "" if it is not present. */
struct pasid_entry {
	char text[64];
};

struct pasid_entry pasid_entry(const char *bdf, uint32_t nr);
/* Kernel log lines since the last call to log_mark(). */
void log_mark(void);
unsigned int log_count(const char *needle, const char *needle2);
/* Lets log_count() see all of them again. */
void log_rewind(void);
/* The first line of this kernel's log with @needle; false if there is none. */
bool log_find(const char *needle, char *line, size_t len);
/* IOMMU faults of @bdf since log_mark(); waits for up to @wait_ms for one. */
unsigned int faults_of(const char *bdf, unsigned int wait_ms);
/* First WARNING, BUG, lockdep or KASAN line of this kernel's log, or NULL. */
const char *log_complaint(void);

/* ---- chaos.c: things done at random, in many processes ----------------------- */

/* Less than the minute for which iommufd waits for an object in use. */
#define HANG_SECONDS	45

/* xorshift64*; @state is not 0. */
uint64_t next_random(uint64_t *state);
/* A state of its own for each @nr. */
uint64_t seed_for(uint64_t seed, uint64_t nr);
long now_seconds(void);
/* Memory that forked processes share. */
void *share(size_t len);
/* Says so, shows who is blocked, and ends the run. */
void __attribute__((noreturn)) hangs(const char *what);
/* Waits for a process that has been killed or ends by itself. */
void reap(pid_t pid, const char *what);

struct counters {
	struct iommu_pages pages;
	long kho;
};

struct counters count_all(void);
/* verdict() that what is counted is what it was. */
void check_counters(const struct counters *then);

/* ---- scenarios -------------------------------------------------------------- */

#define DEV_BDF		"0000:00:10.0"	/* the device that is preserved */
#define OTHER_BDF	"0000:00:11.0"	/* the one that is not */
#define NATIVE		"pci-pf-stub"	/* a driver that uses the DMA API and takes any device */
/* Where the last transfer of a run goes: it faults and ends QEMU's trace. */
#define END_MARK_IOVA	0xeed0000ULL

struct scenario {
	const char *name;
	void (*run)(int stage);
};

void check_device_is_free(void);
/* Of scen_cycle.c: the kernel's table pages and memory against those of the one before. */
void check_pages(int stage, char *extra, size_t len);

void scen_both(int stage);
void scen_smoke(int stage);
void scen_cycle(int stage);
void scen_cancel(int stage);
void scen_refuse(int stage);
void scen_owned(int stage);
void scen_killed(int stage);
void scen_freeze(int stage);
void scen_options(int stage);
void scen_image(int stage);
void scen_damaged(int stage);
void scen_kselftest(int stage);
void scen_faults(int stage);
void scen_emptied(int stage);
void scen_takeover(int stage);
void scen_unfit(int stage);
void scen_many(int stage);
void scen_frames(int stage);
void scen_bench(int stage);
void scen_ats(int stage);
void scen_pasid(int stage);
void scen_kdump(int stage);
void scen_damage(int stage);
void scen_soak(int stage);
void scen_misuse(int stage);
void scen_removed(int stage);
void scen_reset(int stage);
void scen_stress(int stage);
void scen_fuzz(int stage);
void scen_collapse(int stage);

#endif
