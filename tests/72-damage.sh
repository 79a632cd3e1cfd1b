# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What a kernel inherits is damaged: the records of every part, as they are and with
# checksums that are right all the same, and the tables that hardware walks. The guest
# (tests/guest/scen_damage.c) has a list of all that can be done to all of it; each
# kernel of a chain gets the next one.

area damage "damaged handover"

# How many cases there are without PASID tables, and with them.
CASES=(193 223)

# Says which bit, word or entry it is.
DAMAGE_SEED="${SEED:-1}"

# damaged TAG FIRST STEP NR [OPTIONS of run_guest and scripts/vm]: NR cases from number
# FIRST on, each STEP
damaged()
{
	local tag="$1" first="$2" step="$3" nr="$4" append="" kernel=fault

	shift 4
	while [[ ${1:-} == --append || ${1:-} == --kernel ]]; do
		case "$1" in
		--append) append=" $2" ;;
		--kernel) kernel="$2" ;;
		esac
		shift 2
	done
	diag "seed $DAMAGE_SEED"
	run_guest --kernel "$kernel" --tag "damage-$tag" \
		--append "ilu.cases=${CASES[MODE_SCALABLE]} ilu.scalable=$MODE_SCALABLE ilu.case=$first ilu.step=$step ilu.rounds=$nr ilu.seed=$DAMAGE_SEED$append" \
		damage --timeout $((60 + nr * 15)) --trace vtd_dmar_fault --device edu,addr=0x12 "$@"
	guest_all_kept
	no_splat
	faults_seen
	diag "$nr cases, $(blocked_devices) devices of $((2 * nr)) were blocked"
}

blocked_devices() { grep -c 'ILU: .* is blocked' "$CONSOLE" || true; }

# What the guest says must have faulted is in QEMU's trace.
faults_seen()
{
	local bdf iova sid n=0

	while read -r bdf iova; do
		sid="$(printf '0x%x' $((16#${bdf:3:2} << 3 | ${bdf: -1})))"
		grep -qE "vtd_dmar_fault sid $sid .* addr $iova " "$TRACE" ||
			fail "a device whose session ended did not fault: $bdf at $iova"
		n=$((n + 1))
	done < <(tr -d '\r' <"$CONSOLE" | sed -n 's/.*ILU: .* fault: \(00:[0-9a-f.]*\) \(0x[0-9a-f]*\)$/\1 \2/p')
	((n > 0)) || fail "the guest did not say what must have faulted"
}

test_case records "whatever is damaged: a device goes on where it may, or is blocked; others go on (12 cases)"
test_case records@sm:device-iotlb=on,caching-mode=on "the same in scalable mode (12 cases)"
test_case records@fs:caching-mode=off "the same with first stage tables (12 cases)"
t_records() { damaged some $((DAMAGE_SEED % 19)) 19 12; }

test_case no_unit "a device for which a unit translates that is not there any more gets no driver before the next boot; one below another unit goes on"
test_case no_unit@fs:caching-mode=on "the same with first stage tables"
t_no_unit()
{
	damaged no-unit 0 1 2 --append "ilu.only=vtd.rids,absent"
	guest_kept "a device whose unit is not there gets no driver (vtd.rids,absent,${DAMAGE_SEED}000,fix)"
	guest_kept "a device that was not damaged gets its next page table (vtd.rids,absent,${DAMAGE_SEED}000,fix)"
	console_has 'the unit at 0x[0-9a-f]* that translates for it is not found'
}

test_case pointers "where the record of a subsystem should be there is none, for each of them (3 cases)"
# With seed 1, these are the physical addresses of all three records.
t_pointers()
{
	damaged pointers 12 198 3 --append "ilu.only=luo.entries,word"
	((DAMAGE_SEED == 1)) || return 0
	console_has 'PCI: liveupdate: the record of the previous kernel was not preserved'
	console_has 'DMAR: live update: the record of the previous kernel was not preserved'
	console_has 'iommu: liveupdate: the header of the records was not preserved'
}

test_case mode@sm:caching-mode=on "a unit of which the record says that it is in the other mode stays in its mode"
test_case mode@fs:caching-mode=off "the same with first stage tables"
# With seed 1, what is cut off the record is all but the address of the unit.
t_mode()
{
	damaged mode 91 1 1 --append "ilu.only=vtd.units,cut"
	((DAMAGE_SEED == 1)) || return 0
	console_has 'dmar0: root table is at 0x[0-9a-f]*400, 0x0 is recorded'
}

test_case --when stress all_records "the same, all cases"
test_case --when stress all_records@sm:caching-mode=on "the same in scalable mode, all cases"
test_case --when stress all_records@fs:caching-mode=off "the same with first stage tables, all cases"
t_all_records() { damaged all 0 1 "${CASES[MODE_SCALABLE]}"; }

test_case debug_records@sm:caching-mode=on "KASAN has no complaint about damaged records and tables (4 cases)"
t_debug_records()
{
	damaged debug $((DAMAGE_SEED % 57)) 57 4 --append "$DEBUG_APPEND" --kernel debug "${DEBUG_VM[@]}"
}

test_case --when stress debug_all_records@sm:caching-mode=on "KASAN has no complaint, all cases"
t_debug_all_records()
{
	damaged debug-all 0 1 "${CASES[MODE_SCALABLE]}" --append "$DEBUG_APPEND" --kernel debug \
		--mem 3G --timeout 7200
}
