// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an iommufd refuses to preserve for a live update, with the mock driver:
 * it has more features than the hardware that one finds. Each refusal has an
 * errno of its own, and the iommufd works on after it.
 *
 * Needs CONFIG_IOMMUFD_TEST and /dev/liveupdate. Domains of the mock driver are
 * not preserved, so the last reason is always that one.
 */
#include <linux/liveupdate.h>
#include <sys/mman.h>

#define __EXPORTED_HEADERS__

#include "iommufd_utils.h"

#define IOMMUFD_TOKEN	1
#define MEMFD_TOKEN	2

static __attribute__((constructor)) void setup_sizes(void)
{
	PAGE_SIZE = sysconf(_SC_PAGE_SIZE);
	BUFFER_SIZE = PAGE_SIZE * 16;
	buffer = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(buffer != MAP_FAILED);
	mfd_buffer = memfd_mmap(BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
				&mfd);
	assert(mfd_buffer != MAP_FAILED);
}

FIXTURE(iommufd_liveupdate)
{
	int luo;
	int fd;
	uint32_t ioas_id;
	uint32_t stdev_id;
	uint32_t hwpt_id;
	uint32_t device_id;
};

FIXTURE_SETUP(iommufd_liveupdate)
{
	self->fd = -1;
	self->luo = open("/dev/liveupdate", O_RDWR);
	if (self->luo < 0 && errno == ENOENT)
		SKIP(return, "there is no /dev/liveupdate");
	ASSERT_LE(0, self->luo);

	self->fd = open("/dev/iommu", O_RDWR);
	ASSERT_LE(0, self->fd);
	test_ioctl_ioas_alloc(&self->ioas_id);
	test_cmd_mock_domain(self->ioas_id, &self->stdev_id, &self->hwpt_id,
			     &self->device_id);
}

FIXTURE_TEARDOWN(iommufd_liveupdate)
{
	struct liveupdate_ioctl_fd_unpreserve unpreserve = {
		.size = sizeof(unpreserve),
		.token = MEMFD_TOKEN,
	};

	ioctl(self->luo, LIVEUPDATE_IOCTL_FD_UNPRESERVE, &unpreserve);
	if (self->fd >= 0)
		teardown_iommufd(self->fd, _metadata);
	close(self->luo);
}

static int preserve(int luo, int fd, uint64_t token)
{
	struct liveupdate_ioctl_fd_preserve cmd = {
		.size = sizeof(cmd),
		.fd = fd,
		.token = token,
	};

	return ioctl(luo, LIVEUPDATE_IOCTL_FD_PRESERVE, &cmd);
}

/* Refused, and nothing is left of the attempt: mapping works on. */
#define test_err_preserve(_errno)                                             \
	({                                                                    \
		__u64 __iova;                                                 \
									      \
		EXPECT_ERRNO(_errno, preserve(self->luo, self->fd,            \
					      IOMMUFD_TOKEN));                \
		test_ioctl_ioas_map(buffer, PAGE_SIZE, &__iova);              \
		test_ioctl_ioas_unmap(__iova, PAGE_SIZE);                     \
	})

TEST_F(iommufd_liveupdate, domain_of_a_driver_that_does_not_take_part)
{
	test_err_preserve(EOPNOTSUPP);
}

TEST_F(iommufd_liveupdate, access)
{
	uint32_t access_fd;

	test_cmd_create_access(self->ioas_id, &access_fd,
			       MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
	test_err_preserve(EUSERS);
	test_cmd_destroy_access(access_fd);
	test_err_preserve(EOPNOTSUPP);
}

TEST_F(iommufd_liveupdate, fault_queue)
{
	uint32_t fault_id, fault_fd, hwpt_id;

	test_ioctl_fault_alloc(&fault_id, &fault_fd);
	test_err_preserve(EPROTONOSUPPORT);
	test_cmd_hwpt_alloc_iopf(self->device_id, self->ioas_id, fault_id,
				 IOMMU_HWPT_FAULT_ID_VALID, &hwpt_id,
				 IOMMU_HWPT_DATA_NONE, NULL, 0);
	test_err_preserve(EPROTONOSUPPORT);
	test_ioctl_destroy(hwpt_id);
	close(fault_fd);
	test_ioctl_destroy(fault_id);
	test_err_preserve(EOPNOTSUPP);
}

TEST_F(iommufd_liveupdate, dirty_tracking)
{
	uint32_t hwpt_id;

	test_cmd_hwpt_alloc(self->device_id, self->ioas_id,
			    IOMMU_HWPT_ALLOC_DIRTY_TRACKING, &hwpt_id);
	test_cmd_mock_domain_replace(self->stdev_id, hwpt_id);
	test_cmd_set_dirty_tracking(hwpt_id, true);
	test_err_preserve(EINPROGRESS);
	test_cmd_set_dirty_tracking(hwpt_id, false);
	test_err_preserve(EOPNOTSUPP);
	test_cmd_mock_domain_replace(self->stdev_id, self->ioas_id);
	test_ioctl_destroy(hwpt_id);
}

TEST_F(iommufd_liveupdate, nested_hwpt)
{
	struct iommu_hwpt_selftest data = {
		.iotlb = IOMMU_TEST_IOTLB_DEFAULT,
	};
	uint32_t parent_id, nested_id;

	test_cmd_hwpt_alloc(self->device_id, self->ioas_id,
			    IOMMU_HWPT_ALLOC_NEST_PARENT, &parent_id);
	test_cmd_hwpt_alloc_nested(self->device_id, parent_id, 0, &nested_id,
				   IOMMU_HWPT_DATA_SELFTEST, &data,
				   sizeof(data));
	test_cmd_mock_domain_replace(self->stdev_id, nested_id);
	test_err_preserve(EMULTIHOP);
	test_cmd_mock_domain_replace(self->stdev_id, parent_id);
	test_ioctl_destroy(nested_id);
	/* Nothing is nested, but something could be. */
	test_err_preserve(EMULTIHOP);
	test_cmd_mock_domain_replace(self->stdev_id, self->ioas_id);
	test_ioctl_destroy(parent_id);
	test_err_preserve(EOPNOTSUPP);
}

TEST_F(iommufd_liveupdate, memory)
{
	__u64 anon_iova, file_iova, dmabuf_iova;
	int dmabuf_fd;

	test_ioctl_ioas_map(buffer, BUFFER_SIZE, &anon_iova);
	test_err_preserve(EMEDIUMTYPE);
	test_ioctl_ioas_unmap(anon_iova, BUFFER_SIZE);

	test_cmd_get_dmabuf(PAGE_SIZE, &dmabuf_fd);
	test_ioctl_ioas_map_file(dmabuf_fd, 0, PAGE_SIZE, &dmabuf_iova);
	test_err_preserve(EMEDIUMTYPE);
	test_ioctl_ioas_unmap(dmabuf_iova, PAGE_SIZE);
	close(dmabuf_fd);

	test_ioctl_ioas_map_file(mfd, 0, BUFFER_SIZE, &file_iova);
	test_err_preserve(ENOENT);
	ASSERT_EQ(0, preserve(self->luo, mfd, MEMFD_TOKEN));
	test_err_preserve(EOPNOTSUPP);
	test_ioctl_ioas_unmap(file_iova, BUFFER_SIZE);
}

TEST_F(iommufd_liveupdate, nothing_attached)
{
	struct liveupdate_ioctl_fd_unpreserve unpreserve = {
		.size = sizeof(unpreserve),
		.token = IOMMUFD_TOKEN,
	};
	uint32_t hwpt_id;

	/* A HWPT that is not attached does not count. */
	test_cmd_hwpt_alloc(self->device_id, self->ioas_id, 0, &hwpt_id);
	test_ioctl_destroy(self->stdev_id);
	ASSERT_EQ(0, preserve(self->luo, self->fd, IOMMUFD_TOKEN));
	EXPECT_ERRNO(EBUSY, preserve(self->luo, self->fd, IOMMUFD_TOKEN + 8));
	ASSERT_EQ(0, ioctl(self->luo, LIVEUPDATE_IOCTL_FD_UNPRESERVE,
			   &unpreserve));
	test_ioctl_destroy(hwpt_id);
}

TEST_F(iommufd_liveupdate, token_and_list)
{
	struct iommu_hwpt_liveupdate_set_token set = {
		.size = sizeof(set),
		.token = 0x1234,
	};
	struct {
		struct iommu_liveupdate_list_hwpts cmd;
		uint64_t more;
	} list = {};
	uint32_t hwpt_id;

	test_cmd_hwpt_alloc(self->device_id, self->ioas_id, 0, &hwpt_id);
	set.hwpt_id = self->ioas_id;
	EXPECT_ERRNO(ENOENT, ioctl(self->fd, IOMMU_HWPT_LIVEUPDATE_SET_TOKEN,
				   &set));
	set.hwpt_id = hwpt_id;
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_HWPT_LIVEUPDATE_SET_TOKEN, &set));
	set.hwpt_id = self->hwpt_id;
	EXPECT_ERRNO(EEXIST, ioctl(self->fd, IOMMU_HWPT_LIVEUPDATE_SET_TOKEN,
				   &set));
	/* The token that another one has by default */
	set.token = hwpt_id;
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_HWPT_LIVEUPDATE_SET_TOKEN, &set));
	set.size = sizeof(set) - 1;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_HWPT_LIVEUPDATE_SET_TOKEN,
				   &set));
	test_ioctl_destroy(hwpt_id);

	list.cmd.size = sizeof(list.cmd);
	list.cmd.count = 5;
	list.cmd.entry_len = sizeof(struct iommu_liveupdate_hwpt);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_LIVEUPDATE_LIST_HWPTS, &list));
	ASSERT_EQ(0, list.cmd.count);
	list.cmd.flags = 1;
	EXPECT_ERRNO(EOPNOTSUPP, ioctl(self->fd, IOMMU_LIVEUPDATE_LIST_HWPTS,
				       &list));
	list.cmd.flags = 0;
	list.cmd.entry_len--;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_LIVEUPDATE_LIST_HWPTS,
				   &list));
	list.cmd.entry_len = PAGE_SIZE + 8;
	EXPECT_ERRNO(E2BIG, ioctl(self->fd, IOMMU_LIVEUPDATE_LIST_HWPTS,
				  &list));
	list.cmd.entry_len = sizeof(struct iommu_liveupdate_hwpt);
	list.cmd.size = offsetof(struct iommu_liveupdate_list_hwpts, hwpts);
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_LIVEUPDATE_LIST_HWPTS,
				   &list));
	list.cmd.size = sizeof(list);
	list.more = 1;
	EXPECT_ERRNO(E2BIG, ioctl(self->fd, IOMMU_LIVEUPDATE_LIST_HWPTS,
				  &list));
}

TEST_HARNESS_MAIN
