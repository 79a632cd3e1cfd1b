# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The tests of live updates and running devices once more, with units in scalable mode:
# second stage with the QEMU of the distribution (sm) and a newer one (ss), first stage
# with a newer one (fs). TEST@MODE is TEST of another area in this mode (use_mode in
# scripts/testlib.sh). Options of the unit that do not go with a mode, as caching mode,
# take turns, so that each is in several tests; --matrix has all tests with all of them.

area modes "live updates in scalable mode"

declare -A mode_options=(
	[legacy]="caching-mode=on,device-iotlb=on,aw-bits=48 caching-mode=on,aw-bits=39 device-iotlb=on,aw-bits=48"
	[sm]="caching-mode=on,aw-bits=48 device-iotlb=on,aw-bits=39 caching-mode=on,device-iotlb=on,aw-bits=39 aw-bits=48"
	[ss]="device-iotlb=on,aw-bits=48 caching-mode=on,aw-bits=39 aw-bits=39 caching-mode=on,device-iotlb=on,aw-bits=48"
	# The one width that QEMU has there
	[fs]="caching-mode=on device-iotlb=on caching-mode=on,device-iotlb=on caching-mode=off"
)
declare -A mode_name=(
	[legacy]="legacy mode"
	[sm]="scalable mode"
	[ss]="second stage, newer QEMU"
	[fs]="first stage, newer QEMU"
)

# What every mode has to pass in CI.
mode_tests=(
	jump never_off cancel refuse freeze damaged killed_held liveupdate_off intel_iommu_off
	base_fails takeover_port many closed moved frames frames_port
)
# What takes longer, once in some mode.
long_tests=(frames_chain@fs repeat@ss takeover_module@fs debug_cancel@fs
	    debug_takeover@sm debug_many@fs debug_closed@ss debug_frames@fs)

# promise_of TEST: what it says in its own area
# shellcheck disable=SC2154 # scripts/test has it
promise_of()
{
	local t

	for t in "${tests[@]}"; do
		if [[ ${t%%@*} == e2e.$1 || ${t%%@*} == dma.$1 ]]; then
			printf '%s\n' "${promise[$t]}"
			return
		fi
	done
	die "no area has a test $1"
}

# in_mode TEST KIND NR: with the option set NR of KIND
in_mode()
{
	local sets

	read -r -a sets <<<"${mode_options[$2]}"
	test_case "$1@$2:${sets[$3 % ${#sets[@]}]}" "${mode_name[$2]}: $(promise_of "$1")"
}

nr=0
for kind in sm ss fs; do
	for name in ats ats_off ats_reset; do
		test_case "$name@$kind:device-iotlb=on" "${mode_name[$kind]}: $(promise_of "$name")"
	done
	for name in "${mode_tests[@]}"; do
		in_mode "$name" "$kind" "$nr"
		nr=$((nr + 1))
	done
done
for name in "${long_tests[@]}"; do
	in_mode "${name%@*}" "${name#*@}" "$nr"
	nr=$((nr + 1))
done

# All that bring no IOMMU or QEMU of their own
all_tests=()
# shellcheck disable=SC2154
for name in "${tests[@]}"; do
	case "$name" in
	e2e.machines|e2e.unfit|*.frames_new*|*@*) ;;
	e2e.*|dma.*) all_tests+=("${name#*.}") ;;
	esac
done
for kind in legacy sm ss fs; do
	read -r -a sets <<<"${mode_options[$kind]}"
	for options in "${sets[@]}"; do
		for name in "${all_tests[@]}"; do
			[[ -z ${promise[modes.$name@$kind:$options]:-} ]] || continue
			test_case --when matrix "$name@$kind:$options" \
				"${mode_name[$kind]}: $(promise_of "$name")"
		done
	done
done
unset nr kind name sets options all_tests

# --- PASIDs, which an edu device has in the kernel with tests/pasid/edu.patch ---------------

# pasids TAG APPEND [OPTIONS of run_guest and scripts/vm]
pasids()
{
	local tag="$1" append="$2"

	shift 2
	if [[ $MODE_TAG == sm-* ]]; then
		append+=" ilu.dma=1 ilu.rid_pasid=1"
	else
		append+=" ilu.second=70"
	fi
	running pasid "$tag" "$append" "$@"
	guest_all_kept
	never_off
	no_splat
}

# flushed N: during FINISH QEMU saw the IOTLB invalidated for each of N page tables that
# took over. A newer one saw that of the PASID cache before each.
flushed()
{
	awk -v nr="$1" '
		/^pci_cfg_write edu .* @0x3c <- 0x5b$/ { finishing = 1 }
		/^pci_cfg_write edu .* @0x3c <- 0x5a$/ { exit }
		!finishing || !/^vtd_inv_desc / || / type wait / { next }
		/ type pasid-cache / { caches++ }
		/ type (p-)?iotlb / && !seen[$0]++ {
			iotlbs++
			if (caches && caches != iotlbs)
				print "the IOTLB was invalidated before the PASID cache"
		}
		END {
			if (iotlbs != nr)
				print "the IOTLB was invalidated for " iotlbs + 0 " page tables, not for " nr
		}' "$TRACE" >"$WORK_DIR/flushed"
	[[ ! -s $WORK_DIR/flushed ]] || fail "$(<"$WORK_DIR/flushed")"
}

test_case pasid@sm:x-pasid-mode=on "DMA with a PASID goes on, and the PASID's own page table takes over"
test_case pasid@ss:pasid-bits=16,caching-mode=on "PASIDs are handed over, and a page table takes over for each (second stage)"
test_case pasid@fs:pasid-bits=16 "PASIDs are handed over, and a page table takes over for each (first stage)"
t_pasid()
{
	pasids pasid "" --kernel fault --trace vtd_inv_desc,pci_cfg_write
	guest_kept "FINISH with one page of a PASID missing is refused"
	guest_kept "the page table of a PASID took over"
	if [[ $MODE_TAG == sm-* ]]; then
		flushed 2
	else
		flushed 3
	fi
}

test_case pasid_unclaimed@sm:x-pasid-mode=on,caching-mode=on "DMA with a PASID to which nothing is attached again is blocked"
test_case pasid_unclaimed@fs:pasid-bits=16 "a PASID to which nothing is attached again has no entry (first stage)"
t_pasid_unclaimed()
{
	pasids pasid-unclaimed ilu.end=unclaimed --kernel fault
	guest_kept "a PASID for which nothing is attached is revoked"
}

test_case pasid_stopped@sm:x-pasid-mode=on "PASIDs of a device that nobody wants back are revoked with it"
test_case --when matrix pasid_stopped@fs:pasid-bits=16 "first stage: the same"
t_pasid_stopped() { pasids pasid-stopped ilu.end=stopped --kernel fault; }

test_case pasid_damaged@sm:x-pasid-mode=on "a PASID of which the domain has no valid record is revoked, and the device goes on"
test_case pasid_damaged@fs:pasid-bits=16 "first stage: the same"
# It stays on the command line. Its number is such that the domain is that of a PASID.
t_pasid_damaged()
{
	pasids pasid-damaged "ilu.end=damaged ilu.damage=core.domains,zero,3" --kernel fault
}

test_case debug_pasid@ss:pasid-bits=16 "lockdep and KASAN have no complaint about PASIDs"
t_debug_pasid() { pasids debug-pasid "$DEBUG_APPEND" --kernel debug "${DEBUG_VM[@]}"; }

# --- ATS of a device with a PASID table -------------------------------------------------------

test_case ats_damaged@sm:device-iotlb=on "if the PASID table of a device with ATS is damaged, its device TLB is emptied by turning ATS off, and it is blocked"
test_case ats_damaged@fs:device-iotlb=on "the same with first stage tables"
t_ats_damaged()
{
	running ats ats-damaged "ilu.dev=0000:01:00.0 ilu.end=damaged" --kernel fault \
		--trace pci_cfg_write "${ATS_RNG[@]}"
	guest_all_kept
	guest_kept "it does not reach memory any more"
	ats_control
	awk -v off="pci_cfg_write virtio-rng-pci .* @$CONTROL <- 0x0$" '
		/^vtd_reg_dmar_root / { roots++ }
		roots == 2 && $0 ~ off { found = 1 }
		END { exit !found }' "$TRACE" || fail "ATS was never off in the next kernel"
	never_off
	no_splat
}

# --- a kernel that another one crashed into ----------------------------------------------

# crashes WHEN: into a kernel that goes on with a copy of the tables
crashes()
{
	# The next kernel has its 256M from the scratch memory of KHO.
	running kdump "kdump-$1" "crashkernel=256M kho_scratch=64M,640M,64M ilu.when=$1" \
		--kernel fault --mem 2G
	guest_all_kept
	guest_kept "all domain ids that are in use stay reserved"
	guest_kept "in the crash kernel the device reads and writes the same memory"
	! in_test "vtd_dmar_fault sid $DEV_SID " || fail "the device's DMA faulted"
	never_off
}

test_case kdump@sm "a crash kernel goes on with the tables in scalable mode, and gives out no domain id that is in use"
test_case kdump@legacy "a crash kernel goes on with the tables in legacy mode, and gives out no domain id that is in use"
t_kdump() { crashes alone; }

test_case kdump_preserved@fs "a crash kernel goes on with the tables if a device was preserved"
t_kdump_preserved() { crashes preserved; }

test_case kdump_prepared@sm "a crash kernel goes on with the tables if a live update was prepared"
t_kdump_prepared() { crashes prepared; }

test_case kdump_updated@sm "a crash after a live update, before FINISH: the device goes on with its inherited page table"
test_case kdump_updated@legacy "the same in legacy mode"
test_case kdump_updated@fs "the same with first stage tables"
t_kdump_updated() { crashes updated; }

test_case kdump_finished@sm "a crash after FINISH: the device goes on with the page table that took over"
test_case kdump_finished@legacy "the same in legacy mode"
test_case kdump_finished@fs "the same with first stage tables"
t_kdump_finished() { crashes finished; }

# --- the next kernel is told to use another mode ----------------------------------------

# next_mode NEXT OPTIONS: what follows says how the unit was, and stays
next_mode()
{
	live options "ilu.next=$1" --tag "next-$1"
	guest_all_kept
	guest_kept "DMA of the preserved device lands in the preserved memfd"
	never_off
	! in_test "vtd_dmar_fault sid $DEV_SID .* addr 0x42" || fail "the preserved device's DMA faulted"
	other_faults
	no_splat
}

test_case sm_to_legacy@sm "a next kernel with sm_off goes on in scalable mode"
t_sm_to_legacy()
{
	next_mode intel_iommu=sm_off
	console_has 'live update: scalable mode stays on'
}

test_case fs_to_legacy@fs "the same with first stage tables"
t_fs_to_legacy() { t_sm_to_legacy; }

test_case pasid_sm_off@sm:x-pasid-mode=on "a next kernel with sm_off goes on with PASIDs as well"
test_case pasid_sm_off@fs:pasid-bits=16 "the same with first stage tables"
t_pasid_sm_off()
{
	pasids pasid-sm-off ilu.next=intel_iommu=sm_off --kernel fault
	guest_kept "the page table of a PASID took over"
	console_has 'live update: scalable mode stays on'
}

test_case legacy_to_sm@legacy:x-scalable-mode=on "a next kernel with sm_on goes on in legacy mode"
t_legacy_to_sm()
{
	next_mode intel_iommu=sm_on
	console_has 'live update: scalable mode stays off'
}
