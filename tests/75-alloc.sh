# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Each memory allocation of each step of a live update fails once, by the fault
# injection of the task that takes the step, with VT-d, PCI and VFIO as they are. The
# mock driver does the same in 30-selftests.sh.

area alloc "each memory allocation fails once"

# points MINIMUM STEP...: how many allocations of each step failed, and at least
# MINIMUM of each did
points()
{
	local min="$1" step n sum=0

	shift
	for step in "$@"; do
		n="$(tr -d '\r' <"$CONSOLE" | sed -n "s/^.*ILU: .* points: $step: \([0-9]*\)\$/\1/p" |
			tail -n 1)"
		[[ -n $n ]] || fail "$step: it was not tried"
		((n >= min)) || fail "$step: $n points, expected $min at least"
		diag "$step: $n points"
		sum=$((sum + n))
	done
	diag "$sum points"
}

# The VM of e2e.faults; or outgoing APPEND OPTIONS of live
outgoing()
{
	if (($#)); then
		live faults "$@"
	else
		live faults "" --kernel fault --timeout 240
	fi
	guest_all_kept
	guest_kept "after all that DMA works"
	never_off
	no_splat_but_allocations
}

# incoming TAG APPEND [KERNEL [OPTIONS of scripts/vm]]
incoming()
{
	live faults "ilu.part=incoming${2:+ $2}" --kernel "${3:-fault}" --tag "$1" \
		--timeout 240 "${@:4}"
	guest_all_kept
	guest_kept "the log says that the new page table took over"
	guest_kept "and what is unmapped is not reached any more"
	guest_kept "all memory is as it was left"
	never_off
	# The last write before the end is to what has been unmapped.
	! in_test "vtd_dmar_fault sid $DEV_SID .* addr 0x4[0-9a-f]*[1-9a-f][0-9a-f]{3} " ||
		fail "DMA of the device faulted"
	no_splat_but_allocations
}

test_case preserve "each allocation of preserving, PREPARE and the reboot fails once, and leaves nothing behind"
t_preserve()
{
	outgoing
	points 1 "binding vfio-pci" "preserving RAM" "preserving huge pages" \
		"preserving the iommufd" "preserving the device file" PREPARE \
		"reboot without PREPARE" "creating a session"
}

test_case way_back "freeze, CANCEL, unpreserving and closing a session need no memory, or do without"
t_way_back()
{
	outgoing
	points 0 freeze CANCEL "unpreserving the device file" "unpreserving the iommufd" \
		"unpreserving huge pages" "unpreserving RAM" "closing a session"
}

INCOMING=("binding vfio-pci" "retrieving half of RAM" "retrieving RAM" "retrieving huge pages" "retrieving the iommufd"
	  "retrieving the device file" "binding to the iommufd" "allocating a HWPT" attaching
	  "replacing what is attached" FINISH)

test_case next_kernel "each allocation from binding vfio-pci to FINISH fails once in the next kernel, while DMA goes on"
t_next_kernel()
{
	incoming alloc-direct ""
	points 1 "${INCOMING[@]}"
}

test_case next_session "the same with a session, from the third allocation on where one was done without"
t_next_session()
{
	incoming alloc-session "ilu.api=session ilu.from=3"
	points 1 "retrieving a session"
	points 0 "${INCOMING[@]}"
}

test_case --when stress next_later "the same from each allocation on"
t_next_later()
{
	local from

	for from in {4..16}; do
		incoming "alloc-from-$from" "ilu.from=$from"
		diag "from $from:"
		points 0 "${INCOMING[@]}"
	done
}

test_case unclaimed "each allocation of FINISH fails once when nobody has claimed the device"
t_unclaimed()
{
	live faults ilu.end=unclaimed --kernel fault --tag alloc-unclaimed --timeout 240
	guest_all_kept
	diag "$(grep -c 'FINISH of what nobody claims, allocation [0-9]*: failed' "$CONSOLE") points"
	never_off
	no_splat_but_allocations
}

# --- early boot ---------------------------------------------------------------------------

# early PART: each allocation of a part of the boot fails, each in another VM: its next
# kernel boots, and the device goes on or is blocked
early()
{
	local part="$1" nth

	for ((nth = 1; ; nth++)); do
		live faults "ilu.early=$part:$nth" --kernel early --tag "early-$part-$nth"
		guest_all_kept
		no_splat_but_allocations
		grep -q "ilu.fail: an allocation of $part failed" "$CONSOLE" || break
		diag "$part $nth: $(tr -d '\r' <"$CONSOLE" |
			sed -n 's/^.*kernel=2 \(device\|operator\|vmm\): //p' | paste -sd, -)"
	done
	diag "$part: $((nth - 1)) points"
	((nth > 1)) || fail "$part: no allocation failed"
	# None failed in the last one.
	guest_kept "a device that goes on reaches its memory, one that is blocked does not"
	console_has 'kernel=2 device: 00:10.0 goes on'
}

test_case early_records "each allocation of reading the records fails once: the kernel boots, the device goes on or is blocked"
t_early_records() { early iommu_restored_init; }

test_case --when stress early_pci "the same for the record of the PCI core"
t_early_pci() { early pci_liveupdate_read; }

test_case early_adopt "the same for what VT-d takes over"
t_early_adopt() { early adopt; }

test_case --when stress early_attach "the same for probing the device"
t_early_attach() { early attach; }

# --- with everything that complains, and kmemleak -----------------------------------------

test_case --when stress debug_preserve "no step that fails leaks memory, and KASAN and lockdep have no complaint"
t_debug_preserve()
{
	outgoing "$DEBUG_APPEND" --kernel fault-debug --tag alloc-debug "${DEBUG_VM[@]}"
	guest_kept "the kernel has a pointer to all memory that it allocated"
}

test_case --when stress debug_next "the same in the next kernel"
t_debug_next()
{
	incoming alloc-debug-next "$DEBUG_APPEND" fault-debug "${DEBUG_VM[@]}"
	guest_kept "the kernel has a pointer to all memory that it allocated"
}

test_case --when stress debug_mock "the same with the mock driver"
t_debug_mock()
{
	live kselftest "ilu.mock=1 $DEBUG_APPEND" --kernel fault-debug --tag kselftest-mock-debug \
		"${DEBUG_VM[@]}"
	guest_all_kept
	no_splat_but_allocations
}
