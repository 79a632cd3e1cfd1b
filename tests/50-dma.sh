# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# DMA that never stops: devices go on through the jump, and the next kernel's page
# tables take over under load. An e1000e receives numbered frames from the host; edu
# devices show who may do what with a device, and what FINISH refuses.

area dma "DMA that goes on through a live update"

# shellcheck source=scripts/netlib.sh
. "$TOP/scripts/netlib.sh"

# An edu device behind a root port.
# shellcheck disable=SC2054 # the commas are QEMU's
PORT_EDU=(--device pcie-root-port,id=rp0,addr=0x14,chassis=1 --device edu,bus=rp0)

# running SCENARIO TAG APPEND [OPTIONS of run_guest and scripts/vm]
running()
{
	local scenario="$1" tag="$2" append="$3" args=()

	shift 3
	while [[ ${1:-} == --kernel ]]; do
		args+=("$1" "$2")
		shift 2
	done
	run_guest "${args[@]}" --tag "dma-$tag" --append "$append" "$scenario" \
		--timeout 120 --trace vtd_dmar_fault "$@"
}

# frames TAG APPEND PROPERTIES [OPTIONS of run_guest and scripts/vm]: an e1000e with
# these properties, for which the host sends RATE (200) frames a second. The sender
# drops what it could not hand over for half a second.
frames()
{
	local tag="$1" append="$2" props="$3" args=()

	shift 3
	while [[ ${1:-} == --kernel || ${1:-} == --kernel-b ]]; do
		args+=("$1" "$2")
		shift 2
	done
	FRAMES_DIR="$(vm_dir "dma-$tag")/frames"
	mkdir -p "$FRAMES_DIR"
	start_frames "$FRAMES_DIR" "${RATE:-200}" "$props" --patience 500 ||
		fail "frames are not sent"
	stamp_console "${FRAMES_DIR%/*}/console" "$FRAMES_DIR/stamped"
	run_guest "${args[@]}" --tag "dma-$tag" --append "$append" frames --timeout 240 \
		--trace vtd_dmar_fault "$@" -- "${FRAMES_QEMU[@]}"
	stop_frames
	frames_received "$CONSOLE" "$FRAMES_DIR/received"
	frames_events "$FRAMES_DIR/stamped" >"$FRAMES_DIR/events"
}

plot()
{
	FRAMES_RC=0
	FRAMES_LINE="$("$FRAMES" plot --sent "$FRAMES_DIR/sent" --received "$FRAMES_DIR/received" \
		--events "$FRAMES_DIR/events" --output "$FRAMES_DIR/frames.svg" |
		tee "$FRAMES_DIR/plot" | sed -n 's/^frames sent/frames sent/p')" || FRAMES_RC=$?
	diag "$FRAMES_LINE"
}

no_frame_lost()
{
	guest_all_kept
	guest_kept "frames go on arriving before anybody claims the device"
	guest_kept "no frame is missing, none twice, no byte wrong"
	plot
	((FRAMES_RC == 0)) || fail "$FRAMES_LINE"
	! in_test "vtd_dmar_fault sid $1 " || fail "the NIC's DMA faulted"
	never_off
	no_splat
}

# frames_through TAG PLACE APPEND [OPTIONS of run_guest and scripts/vm]: one live update with
# frames coming in all the time; PLACE is bus (the root bus) or port.
frames_through()
{
	local tag="$1" place="$2" append="$3"

	shift 3
	if [[ $place == port ]]; then
		frames "$tag" "ilu.nic=0000:01:00.0${append:+ $append}" bus=nicport,addr=0 "$@" \
			--device pcie-root-port,id=nicport,addr=0x15,chassis=5
		no_frame_lost 0x100
	else
		frames "$tag" "$append" addr=0x12 "$@"
		no_frame_lost 0x90
	fi
}

# --- frames -----------------------------------------------------------------------

test_case frames "a NIC receives every frame through a live update that replaces its page table"
t_frames() { frames_through bus bus ""; }

test_case frames_smp2 "the same with two vCPUs and a session"
t_frames_smp2() { frames_through bus-smp2 bus ilu.api=session --smp 2; }

test_case frames_port "a NIC behind a root port receives every frame, with a session"
t_frames_port() { frames_through port port ilu.api=session; }

test_case frames_port_smp2 "the same behind a root port with two vCPUs"
t_frames_port_smp2() { frames_through port-smp2 port "" --smp 2; }

test_case frames_new "the same with a newer QEMU"
t_frames_new() { new_qemu; frames_through new-bus bus "" --qemu "$QEMU"; }

test_case frames_new_smp2 "the same with a newer QEMU, two vCPUs and a session"
t_frames_new_smp2() { new_qemu; frames_through new-bus-smp2 bus ilu.api=session --smp 2 --qemu "$QEMU"; }

test_case frames_new_port "the same with a newer QEMU behind a root port, with a session"
t_frames_new_port() { new_qemu; frames_through new-port port ilu.api=session --qemu "$QEMU"; }

test_case frames_new_port_smp2 "the same with a newer QEMU behind a root port with two vCPUs"
t_frames_new_port_smp2() { new_qemu; frames_through new-port-smp2 port "" --smp 2 --qemu "$QEMU"; }

test_case frames_chain "5 live updates in a row between two kernels lose no frame"
t_frames_chain()
{
	frames_through chain bus "ilu.rounds=${SOAK:-5}" --kernel lean --kernel-b lean-b \
		--timeout $((120 + 20 * ${SOAK:-5}))
	guest_kept "another kernel runs than before"
	diag "$(grep -c 'ILU: .* Linux 7' "$CONSOLE") kernels took over"
}

test_case frames_base "negative control: the unmodified base loses the frames"
t_frames_base()
{
	frames base "ilu.api=session ilu.iommufd=0" addr=0x12 --kernel base
	guest_broke "frames go on arriving before anybody claims the device"
	plot
	((FRAMES_RC != 0)) || fail "no frame was lost: the control is worth nothing"
}

# --- who may do what, and what FINISH refuses ------------------------------------------

takes_over()
{
	guest_all_kept
	guest_kept "the transfer that was on its way has landed"
	guest_kept "FINISH with one page mapped elsewhere is refused"
	guest_kept "FINISH with one page missing is refused"
	guest_kept "FINISH with fewer rights to one page is refused"
	guest_kept "and what is unmapped is not reached any more"
	never_off
	no_splat
}

test_case takeover "nobody but its VMM gets a running device, and only a right page table takes over"
t_takeover()
{
	running takeover takeover ilu.rounds=2
	takes_over
}

test_case takeover_port "only its VMM gets a device behind a root port, whose bus mastering stays, with a session"
t_takeover_port()
{
	running takeover takeover-port \
		"ilu.api=session ilu.dev=0000:01:00.0 ilu.bridge=0000:00:14.0" "${PORT_EDU[@]}"
	takes_over
	guest_kept "the bridge above it has never stopped to be a bus master"
	guest_kept "a reset through sysfs is refused"
}

test_case takeover_module "only its VMM gets a device with iommufd and vfio as modules"
t_takeover_module()
{
	running takeover takeover-module "" --kernel fault
	takes_over
}

test_case many "sessions that finish at different times, or never, do not touch each other's devices"
t_many()
{
	running many many "" --device edu,addr=0x12 --device edu,addr=0x13 --device edu,addr=0x16
	guest_all_kept
	guest_kept "attaching the second of the pair to another HWPT is refused"
	guest_kept "a device that nobody claimed is stopped when its session is closed"
	never_off
	no_splat
}

test_case both "FINISH of a session that finds one of two page tables wrong does nothing for the other"
t_both()
{
	running both both ""
	guest_all_kept
	never_off
	no_splat
}

test_case crashed "of two VMMs in one session one crashes before FINISH: its device is stopped, the other one goes on"
t_crashed()
{
	running both crashed ilu.end=crash
	guest_all_kept
	never_off
	no_splat
}

test_case closed "closing a session with a wrong page table stops the device, which then uses that page table"
t_closed()
{
	running takeover closed "ilu.end=close ilu.api=session"
	guest_all_kept
	guest_kept "a device whose page table cannot take over is stopped"
	guest_kept "it uses the new page table after that"
	never_off
	no_splat
}

test_case moved "a device whose BAR is elsewhere in the next kernel is stopped and not given back"
t_moved()
{
	running takeover moved ilu.end=moved
	guest_all_kept
	guest_kept "a reboot after a BAR was moved is refused"
	guest_kept "getting the file of a device whose BAR has moved is refused"
	never_off
	no_splat
}

# A virtio-rng-pci whose eight buffers take as long as a jump and more.
# shellcheck disable=SC2054 # the commas are QEMU's
ATS_RNG=(--device pcie-root-port,id=rp1,addr=0x15,chassis=2,slot=2
	--device virtio-rng-pci,bus=rp1,ats=on,iommu_platform=on,disable-legacy=on,max-bytes=64,period=900)

# Sets CONTROL, where that register is in configuration space.
ats_control()
{
	CONTROL="$(sed -n 's/.*control register of ATS at \(0x[0-9a-f]*\).*/\1/p' "$CONSOLE" | tr -d '\r')"
	[[ -n $CONTROL ]] || fail "the guest did not say where the control register of ATS is"
}

# What QEMU saw from the switch to the handover table to the end of FINISH: nobody wrote
# to the control register of ATS, and the swap's last invalidation is that of the device
# TLB.
ats_stayed()
{
	ats_control
	awk -v write="pci_cfg_write virtio-rng-pci .* @$CONTROL " '
		/^vtd_reg_dmar_root / { roots++ }
		/^pci_cfg_write edu .* @0x3c <- 0x5a$/ { exit }
		roots == 2 && $0 ~ write { written++ }
		roots == 2 && /^vtd_inv_desc .* type device / {
			swapped = 1
			order = last
		}
		match($0, / desc type [^ ]*/) && !/ type wait / { last = substr($0, RSTART + 11, RLENGTH - 11) }
		END {
			if (!swapped)
				print "the device TLB was not invalidated"
			else if (order !~ /iotlb$/)
				print "the device TLB was invalidated after " order ", not after the IOTLB"
			if (written)
				print "the control register of ATS was written " written " times"
		}' "$TRACE" >"$WORK_DIR/ats"
	[[ ! -s $WORK_DIR/ats ]] || fail "$(<"$WORK_DIR/ats")"
}

test_case ats@legacy:device-iotlb=on "a device with ATS goes on, and its device TLB is invalidated after the swap"
t_ats()
{
	running ats ats ilu.dev=0000:01:00.0 --trace vtd_inv_desc,pci_cfg_write "${ATS_RNG[@]}"
	guest_all_kept
	guest_kept "all that was posted before the jump is filled"
	guest_kept "after FINISH the device fills buffers"
	! in_test "vtd_dmar_fault sid 0x100 " || fail "the device's DMA faulted"
	ats_stayed
	never_off
	no_splat
}

test_case ats_off@legacy:device-iotlb=on "a device with ATS is blocked by a next kernel without it"
t_ats_off()
{
	running ats ats-off "ilu.dev=0000:01:00.0 ilu.end=noats" "${ATS_RNG[@]}"
	guest_all_kept
	# It is stopped as well, so QEMU sees no fault of it.
	guest_kept "it does not reach memory any more"
	never_off
	no_splat
}

test_case ats_reset@legacy:device-iotlb=on "a device with ATS that VFIO resets before FINISH can be attached at once"
t_ats_reset()
{
	running ats ats-reset "ilu.dev=0000:01:00.0 ilu.end=reset" "${ATS_RNG[@]}"
	guest_all_kept
	never_off
	no_splat
}

# --- with everything that complains ------------------------------------------------------

test_case debug_frames "lockdep and KASAN have no complaint while frames come in"
t_debug_frames()
{
	# The ring has to last until this kernel is up.
	RATE=50 frames debug "ilu.api=session $DEBUG_APPEND" addr=0x12 --kernel debug "${DEBUG_VM[@]}"
	no_frame_lost 0x90
}

test_case debug_takeover "lockdep and KASAN have no complaint about a take over, and refusals before it"
t_debug_takeover()
{
	running takeover debug-takeover \
		"ilu.dev=0000:01:00.0 ilu.bridge=0000:00:14.0 $DEBUG_APPEND" --kernel debug \
		"${DEBUG_VM[@]}" "${PORT_EDU[@]}"
	takes_over
}

test_case debug_closed "lockdep and KASAN have no complaint about a session that is closed"
t_debug_closed()
{
	running takeover debug-closed "ilu.end=close ilu.api=session $DEBUG_APPEND" \
		--kernel debug "${DEBUG_VM[@]}"
	guest_all_kept
	no_splat
}

test_case debug_many "lockdep and KASAN have no complaint about several sessions"
t_debug_many()
{
	running many debug-many "$DEBUG_APPEND" --kernel debug "${DEBUG_VM[@]}" \
		--device edu,addr=0x12 --device edu,addr=0x13 --device edu,addr=0x16
	guest_all_kept
	no_splat
}

test_case debug_ats@legacy:device-iotlb=on "lockdep and KASAN have no complaint about a device with ATS"
t_debug_ats()
{
	running ats debug-ats "ilu.dev=0000:01:00.0 $DEBUG_APPEND" --kernel debug \
		"${DEBUG_VM[@]}" "${ATS_RNG[@]/period=900/period=3000}"
	guest_all_kept
	no_splat
}
