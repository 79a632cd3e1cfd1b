# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The next kernel is started with other parameters, with parts missing, or on a machine
# of which something is hidden. What a preserved device and another one can reach then
# is checked byte by byte in the guest, and in QEMU's trace. The table in
# Documentation/core-api/iommu-liveupdate.rst has what is promised.

area start "the next kernel is started in a way that was not meant"

# started TAG NEXT APPEND [OPTIONS of live]: NEXT is what the next kernel's command line
# has, with ";" for spaces.
started()
{
	local tag="$1" next="$2" append="$3"

	shift 3
	live options "ilu.next=$next${append:+ $append}" --tag "start-$tag" "$@"
	guest_all_kept
	guest_kept "the device that is not preserved has been stopped"
	never_off
	root_writes 2
	no_splat
}

# A device that runs, to where the guest has it write in the next kernel
runs_on()
{
	guest_kept "the preserved device has never stopped to be a bus master"
	guest_kept "DMA of the preserved device lands where its memory was"
	! in_test "vtd_dmar_fault sid $DEV_SID .* addr 0x4[12]01" ||
		fail "the preserved device's DMA faulted"
}

ends_well()
{
	guest_kept "a transfer that was on its way lands in the preserved memfd"
	guest_kept "no other byte of the preserved memory changed"
	guest_kept "after FINISH an unclaimed device is stopped"
}

# --- parameters -------------------------------------------------------------------------

test_case iommu_off "with iommu=off a running device goes on, and remapping is on for the whole machine"
test_case iommu_off@ss:aw-bits=39 "second stage, newer QEMU: with iommu=off a running device goes on"
t_iommu_off()
{
	started iommu-off iommu=off ilu.keep=device
	runs_on
	ends_well
	other_faults
	guest_kept "a fresh iommufd claims the device and maps for it"
	console_has 'DMA remapping stays on for devices that are in a live update'
}

test_case passthrough "with iommu.passthrough=1 a running device goes on, and another one has been stopped"
t_passthrough()
{
	started passthrough iommu.passthrough=1 "ilu.keep=device ilu.others=physical"
	runs_on
	ends_well
	guest_kept "a fresh iommufd claims the device and maps for it"
	console_has 'Default domain type: Passthrough'
}

test_case fewer_cpus "with fewer CPUs, and as little memory as the kernel before, a running device goes on"
t_fewer_cpus()
{
	started fewer-cpus maxcpus=1 "ilu.keep=device mem=768M" --smp 2
	runs_on
	ends_well
	other_faults
	console_has 'smp: Brought up 1 node, 2 CPUs'
	console_has 'smp: Brought up 1 node, 1 CPU[^s]'
}

test_case no_kho "where KHO is off in the next kernel by default, a running device goes on, and its memory stays"
test_case no_kho@fs "first stage, newer QEMU: where KHO is off in the next kernel, a running device goes on"
t_no_kho()
{
	started no-kho kho=junk ilu.keep=device
	runs_on
	other_faults
	console_has 'there is no /dev/liveupdate here'
}

test_case no_luo "with liveupdate=off a running device goes on, and its memory stays"
t_no_luo()
{
	started liveupdate-off liveupdate=off ilu.keep=device
	runs_on
	other_faults
	guest_kept "with liveupdate=off there is no /dev/liveupdate"
}

test_case image "images that would lose what is handed over are refused before the jump, and who asks is told"
t_image()
{
	live image mem=4G --tag start-image
	guest_all_kept
	guest_kept "the reboot is refused (kho=off)"
	guest_kept "the reboot is refused (mem=512M)"
	guest_kept "the reboot is refused (prepared before)"
	guest_kept "an image with that on its command line takes over (mem=4G)"
	guest_kept "when nothing is preserved a kernel with kho=off is started"
	console_has 'the command line of the loaded kexec image turns KHO off, preserved state would be lost'
	console_has 'the command line of the loaded kexec image limits its memory, preserved state would be lost'
	no_splat
}

# --- parts of the kernel are missing -------------------------------------------------------

# without TAG INITCALL: what INITCALL brings is missing in the next kernel
without()
{
	started "$1" "initcall_blacklist=$2" \
		"ilu.keep=device ilu.finish=abandon ilu.free=native"
	runs_on
	ends_well
	other_faults
	guest_kept "FINISH without what handles a preserved file is refused"
	guest_kept "a driver that uses the DMA API binds"
}

test_case no_vfio "without vfio-pci a running device goes on until FINISH is forced, which stops it"
test_case no_vfio@sm:aw-bits=48 "scalable mode: without vfio-pci a running device goes on until FINISH is forced"
t_no_vfio() { without no-vfio vfio_pci_init; }

test_case no_iommufd "without iommufd a running device goes on until FINISH is forced, which stops it"
t_no_iommufd() { without no-iommufd iommufd_init; }

# --- the remapping unit is missing ----------------------------------------------------------

# Nobody turns it off then, so the device's last write is translated as well.
stranded()
{
	guest_kept "DMA of the preserved device lands in the preserved memfd"
	guest_kept "DMA of the preserved device lands where its memory was"
	guest_kept "no other byte of the preserved memory changed"
	guest_kept "a driver for a device whose IOMMU nobody controls is refused (before FINISH)"
	guest_kept "a driver for a device whose IOMMU nobody controls is refused (after FINISH)"
	other_faults
	console_has '0000:00:10.0 was handed over, and no IOMMU driver has it'
	console_has '0000:00:10.0: live update: translates with tables of the previous kernel, and has no IOMMU driver'
}

test_case acpi_off "with acpi=off the unit goes on as it was left, and no driver gets the device before the next boot"
test_case acpi_off@fs:caching-mode=on "first stage, newer QEMU: with acpi=off the unit goes on as it was left"
t_acpi_off()
{
	started acpi-off acpi=off ilu.then=stranded
	stranded
}

test_case no_dmar "where ACPI has no DMAR table any more, a running device goes on, and FINISH stops it for good"
t_no_dmar()
{
	started no-dmar loglevel=7 "ilu.keep=device ilu.then=stranded ilu.hide=dmar" --kernel fault
	stranded
	guest_kept "a transfer that was on its way lands in the preserved memfd"
	guest_kept "after FINISH an unclaimed device is stopped"
}

# --- the device is missing, or could be elsewhere ------------------------------------------

test_case assign_busses "with pci=assign-busses,realloc a running device keeps its bus number and its BARs"
t_assign_busses()
{
	started assign-busses "pci=assign-busses,hpbussize=4,realloc" "ilu.keep=device ilu.dev=0000:02:00.0" \
		--device pcie-root-port,id=rp0,addr=0x13,chassis=1 \
		--device pcie-root-port,id=rp1,addr=0x14,chassis=2 --device edu,bus=rp1
	DEV_SID=0x200 runs_on
	ends_well
	other_faults
	console_has 'not reallocating resources, devices are running for a live update'
}

# at_jump CONSOLE MONITOR COMMAND...: when the old kernel has nothing more to say, these
# are for QEMU's monitor.
at_jump()
{
	local console="$1" monitor="$2" end=$((SECONDS + 60))

	shift 2
	until [[ -e $console ]] && grep -q 'Starting new kernel' "$console"; do
		((SECONDS < end)) || return
		sleep 0.02
	done
	printf '%s\n' "$@" >"$monitor.in"
}

# started_after TAG APPEND COMMAND...: a device behind a port, and what QEMU's monitor does
# to it at the jump
started_after()
{
	local tag="$1" append="$2" pid

	shift 2
	# What may take long, before the time runs
	need_kernel lean
	need_initramfs lean
	mkfifo mon.in mon.out
	at_jump "$(vm_dir "start-$tag")/console" "$PWD/mon" "$@" &
	pid=$!
	started "$tag" loglevel=7 "ilu.keep=device ilu.dev=0000:01:00.0 $append" \
		--device pcie-root-port,id=rp0,addr=0x14,chassis=1 --device edu,bus=rp0 \
		-- -monitor "pipe:$PWD/mon"
	wait "$pid"
	guest_kept "no other byte of the preserved memory changed"
	guest_kept "FINISH succeeds"
	other_faults
}

# What sits in slot 0 behind ports is ejected by the I/O ports that ACPI's methods would
# write to.
EJECT=("o/w 0xcd0 0" "o/w 0xcc8 1" "o/w 0xcd0 1" "o/w 0xcc8 1" "o/w 0xcd0 2" "o/w 0xcc8 1")

test_case unplugged "a device that is unplugged during the jump is missed, and the machine works on"
t_unplugged()
{
	started_after unplugged ilu.then=gone "${EJECT[@]}"
	guest_kept "the preserved device is gone"
	console_has '0000:01:00.0: was handed over, and is not found'
}

test_case exchanged "a device that takes the place of a preserved one during the jump inherits nothing"
test_case --when matrix exchanged@fs:caching-mode=on "first stage, newer QEMU: the same"
t_exchanged()
{
	started_after exchanged "ilu.then=exchanged ilu.free=native" "${EJECT[@]}" \
		"device_add pci-testdev,bus=rp0"
	guest_kept "another device is in its place, and is no bus master"
	guest_kept "that device reaches nothing before FINISH"
	guest_kept "a driver that uses the DMA API binds"
	console_has '0000:01:00.0: live update: handed over as 1234:11e8, another device is here'
	console_has '0000:01:00.0: live update: preserved as 1234:11e8, another device is here'
}

test_case stopped "a device that somebody has stopped during the jump is not given back as one that runs"
t_stopped()
{
	# Its command register, by way of the I/O ports for config space
	started_after stopped ilu.then=stopped "o/w 0xcf8 0x80010004" "o/h 0xcfc 0x103"
	guest_kept "the preserved device has been stopped"
	console_has '0000:01:00.0: live update: lost bus mastering'
}
