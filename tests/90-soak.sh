# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Many live updates in a row: nothing is left behind, whatever happened before each.

area soak "live updates in a row"

# soak TAG ROUNDS [OPTIONS of run_guest and scripts/vm]
soak()
{
	local tag="$1" rounds="$2"

	shift 2
	run_guest --tag "soak-$tag" --append "ilu.rounds=$rounds" soak \
		--timeout $((60 + 30 * rounds)) --trace vtd_dmar_fault "$@"
	guest_all_kept
	guest_kept "no page of memory is missing"
	guest_kept "a device that nobody claimed is stopped"
	! in_test "vtd_dmar_fault sid 0x80 " || fail "DMA of the device that lives on faulted"
	never_off
	no_splat
	diag "$(tr -d '\r' <"$CONSOLE" | sed -n 's/.* leaks: /left behind by /p' | tail -n 1)"
}

test_case chain "a VMM lives through 5 live updates, with cancels and crashes between; no page is leaked"
test_case chain@fs:device-iotlb=on "the same with first stage tables"
t_chain() { soak chain "${SOAK:-5}"; }
