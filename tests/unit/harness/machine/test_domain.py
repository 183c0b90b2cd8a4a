"""Domains: what the XML says, what QEMU is told, and that libvirt's changes are noticed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.errors import InfrastructureError, UsageError
from harness.machine import accel, domain
from harness.vm import boot, types
from harness.vm.cables import HostForward, Star, UserNet
from harness.vm.loopback import UdpCable

QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
UUID = "6f0c2f5e-0000-4000-8000-000000000001"


@pytest.fixture
def spec():
    return domain.DomainSpec(
        name="sysvm-a1-router", uuid=UUID, accelerator=accel.TCG, console_socket=Path("/r/console.sock"),
        console_log=Path("/r/console.log"), disk=Path("/c/disk.qcow2"), disk_serial="0123456789abcdef0123",
        channels=(domain.Channel(domain.AGENT_CHANNEL, Path("/r/agent.sock")),), watchdog=True,
    )  # fmt: skip


def test_a_disk_is_read_only_where_it_is_said(spec):
    shown = replace(spec, disk_read_only=True, disk_serial="")
    disks = [ET.fromstring(domain.render(made)).find("devices/disk") for made in (spec, shown)]
    assert [disk.find("readonly") is not None for disk in disks] == [False, True]
    assert [disk.findtext("serial") for disk in disks] == ["0123456789abcdef0123", None]


def test_the_guest_sees_what_cloudstack_shows_it(spec):
    root = ET.fromstring(domain.render(spec))
    assert root.get("type") == "qemu"
    assert root.findtext("sysinfo/system/entry[@name='manufacturer']") == "Apache Software Foundation"
    assert root.findtext("sysinfo/system/entry[@name='product']") == "CloudStack KVM Hypervisor"
    assert root.find("devices/disk/target").attrib == {"dev": "vda", "bus": "virtio"}
    assert root.find("devices/channel/target").get("name") == "org.qemu.guest_agent.0"
    assert root.find("devices/watchdog").attrib == {"model": "i6300esb", "action": "none"}
    assert [boot_from.get("dev") for boot_from in root.findall("os/boot")] == ["cdrom", "hd"]
    assert (root.findtext("on_reboot"), root.findtext("on_crash")) == ("restart", "destroy")


def test_a_direct_boot_names_kernel_and_arguments_and_no_boot_device(spec):
    direct = replace(
        spec, kernel=Path("/c/vmlinuz"), initrd=Path("/c/initrd"), cmdline='root=/dev/vda1 a="<b>"'
    )
    root = ET.fromstring(domain.render(direct))
    assert root.findtext("os/cmdline") == 'root=/dev/vda1 a="<b>"'
    assert root.findall("os/boot") == []


def test_libvirt_does_not_ask_for_each_processor_property(spec):
    removed = ET.fromstring(domain.render(spec)).findall(f"{QEMU}capabilities/{QEMU}del")
    assert [each.get("capability") for each in removed] == ["cpu-unavailable-features"]
    arm = ET.fromstring(domain.render(replace(spec, arch="aarch64", machine="virt")))
    assert arm.find(f"{QEMU}capabilities") is None


def test_kvm_gets_its_clock_and_cpu(spec):
    candidate = accel.KVM_CANDIDATES[0]
    root = ET.fromstring(domain.render(replace(spec, accelerator=candidate)))
    assert root.get("type") == "kvm"
    assert root.find("cpu").get("mode") == "host-model"
    assert root.find("clock/timer").get("name") == "kvmclock"


def test_an_arm64_host_gets_a_domain_without_x86_features(spec):
    arm = replace(spec, arch="aarch64", machine="virt", emulator="/usr/bin/qemu-system-aarch64")
    root = ET.fromstring(domain.render(arm))
    assert root.find("os/type").attrib == {"arch": "aarch64", "machine": "virt"}
    assert root.find("features/pae") is None


def test_a_golden_machine_writes_its_ram_to_the_file_and_a_restore_does_not(spec):
    frozen = replace(spec, ram_file=Path("/g/system.ram"), ram_shared=True)
    restored = replace(spec, ram_file=Path("/g/system.ram"), incoming=True)
    assert any("mem-path=/g/system.ram,share=on" in argument for argument in frozen.qemu_arguments())
    arguments = restored.qemu_arguments()
    assert any("mem-path=/g/system.ram,share=off" in argument for argument in arguments)
    assert arguments[-4:] == ["-incoming", "defer", "-global", "migration.announce-rounds=0"]
    assert "migration.announce-rounds=0" not in frozen.qemu_arguments()


def test_an_emulated_guest_takes_itself_for_one_of_kvm_and_waits_for_its_command_line(spec):
    emulated = replace(spec, accelerator=accel.TCG)
    assert "qemu64-x86_64-cpu.tcg-cpuid=off" in emulated.qemu_arguments()
    root = ET.fromstring(domain.render(emulated))
    assert root.findtext("sysinfo/chassis/entry[@name='manufacturer']") == "KVM"
    real = replace(spec, accelerator=accel.KVM_CANDIDATES[0])
    assert not any("tcg-cpuid" in argument for argument in real.qemu_arguments())
    assert ET.fromstring(domain.render(real)).find("sysinfo/chassis") is None


def test_nics_come_in_the_order_of_the_topology(spec):
    plan = types.router()
    backends = [plan.backend(nic, {}, lambda *_: 20002, lambda _: UdpCable(1, 2)) for nic in plan.nics]
    nics = tuple(
        domain.Nic(nic.mac, backend, 0x10 + index)
        for index, (nic, backend) in enumerate(zip(plan.nics, backends, strict=True))
    )
    devices = [a for a in replace(spec, nics=nics).qemu_arguments() if a.startswith("virtio-net-pci")]
    assert [nic.role for nic in plan.nics] == ["guest", "control", "public"]
    assert [f"mac={nic.mac}" in device for nic, device in zip(plan.nics, devices, strict=True)] == [True] * 3
    assert [device.rsplit("addr=", 1)[1].split(",")[0] for device in devices] == ["0x10", "0x11", "0x12"]


def test_what_libvirt_changed_is_noticed(spec):
    domain.check(spec, domain.render(spec).replace("MiB", "KiB").replace(">512<", f">{512 * 1024}<"))
    with pytest.raises(InfrastructureError, match=r"memory in KiB '512' instead of '524288'"):
        domain.check(spec, domain.render(spec))


def test_user_networks_let_nothing_out():
    network = UserNet("192.0.2.0/24", "192.0.2.1", (HostForward(20080, "192.0.2.10", 80),))
    assert network.netdev("n") == (
        "user,id=n,net=192.0.2.0/24,host=192.0.2.1,restrict=on,hostfwd=tcp:127.0.0.1:20080-192.0.2.10:80"
    )


def test_a_star_has_a_cable_to_each_tenant():
    cable = UdpCable(20001, 20002)
    arguments = Star((cable,)).arguments("net0")
    assert arguments[1::2] == [
        "hubport,id=net0,hubid=0",
        "socket,id=net0l0,udp=127.0.0.1:20002,localaddr=127.0.0.1:20001",
        "hubport,id=net0l0p,hubid=0,netdev=net0l0",
    ]
    assert cable.other_end.netdev("t") == "socket,id=t,udp=127.0.0.1:20001,localaddr=127.0.0.1:20002"


@pytest.mark.parametrize("vm_type", catalogue.load().types)
def test_every_type_has_a_cmdline_with_its_type_last_named_once(vm_type):
    plan = types.of_type(vm_type)
    words = plan.cmdline("ssh-ed25519 AAAA", catalogue.load().release("4.22")).split()
    assert [word for word in words if "type=" in word] == [f"type={vm_type}"]
    assert f"name={plan.vm_name}" in words
    assert any(word.startswith("authorized_key=c3NoLWVkMjU1MTkgQUFBQQ") for word in words)
    octets = "".join(f":{int(part):02x}" for part in plan.control.address.split("."))
    assert plan.control.mac == f"0e:00{octets}"


def test_an_unknown_type_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'toaster' \(there are router, "):
        types.of_type("toaster")


def test_the_cmdline_reaches_the_guest_with_single_blanks_and_one_newline():
    assert boot.normalise("  a=1   b=2\n c=3 ") == "a=1 b=2 c=3\n"
