# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Helpers of the tests; scripts/README.md describes them. They run in the
# test's own shell: WORK_DIR is its directory, RUN_DIR that of the whole run.

fail()
{
	printf '%s\n' "$*" | tee -a "$WORK_DIR/reason" >&2
	exit 1
}

skip()
{
	printf '%s\n' "$*" | tee "$WORK_DIR/reason" >&2
	exit 77
}

diag()
{
	printf '# %s\n' "$*" >>"$WORK_DIR/diag"
	printf '%s\n' "$*" >&2
}

check()
{
	local text="$1"

	shift
	"$@" || fail "$text"
}

need_tree()
{
	need_series
	BASE="$(base_commit)"
}

# commit_of base|series
commit_of()
{
	if [[ $1 == base ]]; then
		printf '%s\n' "$BASE"
	else
		printf '%s\n' "$SERIES"
	fi
}

need_kernel()
{
	KERNEL_OUT="$("$TOP/scripts/build" "$1")" || fail "configs/$1.config does not build"
	KERNEL="$KERNEL_OUT/bzImage"
}

need_initramfs()
{
	INITRD="$("$TOP/scripts/initramfs" "$@")" || fail "no initramfs for $*"
}

new_qemu()
{
	QEMU="$("$TOP/scripts/qemu")" || fail "a newer QEMU cannot be had"
}

# The units never were in another mode, as QEMU saw it.
mode_held()
{
	grep -q "vtd_reg_dmar_root .* scalable $MODE_SCALABLE" "$TRACE" ||
		fail "no unit was in the mode of this test"
	! grep -q "vtd_reg_dmar_root .* scalable $((1 - MODE_SCALABLE))" "$TRACE" ||
		fail "a unit was in another mode"
}

# Where the VM of that name has its files.
vm_dir()
{
	printf '%s\n' "$RUN_DIR/vm-$1${MODE_TAG:+-$MODE_TAG}"
}

run_vm()
{
	local tag="$1" dir lock

	shift
	dir="$(vm_dir "$tag")"
	CONSOLE="$dir/console"
	TRACE="$dir/trace"
	mkdir -p "$dir"
	# Tests that want the same VM may run side by side.
	exec {lock}>"$dir/lock"
	flock "$lock"
	if [[ -e $dir/rc ]]; then
		[[ "$(<"$dir/options")" == "$*" ]] ||
			fail "the VM $tag ran with other options before"
	else
		printf '%s\n' "$*" >"$dir/options"
		VM_RC=0
		"$TOP/scripts/vm" --console "$CONSOLE" --trace-file "$TRACE" \
			${COVERAGE:+--coverage "$dir/coverage"} "$@" || VM_RC=$?
		echo "$VM_RC" >"$dir/rc"
	fi
	exec {lock}>&-
	VM_RC="$(<"$dir/rc")"
	printf 'console: %s\n' "$CONSOLE" >&2
}

run_guest()
{
	local kernel=lean kernel_b='' tag='' append='' scenario

	while [[ $1 == --* ]]; do
		case "$1" in
		--kernel) kernel="$2" ;;
		--kernel-b) kernel_b="$2" ;;
		--tag) tag="$2" ;;
		--append) append="$2" ;;
		*) break ;;
		esac
		shift 2
	done
	scenario="$1"
	shift
	need_kernel "$kernel"
	need_initramfs "$kernel" ${kernel_b:+"$kernel_b"}
	run_vm "${tag:-$scenario-$kernel}" --kernel "$KERNEL" --initrd "$INITRD" \
		--append "${MODE_APPEND:+$MODE_APPEND }init_on_free=1 ilu.scenario=$scenario${append:+ $append}" \
		--trace vtd_dmar_enable,vtd_reg_dmar_root "${MODE_VM[@]}" \
		--device edu,id=edu0,addr=0x10 --device edu,id=edu1,addr=0x11 "$@"
	((VM_RC == 0)) || fail "the VM did not end by itself (status $VM_RC): $(tail -n 3 "$CONSOLE" | tr -d '\r')"
	guest_results >"$WORK_DIR/results"
	grep -q '^ok the scenario came to its end' "$WORK_DIR/results" ||
		fail "the guest did not come to its end: $(grep '^not ok' "$WORK_DIR/results" | tail -n 1)"
	mode_held
}

# run_guest with the kernel of configs/debug.config: its name comes with what it needs
# beside. KASAN's shadow comes out of KHO's scratch memory in the next kernel. Without
# no5lvl an interrupt while the CPU's features are being counted is a false alarm.
# shellcheck disable=SC2034
DEBUG_APPEND="kho_scratch=64M,768M,64M no5lvl"
# shellcheck disable=SC2034
DEBUG_VM=(--mem 3G --timeout 300)

# The guest's last transfer; it faults.
END_MARK=0xeed0000

# in_test ERE: has QEMU's trace such a line, from the first enable to the guest's last
# transfer?
in_test()
{
	sed -n "/vtd_dmar_enable enable 1/,/vtd_dmar_fault .* addr $END_MARK /p" "$TRACE" >"$WORK_DIR/in-test"
	grep -qE -- "$1" "$WORK_DIR/in-test"
}

never_off()
{
	grep -q "vtd_dmar_fault .* addr $END_MARK " "$TRACE" ||
		fail "the guest's last transfer, which must fault, is not in the trace"
	if in_test 'vtd_dmar_enable enable 0'; then
		fail "translation was off between first enable and the end of the test"
	fi
}

# The guest's verdicts, as "ok PROMISE" and "not ok PROMISE: REASON". Never into grep
# -q or head: with pipefail, who writes more than they read fails the whole pipe.
guest_results()
{
	tr -d '\r' <"$CONSOLE" | sed -n 's/^.*ILU-RESULT: //p'
}

guest_kept()
{
	local broken

	broken="$(grep -m 3 -F -- "not ok $1" "$WORK_DIR/results")" || true
	[[ -z $broken ]] || fail "$broken"
	grep -qxE -- "ok $(quote_ere "$1") *" "$WORK_DIR/results" || fail "the guest did not report: $1"
}

guest_broke()
{
	grep -qE -- "^not ok $(quote_ere "$1"): " "$WORK_DIR/results" ||
		fail "the guest did not report as broken: $1"
}

guest_all_kept()
{
	local broken

	broken="$(grep -m 10 '^not ok ' "$WORK_DIR/results")" || true
	[[ -z $broken ]] || fail "$broken"
}

# shellcheck disable=SC2016
quote_ere()
{
	sed 's/[][\.*^$(){}?+|/]/\\&/g' <<<"$1"
}

console_has()
{
	grep -qE -- "$1" "$CONSOLE" || fail "the console has no line like: $1"
}

console_lacks()
{
	if grep -m 5 -E -- "$1" "$CONSOLE" >>"$WORK_DIR/reason"; then
		fail "the console must not have a line like: $1"
	fi
}

trace_has()
{
	grep -qE -- "$1" "$TRACE" || fail "the trace has no line like: $1"
}

trace_lacks()
{
	if grep -m 5 -E -- "$1" "$TRACE" >>"$WORK_DIR/reason"; then
		fail "the trace must not have a line like: $1"
	fi
}

no_splat()
{
	console_lacks 'WARNING: |BUG: |Oops|Kernel panic|KASAN:|UBSAN:|INFO: (possible|inconsistent|suspicious|task)|possible (recursive|circular) locking|sleeping function called|general protection|Call Trace:|Failed to (restore|preserve) '
}

# no_splat where allocations fail: some of them are logged with a backtrace.
no_splat_but_allocations()
{
	sed -E '/(: vmalloc error: |: page allocation failure: |FAULT_INJECTION: forcing)/,/<\/TASK>/d' "$CONSOLE" >"$WORK_DIR/console"
	CONSOLE="$WORK_DIR/console" no_splat
}
