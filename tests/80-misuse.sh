# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The old kernel is used wrongly between preserve and the jump: what is refused, and what
# becomes of the device otherwise. The devices are an edu behind a root port with a slot,
# and a virtio-rng with ATS, which the IOMMU core blocks while it is reset.

area misuse "what can be done wrong in the old kernel"

# shellcheck disable=SC2054 # the commas are QEMU's
misuse_devices=(
	--device pcie-root-port,id=rp0,addr=0x14,chassis=1,slot=1 --device edu,bus=rp0
	-- -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
)

# misuse KERNEL TAG APPEND [OPTIONS of scripts/vm]
misuse()
{
	running misuse "$2" "$3" --kernel "$1" --timeout 240 "${@:4}" "${misuse_devices[@]}"
	guest_all_kept
	no_splat
}

test_case operations "whatever is done to a preserved device, its page table or the machine, at any stage: its DMA and the live update go on"
test_case operations@sm:device-iotlb=on "scalable mode: the same"
t_operations()
{
	misuse fault misuse ""
	guest_kept "suspending the machine is refused (preserved)"
	guest_kept "suspending the machine is refused (frozen)"
	guest_kept "hibernating the machine is refused (prepared)"
	guest_kept "PREPARE is refused (after an error)"
	guest_kept "rebooting into an image of kexec_load() is refused (prepared)"
	guest_kept "a reboot while vfio-pci is being unbound is refused (prepared)"
	guest_kept "after all that a live update succeeds: the device's DMA lands"
	guest_kept "after FINISH the machine can be suspended"
	never_off
}

# Four devices to be pulled out
# shellcheck disable=SC2054
slots=(
	--device pcie-root-port,id=rp0,addr=0x14,chassis=1,slot=1 --device edu,bus=rp0
	--device pcie-root-port,id=rp1,addr=0x15,chassis=2,slot=2 --device edu,bus=rp1
	--device pcie-root-port,id=rp2,addr=0x16,chassis=3,slot=3 --device edu,bus=rp2
	--device pcie-root-port,id=rp3,addr=0x17,chassis=4,slot=4 --device edu,bus=rp3
	-- -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
)

# removed KERNEL APPEND [OPTIONS of scripts/vm]
removed()
{
	running removed "removed-$1" "$2" --kernel "$1" "${@:3}" "${slots[@]}"
	guest_all_kept
	never_off
	no_splat
}

test_case removed "devices are pulled out while they are preserved or restored: what was theirs ends, another one goes on"
test_case --when matrix removed@fs "first stage: the same"
t_removed() { removed lean ""; }

test_case restart "a restart without kexec when it is prepared is a restart as any other: translation is turned off"
t_restart()
{
	misuse fault misuse-restart ilu.end=restart
	console_has 'reboot: Restarting system'
	trace_has 'vtd_dmar_enable enable 0'
	# Nothing was handed over.
	check "the unit got another root table" test "$(grep -c vtd_reg_dmar_root "$TRACE")" = 1
}

# resets KERNEL TAG APPEND [OPTIONS of scripts/vm]
resets()
{
	running reset "$2" "ilu.dev=0000:01:00.0${3:+ $3}" --kernel "$1" --timeout 240 "${@:4}" \
		"${ATS_RNG[@]/period=900/period=20}"
	guest_all_kept
	! in_test "vtd_dmar_fault sid 0x100 " || fail "the device's DMA faulted"
	never_off
	no_splat
}

test_case resets@legacy:device-iotlb=on "a device with ATS that is reset in the old kernel stays preserved, and a reset is refused in the new one"
test_case resets@ss:device-iotlb=on,pasid-bits=16 "second stage: the same, with a PASID"
test_case resets@fs:device-iotlb=on,pasid-bits=16 "first stage: the same, with a PASID"
t_resets()
{
	local append=""

	((!MODE_SCALABLE)) || append=ilu.pasid=1
	resets fault reset "$append"
	guest_kept "a reboot while the device is being reset is refused"
}

test_case reset_pasid@ss:device-iotlb=on,pasid-bits=16 "a reset before FINISH takes from a device what it inherited, and not from its PASID"
test_case reset_pasid@fs:device-iotlb=on,pasid-bits=16 "first stage: the same"
t_reset_pasid()
{
	resets fault reset-pasid "ilu.pasid=1 ilu.end=open"
	guest_kept "VFIO has reset the device"
}

test_case debug_operations "lockdep and KASAN have no complaint about what is done wrong"
t_debug_operations() { misuse debug debug-misuse "$DEBUG_APPEND" "${DEBUG_VM[@]}"; }

test_case --when stress debug_removed@sm "KASAN has no complaint about devices that are pulled out"
# Without lockdep, which complains of two locks of pciehp alone, live update or not.
t_debug_removed() { removed debug "$DEBUG_APPEND lockdep.prove_locking=0" "${DEBUG_VM[@]}"; }

test_case debug_resets@ss:device-iotlb=on,pasid-bits=16 "lockdep and KASAN have no complaint about resets"
t_debug_resets() { resets debug debug-reset "$DEBUG_APPEND ilu.pasid=1" "${DEBUG_VM[@]}"; }
