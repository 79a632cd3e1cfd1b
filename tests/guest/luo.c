// SPDX-License-Identifier: GPL-2.0
/* /dev/liveupdate: its ioctls, and the same steps with a session or without. */
#include <errno.h>
#include <fcntl.h>
#include <linux/liveupdate.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.h"

static int sys_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

int luo_open(void)
{
	int fd = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int luo_fd_preserve(int luo, uint64_t token, int fd)
{
	struct liveupdate_ioctl_fd_preserve arg = {
		.size = sizeof(arg), .fd = fd, .token = token,
	};

	return sys_ioctl(luo, LIVEUPDATE_IOCTL_FD_PRESERVE, &arg);
}

int luo_fd_unpreserve(int luo, uint64_t token)
{
	struct liveupdate_ioctl_fd_unpreserve arg = {
		.size = sizeof(arg), .token = token,
	};

	return sys_ioctl(luo, LIVEUPDATE_IOCTL_FD_UNPRESERVE, &arg);
}

int luo_fd_restore(int luo, uint64_t token)
{
	struct liveupdate_ioctl_fd_restore arg = {
		.size = sizeof(arg), .token = token,
	};
	int ret = sys_ioctl(luo, LIVEUPDATE_IOCTL_FD_RESTORE, &arg);

	return ret ? ret : arg.fd;
}

int luo_check_image(int luo, unsigned int *flags)
{
	struct liveupdate_ioctl_check_image arg = { .size = sizeof(arg) };
	int ret = sys_ioctl(luo, LIVEUPDATE_IOCTL_CHECK_IMAGE, &arg);

	if (!ret)
		*flags = arg.flags;
	return ret;
}

int luo_state(int luo)
{
	struct liveupdate_ioctl_get_state arg = { .size = sizeof(arg) };
	int ret = sys_ioctl(luo, LIVEUPDATE_IOCTL_GET_STATE, &arg);

	return ret ? ret : (int)arg.state;
}

static int set_event(int luo, uint32_t event, uint32_t flags)
{
	struct liveupdate_ioctl_set_event arg = {
		.size = sizeof(arg), .event = event, .flags = flags,
	};

	return sys_ioctl(luo, LIVEUPDATE_IOCTL_SET_EVENT, &arg);
}

int luo_prepare(int luo)
{
	return set_event(luo, LIVEUPDATE_EVENT_PREPARE, 0);
}

int luo_cancel(int luo)
{
	return set_event(luo, LIVEUPDATE_EVENT_CANCEL, 0);
}

int luo_finish(int luo, bool abandon)
{
	return set_event(luo, LIVEUPDATE_EVENT_FINISH,
			 abandon ? LIVEUPDATE_FINISH_ABANDON : 0);
}

const char *luo_state_name(int state)
{
	switch (state) {
	case LIVEUPDATE_STATE_NORMAL:
		return "normal";
	case LIVEUPDATE_STATE_PREPARED:
		return "prepared";
	case LIVEUPDATE_STATE_FROZEN:
		return "frozen";
	case LIVEUPDATE_STATE_UPDATED:
		return "updated";
	default:
		return state < 0 ? strerror(-state) : "undefined";
	}
}

int session_create(int luo, const char *name)
{
	struct liveupdate_ioctl_create_session arg = { .size = sizeof(arg) };
	int ret;

	snprintf((char *)arg.name, sizeof(arg.name), "%s", name);
	ret = sys_ioctl(luo, LIVEUPDATE_IOCTL_CREATE_SESSION, &arg);
	return ret ? ret : arg.fd;
}

int session_retrieve(int luo, const char *name)
{
	struct liveupdate_ioctl_retrieve_session arg = { .size = sizeof(arg) };
	int ret;

	snprintf((char *)arg.name, sizeof(arg.name), "%s", name);
	ret = sys_ioctl(luo, LIVEUPDATE_IOCTL_RETRIEVE_SESSION, &arg);
	return ret ? ret : arg.fd;
}

int session_preserve(int session, uint64_t token, int fd)
{
	struct liveupdate_session_preserve_fd arg = {
		.size = sizeof(arg), .fd = fd, .token = token,
	};

	return sys_ioctl(session, LIVEUPDATE_SESSION_PRESERVE_FD, &arg);
}

int session_restore(int session, uint64_t token)
{
	struct liveupdate_session_retrieve_fd arg = {
		.size = sizeof(arg), .token = token,
	};
	int ret = sys_ioctl(session, LIVEUPDATE_SESSION_RETRIEVE_FD, &arg);

	return ret ? ret : arg.fd;
}

int session_finish(int session)
{
	struct liveupdate_session_finish arg = { .size = sizeof(arg) };

	return sys_ioctl(session, LIVEUPDATE_SESSION_FINISH, &arg);
}

static void open_device(struct keeper *k)
{
	k->session = -1;
	k->luo = luo_open();
	if (k->luo < 0)
		give_up("/dev/liveupdate: %s", strerror(-k->luo));
}

/* With a session of its own of @luo, which is open and shared */
void keeper_create(struct keeper *k, int luo, const char *session)
{
	k->luo = luo;
	k->session = session_create(luo, session);
	if (k->session < 0)
		give_up("creating session %s: %s", session, strerror(-k->session));
}

void keeper_retrieve(struct keeper *k, int luo, const char *session)
{
	k->luo = luo;
	k->session = session_retrieve(luo, session);
	if (k->session < 0)
		give_up("retrieving session %s: %s", session, strerror(-k->session));
}

void keeper_open(struct keeper *k, const char *session)
{
	open_device(k);
	if (session)
		keeper_create(k, k->luo, session);
}

void keeper_reopen(struct keeper *k, const char *session)
{
	open_device(k);
	if (session)
		keeper_retrieve(k, k->luo, session);
}

int keep(struct keeper *k, uint64_t token, int fd)
{
	return k->session < 0 ? luo_fd_preserve(k->luo, token, fd) :
				session_preserve(k->session, token, fd);
}

int get_back(struct keeper *k, uint64_t token)
{
	return k->session < 0 ? luo_fd_restore(k->luo, token) :
				session_restore(k->session, token);
}

int keeper_finish(struct keeper *k)
{
	return k->session < 0 ? luo_finish(k->luo, false) :
				session_finish(k->session);
}

void keep_memory(struct keeper *k, struct vmm *vmm)
{
	int ret = keep(k, vmm->ram.token, vmm->ram.fd);

	if (!ret)
		ret = keep(k, vmm->big.token, vmm->big.fd);
	if (ret)
		give_up("preserving the memory of %s: %s", vmm->name, strerror(-ret));
}

void keep_vmm(struct keeper *k, struct vmm *vmm)
{
	int ret;

	ret = hwpt_set_token(vmm, vmm->hwpt, vmm->hwpt_token);
	if (ret)
		give_up("%s: setting the HWPT's token: %s", vmm->name, strerror(-ret));
	keep_memory(k, vmm);
	ret = keep(k, vmm->token, vmm->iommufd);
	if (ret)
		give_up("preserving the iommufd of %s: %s", vmm->name, strerror(-ret));
	say(vmm->name, "preserved two memfds and the iommufd%s",
	    k->session < 0 ? "" : " in a session");
}

void keep_device(struct keeper *k, struct vmm *vmm)
{
	int ret;

	keep_vmm(k, vmm);
	ret = keep(k, vmm->token | 3, vmm->dev);
	if (ret)
		give_up("preserving the device file of %s: %s", vmm->name,
			strerror(-ret));
	say(vmm->name, "preserved the file of %s", vmm->edu.bdf + 5);
}

int drop_device(struct keeper *k, const struct vmm *vmm)
{
	const uint64_t tokens[] = {
		vmm->token | 3, vmm->token, vmm->ram.token, vmm->big.token,
	};
	int ret = 0, err;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tokens); i++) {
		err = luo_fd_unpreserve(k->luo, tokens[i]);
		ret = err ? err : ret;
	}
	return ret;
}
