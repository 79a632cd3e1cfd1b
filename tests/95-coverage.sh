# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Comes last: which lines the tests before it have reached.

area coverage "lines that the tests have reached"

COVERAGE_MIN=95

test_case --when coverage lines "$COVERAGE_MIN % of the lines of the series' new files were reached"
t_lines()
{
	local all

	"$TOP/scripts/coverage" "$RUN_DIR" >"$RUN_DIR/coverage" || fail "no report"
	while read -r all; do
		diag "$all"
	done <"$RUN_DIR/coverage"
	all="$(awk '$1 == "all" { print $(NF - 1) }' "$RUN_DIR/coverage")"
	awk -v got="$all" -v min="$COVERAGE_MIN" 'BEGIN { exit got < min }' ||
		fail "$all % were reached"
}
