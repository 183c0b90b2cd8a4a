"""What a golden snapshot depends on."""

from __future__ import annotations

import threading
from contextlib import nullcontext, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bundle import catalogue
from harness.host import slots
from harness.image import images
from harness.kvmagent.patch import FILES
from harness.lab import golden_maker, lab, logs
from harness.machine import accel
from harness.record.results import ResultsFolder
from harness.vm import golden
from harness.vm.launch import kernel_arguments
from harness.vm.types import of_type

HOST = SimpleNamespace(version=lambda: "QEMU 7.2, libvirt 9.0")
ENGINE = SimpleNamespace(accelerator=accel.TCG, technique="private mapping")


@pytest.fixture
def bundle(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def template(tmp_path):
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / images.KERNEL).touch()
    return images.Image(
        "key",
        folder,
        "4.21",
        "4.20.2",
        12,
        "slim",
        False,
        "digest",
        "signature",
        "6.1",
        "/dev/vda1",
        "",
        1,
        1,
    )


def test_one_disk_has_another_snapshot_when_it_boots_by_itself(template, bundle):
    direct = lab.ingredients(template, bundle, HOST, ENGINE, (), None, "4.21")
    template.kernel.unlink()
    own_loader = lab.ingredients(template, bundle, HOST, ENGINE, (), None, "4.21")
    assert golden.key_of(direct) != golden.key_of(own_loader)


def test_only_an_emulated_guest_saves_addresses_and_programs_and_its_snapshot_says_so(template, bundle):
    emulated = kernel_arguments(template, accel.TCG)
    assert {"norandmaps", "systemd.setenv=SSHD_OPTS=-r"} <= set(emulated.split())
    assert lab.ingredients(template, bundle, HOST, ENGINE, (), None, "4.21")["kernel"] == emulated
    for candidate in accel.KVM_CANDIDATES:
        assert kernel_arguments(template, candidate).endswith(" quiet")


def test_the_same_wish_has_the_same_snapshot(template, bundle):
    keys = {
        golden.key_of(lab.ingredients(template, bundle, HOST, ENGINE, (), None, "4.21")) for _ in range(2)
    }
    assert len(keys) == 1


def test_what_a_server_of_another_release_tells_a_vm_that_starts_makes_another_snapshot(
    template, bundle, monkeypatch
):
    """An agent VM has no rules; from which release its server is was not in its key."""
    plan = of_type("consoleproxy")
    row = catalogue.load().release("4.21")
    other = {"iso": "upload", "upload": "iso"}[row.transport]
    who = {"agent": "cmdline", "cmdline": "agent"}[row.ssh_key]

    def key(**changes):
        facts = SimpleNamespace(release=lambda _name: replace(row, **changes))
        monkeypatch.setattr(golden_maker.catalogue, "load", lambda: facts)
        return golden.key_of(lab.ingredients(template, bundle, HOST, ENGINE, (plan,), None, "4.21"))

    word = plan.parameters[-1].partition("=")[0]
    changed = ({"unsent": row.unsent | {word}}, {"ssh_key": who}, {"transport": other})
    assert len({key(), *(key(**change) for change in changed)}) == 4


def test_console_logs_bear_the_name_of_the_vm_whatever_its_domains_are_called(tmp_path):
    folders = {name: tmp_path / name for name in ("spare-1", "spare-1-tenants", "spare-1-silent")}
    for name, folder in folders.items():
        folder.mkdir()
        if name != "spare-1-silent":
            (folder / "console.log").write_text(name)
    system, *others = (SimpleNamespace(folder=folder) for folder in folders.values())
    vm = SimpleNamespace(
        name="S01",
        tenant_machines=dict(zip(("tenants", "silent"), others, strict=True)),
        machines=lambda: [system, *others],
    )
    logs.keep_consoles(vm, ResultsFolder(tmp_path / "run"), "S01")
    kept = {path.name: path.read_text() for path in (tmp_path / "run" / "logs" / "S01").iterdir()}
    assert kept == {"S01-console.log": "spare-1", "S01-tenants-console.log": "spare-1-tenants"}


def test_scenarios_with_several_vms_take_turns_on_a_host_with_room_for_one_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SYSVM_SLOTS", "512,4")  # four VMs of one processor
    monkeypatch.setattr(lab, "management_of", lambda *_, **__: nullcontext())
    both = threading.Barrier(2)
    there: list[str] = []
    met: list[str] = []

    def restore(name: str, *, reserved: bool) -> SimpleNamespace:
        assert reserved
        return SimpleNamespace(name=name, stop=lambda: None)

    it = SimpleNamespace(
        engine=SimpleNamespace(need=lambda _plan, resume: slots.Need(64, 1)),
        plan=None, has_agent=False, restore=restore, golden=SimpleNamespace(folder=tmp_path),
        results=SimpleNamespace(log=lambda name: tmp_path / name), keep_logs=lambda *_: None,
    )  # fmt: skip

    it._begin = lambda *words: lab.Lab._begin(it, *words)

    def scenario(name: str) -> None:
        with lab.Lab.system_vm(it, name, companions=2) as vm:
            there.append(vm.name)
            with suppress(threading.BrokenBarrierError):
                both.wait(0.3)
                met.append(name)

    threads = [threading.Thread(target=scenario, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(there) == ["one", "two"]
    assert not met
    assert slots.reserve(slots.Need(256, 4), "all", deadline=0).handles
