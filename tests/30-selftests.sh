# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The kernel's own selftests in a VM: those of the base unmodified, and those
# of the series.

area selftests "the kernel's selftests in a VM"

# build_selftest WHICH DIR PROGRAM...: compiles programs of
# tools/testing/selftests/DIR statically, from the base or the series, against
# the series' headers. They end up in $WORK_DIR/root/suite.
build_selftest()
{
	local which="$1" dir="$2" include src

	shift 2
	need_tree
	include="$("$TOP/scripts/build" --headers)"
	mkdir -p "$WORK_DIR/src" "$WORK_DIR/root/suite"
	which="$(commit_of "$which")"
	src="$WORK_DIR/src"
	ilu_git -C "$LINUX" archive "$which" tools/testing/selftests/lib.mk \
		tools/testing/selftests/kselftest tools/testing/selftests/kselftest.h \
		tools/testing/selftests/kselftest_harness.h tools/include scripts \
		drivers/iommu/iommufd/iommufd_test.h \
		"tools/testing/selftests/$dir" | tar -x -C "$src"
	make -C "$src/tools/testing/selftests/$dir" OUTPUT="$WORK_DIR/root/suite" \
		top_srcdir="$src" KHDR_INCLUDES="-isystem $include" LDFLAGS=-static \
		"${@/#/$WORK_DIR/root/suite/}"
	# Only the programs go into the guest.
	find "$WORK_DIR/root/suite" -mindepth 1 -maxdepth 1 | while read -r f; do
		case " $* " in
		*" $(basename "$f") "*) ;;
		*) rm -rf "$f" ;;
		esac
	done
}

# run_suite TAG KERNEL [OPTIONS]: the programs in $WORK_DIR/root/suite.
run_suite()
{
	local tag="$1"

	need_kernel "$2"
	shift 2
	gcc -O2 -Wall -Werror -static -o "$WORK_DIR/root/init" "$TOP/tests/suite/init.c"
	if [[ -d $KERNEL_OUT/modules ]]; then
		cp -r "$KERNEL_OUT/modules" "$WORK_DIR/root/modules"
	fi
	pack_root "$WORK_DIR/suite.cpio" "$WORK_DIR/root"
	run_vm "$tag" --kernel "$KERNEL" --initrd "$WORK_DIR/suite.cpio" "$@"
	((VM_RC == 0)) || fail "the VM did not end by itself (status $VM_RC)"
	console_has 'SUITE: done'
}

# totals PROGRAM PASS: the program's kselftest totals, at least PASS passed and
# none failed.
suite_passed()
{
	local out totals pass

	out="$(tr -d '\r' <"$CONSOLE" | sed -n "/SUITE: $1 starts/,/SUITE: $1 \(exit\|signal\)/p")"
	grep -E '(^|\])not ok ' <<<"$out" || true
	totals="$(grep -oE 'Totals: pass:[0-9]+ fail:[0-9]+ xfail:[0-9]+ xpass:[0-9]+ skip:[0-9]+ error:[0-9]+' <<<"$out" | tail -n 1)" ||
		fail "$1 printed no totals: $(tail -n 1 <<<"$out")"
	diag "$1: $totals"
	[[ $totals =~ pass:([0-9]+)\ fail:0\ .*\ error:0$ ]] || fail "$1: $totals: $(grep -E '^not ok ' <<<"$out" | head -n 3)"
	pass="${BASH_REMATCH[1]}"
	((pass >= $2)) || fail "$1: only $pass passed, expected $2"
	grep -q "SUITE: $1 exit 0" <<<"$out" || fail "$1 did not exit with 0"
}

test_case liveupdate_unmodified "the base's liveupdate selftest passes as it is"
t_liveupdate_unmodified()
{
	build_selftest base liveupdate liveupdate
	run_suite liveupdate-base fault --append init_on_free=1
	suite_passed liveupdate 15
	no_splat
}

# The kexec tests of LUO, from the base or the series, with the base's own init, as
# its vmtest.sh does: luo_kexec WHICH PROGRAM [KERNEL [OPTIONS of scripts/vm]].
luo_kexec()
{
	local kernel="${3:-fault}" options=("${@:4}")
	local src="$WORK_DIR/src" dir="$WORK_DIR/src/tools/testing/selftests/liveupdate"
	local which="$1" program="$2" include d

	need_tree
	need_kernel "$kernel"
	include="$("$TOP/scripts/build" --headers)"
	mkdir -p "$src"
	which="$(commit_of "$which")"
	ilu_git -C "$LINUX" archive "$which" tools/include tools/testing/selftests/liveupdate \
		tools/testing/selftests/kselftest.h tools/testing/selftests/kselftest | tar -x -C "$src"
	for d in inner outer; do
		mkdir -p "$WORK_DIR/$d/dev" "$WORK_DIR/$d/proc" "$WORK_DIR/$d/debugfs"
		gcc -static -O2 -nostdinc -nostdlib -fno-stack-protector -I "$include" \
			-I "$src/tools/include/nolibc" -I "$dir/lib/include" \
			-o "$WORK_DIR/$d/test_binary" "$dir/$program.c" "$dir/lib/lu_utils.c"
		gcc -s -static -Os -nostdinc -nostdlib -fno-asynchronous-unwind-tables \
			-fno-ident -fno-stack-protector -I "$include" \
			-I "$src/tools/include/nolibc" -o "$WORK_DIR/$d/init" "$dir/init.c"
	done
	pack_root "$WORK_DIR/outer/initrd.img" "$WORK_DIR/inner"
	cp "$KERNEL" "$WORK_DIR/outer/kernel"
	pack_root "$WORK_DIR/luo.cpio" "$WORK_DIR/outer"
	((${#options[@]})) || options=(--append init_on_free=1)
	run_vm "$program-$kernel" --kernel "$KERNEL" --initrd "$WORK_DIR/luo.cpio" --smp 2 "${options[@]}"
	((VM_RC == 0)) || fail "the VM did not end by itself (status $VM_RC)"
	console_has 'TEST PASSED'
	no_splat
}

test_case luo_kexec_simple "the base's luo_kexec_simple passes over a kexec as it is"
t_luo_kexec_simple()
{
	luo_kexec base luo_kexec_simple
}

test_case luo_multi_session "the base's luo_multi_session passes over a kexec as it is"
t_luo_multi_session()
{
	luo_kexec base luo_multi_session
}

test_case luo_stress_files "the base's luo_stress_files passes over a kexec as it is"
t_luo_stress_files()
{
	luo_kexec base luo_stress_files
}

test_case luo_stress_sessions "the base's luo_stress_sessions passes over a kexec as it is"
t_luo_stress_sessions()
{
	luo_kexec base luo_stress_sessions
}

# --- those of the series --------------------------------------------------------

test_case liveupdate_state "the ioctls without a session and the changes of state do what they promise"
t_liveupdate_state()
{
	build_selftest series liveupdate liveupdate_state
	run_suite liveupdate-state fault --append init_on_free=1
	suite_passed liveupdate_state 27
	no_splat
}

test_case luo_state "the state over a kexec, and every failure on the way, is as documented"
t_luo_state()
{
	luo_kexec series luo_state
}

test_case luo_abandon "closing a session gives back what it held, unless a file without a handler may use it"
t_luo_abandon()
{
	luo_kexec series luo_abandon
}

test_case luo_no_kho "a reboot into an image without KHO is refused if anything would be lost, and else not"
t_luo_no_kho()
{
	luo_kexec series luo_no_kho
}

test_case luo_subsystem_damage "damaged data of subsystems is reported, and sessions are not concerned"
t_luo_subsystem_damage()
{
	luo_kexec series luo_subsystem_damage
}

test_case luo_subsystem_off "a kernel with liveupdate=off reads what subsystems handed over"
t_luo_subsystem_off()
{
	luo_kexec series luo_subsystem_off
}

test_case debug_liveupdate_state "lockdep and KASAN have no complaint about the ioctls and the changes of state"
t_debug_liveupdate_state()
{
	build_selftest series liveupdate liveupdate_state
	run_suite liveupdate-state-debug debug "${DEBUG_VM[@]}" --append "$DEBUG_APPEND"
	suite_passed liveupdate_state 27
	no_splat
}

test_case debug_luo_state "lockdep and KASAN have no complaint about failures on the way over a kexec"
t_debug_luo_state()
{
	luo_kexec series luo_state debug "${DEBUG_VM[@]}" --append "$DEBUG_APPEND"
}

test_case iommufd_refusals "what an iommufd cannot carry is refused, each kind with its errno, with the mock driver"
t_iommufd_refusals()
{
	build_selftest series iommu iommufd_liveupdate_mock
	run_suite iommufd-mock fault --append init_on_free=1
	suite_passed iommufd_liveupdate_mock 8
	no_splat
}

test_case iommufd_fail_nth "mock devices go through a live update with every allocation failing once"
t_iommufd_fail_nth()
{
	live kselftest ilu.mock=1 --kernel fault --tag kselftest-mock --timeout 300
	diag "$(tr -d '\r' <"$CONSOLE" | sed -n 's/^.*vmm: # \(.*: [0-9]* points\)$/\1/p' | paste -sd, | sed 's/,/, /g')"
	guest_all_kept
	guest_kept "the second run finds and finishes what the first preserved"
	no_splat_but_allocations
}

test_case vtd_entry "an entry that hardware uses is replaced without a moment in which it is another one, by KUnit"
t_vtd_entry()
{
	mkdir -p "$WORK_DIR/root/suite"
	run_suite kunit-vtd fault --append "kunit.enable=1 kunit.autorun=1"
	console_has 'ok 1 intel-iommu-entry'
	console_has '# intel-iommu-entry: pass:3 fail:0 skip:0 total:3'
	no_splat
}

# --- the base's of iommufd, with the mock driver ----------------------------------

test_case iommufd_unmodified "the base's iommufd selftests pass as they are, also with every allocation failing once"
t_iommufd_unmodified()
{
	build_selftest base iommu iommufd iommufd_fail_nth
	run_suite iommufd-base fault --smp 2 --mem 2G --timeout 300 \
		--append suite.hugepages=128
	suite_passed iommufd 241
	suite_passed iommufd_fail_nth 8
	no_splat
}
