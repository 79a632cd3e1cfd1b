# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What nobody does on purpose: everything at once, in any order, and with arguments
# that make no sense. Each run says its seed; SEED=N repeats it.

area stress "races, and users that are not to be trusted"

STRESS_SEED="${SEED:-1}"

# shellcheck disable=SC2054 # the commas are QEMU's
MORE_EDUS=(--device edu,addr=0x12 --device edu,addr=0x13)

# random SCENARIO KERNEL SECONDS APPEND [OPTIONS of scripts/vm]
random()
{
	local scenario="$1" kernel="$2" seconds="$3" append="$4"

	shift 4
	diag "seed $STRESS_SEED"
	# For vCPUs that run at the same time
	new_qemu
	run_guest --kernel "$kernel" --tag "$scenario-$kernel-$seconds" \
		--append "ilu.seed=$STRESS_SEED ilu.seconds=$seconds $append" \
		"$scenario" --timeout $((seconds + 90)) --trace vtd_dmar_fault \
		--qemu "$QEMU" --smp 2 "${MORE_EDUS[@]}" "$@"
	guest_all_kept
	never_off
	no_splat
}

test_case races "whatever VMMs do at once, and whenever they are killed, nothing is left behind, and a live update follows"
t_races() { random stress fault 25 ""; }

test_case debug_races "lockdep and KASAN have no complaint about that"
# Too slow to get through everything.
t_debug_races() { random stress debug 25 "ilu.coverage=0 $DEBUG_APPEND" "${DEBUG_VM[@]}"; }

test_case collapse "a device reaches the memfd that its VMM maps while khugepaged makes a huge page of it"
t_collapse()
{
	new_qemu
	run_guest --append "ilu.seed=$STRESS_SEED" collapse --qemu "$QEMU" --smp 2
	guest_all_kept
	no_splat
}

test_case wrong "wrong arguments are refused with the documented errors, users without rights reach nothing, ioctls at random harm nothing"
t_wrong() { random fuzz fault 12 ""; }

test_case debug_wrong "lockdep and KASAN have no complaint about that"
t_debug_wrong() { random fuzz debug 20 "$DEBUG_APPEND" "${DEBUG_VM[@]}"; }

test_case --when stress long_races "the same races for ten minutes, with lockdep and KASAN"
t_long_races() { random stress debug 600 "$DEBUG_APPEND" "${DEBUG_VM[@]}" --timeout 1500; }

test_case --when stress kcsan_races "the same races for ten minutes: KCSAN knows of no access that should have waited for another"
# Each wait of KCSAN's is longer than a thread needs to get to the same place.
t_kcsan_races() { random stress kcsan 600 kcsan.udelay_task=200 --mem 3G --timeout 1500; }

test_case --when stress long_wrong "ioctls at random for ten minutes, with lockdep and KASAN"
t_long_wrong() { random fuzz debug 600 "$DEBUG_APPEND" "${DEBUG_VM[@]}" --timeout 1500; }
