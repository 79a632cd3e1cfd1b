# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared code of the scripts in this directory. Sourced, never run.
#
# What lives where (see scripts/README.md):
#   $TOP              this repository
#   $ILU_CACHE        downloads and build output, outside the clone
#   $BASE_DIR         one base kernel: its git repository and its builds
#   $LINUX            that repository; its work tree is at the series' head
#
# Messages go to stderr, results (a path, usually) to stdout.

set -euo pipefail
export LC_ALL=C
umask 022

TOP="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
ILU_CACHE="${ILU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/iommu-liveupdate}"
mkdir -p "$ILU_CACHE"
ILU_CACHE="$(cd "$ILU_CACHE" && pwd -P)"

# The base that everything is tested on.
readonly PIN_PACKAGE=linux-source-7.3
readonly PIN_SUITE=trixie-backports
readonly PIN_VERSION='7.3.4-1~bpo13+1'
readonly PIN_DEB_SHA256=703e369ddd4cce971452f5a593ee55df3a5c10c83caf0fa0df039633ed181ee3
readonly PIN_TAR_SHA256=76df1affb19f24926949369be1d74b60071c963c598ce8780bddd4bbf0fc3bc4

# Every commit that the scripts make carries these, so that the same content
# has the same commit id on every machine.
readonly ILU_NAME='IOMMU live update developers'
readonly ILU_EMAIL='iommu-liveupdate@localhost'
readonly ILU_DATE='2026-11-01T00:00:00+0000'
export GIT_AUTHOR_NAME="$ILU_NAME" GIT_AUTHOR_EMAIL="$ILU_EMAIL"
export GIT_COMMITTER_NAME="$ILU_NAME" GIT_COMMITTER_EMAIL="$ILU_EMAIL"
export GIT_AUTHOR_DATE="$ILU_DATE" GIT_COMMITTER_DATE="$ILU_DATE"

PROG="$(basename "$0")"

msg()
{
	printf '%s: %s\n' "$PROG" "$*" >&2
}

# A message of a long step: also to who runs the tests, whose output goes to
# logs.
note()
{
	msg "$@"
	if [[ -n ${NOTE_FD:-} ]]; then
		printf '%s: %s\n' "$PROG" "$*" >&"$NOTE_FD"
	fi
}

die()
{
	printf '%s: error: %s\n' "$PROG" "$*" >&2
	exit 1
}

# The comment block below a script's SPDX line is its --help.
usage()
{
	awk 'NR < 4 { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "$0"
}

# What a script leaves behind when it ends, however it ends. A job in the
# background does not hear of an interrupt by itself.
cleanup()
{
	if [[ -n $PROGRESS_PID ]]; then
		# The job may be a function in a shell: its child first.
		pkill -P "$PROGRESS_PID" 2>/dev/null || true
		kill "$PROGRESS_PID" 2>/dev/null || true
	fi
	if [[ -n $SCRATCH ]]; then
		rm -rf "$SCRATCH"
	fi
}

# Also first thing in a subshell that uses scratch() or progress().
trap_cleanup()
{
	SCRATCH=
	PROGRESS_PID=
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}
trap_cleanup

# A directory that goes away with the script.
scratch()
{
	if [[ -z $SCRATCH ]]; then
		SCRATCH="$(mktemp -d "${TMPDIR:-/tmp}/ilu.XXXXXXXX")"
	fi
}

sha256()
{
	sha256sum | cut -c1-64
}

# Short enough for a path, long enough to be unique.
key_of()
{
	sha256 | cut -c1-20
}

# git as every machine has it: no user or system configuration.
ilu_git()
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null \
		git -c core.autocrlf=false -c core.safecrlf=false \
		    -c gc.auto=0 -c advice.detachedHead=false \
		    -c safe.directory='*' "$@"
}

# lock NAME: one holder of NAME in the cache at a time, until the script ends
# or unlock NAME.
declare -A LOCKS=()
lock()
{
	local fd

	[[ -z ${LOCKS[$1]:-} ]] || return 0
	mkdir -p "$ILU_CACHE/locks"
	exec {fd}>"$ILU_CACHE/locks/$1"
	if ! flock -n "$fd"; then
		note "waiting for another run that holds $1"
		flock "$fd"
	fi
	LOCKS[$1]=$fd
}

unlock()
{
	local fd="${LOCKS[$1]:-}"

	[[ -n $fd ]] || return 0
	exec {fd}>&-
	unset "LOCKS[$1]"
}

# progress TEXT CMD...: runs CMD, output to $PROGRESS_LOG or a scratch file,
# with a sign of life every ten seconds. Shows the log's end if CMD fails.
progress()
{
	local text="$1" log="${PROGRESS_LOG:-}" start=$SECONDS pid rc=0 last

	shift
	if [[ -z $log ]]; then
		scratch
		log="$SCRATCH/progress.log"
	fi
	note "$text"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	PROGRESS_PID=$pid
	last=$SECONDS
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		if ((SECONDS - last >= 10)); then
			last=$SECONDS
			note "$text: $((SECONDS - start)) s $(progress_hint "$log")"
		fi
	done
	wait "$pid" || rc=$?
	PROGRESS_PID=
	if ((rc)); then
		tail -n "${PROGRESS_TAIL:-30}" "$log" >&2
		msg "$text: failed after $((SECONDS - start)) s (exit status $rc)${PROGRESS_LOG:+; full output: $log}"
		return "$rc"
	fi
	if ((SECONDS - start >= 10)); then
		note "$text: done in $((SECONDS - start)) s"
	fi
}

progress_hint()
{
	local lines

	lines="$(wc -l <"$1")"
	if ((lines)); then
		printf '(%d lines of output)' "$lines"
	fi
}

jobs_n()
{
	nproc
}

# Sets KCC, the compiler with its cache: make's CC=.
find_cc()
{
	if command -v ccache >/dev/null; then
		KCC="${CC:-ccache gcc}"
		export CCACHE_DIR="${CCACHE_DIR:-$ILU_CACHE/ccache}"
		export CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE="${CCACHE_MAXSIZE:-10G}"
		# Compiling what was preprocessed for the lookup would be faster, but
		# warns of what macros expand to.
		unset CCACHE_NOCPP2
	else
		KCC="${CC:-gcc}"
	fi
}

##
## Packages of Debian
##

# apt's entries for Debian itself, deb822 and one-line form, as "URI keyring".
debian_entries()
{
	local f

	for f in /etc/apt/sources.list.d/*.sources; do
		[[ -e $f ]] || continue
		awk '
		function flush(    i, n, uri) {
			if (types ~ /(^| )deb( |$)/ && enabled !~ /^(no|false|0)/ &&
			    (" " comps " ") ~ / main /) {
				n = split(uris, uri, " ")
				for (i = 1; i <= n; i++)
					print suites "|" uri[i] "|" key
			}
			types = uris = suites = comps = key = enabled = ""
		}
		/^[ \t]*$/ { flush(); next }
		/^#/ { next }
		/^[^ \t]/ {
			field = tolower($0); sub(/:.*/, "", field)
			value = $0; sub(/^[^:]*:[ \t]*/, "", value)
			if (field == "types") types = value
			else if (field == "uris") uris = value
			else if (field == "suites") suites = value
			else if (field == "components") comps = value
			else if (field == "signed-by") key = value
			else if (field == "enabled") enabled = tolower(value)
		}
		END { flush() }' "$f"
	done
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[[ -e $f ]] || continue
		awk '
		$1 == "deb" {
			key = ""
			i = 2
			if ($2 ~ /^\[/) {
				for (; i <= NF; i++) {
					opt = $i
					gsub(/[][]/, "", opt)
					if (opt ~ /^signed-by=/) {
						key = opt
						sub(/^signed-by=/, "", key)
					}
					if ($i ~ /\]$/) {
						i++
						break
					}
				}
			}
			for (j = i + 2; j <= NF; j++)
				if ($j == "main")
					print $(i + 1) "|" $i "|" key
		}' "$f"
	done
}

# suite_entries SUITE...: the lines of a sources.list for the suites, for each of
# the machine's archives that carries a Debian release (not its security part or
# a third party).
suite_entries()
{
	local release suites uri key suite
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg

	release="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
	while IFS='|' read -r suites uri key; do
		case " $suites " in
		*" ${release:-none} "*|*' trixie '*|*' forky '*|*' sid '*|\
		*' stable '*|*' testing '*|*' unstable '*|*" $PIN_SUITE "*) ;;
		*) continue ;;
		esac
		if [[ -e $keyring ]]; then
			key=$keyring
		elif [[ $key != /* ]]; then
			key=
		fi
		for suite in "$@"; do
			printf 'deb %s%s %s main\n' "${key:+[signed-by=$key] }" "$uri" "$suite"
		done
	done < <(debian_entries) | sort -u
}

# private_apt PROGRAM ARGS: apt-get or apt-cache with lists, packages and state
# in $SCRATCH/apt, where nothing is installed.
private_apt()
{
	local program="$1"

	shift
	"$program" -q -o Dir::Etc::sourcelist="$SCRATCH/apt/sources.list" \
		-o Dir::Etc::sourceparts=- \
		-o Dir::Etc::preferences=- \
		-o Dir::Etc::preferencesparts=- \
		-o Dir::State="$SCRATCH/apt" \
		-o Dir::State::status="$SCRATCH/apt/status" \
		-o Dir::State::Lists="$SCRATCH/apt/lists" \
		-o Dir::Cache="$SCRATCH/apt/cache" \
		-o Acquire::Languages=none \
		-o APT::Update::Error-Mode=any \
		-o APT::Sandbox::User="$(id -un)" "$@"
}

# private_apt_lists SUITE...: makes $SCRATCH/apt and reads the suites' lists.
# Fails if there is no entry to make them from. A list that can't be read is an
# error only if there is no other: not every archive has to carry every suite.
private_apt_lists()
{
	scratch
	mkdir -p "$SCRATCH/apt/lists/partial" "$SCRATCH/apt/cache/archives/partial"
	: >"$SCRATCH/apt/status"
	suite_entries "$@" >"$SCRATCH/apt/sources.list"
	[[ -s $SCRATCH/apt/sources.list ]] || return 1
	if ! progress "reading the package lists of $*" private_apt apt-get update; then
		compgen -G "$SCRATCH/apt/lists/*_Packages*" >/dev/null ||
			die "could read no package list"
		msg "going on with the lists that could be read"
	fi
}

##
## Base
##

# Sets BASE_ID, BASE_DIR, LINUX for the base in use. Does not make it.
base_paths()
{
	if [[ -n ${KERNEL_SRC:-} ]]; then
		[[ -e $KERNEL_SRC ]] || die "KERNEL_SRC=$KERNEL_SRC does not exist"
		KERNEL_SRC="$(realpath "$KERNEL_SRC")"
		if [[ -d $KERNEL_SRC ]]; then
			BASE_ID="src-$(printf '%s' "$KERNEL_SRC" | key_of)"
		else
			BASE_ID="tar-$(sha256 <"$KERNEL_SRC" | cut -c1-20)"
		fi
	else
		# Without characters that make or a regular expression would read.
		BASE_ID="debian-${PIN_VERSION//[^0-9a-z.-]/.}"
		if [[ ! -e $ILU_CACHE/$BASE_ID/complete && -e $ILU_CACHE/debian-unpinned ]]; then
			BASE_ID="debian-$(tr -c '0-9a-z.\n-' . <"$ILU_CACHE/debian-unpinned")"
		fi
	fi
	BASE_DIR="$ILU_CACHE/$BASE_ID"
	LINUX="$BASE_DIR/linux"
}

# The base's commit and tree; base_paths() first.
base_commit()
{
	ilu_git -C "$LINUX" rev-parse --verify -q refs/heads/base
}

# Makes the base if it is not there and sets the variables of base_paths().
need_base()
{
	base_paths
	if [[ ! -e $BASE_DIR/complete || -n ${KERNEL_SRC:-} ]]; then
		"$TOP/scripts/base" >/dev/null
		base_paths
	fi
}

##
## Series
##

# series_list [DIR]: the patches of the series in DIR, in order, as paths.
series_list()
{
	local dir="${1:-$TOP}" line

	[[ -e $dir/patches/series ]] || return 0
	while read -r line; do
		case "$line" in
		''|'#'*) ;;
		*) printf '%s\n' "$dir/patches/$line" ;;
		esac
	done <"$dir/patches/series"
}

# patch_brings PATCH: the new files that a patch's header names.
patch_brings()
{
	sed '/^diff --git /,$d' "$1" | sed -n 's/^New-file: //p'
}

# patch_merges_maintainers PATCH: is it the commit with our entries?
patch_merges_maintainers()
{
	sed '/^diff --git /,$d' "$1" | grep -qx 'New-entries: MAINTAINERS'
}

# All new files of the series in DIR.
series_brings()
{
	local p

	while read -r p; do
		patch_brings "$p"
	done < <(series_list "${1:-$TOP}")
}

# What the commits made from DIR depend on, as one short string.
# shellcheck disable=SC2120
series_key()
{
	local dir="${1:-$TOP}" p f

	{
		while read -r p; do
			printf 'patch %s\n' "$(basename "$p")"
			cat "$p"
			while read -r f; do
				[[ -e $dir/$f ]] || die "$f: named in $(basename "$p"), not in the repository"
				printf 'file %s %s\n' "$f" "$([[ -x $dir/$f ]] && echo x)"
				cat "$dir/$f"
			done < <(patch_brings "$p")
		done < <(series_list "$dir")
		if [[ -e $dir/MAINTAINERS ]]; then
			cat "$dir/MAINTAINERS"
		fi
	} | key_of
}

# merge_maintainers OURS THEIRS: THEIRS with the entries of OURS merged in, each
# where the fewest titles around it are out of order (the kernel's list is not
# sorted without exception).
merge_maintainers()
{
	awk -f "$TOP/scripts/maintainers.awk" -v mode=merge "$1" "$2"
}

# new_maintainers OLD NEW: the entries of NEW that OLD does not have.
new_maintainers()
{
	awk -f "$TOP/scripts/maintainers.awk" -v mode=new "$1" "$2"
}

# series_commits DIR: makes commits of the series in DIR on the base, without
# touching any work tree, and prints the last one.
series_commits()
(
	dir="${1:-$TOP}"
	trap_cleanup
	scratch
	w="$SCRATCH/series"
	rm -rf "$w"
	mkdir -p "$w"
	export GIT_INDEX_FILE="$w/index"
	cd "$LINUX"
	commit="$(base_commit)" || die "no base in $LINUX"
	ilu_git read-tree "$commit"

	while read -r p; do
		name="$(basename "$p")"
		[[ -e $p ]] || die "patches/series names $name, which is not there"
		ilu_git mailinfo --encoding=UTF-8 "$w/msg" "$w/patch" <"$p" >"$w/info" ||
			die "$name: not a mail that git understands"
		subject="$(sed -n 's/^Subject: //p' "$w/info")"
		[[ -n $subject ]] || die "$name: no subject"
		if grep -q '^diff --git ' "$w/patch"; then
			ilu_git apply --cached --whitespace=nowarn "$w/patch" 2>"$w/err" || {
				cat "$w/err" >&2
				die "$name does not apply to this base"
			}
		fi
		while read -r f; do
			[[ -f $dir/$f ]] || die "$name brings $f, which is not in the repository"
			if ilu_git ls-files --error-unmatch -- "$f" >/dev/null 2>&1; then
				die "$name brings $f, which exists already"
			fi
			mode=100644
			[[ ! -x $dir/$f ]] || mode=100755
			blob="$(ilu_git hash-object -w --no-filters -- "$dir/$f")"
			ilu_git update-index --add --cacheinfo "$mode,$blob,$f"
		done < <(patch_brings "$p")
		if patch_merges_maintainers "$p"; then
			ilu_git cat-file blob :MAINTAINERS >"$w/theirs"
			merge_maintainers "$dir/MAINTAINERS" "$w/theirs" >"$w/merged"
			blob="$(ilu_git hash-object -w --no-filters -- "$w/merged")"
			ilu_git update-index --cacheinfo "100644,$blob,MAINTAINERS"
		fi
		tree="$(ilu_git write-tree)"
		{
			printf '%s\n' "$subject"
			if [[ -s $w/msg ]]; then
				printf '\n'
				cat "$w/msg"
			fi
		} >"$w/message"
		commit="$(ilu_git commit-tree "$tree" -p "$commit" -F "$w/message")"
	done < <(series_list "$dir")
	printf '%s\n' "$commit"
)

# Brings the series' commits into the base's repository and sets SERIES (the
# last commit) without touching a work tree. Remembers the result by content.
need_series()
{
	local key ref

	need_base
	# shellcheck disable=SC2119
	key="$(base_commit)-$(series_key)"
	ref="refs/ilu/$key"
	if ! SERIES="$(ilu_git -C "$LINUX" rev-parse --verify -q "$ref")"; then
		lock "series-$BASE_ID"
		SERIES="$(series_commits "$TOP")"
		ilu_git -C "$LINUX" update-ref "$ref" "$SERIES"
		unlock "series-$BASE_ID"
	fi
}

# Brings the work tree of $LINUX to $SERIES; need_series() and the lock
# "tree-$BASE_ID" first.
checkout_series()
{
	if [[ "$(ilu_git -C "$LINUX" rev-parse -q --verify HEAD || true)" == "$SERIES" &&
	      "$(ilu_git -C "$LINUX" symbolic-ref -q HEAD || true)" == refs/heads/series ]]; then
		return 0
	fi
	ilu_git -C "$LINUX" checkout -q -B series "$SERIES" >&2 ||
		die "$LINUX has changes of its own; work in a tree made by scripts/tree --worktree"
}

# pack_root OUT DIR: DIR as an uncompressed initramfs, the same bytes for the same
# content. /dev/console comes from the kernel's own.
pack_root()
{
	find "$2" -exec touch -h -d @0 {} +
	(cd "$2" && find . | sort | cpio -o -H newc --quiet --reproducible --owner=0:0) >"$1.new"
	mv "$1.new" "$1"
}

##
## Modes of the IOMMU
##

# What use_mode sets: for the kernel's command line, for scripts/vm, for file names, and
# 1 for scalable mode
MODE_APPEND=
MODE_VM=()
MODE_TAG=
MODE_SCALABLE=0

# use_mode MODE: the IOMMU that guests have from here on. MODE is one of
#
#   legacy   legacy mode
#   sm       scalable mode, second stage
#   ss, fs   scalable mode with second or first stage, with a newer QEMU (scripts/qemu)
#
# and, after a colon, further options of QEMU's intel-iommu.
# shellcheck disable=SC2034
use_mode()
{
	local kind="${1%%:*}" options=intremap=on more="${1#*:}" program

	[[ $1 == *:* ]] || more=
	MODE_TAG="${1//[^a-z0-9]/-}"
	MODE_SCALABLE=1
	case "$kind" in
	legacy) MODE_SCALABLE=0 ;;
	sm) options+=,x-scalable-mode=on ;;
	ss) options+=,scalable-mode=on ;;
	fs) options+=,scalable-mode=on,fsts=on ;;
	*) msg "there is no mode $1"; return 1 ;;
	esac
	MODE_APPEND="intel_iommu=sm_$( ((MODE_SCALABLE)) && echo on || echo off)"
	MODE_VM=(--iommu "$options${more:+,$more}")
	if [[ $kind == [sf]s ]]; then
		program="$("$TOP/scripts/qemu")" || return 1
		MODE_VM+=(--qemu "$program")
	fi
}
