# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What can be known of the series and the repository without running a kernel.

area static "the series as patches, and what tools say about it"

# The mailable patches, made once.
need_mails()
{
	MAILS="$RUN_DIR/mails"
	(
		flock 9
		if [[ ! -d $MAILS ]]; then
			"$TOP/scripts/series" "$MAILS.new" >/dev/null
			mv "$MAILS.new" "$MAILS"
		fi
	) 9>"$MAILS.lock"
	mapfile -t mails < <(find "$MAILS" -name '[0-9]*.patch' -not -name '0000-*' | sort)
	[[ ${#mails[@]} -gt 0 ]] || fail "the series is empty"
}

# Files of this repository, relative to its top.
repo_files()
{
	if ilu_git -C "$TOP" rev-parse --git-dir >/dev/null 2>&1; then
		ilu_git -C "$TOP" ls-files -co --exclude-standard
	else
		(cd "$TOP" && find . -type f | sed 's,^\./,,')
	fi
}

test_case mails_apply "git am takes the mailed series on the base, and makes the same tree of it"
t_mails_apply()
{
	need_tree
	need_mails
	ilu_git clone -q --shared --no-checkout "$LINUX" "$WORK_DIR/am"
	cd "$WORK_DIR/am"
	ilu_git read-tree "$BASE"
	ilu_git update-ref --no-deref HEAD "$BASE"
	# An empty work tree would do for git apply --cached, not for git am: it
	# needs the files that the patches change.
	mapfile -t files < <(ilu_git diff --name-only --diff-filter=MDT "$BASE" "$SERIES")
	ilu_git sparse-checkout set --no-cone "${files[@]/#//}"
	ilu_git checkout -q --detach "$BASE"
	ilu_git am -q "${mails[@]}"
	check "the tree is another one than that of scripts/tree" \
		test "$(ilu_git rev-parse 'HEAD^{tree}')" = "$(ilu_git rev-parse "$SERIES^{tree}")"
}

test_case keeps_off_debian "no hunk needs a line that only Debian's tree has"
t_keeps_off_debian()
{
	local p

	# What Debian adds to files that the series may touch: the options of the
	# VT-d driver for integrated GPUs, and a choice in its Kconfig in the place
	# of one option.
	for p in "$TOP"/patches/[0-9]*.patch; do
		[[ -e $p ]] || continue
		awk -v patch="$(basename "$p")" '
		/^--- a\// { file = substr($0, 7) }
		!/^[ -]/ || /^--- / { next }
		/[iI][nN][tT][gG][pP][uU]|integrated GPU/ ||
		(file == "drivers/iommu/intel/iommu.c" &&
		 /\(pdev\)->vendor == 0x8086 &&|pci_is_root_bus\(\(pdev\)->bus\)/) ||
		(file == "drivers/iommu/intel/Kconfig" &&
		 /^.(end)?choice|INTEL_IOMMU_DEFAULT_O|Default state of|Choose whether|by default\. This can|intel_iommu= kernel|bool "(En|Dis)able"/) {
			print patch ": " file ": " $0
		}' "$p"
	done >"$WORK_DIR/on"
	cat "$WORK_DIR/on"
	[[ ! -s $WORK_DIR/on ]] || fail "$(head -n 2 "$WORK_DIR/on")"
}

test_case round_trip "tree to repository to tree, and back, changes nothing"
t_round_trip()
{
	local p f

	need_tree
	"$TOP/scripts/refresh" --output "$WORK_DIR/again" "$LINUX" "$BASE..$SERIES"
	while read -r p; do
		diff -u "$p" "$WORK_DIR/again/patches/$(basename "$p")"
		while read -r f; do
			diff -u "$TOP/$f" "$WORK_DIR/again/$f"
			check "$f: executable in one place, not in the other" \
				test "$(stat -c %A "$TOP/$f" | cut -c4)" = "$(stat -c %A "$WORK_DIR/again/$f" | cut -c4)"
		done < <(patch_brings "$p")
	done < <(series_list)
	diff -u "$TOP/patches/series" "$WORK_DIR/again/patches/series"
	if [[ -e $TOP/MAINTAINERS ]]; then
		diff -u "$TOP/MAINTAINERS" "$WORK_DIR/again/MAINTAINERS"
	fi
}

test_case own_kernel "KERNEL_SRC= takes a kernel tree that is not Debian's, and scripts/tree puts the series on it"
t_own_kernel()
{
	local files tree

	need_tree
	# As much of a kernel tree as the series touches, without git.
	mapfile -t files < <(ilu_git -C "$LINUX" diff --name-only --diff-filter=MDT "$BASE" "$SERIES")
	mkdir "$WORK_DIR/own"
	ilu_git -C "$LINUX" archive "$BASE" Kbuild "${files[@]}" | tar -x -C "$WORK_DIR/own"
	tree="$(KERNEL_SRC="$WORK_DIR/own" ILU_CACHE="$WORK_DIR/cache" "$TOP/scripts/tree")"
	diff -u "$TOP/drivers/iommu/liveupdate.c" "$tree/drivers/iommu/liveupdate.c"
	check "not each patch is a commit there" test "$(ilu_git -C "$tree" rev-list --count base..series)" = \
		"$(series_list | wc -l)"
}

test_case --when matrix bisect "every commit of the series builds without a warning, and the last one boots"
t_bisect()
{
	"$TOP/scripts/series" --bisect
}

test_case every_file_has_its_commit "every new file is brought by exactly one patch, every patch is in the series"
t_every_file_has_its_commit()
{
	local f p

	series_brings | sort >"$WORK_DIR/brought"
	uniq -d "$WORK_DIR/brought" >"$WORK_DIR/twice"
	[[ ! -s $WORK_DIR/twice ]] || fail "brought twice: $(tr '\n' ' ' <"$WORK_DIR/twice")"
	repo_files | while read -r f; do
		case "$f" in
		scripts/*|tests/*|configs/*|patches/*|.ci/*|COPYING|MAINTAINERS|README.md|\
		.gitattributes|.gitignore|.shellcheckrc) continue ;;
		esac
		grep -qxF -- "$f" "$WORK_DIR/brought" || echo "$f"
	done >"$WORK_DIR/lost"
	[[ ! -s $WORK_DIR/lost ]] || fail "brought by no patch: $(tr '\n' ' ' <"$WORK_DIR/lost")"
	for p in "$TOP"/patches/*.patch; do
		grep -qxF -- "$(basename "$p")" "$TOP/patches/series" || fail "$(basename "$p") is not in patches/series"
	done
}

test_case spdx "every file names its license"
t_spdx()
{
	local f

	repo_files | while read -r f; do
		case "$f" in
		COPYING|patches/*) continue ;;
		esac
		[[ -e $TOP/$f ]] || continue
		head -n 3 "$TOP/$f" | grep -q 'SPDX-License-Identifier: ' || echo "$f"
	done >"$WORK_DIR/without"
	[[ ! -s $WORK_DIR/without ]] || fail "without: $(tr '\n' ' ' <"$WORK_DIR/without")"
}

test_case shell_is_clean "shellcheck finds nothing in the scripts"
t_shell_is_clean()
{
	local f

	command -v shellcheck >/dev/null || skip "no shellcheck here (see scripts/deps)"
	cd "$TOP"
	repo_files | while read -r f; do
		if sed '1,2!d' "$f" | grep -qE '^#!/bin/bash|^# shellcheck shell=bash'; then
			echo "$f"
		fi
	done | xargs shellcheck
}

test_case checkpatch "checkpatch --strict has nothing to say about any patch"
t_checkpatch()
{
	local p bad=0

	need_tree
	need_mails
	lock "tree-$BASE_ID"
	checkout_series
	cd "$LINUX"
	# Nobody signs off in this project, the entries of MAINTAINERS come in a commit of
	# their own, and an iterator is a macro that uses its cursor more than once.
	# shellcheck disable=SC2016 # for the inner shell
	printf '%s\0' "${mails[@]}" | xargs -0 -n 1 -P "$(jobs_n)" sh -c '
		perl scripts/checkpatch.pl --strict --show-types --no-summary --quiet \
			--ignore MISSING_SIGN_OFF,NO_AUTHOR_SIGN_OFF,FILE_PATH_CHANGES,MACRO_ARG_REUSE "$2" \
			>"$1/$(basename "$2").out" || touch "$1/$(basename "$2").bad"' sh "$WORK_DIR"
	for p in "${mails[@]}"; do
		p="$(basename "$p")"
		[[ -e $WORK_DIR/$p.bad ]] || continue
		echo "== $p"
		cat "$WORK_DIR/$p.out"
		bad=$((bad + 1))
	done
	((!bad)) || fail "checkpatch complains of $bad patches (see the log)"
}

test_case kernel_doc "kernel-doc has nothing to say about any new file, and nothing new about any changed one"
t_kernel_doc()
{
	local f

	need_tree
	lock "tree-$BASE_ID"
	checkout_series
	cd "$LINUX"
	while IFS=$'\t' read -r status f; do
		case "$f" in
		*.[ch]) ;;
		*) continue ;;
		esac
		scripts/kernel-doc -none -Wall "$f" 2>&1 | sed 's/:[0-9][0-9]*[: ]/: /' | sort >"$WORK_DIR/now" || true
		if [[ $status == A ]]; then
			: >"$WORK_DIR/before"
		else
			mkdir -p "$WORK_DIR/base/$(dirname "$f")"
			ilu_git show "$BASE:$f" >"$WORK_DIR/base/$f"
			(cd "$WORK_DIR/base" && "$LINUX/scripts/kernel-doc" -none -Wall "$f" 2>&1) |
				sed 's/:[0-9][0-9]*[: ]/: /' | sort >"$WORK_DIR/before" || true
		fi
		comm -23 "$WORK_DIR/now" "$WORK_DIR/before"
	done < <(ilu_git diff --no-renames --name-status --diff-filter=AM "$BASE" "$SERIES") >"$WORK_DIR/new"
	cat "$WORK_DIR/new"
	[[ ! -s $WORK_DIR/new ]] || fail "$(head -n 3 "$WORK_DIR/new")"
}

# docs_of COMMIT DIR: what sphinx says about those pages of COMMIT that the series
# touches, read with the kernel's own extensions in DIR. References to other pages
# lead nowhere there, if these exist.
docs_of()
{
	local pages=() sources=() f page

	while read -r f; do
		if ilu_git -C "$LINUX" cat-file -e "$1:$f" 2>/dev/null; then
			pages+=("$f")
		fi
	done < <(ilu_git -C "$LINUX" diff --name-only --diff-filter=AM "$BASE" "$SERIES" -- 'Documentation/*.rst')
	while read -r f; do
		sources+=("$f")
	done < <(for f in "${pages[@]}"; do
			ilu_git -C "$LINUX" show "$1:$f"
		done | sed -n 's/^ *\.\. kernel-doc:: *//p' | sort -u)
	mkdir -p "$2"
	ilu_git -C "$LINUX" archive "$1" Makefile MAINTAINERS Documentation/conf.py Documentation/sphinx \
		Documentation/sphinx-static tools/lib/python scripts/kernel-doc \
		tools/net/ynl/pyynl "${pages[@]}" "${sources[@]}" | tar -x -C "$2"
	{
		printf 'Pages\n=====\n\n.. toctree::\n\n'
		for f in "${pages[@]}"; do
			[[ $f != */index.rst ]] || continue
			f="${f#Documentation/}"
			printf '   %s\n' "${f%.rst}"
		done
	} >"$2/Documentation/index.rst"
	find "$2/Documentation" -mindepth 2 -name index.rst -delete
	cd "$2"
	srctree="$PWD" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 /usr/bin/sphinx-build \
		-q -b dummy -j 2 -c Documentation -D kerneldoc_srctree="$PWD" \
		-D version=7.3 -D release=7.3 Documentation out >sphinx.log 2>&1 ||
		fail "sphinx: $(tail -n 3 sphinx.log)"
	cd "$WORK_DIR"
	sed -E "s,$2/,,g; s/:[0-9]+: /: /" "$2/sphinx.log" | while read -r f; do
		if [[ $f =~ (unknown document|nonexisting document):\ \'?([^\']*) ]]; then
			page="${BASH_REMATCH[2]}"
			[[ $page == /* ]] || page="/$(dirname "${f%%:*}")/$page"
			[[ $page == /Documentation/* ]] || page="/Documentation$page"
			! ilu_git -C "$LINUX" cat-file -e "$1:$(realpath -ms "$page" | cut -c2-).rst" 2>/dev/null ||
				continue
		fi
		printf '%s\n' "$f"
	done | sort -u
}

test_case docs "sphinx and kernel-doc have no new warning about the documentation that the series touches"
t_docs()
{
	[[ -e /usr/bin/sphinx-build ]] || skip "no sphinx here (see scripts/deps)"
	need_tree
	docs_of "$BASE" "$WORK_DIR/base" >"$WORK_DIR/before"
	docs_of "$SERIES" "$WORK_DIR/series" >"$WORK_DIR/now"
	comm -23 "$WORK_DIR/now" "$WORK_DIR/before" >"$WORK_DIR/new"
	cat "$WORK_DIR/new"
	[[ ! -s $WORK_DIR/new ]] || fail "$(wc -l <"$WORK_DIR/new") new: $(head -n 1 "$WORK_DIR/new")"
	diag "$(find "$WORK_DIR/series/Documentation" -name '*.rst' | wc -l) pages, $(wc -l <"$WORK_DIR/before") old warnings"
}

# The warnings of a build's log, without line numbers and the work tree's path.
warnings_of()
{
	grep -E ': (warning|error): ' "$1/log" |
		sed -E 's,^(\.\./)*(/[^:]*/(linux|base)/)?,,; s/:[0-9]+:[0-9]+: /: /; s/:[0-9]+: /: /' |
		sed -E 's/([a-z_]+)\.isra\.[0-9]+/\1/' | sort
}

test_case no_new_warning "W=1 and sparse find nothing in what the series touches that they do not find in the base"
t_no_new_warning()
{
	local f base

	need_tree
	need_kernel check-base
	base="$KERNEL_OUT"
	need_kernel check
	warnings_of "$base" >"$WORK_DIR/before"
	warnings_of "$KERNEL_OUT" >"$WORK_DIR/now"
	comm -23 "$WORK_DIR/now" "$WORK_DIR/before" >"$WORK_DIR/new"
	cat "$WORK_DIR/new"
	[[ ! -s $WORK_DIR/new ]] || fail "$(wc -l <"$WORK_DIR/new") new: $(head -n 1 "$WORK_DIR/new")"

	# A comparison says nothing about a file that was not compiled.
	ilu_git -C "$LINUX" diff --name-only --no-renames --diff-filter=AM "$BASE" "$SERIES" |
		grep -E '^(drivers|kernel|mm|lib|arch/x86)/.*\.c$' | while read -r f; do
		grep -qF "  ${f%.c}.o" "$KERNEL_OUT/log" || grep -qE " (drivers.*/fmt/)" <<<" $f" || echo "$f"
	done >"$WORK_DIR/uncompiled"
	[[ ! -s $WORK_DIR/uncompiled ]] || fail "configs/check.config does not compile $(tr '\n' ' ' <"$WORK_DIR/uncompiled")"
	diag "$(wc -l <"$WORK_DIR/before") warnings in the base, $(wc -l <"$WORK_DIR/now") with the series"
}

# Warnings of a build without extra flags are errors of the series.
builds_without_warning()
{
	need_kernel "$1"
	if grep -E ': (warning|error): |^WARNING: |^ERROR: ' "$KERNEL_OUT/log"; then
		fail "it builds with warnings (see the log)"
	fi
}

test_case builds_as_module "iommufd and vfio build and link as modules"
t_builds_as_module()
{
	builds_without_warning fault
	check "there is no iommufd.ko" test -e "$KERNEL_OUT/modules/iommufd.ko"
}

test_case builds_without_liveupdate "what the series touches builds without CONFIG_LIVEUPDATE"
t_builds_without_liveupdate()
{
	builds_without_warning liveupdate-off
}

test_case builds_without_kho "what the series touches builds without CONFIG_KEXEC_HANDOVER"
t_builds_without_kho()
{
	builds_without_warning kho-off
}

test_case builds_with_marks "the kernel that scripts/bench measures builds"
t_builds_with_marks()
{
	builds_without_warning bench
}
