# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Live updates in a VM, end to end: two edu devices, of which one is preserved.
# tests/guest/ holds what runs in the guest; here stand the kernels it runs on
# and what QEMU saw.

area e2e "live updates in a VM, end to end"

# Device numbers as QEMU's trace has them.
DEV_SID=0x80
OTHER_SID=0x88

# live SCENARIO [APPEND [OPTIONS of run_guest and scripts/vm]]
live()
{
	local scenario="$1" append="${2:-}"

	shift
	(($# == 0)) || shift
	local args=()
	while [[ ${1:-} == --kernel || ${1:-} == --tag ]]; do
		args+=("$1" "$2")
		shift 2
	done
	run_guest "${args[@]}" --append "$append" "$scenario" --timeout 90 \
		--trace vtd_dmar_fault "$@"
}

# root_writes KERNELS: the first kernel's own root, then for each jump one to the
# handover table, and in the new kernel at most what it documents: one to adopt it.
root_writes()
{
	local n

	n="$(grep -c 'vtd_reg_dmar_root' "$TRACE")"
	diag "root table written $n times by $1 kernels"
	((n == 1 + ($1 - 1))) || fail "root table written $n times, expected $1"
}

# --- the workflow -------------------------------------------------------------

test_case jump "a preserved device reaches the memory it reached before, right after the jump, and nothing else does"
t_jump()
{
	live cycle
	guest_all_kept
	guest_kept "what the preserved device writes before anything else lands in the preserved memfd"
	guest_kept "the preserved device reads what the old kernel put there"
	guest_kept "DMA of the device that is not preserved faults"
	guest_kept "DMA of the device that is not preserved changes nothing"
	# It tried to write at one address and to read at the other.
	trace_has "vtd_dmar_fault sid $OTHER_SID .* addr 0x4201000 "
	trace_has "vtd_dmar_fault sid $OTHER_SID .* addr 0x1003000 "
	no_splat
}

test_case never_off "translation is never off, and the root pointer moves only to the handover table"
t_never_off()
{
	live cycle
	never_off
	root_writes 2
}

test_case finish_revokes "FINISH without a claim revokes: the device's DMA faults and all table pages are free again"
t_finish_revokes()
{
	live cycle
	guest_kept "after FINISH an unclaimed device's DMA faults, and the fault names it"
	guest_kept "after FINISH an unclaimed device's DMA changes nothing"
	guest_kept "after FINISH all table pages are free again"
}

test_case sessions_only "sessions work without any of the new ioctls"
t_sessions_only()
{
	live cycle ilu.api=session --tag session
	guest_all_kept
	never_off
	no_splat
}

test_case module "iommufd and vfio can be modules, which come after the device's first DMA in the new kernel"
t_module()
{
	live cycle "" --kernel fault --tag module
	guest_all_kept
	console_has 'loaded [0-9]+ modules'
	never_off
	no_splat
}

test_case repeat "5 live updates in a row leave nothing behind"
t_repeat()
{
	live cycle "ilu.rounds=${SOAK:-5}" --tag repeat --timeout $((60 + 20 * ${SOAK:-5}))
	guest_all_kept
	never_off
	root_writes $((${SOAK:-5} + 1))
	no_splat
}

test_case base_fails "negative control: on the unmodified base the device's DMA is lost"
t_base_fails()
{
	live cycle "ilu.api=session ilu.iommufd=0" --kernel base
	guest_broke "what the preserved device writes before anything else lands in the preserved memfd"
	guest_broke "the preserved device reads what the old kernel put there"
	guest_broke "the preserved device causes no IOMMU fault"
	# And it was not the memory that got lost.
	guest_kept "no other byte of the preserved memory changed"
	in_test 'vtd_dmar_enable enable 0' ||
		fail "the base left translation on: the control is worth nothing"
}

# --- ways back, refusals, failures ----------------------------------------------

test_case cancel "after CANCEL, unpreserve or close everything works as before and KHO holds no page"
t_cancel()
{
	live cancel
	guest_all_kept
	no_splat
}

# Two functions that share a group, and an edu below a root port with a slot.
# shellcheck disable=SC2054 # the commas are QEMU's
refuse_devices=(
	--device edu,addr=0x12.0,multifunction=on --device edu,addr=0x12.1
	--device pcie-root-port,id=rp0,addr=0x14,chassis=1,slot=1 --device edu,bus=rp0
	-- -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
)

test_case refuse "what cannot be carried is refused, and a refusal changes nothing"
t_refuse()
{
	live refuse "" "${refuse_devices[@]}"
	guest_all_kept
	no_splat
}

test_case unfit "devices that would not go on by themselves are refused: displays, VFs, and what is not in D0"
t_unfit()
{
	# An older QEMU has no device with VFs.
	new_qemu
	live unfit "" --qemu "$QEMU" --device VGA,addr=0x16 \
		--device pcie-root-port,id=rp0,addr=0x14,chassis=1,slot=1 \
		--device virtio-rng-pci,bus=rp0,disable-legacy=on,iommu_platform=on \
		--device pcie-root-port,id=rp1,addr=0x15,chassis=2,slot=2 --device igb,bus=rp1
	guest_all_kept
	no_splat
}

test_case faults "preserve and PREPARE leave nothing behind, whichever allocation of theirs fails"
t_faults()
{
	live faults "" --kernel fault --timeout 240
	guest_all_kept
	no_splat_but_allocations
}

test_case owned "until FINISH nobody else gets a preserved device, after it everybody does"
t_owned()
{
	live owned
	guest_all_kept
	never_off
	no_splat
}

test_case freeze "a reboot that is refused leaves everything working"
t_freeze()
{
	live freeze "" --kernel fault
	guest_all_kept
	guest_kept "rebooting into an image that carries no KHO is refused"
	guest_kept "a reboot whose preparation fails returns its error"
	guest_kept "a reboot for which a handler fails its freeze is refused"
	guest_kept "after refused reboots a live update succeeds"
	never_off
	no_splat
}

test_case damaged "a next kernel that finds no valid record lets no device reach memory, and boots"
t_damaged()
{
	live damaged "" --kernel fault
	guest_all_kept
	# An empty root table takes the place of the old one before translation stops.
	local order

	order="$(sed -n 's/^vtd_reg_dmar_root .*/root/p; s/^vtd_dmar_enable enable /enable/p' "$TRACE" |
		head -n 5 | tr '\n' ' ')"
	diag "QEMU saw: $order"
	[[ $order == "root enable1 root root enable0 " ]] ||
		fail "root table and translation changed in another order"
}

test_case killed "a killed VMM does not harm the others when its session ends with it"
t_killed()
{
	live killed ilu.held=nobody --tag killed-nobody
	guest_all_kept
	never_off
	no_splat
}

test_case killed_held "a killed VMM does not harm the others when somebody else holds its session"
t_killed_held()
{
	live killed ilu.held=store --tag killed-store
	guest_all_kept
	never_off
	no_splat
}

test_case killed_direct "a killed VMM does not harm the others when it preserved without a session"
t_killed_direct()
{
	live killed ilu.held=luo --tag killed-luo
	guest_all_kept
	never_off
	no_splat
}

test_case killed_prepared "a VMM that is killed after PREPARE does not harm the others, and its device is blocked"
t_killed_prepared()
{
	live killed "ilu.held=store ilu.when=prepared" --tag killed-prepared
	guest_all_kept
	never_off
	no_splat
}

test_case emptied "when nothing is left to preserve after PREPARE, translation is turned off as without it"
t_emptied()
{
	live emptied
	guest_all_kept
	in_test 'vtd_dmar_enable enable 0' || fail "translation was left on for nothing"
	console_has 'liveupdate: 0 devices in 0 domains were handed over'
	console_lacks 'cannot read the records'
	no_splat
}

# --- other next kernels, firmware, machines ----------------------------------------

# The guest can't see much there; QEMU can.
other_faults()
{
	# Not the last transfer, which is this device's as well.
	in_test "vtd_dmar_fault sid $OTHER_SID .* addr 0x(4|1)[0-9a-f]{6} " ||
		fail "DMA of the device that is not preserved did not fault"
}

test_case liveupdate_off "a next kernel with liveupdate=off keeps translating for the preserved device only"
t_liveupdate_off()
{
	live options ilu.next=liveupdate=off --tag liveupdate-off
	guest_all_kept
	never_off
	! in_test "vtd_dmar_fault sid $DEV_SID " || fail "the preserved device's DMA faulted"
	other_faults
	no_splat
}

test_case intel_iommu_off "a next kernel with intel_iommu=off keeps translating for the preserved device only"
t_intel_iommu_off()
{
	live options ilu.next=intel_iommu=off --tag intel-iommu-off
	guest_all_kept
	guest_kept "DMA of the preserved device lands in the preserved memfd"
	never_off
	other_faults
	no_splat
}

# machine TAG [OPTIONS of scripts/vm]
machine()
{
	local tag="$1"

	shift
	live cycle "" --tag "$tag" "$@"
	guest_all_kept
	never_off
	root_writes 2
	no_splat
}

test_case two_cpus "the same with two vCPUs"
t_two_cpus() { machine smp2 --smp 2; }

test_case ovmf "the same with UEFI firmware"
t_ovmf() { machine ovmf --ovmf; }

test_case ovmf_two_cpus "the same with UEFI firmware and two vCPUs"
t_ovmf_two_cpus() { machine ovmf-smp2 --ovmf --smp 2; }

test_case --when matrix machines "the same with every firmware, number of vCPUs, caching mode and API"
t_machines()
{
	local firmware cpus caching api

	for firmware in "" --ovmf; do
		for cpus in 1 2 4; do
			for caching in on off; do
				for api in direct session; do
					# shellcheck disable=SC2086 # nothing, or one word
					live cycle "ilu.api=$api ilu.rounds=2" \
						--tag "machine$firmware-$cpus-$caching-$api" \
						--smp "$cpus" --iommu "intremap=on,caching-mode=$caching" $firmware
					guest_all_kept
					never_off
					root_writes 3
					no_splat
				done
			done
		done
	done
}

# --- the kselftest ---------------------------------------------------------------------

test_case kselftest "iommufd_liveupdate passes in both kernels"
t_kselftest()
{
	live kselftest "" --tag kselftest
	guest_all_kept
	no_splat
}

test_case kselftest_session "iommufd_liveupdate passes in both kernels with a session"
t_kselftest_session()
{
	live kselftest ilu.api=session --tag kselftest-session
	guest_all_kept
	no_splat
}

test_case kselftest_reboots "iommufd_liveupdate -k reboots by itself"
t_kselftest_reboots()
{
	live kselftest ilu.reboot=1 --tag kselftest-reboots
	guest_all_kept
	no_splat
}

# --- with everything that complains ----------------------------------------------------

debugged()
{
	local scenario="$1" append="${2:-}"

	shift
	(($# == 0)) || shift
	live "$scenario" "$append $DEBUG_APPEND" --kernel debug \
		--tag "debug-$scenario${append//[^a-z]/}" "${DEBUG_VM[@]}" "$@"
	guest_all_kept
	no_splat
}

test_case debug_direct "lockdep and KASAN have no complaint about a live update"
t_debug_direct() { debugged cycle ilu.rounds=2; }

test_case debug_session "lockdep and KASAN have no complaint about one with sessions"
t_debug_session() { debugged cycle ilu.api=session; }

test_case debug_cancel "lockdep and KASAN have no complaint about cancel and close"
t_debug_cancel() { debugged cancel; }

# That kernel has a floppy driver, for which VT-d reserves memory.
test_case debug_refuse "lockdep and KASAN have no complaint about refusals, of a device with reserved memory too"
t_debug_refuse() { debugged refuse ilu.isa=1 "${refuse_devices[@]}"; }

test_case debug_owned "lockdep and KASAN have no complaint about ownership in the new kernel"
t_debug_owned() { debugged owned; }

test_case debug_freeze "lockdep and KASAN have no complaint about refused reboots"
t_debug_freeze() { debugged freeze; }

test_case debug_killed "lockdep and KASAN have no complaint about a killed VMM"
t_debug_killed() { debugged killed ilu.held=store; }
