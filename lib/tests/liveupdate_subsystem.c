// SPDX-License-Identifier: GPL-2.0

/*
 * A test facility for live updates, for use by the selftests.
 *
 * Owns two subsystems, "test-a" and "test-b", a type of file that can be
 * preserved, and an FLB that goes with these files. They hold no real state. What
 * they do is to record how they are called, in one sequence for all of them, and
 * to fail on request. Everything is controlled by files in debugfs, under
 * liveupdate_test/:
 *
 * calls          The calls so far, as "a:prepare b:prepare f1:freeze ...": a and b
 *                are the subsystems, f<id> is a file, flb the FLB. A file that was
 *                finished because it was given up shows as f<id>:abandon. Writing
 *                anything clears the sequence.
 * fail           Write "<call> <errno> [<ms>]", like "a:freeze -5 200", to make that
 *                call fail each time, after a delay. Write an empty line to stop.
 * data_a, data_b What the subsystems hand over. 0 is nothing.
 * incoming       What the old kernel handed over: for each subsystem, a line with
 *                its letter, an errno and the data. From now, that is, it may be
 *                finished.
 * incoming_early The same, as it was in an early_initcall.
 * register       Write +a, -a, +b, -b, +f or -f to register or unregister a
 *                subsystem or the file handler. All are registered at boot.
 * file           Each open of it is a file of its own that can be preserved. Write
 *                "id <n>" to give it a number, and "require <fd>" to make it depend on
 *                another file. Reading it returns the number, in the new kernel too.
 * corrupt        Write 1 to damage what subsystems hand over, after it was written.
 *
 * Locking: luo_test_lock protects everything here, is taken last, and isn't held
 * while LUO is called. luo_test_register_lock serializes writes to "register".
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/anon_inodes.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kexec.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/libfdt.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define LUO_TEST_FILE_COMPATIBLE	"liveupdate-test-file-v1"
#define LUO_TEST_FLB_COMPATIBLE		"liveupdate-test-lazy-flb-v1"

#define LUO_TEST_CALLS_SIZE	4096
#define LUO_TEST_LINE_SIZE	64

/* So that what comes back can be told from garbage. */
#define LUO_TEST_FILE_MAGIC	0x7e57f11e00000000ULL
#define LUO_TEST_FLB_DATA	0x7e57f1b000000001ULL

/*
 * struct luo_test_subsystem - One of the subsystems.
 * @ss:        What is registered with LUO.
 * @who:       What it goes by in debugfs.
 * @data:      What it hands over.
 * @prepared:  What it has set when it was prepared.
 * @frozen:    What it has set when it was frozen.
 * @early_err: What liveupdate_subsystem_get_incoming() returned early in boot.
 * @early:     The data that it found then.
 */
struct luo_test_subsystem {
	struct liveupdate_subsystem ss;
	const char *who;
	u64 data;
	u64 prepared;
	u64 frozen;
	int early_err;
	u64 early;
};

/*
 * struct luo_test_file - A file that can be preserved.
 * @id:       Its number, handed over to the next kernel.
 * @required: Another file that this one depends on.
 */
struct luo_test_file {
	u32 id;
	struct file *required;
};

static DEFINE_MUTEX(luo_test_lock);
static DEFINE_MUTEX(luo_test_register_lock);

static char luo_test_calls[LUO_TEST_CALLS_SIZE];
static size_t luo_test_calls_len;

static char luo_test_fail_call[LUO_TEST_LINE_SIZE];
static int luo_test_fail_errno;
static unsigned int luo_test_fail_ms;

/* Files that LUO holds, so that their handler must stay. */
static unsigned int luo_test_nr_files;

static bool luo_test_corrupt;

/* Record a call, and find out whether it is to fail. */
static int luo_test_call(const char *who, const char *op)
{
	char call[LUO_TEST_LINE_SIZE];
	unsigned int ms;
	int err;

	snprintf(call, sizeof(call), "%s:%s", who, op);

	scoped_guard(mutex, &luo_test_lock) {
		luo_test_calls_len += scnprintf(luo_test_calls + luo_test_calls_len,
						sizeof(luo_test_calls) - luo_test_calls_len,
						"%s ", call);
		if (strcmp(call, luo_test_fail_call))
			return 0;
		err = luo_test_fail_errno;
		ms = luo_test_fail_ms;
	}

	msleep(ms);

	return err;
}

static struct luo_test_subsystem *to_test_subsystem(struct liveupdate_subsystem *ss)
{
	return container_of(ss, struct luo_test_subsystem, ss);
}

static int luo_test_ss_prepare(struct liveupdate_subsystem *ss, u64 *data)
{
	struct luo_test_subsystem *test = to_test_subsystem(ss);

	*data = test->prepared = test->data;

	return luo_test_call(test->who, "prepare");
}

static int luo_test_ss_freeze(struct liveupdate_subsystem *ss, u64 *data)
{
	struct luo_test_subsystem *test = to_test_subsystem(ss);

	/* May have been changed since, which freeze is there to bring up to date. */
	if (*data != test->prepared)
		luo_test_call(test->who, "freeze-wrong-data");
	*data = test->frozen = test->data;

	return luo_test_call(test->who, "freeze");
}

static void luo_test_ss_unfreeze(struct liveupdate_subsystem *ss, u64 data)
{
	struct luo_test_subsystem *test = to_test_subsystem(ss);

	if (data == test->frozen)
		luo_test_call(test->who, "unfreeze");
	else
		luo_test_call(test->who, "unfreeze-wrong-data");
}

static void luo_test_ss_cancel(struct liveupdate_subsystem *ss, u64 data)
{
	struct luo_test_subsystem *test = to_test_subsystem(ss);

	if (data == test->prepared)
		luo_test_call(test->who, "cancel");
	else
		luo_test_call(test->who, "cancel-wrong-data");
}

static void luo_test_ss_finish(struct liveupdate_subsystem *ss, u64 data)
{
	struct luo_test_subsystem *test = to_test_subsystem(ss);

	if (data == test->early)
		luo_test_call(test->who, "finish");
	else
		luo_test_call(test->who, "finish-wrong-data");
}

static const struct liveupdate_subsystem_ops luo_test_ss_ops = {
	.prepare = luo_test_ss_prepare,
	.freeze = luo_test_ss_freeze,
	.unfreeze = luo_test_ss_unfreeze,
	.cancel = luo_test_ss_cancel,
	.finish = luo_test_ss_finish,
	.owner = THIS_MODULE,
};

static struct luo_test_subsystem luo_test_subsystems[] = {
	{ .ss = { .ops = &luo_test_ss_ops, .name = "test-a" }, .who = "a" },
	{ .ss = { .ops = &luo_test_ss_ops, .name = "test-b" }, .who = "b" },
};

static int luo_test_file_call(u32 id, const char *op)
{
	char who[LUO_TEST_LINE_SIZE];

	snprintf(who, sizeof(who), "f%u", id);

	return luo_test_call(who, op);
}

static void luo_test_file_count(int n)
{
	guard(mutex)(&luo_test_lock);
	luo_test_nr_files += n;
}

static const struct file_operations luo_test_file_fops;

static int luo_test_file_open(struct inode *inode, struct file *file)
{
	struct luo_test_file *test = kzalloc_obj(*test);

	if (!test)
		return -ENOMEM;

	file->private_data = test;

	return nonseekable_open(inode, file);
}

static int luo_test_file_release(struct inode *inode, struct file *file)
{
	struct luo_test_file *test = file->private_data;

	if (test->required)
		fput(test->required);
	kfree(test);

	return 0;
}

static ssize_t luo_test_file_read(struct file *file, char __user *buf,
				  size_t count, loff_t *ppos)
{
	struct luo_test_file *test = file->private_data;
	char line[LUO_TEST_LINE_SIZE];
	loff_t pos = 0;
	int len;

	len = snprintf(line, sizeof(line), "%u\n", test->id);

	return simple_read_from_buffer(buf, count, &pos, line, len);
}

static ssize_t luo_test_file_write(struct file *file, const char __user *buf,
				   size_t count, loff_t *ppos)
{
	struct luo_test_file *test = file->private_data;
	char line[LUO_TEST_LINE_SIZE] = {};
	struct file *required;
	unsigned int val;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buf, count))
		return -EFAULT;

	guard(mutex)(&luo_test_lock);

	if (sscanf(line, "id %u", &val) == 1) {
		test->id = val;
		return count;
	}

	if (sscanf(line, "require %u", &val) != 1 || test->required)
		return -EINVAL;

	required = fget(val);
	if (!required)
		return -EBADF;
	test->required = required;

	return count;
}

static const struct file_operations luo_test_file_fops = {
	.owner = THIS_MODULE,
	.open = luo_test_file_open,
	.release = luo_test_file_release,
	.read = luo_test_file_read,
	.write = luo_test_file_write,
};

static bool luo_test_file_can_preserve(struct liveupdate_file_handler *handler,
				       struct file *file)
{
	return file->f_op == &luo_test_file_fops;
}

static int luo_test_file_preserve(struct liveupdate_file_op_args *args)
{
	struct luo_test_file *test = args->file->private_data;
	u64 token;
	int err;

	if (test->required) {
		err = liveupdate_file_require(args, test->required, &token);
		if (err)
			return err;
	}

	err = luo_test_file_call(test->id, "preserve");
	if (err)
		return err;

	args->serialized_data = LUO_TEST_FILE_MAGIC | test->id;
	luo_test_file_count(1);

	return 0;
}

static void luo_test_file_unpreserve(struct liveupdate_file_op_args *args)
{
	luo_test_file_call(lower_32_bits(args->serialized_data), "unpreserve");
	luo_test_file_count(-1);
}

static int luo_test_file_freeze(struct liveupdate_file_op_args *args)
{
	return luo_test_file_call(lower_32_bits(args->serialized_data), "freeze");
}

static void luo_test_file_unfreeze(struct liveupdate_file_op_args *args)
{
	luo_test_file_call(lower_32_bits(args->serialized_data), "unfreeze");
}

static int luo_test_file_retrieve(struct liveupdate_file_op_args *args)
{
	u32 id = lower_32_bits(args->serialized_data);
	struct luo_test_file *test;
	struct file *file;
	int err;

	if (args->serialized_data != (LUO_TEST_FILE_MAGIC | id))
		return -EBADMSG;

	err = luo_test_file_call(id, "retrieve");
	if (err)
		return err;

	test = kzalloc_obj(*test);
	if (!test)
		return -ENOMEM;

	test->id = id;
	file = anon_inode_getfile("[liveupdate_test]", &luo_test_file_fops, test,
				  O_RDWR);
	if (IS_ERR(file)) {
		kfree(test);
		return PTR_ERR(file);
	}

	args->file = file;
	luo_test_file_count(1);

	return 0;
}

static bool luo_test_file_can_finish(struct liveupdate_file_op_args *args)
{
	return !luo_test_file_call(lower_32_bits(args->serialized_data), "can_finish");
}

static int luo_test_file_finish_prepare(struct liveupdate_file_op_args *args)
{
	return luo_test_file_call(lower_32_bits(args->serialized_data),
				  "finish_prepare");
}

static void luo_test_file_finish_abort(struct liveupdate_file_op_args *args)
{
	luo_test_file_call(lower_32_bits(args->serialized_data), "finish_abort");
}

static void luo_test_file_finish(struct liveupdate_file_op_args *args)
{
	luo_test_file_call(lower_32_bits(args->serialized_data),
			   args->abandon ? "abandon" : "finish");
	if (args->retrieve_status > 0)
		luo_test_file_count(-1);
}

static const struct liveupdate_file_ops luo_test_file_ops = {
	.can_preserve = luo_test_file_can_preserve,
	.preserve = luo_test_file_preserve,
	.unpreserve = luo_test_file_unpreserve,
	.freeze = luo_test_file_freeze,
	.unfreeze = luo_test_file_unfreeze,
	.retrieve = luo_test_file_retrieve,
	.can_finish = luo_test_file_can_finish,
	.finish_prepare = luo_test_file_finish_prepare,
	.finish_abort = luo_test_file_finish_abort,
	.finish = luo_test_file_finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler luo_test_handler = {
	.ops = &luo_test_file_ops,
	.compatible = LUO_TEST_FILE_COMPATIBLE,
};

static int luo_test_flb_preserve(struct liveupdate_flb_op_args *argp)
{
	argp->data = LUO_TEST_FLB_DATA;

	return luo_test_call("flb", "preserve");
}

static void luo_test_flb_unpreserve(struct liveupdate_flb_op_args *argp)
{
	luo_test_call("flb", "unpreserve");
}

static int luo_test_flb_retrieve(struct liveupdate_flb_op_args *argp)
{
	if (argp->data != LUO_TEST_FLB_DATA)
		return -EBADMSG;

	return luo_test_call("flb", "retrieve");
}

static void luo_test_flb_finish(struct liveupdate_flb_op_args *argp)
{
	luo_test_call("flb", "finish");
}

static const struct liveupdate_flb_ops luo_test_flb_ops = {
	.preserve = luo_test_flb_preserve,
	.unpreserve = luo_test_flb_unpreserve,
	.retrieve = luo_test_flb_retrieve,
	.finish = luo_test_flb_finish,
	.owner = THIS_MODULE,
};

/* Nobody asks for this one before its files are finished. */
static struct liveupdate_flb luo_test_flb = {
	.ops = &luo_test_flb_ops,
	.compatible = LUO_TEST_FLB_COMPATIBLE,
};

static int luo_test_register_handler(void)
{
	int err;

	err = liveupdate_register_file_handler(&luo_test_handler);
	if (err)
		return err;

	err = liveupdate_register_flb(&luo_test_handler, &luo_test_flb);
	if (err)
		liveupdate_unregister_file_handler(&luo_test_handler);

	return err;
}

static int luo_test_unregister_handler(void)
{
	scoped_guard(mutex, &luo_test_lock) {
		if (luo_test_nr_files)
			return -EBUSY;
	}

	liveupdate_unregister_file_handler(&luo_test_handler);

	return 0;
}

static int luo_test_register(const char *what)
{
	struct luo_test_subsystem *test;

	if (!strcmp(what, "+f"))
		return luo_test_register_handler();
	if (!strcmp(what, "-f"))
		return luo_test_unregister_handler();

	for (int i = 0; i < ARRAY_SIZE(luo_test_subsystems); i++) {
		test = &luo_test_subsystems[i];
		if (!what[0] || strcmp(what + 1, test->who))
			continue;

		if (what[0] == '+')
			return liveupdate_register_subsystem(&test->ss);

		liveupdate_unregister_subsystem(&test->ss);
		return 0;
	}

	return -EINVAL;
}

/* Get what was written as one line, without the newline. */
static int luo_test_get_line(char *line, const char __user *buf, size_t count)
{
	if (count >= LUO_TEST_LINE_SIZE)
		return -EINVAL;
	if (copy_from_user(line, buf, count))
		return -EFAULT;

	line[count] = 0;
	strim(line);

	return 0;
}

static ssize_t luo_test_register_write(struct file *file, const char __user *buf,
				       size_t count, loff_t *ppos)
{
	char line[LUO_TEST_LINE_SIZE];
	int err;

	err = luo_test_get_line(line, buf, count);
	if (err)
		return err;

	guard(mutex)(&luo_test_register_lock);
	err = luo_test_register(line);

	return err ?: count;
}

static const struct file_operations luo_test_register_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = luo_test_register_write,
};

static ssize_t luo_test_fail_write(struct file *file, const char __user *buf,
				   size_t count, loff_t *ppos)
{
	char call[LUO_TEST_LINE_SIZE] = {};
	char line[LUO_TEST_LINE_SIZE];
	unsigned int ms = 0;
	int fail = 0;
	int err;

	err = luo_test_get_line(line, buf, count);
	if (err)
		return err;
	if (line[0] && sscanf(line, "%63s %d %u", call, &fail, &ms) < 2)
		return -EINVAL;

	guard(mutex)(&luo_test_lock);
	strscpy(luo_test_fail_call, call);
	luo_test_fail_errno = fail;
	luo_test_fail_ms = ms;

	return count;
}

static const struct file_operations luo_test_fail_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = luo_test_fail_write,
};

static ssize_t luo_test_calls_read(struct file *file, char __user *buf,
				   size_t count, loff_t *ppos)
{
	guard(mutex)(&luo_test_lock);

	return simple_read_from_buffer(buf, count, ppos, luo_test_calls,
				       luo_test_calls_len);
}

static ssize_t luo_test_calls_write(struct file *file, const char __user *buf,
				    size_t count, loff_t *ppos)
{
	guard(mutex)(&luo_test_lock);
	luo_test_calls_len = 0;

	return count;
}

static const struct file_operations luo_test_calls_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = luo_test_calls_read,
	.write = luo_test_calls_write,
};

static int luo_test_incoming_show(struct seq_file *m, void *unused)
{
	struct luo_test_subsystem *test;

	for (int i = 0; i < ARRAY_SIZE(luo_test_subsystems); i++) {
		u64 data = 0;
		int err;

		test = &luo_test_subsystems[i];
		err = liveupdate_subsystem_get_incoming(test->ss.name, &data);
		seq_printf(m, "%s %d %#llx\n", test->who, err, data);
	}

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(luo_test_incoming);

static int luo_test_incoming_early_show(struct seq_file *m, void *unused)
{
	struct luo_test_subsystem *test;

	for (int i = 0; i < ARRAY_SIZE(luo_test_subsystems); i++) {
		test = &luo_test_subsystems[i];
		seq_printf(m, "%s %d %#llx\n", test->who, test->early_err,
			   test->early);
	}

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(luo_test_incoming_early);

/* Called after all subsystems were frozen, when the jump is certain. */
static int luo_test_reboot(struct notifier_block *nb, unsigned long action,
			   void *unused)
{
	const u64 *phys;
	u8 *blob;
	void *fdt;
	int off;

	if (!luo_test_corrupt || !kexec_in_progress)
		return NOTIFY_DONE;

	fdt = phys_to_virt(kexec_image->kho.fdt);
	off = fdt_subnode_offset(fdt, 0, LUO_SUBSYSTEM_KHO_ENTRY_NAME);
	phys = fdt_getprop(fdt, off, KHO_SUB_TREE_PROP_NAME, NULL);
	if (!phys)
		return NOTIFY_DONE;

	/* The data of the first subsystem: all lengths and names stay right. */
	blob = phys_to_virt(*phys);
	blob += sizeof(struct luo_subsystem_header_ser);
	blob[offsetof(struct luo_subsystem_ser, data)] ^= 1;

	return NOTIFY_DONE;
}

static struct notifier_block luo_test_reboot_nb = {
	.notifier_call = luo_test_reboot,
};

static int __init luo_test_early_init(void)
{
	struct luo_test_subsystem *test;

	for (int i = 0; i < ARRAY_SIZE(luo_test_subsystems); i++) {
		test = &luo_test_subsystems[i];
		test->early_err = liveupdate_subsystem_get_incoming(test->ss.name,
								    &test->early);
	}

	return 0;
}
early_initcall(luo_test_early_init);

static int __init luo_test_init(void)
{
	static const char * const boot[] = { "+a", "+b", "+f" };
	struct dentry *dir;
	int err;

	dir = debugfs_create_dir("liveupdate_test", NULL);
	debugfs_create_file("calls", 0600, dir, NULL, &luo_test_calls_fops);
	debugfs_create_file("fail", 0200, dir, NULL, &luo_test_fail_fops);
	debugfs_create_u64("data_a", 0600, dir, &luo_test_subsystems[0].data);
	debugfs_create_u64("data_b", 0600, dir, &luo_test_subsystems[1].data);
	debugfs_create_file("incoming", 0400, dir, NULL, &luo_test_incoming_fops);
	debugfs_create_file("incoming_early", 0400, dir, NULL,
			    &luo_test_incoming_early_fops);
	debugfs_create_file("register", 0200, dir, NULL, &luo_test_register_fops);
	/* Unsafe, so that LUO gets to see our own file operations. */
	debugfs_create_file_unsafe("file", 0600, dir, NULL, &luo_test_file_fops);
	debugfs_create_bool("corrupt", 0600, dir, &luo_test_corrupt);

	err = register_reboot_notifier(&luo_test_reboot_nb);
	if (err)
		return err;

	for (int i = 0; i < ARRAY_SIZE(boot); i++) {
		err = luo_test_register(boot[i]);
		if (err && err != -EOPNOTSUPP) {
			pr_err("cannot register %s: %pe\n", boot[i], ERR_PTR(err));
			return err;
		}
	}

	return 0;
}
device_initcall(luo_test_init);
