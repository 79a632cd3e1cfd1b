# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# KUnit, in a user-mode Linux on this machine.

area kunit "page tables, by KUnit in user-mode Linux"

# Runs the suites of generic_pt once; the log is $RUN_DIR/kunit.
need_kunit()
{
	need_tree
	[[ ! -e $RUN_DIR/kunit ]] || return 0
	find_cc
	lock "tree-$BASE_ID"
	checkout_series
	cd "$LINUX"
	timeout 900 python3 tools/testing/kunit/kunit.py run --raw_output=all \
		--kunitconfig drivers/iommu/generic_pt/.kunitconfig \
		--build_dir build-kunit --jobs "$(jobs_n)" --timeout 600 \
		--make_options "CC=$KCC" >"$RUN_DIR/kunit.new" 2>&1 </dev/null ||
		echo "kunit.py: exit status $?" >>"$RUN_DIR/kunit.new"
	mv "$RUN_DIR/kunit.new" "$RUN_DIR/kunit"
}

test_case all_formats "page tables of every format keep every promise of their suites"
t_all_formats()
{
	local bad counts totals base preserve compare

	need_kunit
	tail -n 20 "$RUN_DIR/kunit"
	bad="$(grep -E '^ *not ok ' "$RUN_DIR/kunit" | head -n 5)" || true
	[[ -z $bad ]] || fail "$bad"
	! grep '^kunit.py: exit status' "$RUN_DIR/kunit" || fail "kunit.py failed: $(tail -n 2 "$RUN_DIR/kunit")"
	counts="$(awk '
		/^# Totals: pass:/ {
			for (i = 3; i <= NF; i++) {
				split($i, f, ":")
				n[f[1]] += f[2]
			}
		}
		END { printf "%d %d %d", n["pass"], n["fail"], n["skip"] }' "$RUN_DIR/kunit")"
	read -r -a totals <<<"$counts"
	diag "${totals[0]} passed, ${totals[1]} failed, ${totals[2]} skipped"
	# The base has 210 in its suites, of which each format with a walker has one. The
	# series adds two to each.
	base="$(grep -cE '^ok [0-9]+ .*_iommu_test\b' "$RUN_DIR/kunit")" || true
	preserve="$(grep -cE '^ok [0-9]+ .*_preserve_test\b' "$RUN_DIR/kunit")" || true
	compare="$(grep -cE '^ok [0-9]+ .*_compare_test\b' "$RUN_DIR/kunit")" || true
	((base >= 5 && preserve == base && compare == base)) ||
		fail "$base formats have a suite of the base, $preserve and $compare those of the series"
	((totals[0] >= 210 + 10 * preserve + 15 * compare)) || fail "only ${totals[0]} cases passed"
	((totals[1] == 0)) || fail "${totals[1]} cases failed"
}
