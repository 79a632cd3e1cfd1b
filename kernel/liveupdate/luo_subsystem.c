// SPDX-License-Identifier: GPL-2.0

/**
 * DOC: LUO Subsystems
 *
 * A subsystem takes part in a live update with state that belongs to no file: an
 * IOMMU driver, say, has to hand over the tables that hardware walks, for all
 * preserved devices together. It registers a &struct liveupdate_subsystem, and
 * LUO calls it:
 *
 * - prepare(), when the user asks for it or at the start of the reboot, to build
 *   what will be handed over. It is called for every registered subsystem, in
 *   the order of registration, or undone for all of them with cancel().
 * - freeze(), late in the reboot, after the preserved files were frozen. When one
 *   fails the others are unfrozen, the files are thawed, and the reboot fails.
 * - finish(), in the new kernel, after the files of the last session finished.
 *
 * Between prepare() and freeze() nothing can be preserved in addition, but the
 * holder of a session may die, which unpreserves its files. A subsystem learns of
 * that as it learns of any file that is unpreserved, and its freeze() has to
 * check again.
 *
 * Each subsystem hands over one u64. It is stored beside the data of sessions and
 * files, see the `Live Update Subsystem ABI`. In the new kernel
 * liveupdate_subsystem_get_incoming() returns it, early in boot, without any
 * registration, and even if live update is switched off there: hardware that was
 * left running must be dealt with in any case.
 *
 * A subsystem whose data is 0 hands nothing over, and is not called to finish.
 *
 * Locking:
 *
 * `luo_subsystem_lock` protects the list of subsystems, their data and the
 * outgoing blob, and is held while callbacks run. Prepare, freeze and cancel are
 * called with `luo_session_serialize_rwsem` held for writing, finish with it held
 * for reading. What was handed over is written once, in an early_initcall, and
 * read without a lock; only its finished mark changes.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/crc32.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/luo_subsystem.h>
#include <linux/list_private.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "luo_internal.h"

/*
 * struct luo_subsystem_outgoing - What goes to the next kernel.
 * @list:     The registered subsystems.
 * @count:    Number of them.
 * @ser:      The blob for the next kernel. Exists while @prepared.
 * @prepared: All subsystems have been prepared. Written with
 *            luo_session_serialize_rwsem held for writing.
 */
struct luo_subsystem_outgoing {
	struct list_head list;
	unsigned int count;
	struct luo_subsystem_header_ser *ser;
	bool prepared;
};

/*
 * struct luo_subsystem_entry - What one subsystem of the old kernel handed over.
 * @ser:      Its name and data.
 * @finished: The data was given back, nobody may look at it any more.
 */
struct luo_subsystem_entry {
	struct luo_subsystem_ser ser;
	bool finished;
};

/*
 * struct luo_subsystem_incoming - What came from the old kernel.
 * @entries: One for each subsystem that handed something over.
 * @count:   Number of @entries.
 * @pending: There are entries that are not finished.
 * @err:     Why there is nothing: -ENOENT if that is how it should be.
 */
struct luo_subsystem_incoming {
	struct luo_subsystem_entry *entries;
	unsigned int count;
	bool pending;
	int err;
};

static DEFINE_MUTEX(luo_subsystem_lock);

static struct luo_subsystem_outgoing luo_subsystem_out = {
	.list = LIST_HEAD_INIT(luo_subsystem_out.list),
};

static struct luo_subsystem_incoming luo_subsystem_in = {
	.err = -ENOENT,
};

static u32 luo_subsystem_crc32(const struct luo_subsystem_header_ser *ser)
{
	struct luo_subsystem_header_ser header = *ser;
	u32 crc;

	header.crc32 = 0;
	crc = crc32_le(~0, (u8 *)&header, sizeof(header));

	return crc32_le(crc, (u8 *)(ser + 1), ser->length - sizeof(header));
}

/* Write what the subsystems hand over, or nothing, into the outgoing blob. */
static void luo_subsystem_serialize(bool frozen)
{
	struct luo_subsystem_header_ser *header = luo_subsystem_out.ser;
	struct luo_subsystem_ser *ser = (void *)(header + 1);
	struct liveupdate_subsystem *ss;

	memset(header, 0, sizeof(*header));
	strscpy(header->compatible, LUO_SUBSYSTEM_COMPATIBLE);
	list_private_for_each_entry(ss, &luo_subsystem_out.list, list) {
		if (!frozen || !ACCESS_PRIVATE(ss, frozen_data))
			continue;

		strscpy_pad(ser->name, ss->name);
		ser->data = ACCESS_PRIVATE(ss, frozen_data);
		ser++;
		header->count++;
	}

	header->length = (void *)ser - (void *)header;
	header->crc32 = luo_subsystem_crc32(header);
}

static int luo_subsystem_alloc_outgoing(void)
{
	struct luo_subsystem_header_ser *ser;
	size_t size;
	int err;

	size = sizeof(*ser) +
	       luo_subsystem_out.count * sizeof(struct luo_subsystem_ser);
	ser = kho_alloc_preserve(size);
	if (IS_ERR(ser))
		return PTR_ERR(ser);

	luo_subsystem_out.ser = ser;
	luo_subsystem_serialize(false);

	err = kho_add_subtree(LUO_SUBSYSTEM_KHO_ENTRY_NAME, ser, size);
	if (err) {
		luo_subsystem_out.ser = NULL;
		kho_unpreserve_free(ser);
	}

	return err;
}

static void luo_subsystem_free_outgoing(void)
{
	kho_remove_subtree(luo_subsystem_out.ser);
	kho_unpreserve_free(luo_subsystem_out.ser);
	luo_subsystem_out.ser = NULL;
}

static int luo_subsystem_prepare_one(struct liveupdate_subsystem *ss)
{
	u64 data = 0;
	int err;

	/* What is prepared needs its code to be frozen or cancelled. */
	if (!try_module_get(ss->ops->owner)) {
		pr_warn("subsystem '%s' is going away, cannot prepare\n", ss->name);
		return -ENODEV;
	}

	err = ss->ops->prepare(ss, &data);
	if (err) {
		pr_warn("subsystem '%s' failed to prepare: %pe\n", ss->name,
			ERR_PTR(err));
		module_put(ss->ops->owner);
		return err;
	}

	ACCESS_PRIVATE(ss, data) = data;

	return 0;
}

static void luo_subsystem_cancel_one(struct liveupdate_subsystem *ss)
{
	ss->ops->cancel(ss, ACCESS_PRIVATE(ss, data));
	ACCESS_PRIVATE(ss, data) = 0;
	module_put(ss->ops->owner);
}

/**
 * luo_subsystem_prepare - Have all subsystems build what they will hand over.
 *
 * Prepares all registered subsystems in the order of their registration. If one
 * fails, those before it are cancelled.
 *
 * Context: May sleep. The caller holds luo_session_serialize_rwsem for writing,
 *          and has made sure that nothing is prepared.
 * Return: 0 on success, a negative errno if a subsystem or an allocation failed;
 *         then nothing has changed.
 */
int luo_subsystem_prepare(void)
{
	struct liveupdate_subsystem *ss;
	int err;

	guard(mutex)(&luo_subsystem_lock);

	err = luo_subsystem_alloc_outgoing();
	if (err) {
		pr_warn("no memory to hand over the state of subsystems: %pe\n",
			ERR_PTR(err));
		return err;
	}

	list_private_for_each_entry(ss, &luo_subsystem_out.list, list) {
		err = luo_subsystem_prepare_one(ss);
		if (err)
			goto err_cancel;
	}

	WRITE_ONCE(luo_subsystem_out.prepared, true);

	return 0;

err_cancel:
	list_private_for_each_entry_continue_reverse(ss, &luo_subsystem_out.list, list)
		luo_subsystem_cancel_one(ss);
	luo_subsystem_free_outgoing();

	return err;
}

/**
 * luo_subsystem_cancel - Undo luo_subsystem_prepare().
 *
 * Context: May sleep. The caller holds luo_session_serialize_rwsem for writing,
 *          and has made sure that subsystems are prepared and not frozen.
 */
void luo_subsystem_cancel(void)
{
	struct liveupdate_subsystem *ss;

	guard(mutex)(&luo_subsystem_lock);

	list_private_for_each_entry_reverse(ss, &luo_subsystem_out.list, list)
		luo_subsystem_cancel_one(ss);
	luo_subsystem_free_outgoing();
	WRITE_ONCE(luo_subsystem_out.prepared, false);
}

/**
 * luo_subsystem_freeze - Have all subsystems do the last step before the jump.
 *
 * Freezes all subsystems in the order of their registration, and writes what
 * they hand over into the blob for the next kernel. If one fails, those before it
 * are unfrozen, and all are prepared as before.
 *
 * Context: May sleep. Called in reboot(2), after the files were frozen. The
 *          caller holds luo_session_serialize_rwsem for writing, and has made
 *          sure that subsystems are prepared.
 * Return: 0 on success, the errno of the subsystem that failed otherwise.
 */
int luo_subsystem_freeze(void)
{
	struct liveupdate_subsystem *ss;
	int err;

	guard(mutex)(&luo_subsystem_lock);

	list_private_for_each_entry(ss, &luo_subsystem_out.list, list) {
		u64 data = ACCESS_PRIVATE(ss, data);

		err = ss->ops->freeze ? ss->ops->freeze(ss, &data) : 0;
		if (err) {
			pr_warn("subsystem '%s' failed to freeze: %pe\n",
				ss->name, ERR_PTR(err));
			goto err_unfreeze;
		}
		ACCESS_PRIVATE(ss, frozen_data) = data;
	}

	luo_subsystem_serialize(true);

	return 0;

err_unfreeze:
	list_private_for_each_entry_continue_reverse(ss, &luo_subsystem_out.list, list) {
		if (ss->ops->unfreeze)
			ss->ops->unfreeze(ss, ACCESS_PRIVATE(ss, frozen_data));
	}

	return err;
}

/**
 * luo_subsystem_prepared - Are the subsystems prepared?
 *
 * Context: Any. The answer is stable as long as luo_session_serialize_rwsem is
 *          held.
 * Return: true from the end of a successful PREPARE to the end of CANCEL.
 */
bool luo_subsystem_prepared(void)
{
	return READ_ONCE(luo_subsystem_out.prepared);
}

static struct luo_subsystem_entry *luo_subsystem_find_incoming(const char *name)
{
	for (unsigned int i = 0; i < luo_subsystem_in.count; i++) {
		if (!strcmp(luo_subsystem_in.entries[i].ser.name, name))
			return &luo_subsystem_in.entries[i];
	}

	return NULL;
}

static bool __init luo_subsystem_entry_valid(const struct luo_subsystem_ser *ser)
{
	return ser->name[0] && ser->data &&
	       strnlen(ser->name, sizeof(ser->name)) < sizeof(ser->name);
}

static int __init luo_subsystem_check(const struct luo_subsystem_header_ser *header,
				      size_t size)
{
	const struct luo_subsystem_ser *ser = (const void *)(header + 1);

	if (size < sizeof(*header))
		return -EINVAL;
	if (strncmp(header->compatible, LUO_SUBSYSTEM_COMPATIBLE,
		    sizeof(header->compatible)))
		return -EPROTONOSUPPORT;
	if (header->length < sizeof(*header) || header->length > size)
		return -EINVAL;
	if (header->count > size / sizeof(*ser) ||
	    header->length != sizeof(*header) + header->count * sizeof(*ser))
		return -EINVAL;
	if (header->crc32 != luo_subsystem_crc32(header))
		return -EBADMSG;

	for (u64 i = 0; i < header->count; i++) {
		if (!luo_subsystem_entry_valid(&ser[i]))
			return -EINVAL;
	}

	return 0;
}

static int __init luo_subsystem_copy_incoming(const struct luo_subsystem_header_ser *header)
{
	const struct luo_subsystem_ser *ser = (const void *)(header + 1);

	luo_subsystem_in.entries = kzalloc_objs(*luo_subsystem_in.entries,
						header->count);
	if (!luo_subsystem_in.entries)
		return -ENOMEM;

	for (u64 i = 0; i < header->count; i++)
		luo_subsystem_in.entries[i].ser = ser[i];
	luo_subsystem_in.count = header->count;
	luo_subsystem_in.pending = header->count;

	return 0;
}

/**
 * luo_subsystem_setup_incoming - Read what the old kernel's subsystems handed over.
 *
 * Damage is reported and remembered for those who ask for their data; the memory
 * of a blob that cannot be trusted stays reserved.
 *
 * Context: early_initcall, whether live update is enabled or not.
 */
void __init luo_subsystem_setup_incoming(void)
{
	struct luo_subsystem_header_ser *header;
	phys_addr_t phys;
	size_t size;
	int err;

	err = kho_retrieve_subtree(LUO_SUBSYSTEM_KHO_ENTRY_NAME, &phys, &size);
	if (err)
		goto out;

	header = phys_to_virt(phys);
	err = luo_subsystem_check(header, size);
	if (err)
		goto out;

	err = luo_subsystem_copy_incoming(header);
	if (err)
		goto out;

	kho_restore_free(header);
out:
	luo_subsystem_in.err = err;
	if (err && err != -ENOENT)
		pr_err("what subsystems handed over in '%s' is not usable: %pe\n",
		       LUO_SUBSYSTEM_KHO_ENTRY_NAME, ERR_PTR(err));
}

/**
 * luo_subsystem_incoming_pending - Is there handed over data that isn't finished?
 *
 * Context: Any.
 * Return: true from boot until luo_subsystem_finish() is done, if a subsystem of
 *         the old kernel handed something over.
 */
bool luo_subsystem_incoming_pending(void)
{
	return READ_ONCE(luo_subsystem_in.pending);
}

/**
 * luo_subsystem_finish - Have all subsystems give back what was handed over.
 *
 * Calls the subsystems in the reverse order of their registration. Data that
 * nobody is registered for stays in memory until the next reboot. Does nothing
 * when it is called again.
 *
 * Context: May sleep. Called when the files of the last incoming session have
 *          finished; the caller holds luo_session_serialize_rwsem for reading,
 *          and no session's mutex.
 */
void luo_subsystem_finish(void)
{
	struct luo_subsystem_entry *entry;
	struct liveupdate_subsystem *ss;

	guard(mutex)(&luo_subsystem_lock);

	list_private_for_each_entry_reverse(ss, &luo_subsystem_out.list, list) {
		entry = luo_subsystem_find_incoming(ss->name);
		if (!entry || entry->finished)
			continue;

		/* First, so that nobody starts to use what is being freed. */
		WRITE_ONCE(entry->finished, true);
		ss->ops->finish(ss, entry->ser.data);
	}

	for (unsigned int i = 0; i < luo_subsystem_in.count; i++) {
		entry = &luo_subsystem_in.entries[i];
		if (entry->finished)
			continue;

		pr_warn("no subsystem '%s' to finish, what was handed over to it is leaked\n",
			entry->ser.name);
		WRITE_ONCE(entry->finished, true);
	}

	WRITE_ONCE(luo_subsystem_in.pending, false);
}

/**
 * liveupdate_subsystem_get_incoming - Get what the old kernel handed over.
 * @name: Name of the subsystem.
 * @data: Where to put the data, when the return value is 0.
 *
 * Needs no registration, and works with ``liveupdate=off`` as well. The data stays
 * valid until the subsystem's finish callback is called.
 *
 * Context: Any, from early_initcall on. Takes no lock.
 * Return: 0 on success, -ENOENT if nothing was handed over under @name, -ENODATA
 *         if it has been finished already, and another negative errno if what was
 *         handed over for all subsystems is damaged or of an unknown version.
 */
int liveupdate_subsystem_get_incoming(const char *name, u64 *data)
{
	struct luo_subsystem_entry *entry;

	if (luo_subsystem_in.err)
		return luo_subsystem_in.err;

	entry = luo_subsystem_find_incoming(name);
	if (!entry)
		return -ENOENT;
	if (READ_ONCE(entry->finished))
		return -ENODATA;

	*data = entry->ser.data;

	return 0;
}
EXPORT_SYMBOL_GPL(liveupdate_subsystem_get_incoming);

/**
 * liveupdate_register_subsystem - Take part in live updates.
 * @ss: The subsystem. Must stay in place until it is unregistered.
 *
 * What the old kernel handed over to a subsystem that is not registered when the
 * last session finishes is leaked, and nobody revokes what it stands for. So a
 * subsystem with something to revoke has to be built in.
 *
 * Context: May sleep. Call it from an initcall or a module's init, without a lock
 *          that one of the callbacks takes.
 * Return: 0 on success, or a negative errno:
 *         -EOPNOTSUPP if live update is not enabled.
 *         -EINVAL if the name or a required callback is missing.
 *         -EEXIST if a subsystem of that name is registered.
 *         -EBUSY if the others are prepared, so that it is too late to join.
 */
int liveupdate_register_subsystem(struct liveupdate_subsystem *ss)
{
	struct liveupdate_subsystem *iter;

	if (!liveupdate_enabled())
		return -EOPNOTSUPP;

	if (!ss->ops->prepare || !ss->ops->cancel || !ss->ops->finish ||
	    !ss->name[0] || strnlen(ss->name, sizeof(ss->name)) == sizeof(ss->name))
		return -EINVAL;

	guard(mutex)(&luo_subsystem_lock);

	if (luo_subsystem_out.prepared) {
		pr_warn("subsystem '%s' cannot join a live update that is prepared\n",
			ss->name);
		return -EBUSY;
	}

	list_private_for_each_entry(iter, &luo_subsystem_out.list, list) {
		if (!strcmp(iter->name, ss->name)) {
			pr_err("subsystem '%s' is registered already\n", ss->name);
			return -EEXIST;
		}
	}

	ACCESS_PRIVATE(ss, data) = 0;
	INIT_LIST_HEAD(&ACCESS_PRIVATE(ss, list));
	list_add_tail(&ACCESS_PRIVATE(ss, list), &luo_subsystem_out.list);
	luo_subsystem_out.count++;

	return 0;
}
EXPORT_SYMBOL_GPL(liveupdate_register_subsystem);

/**
 * liveupdate_unregister_subsystem - Take no more part in live updates.
 * @ss: A registered subsystem.
 *
 * The module of a subsystem cannot be unloaded while it is prepared. A subsystem
 * that is prepared all the same, as its module's init fails, is cancelled. When the
 * data of this subsystem that the old kernel handed over is not finished, it will be
 * leaked.
 *
 * Context: May sleep. As for liveupdate_register_subsystem(). Takes
 *          luo_session_serialize_rwsem for writing, and so waits while a reboot
 *          into the next kernel is under way.
 */
void liveupdate_unregister_subsystem(struct liveupdate_subsystem *ss)
{
	if (!liveupdate_enabled())
		return;

	/* Not between freeze and jump, when what was prepared is in use */
	luo_session_block();
	scoped_guard(mutex, &luo_subsystem_lock) {
		if (luo_subsystem_out.prepared)
			luo_subsystem_cancel_one(ss);
		list_del(&ACCESS_PRIVATE(ss, list));
		luo_subsystem_out.count--;
	}
	luo_session_unblock();
}
EXPORT_SYMBOL_GPL(liveupdate_unregister_subsystem);
