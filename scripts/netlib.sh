# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Frames with numbers for a NIC in the guest, and which of them arrived. Sourced
# after lib.sh, by the demo and by tests:
#
#   start_frames "$dir" 200 addr=0x12        before the VM
#   stamp_console "$dir/console" "$dir/stamped"
#   scripts/vm --console "$dir/console" ... -- "${FRAMES_QEMU[@]}"
#   stop_frames                              after it
#   frames_received "$dir/console" "$dir/received"
#   frames_events "$dir/stamped" >"$dir/events"
#   "$FRAMES" plot --sent "$dir/sent" --received "$dir/received" ...
#
# tests/host/frames.c is the sender, tests/guest/e1000e.c the receiver.

FRAMES=
FRAMES_PID=
FRAMES_QEMU=()
STAMP_PID=
FRAMES_SOCKETS=
FRAMES_TMP=

# Sets FRAMES, the program; kept in the cache by the hash of what it is built from.
need_frames()
{
	local dir

	dir="$ILU_CACHE/frames-$({
		cat "$TOP"/tests/host/{Makefile,frames.c} "$TOP/tests/guest/e1000e.h"
		gcc --version | sed -n 1p
	} | key_of)"
	FRAMES="$dir/frames"
	[[ ! -e $FRAMES ]] || return 0
	rm -rf "$dir.$BASHPID"
	make -s -C "$TOP/tests/host" OUT="$dir.$BASHPID" >&2 || return 1
	# Whoever was faster has the same.
	mv -T "$dir.$BASHPID" "$dir" 2>/dev/null || rm -rf "$dir.$BASHPID"
}

# start_frames DIR RATE [PROPERTIES [OPTIONS of frames send]]
#
# Sends RATE frames a second to an e1000e with further PROPERTIES (as
# bus=...,addr=...) in a VM that is started later; ends with that VM, with this
# shell, or with stop_frames. Sets FRAMES_PID and FRAMES_QEMU, the arguments for
# QEMU. DIR gets "sent", with a line "SEQ TIME_NS" for each frame, and "sender",
# what the sender says at its end.
start_frames()
{
	local dir="$1" rate="$2" props="${3:-}" owner=$BASHPID

	shift $(($# < 3 ? $# : 3))
	need_frames || return 1
	mkdir -p "$dir"
	# The path of a unix socket has at most 107 bytes; commas would end QEMU's option.
	if ((${#dir} > 90)) || [[ $dir == *,* ]]; then
		FRAMES_TMP="$(mktemp -d /tmp/ilu-net.XXXXXXXX)"
	fi
	FRAMES_SOCKETS="${FRAMES_TMP:-$dir}/nic"
	# QEMU leaves its own behind.
	rm -f "$FRAMES_SOCKETS".{qemu,host}
	: >"$dir/sent"
	"$FRAMES" send --socket "$FRAMES_SOCKETS.qemu" --bind "$FRAMES_SOCKETS.host" \
		--rate "$rate" --log "$dir/sent" --until-gone --owner "$owner" \
		"$@" >"$dir/sender" 2>&1 </dev/null &
	FRAMES_PID=$!
	# shellcheck disable=SC2034
	FRAMES_QEMU=(
		-netdev "dgram,id=n0,local.type=unix,local.path=$FRAMES_SOCKETS.qemu,remote.type=unix,remote.path=$FRAMES_SOCKETS.host"
		# Without option ROM: it would only take time.
		-device "e1000e,netdev=n0,mac=02:00:00:00:00:02,romfile=${props:+,$props}"
	)
}

# Ends the sender, and with it stamp_console; both have written all when it returns.
stop_frames()
{
	if [[ -n $FRAMES_PID ]]; then
		kill "$FRAMES_PID" 2>/dev/null || true
		wait "$FRAMES_PID" || true
		FRAMES_PID=
	fi
	if [[ -n $STAMP_PID ]]; then
		wait "$STAMP_PID" || true
		STAMP_PID=
	fi
	if [[ -n $FRAMES_SOCKETS ]]; then
		rm -f "$FRAMES_SOCKETS".{qemu,host}
		FRAMES_SOCKETS=
	fi
	if [[ -n $FRAMES_TMP ]]; then
		rm -rf "$FRAMES_TMP"
		FRAMES_TMP=
	fi
}

# stamp_console CONSOLE OUT [PID]
#
# From now on each line of a live update that comes to CONSOLE goes to OUT as "TIME_NS
# LINE", with the host's time. Ends with process PID, by default with the sender of
# start_frames or else with this shell. Sets STAMP_PID.
stamp_console()
{
	local pid="${3:-${FRAMES_PID:-$BASHPID}}"

	: >"$1"
	: >"$2"
	tail -q -n +1 -s 0.2 --pid="$pid" -F "$1" 2>/dev/null |
		grep --line-buffered -E 'ILU|Linux version|live update: .*goes on with' |
		while IFS= read -r line; do
			printf '%s000 %s\n' "${EPOCHREALTIME//[.,]/}" "${line%$'\r'}"
		done >"$2" &
	STAMP_PID=$!
}

# frames_received CONSOLE OUT: the guest's last report as lines "FIRST-LAST", "dup
# SEQ" and "bad SEQ".
frames_received()
{
	tr -d '\r' <"$1" | sed -n 's/^.*ILU: \[[ 0-9.]*\] kernel=[0-9]* frames: //p' | awk '
	# The first line of a report.
	$1 == "marker" { delete out; n = 0 }
	$1 == "received" { for (i = 2; i <= NF; i++) out[n++] = $i }
	$1 == "dup" || $1 == "bad" { out[n++] = $1 " " $2 }
	END { for (i = 0; i < n; i++) print out[i] }' >"$2"
}

# frames_events STAMPED: events for frames plot, "TIME_NS LABEL", and the last marker,
# "TIME_NS marker SEQ", with the time at which it was set.
#
# Lines reach the console late, those of a kernel's first tenths of a second very late.
# But each has its kernel's time, and the line that was the fastest tells what that is
# in the host's.
frames_events()
{
	awk '
	function event(label, i) {
		printf "%.0f %s\n", (offset[kernel[i]] + time[i]) * 1e9, label
	}
	match($0, /\[ *[0-9]+\.[0-9]+\]/) {
		t = substr($0, RSTART + 1, RLENGTH - 2) + 0
		if (n && t < time[n])
			nr++
		time[++n] = t
		text[n] = $0
		kernel[n] = nr + 0
		if (!(kernel[n] in offset) || $1 / 1e9 - t < offset[kernel[n]])
			offset[kernel[n]] = $1 / 1e9 - t
	}
	END {
		label["preserved its memory"] = "preserve"
		label["operator: PREPARE"] = "prepare"
		label["reboots into the next kernel"] = "freeze"
		label["goes on with the tables of the previous"] = "adopt"
		label["got its iommufd and device file back"] = "retrieve"
		label["goes on with the page table of this"] = "swap"
		label["operator: FINISH"] = "finish"
		label["frames: received"] = "end"
		for (i = 1; i <= n; i++) {
			if (i > 1 && kernel[i] != kernel[i - 1])
				printf "%.0f jump\n", offset[kernel[i]] * 1e9
			for (l in label)
				if (index(text[i], l) && (label[l] != "end" || !ended++))
					event(label[l], i)
			if (match(text[i], / frames: marker [1-9][0-9]*/)) {
				m = substr(text[i], RSTART + 16, RLENGTH - 16)
				if (m != marker)
					at = i
				marker = m
			}
		}
		if (marker)
			event("marker " marker, at)
	}' "$1"
}
