"""A golden snapshot that cannot be made: the logs are kept, and the VM stays if somebody asked for that."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from bundle.errors import InfrastructureError, worth_another_attempt
from harness.guest.connection import GuestError, GuestLockedUp
from harness.lab import golden_maker


@dataclass
class _Vm:
    stopped: bool = False
    machine: object = None
    guest: object = None

    def stop(self):
        self.stopped = True


@dataclass(frozen=True)
class _Engine:
    vm: _Vm
    owned: bool = True
    run: str = "the run"
    started: list = field(default_factory=list)

    def start(self, name, _plan, _image, _key, freeze_to):
        self.started.append((name, self.owned))
        return self.vm


class _Narrator:
    def step(self, *_):
        raise InfrastructureError("it hangs")


@pytest.fixture
def told(monkeypatch):
    """What became of a VM: the logs that were kept, and what was said."""
    found = SimpleNamespace(logs=[], words=[])
    monkeypatch.setattr(golden_maker, "keep_logs", lambda vm, *_: found.logs.append(vm))
    monkeypatch.setattr(golden_maker.progress, "say", found.words.append)
    monkeypatch.setattr(golden_maker.golden, "make_key", lambda _folder: "public")
    return found


def _make(tmp_path, leaving):
    engine = _Engine(_Vm())
    release = SimpleNamespace(transport="upload", name="4.22")
    maker = golden_maker.GoldenMaker(
        engine,
        SimpleNamespace(vm_name="r-1-VM", cmdline=lambda *_: ""),
        None,
        release,
        tmp_path,
        None,
        _Narrator(),
        None,
        leaving,
    )
    with pytest.raises(InfrastructureError, match="it hangs"):
        maker.make(tmp_path)
    return engine


def test_a_vm_that_fails_on_the_way_ends(tmp_path, told):
    engine = _make(tmp_path, None)
    assert engine.vm.stopped
    assert engine.started == [("golden", True)]
    assert told.logs == [engine.vm]
    assert told.words == []


def test_a_vm_that_fails_on_the_way_stays_for_who_asked_for_it(tmp_path, told):
    recorded = []

    def record(vm, key, run):
        recorded.append((vm, key, run))
        return "it is left running"

    engine = _make(tmp_path, golden_maker.Leaving("failed-router", record))
    assert not engine.vm.stopped
    assert engine.started == [("failed-router", False)]
    assert recorded == [(engine.vm, tmp_path / "id_ecdsa", "the run")]
    assert told.logs == [engine.vm]
    assert told.words == ["it is left running"]


class _Maker:
    """A maker that fails each time, and counts."""

    def __init__(self, results, error):
        self.results = results
        self.error = error
        self.tries = 0

    def make(self, _folder):
        self.tries += 1
        raise InfrastructureError("boot of golden: it hangs") from self.error


@pytest.mark.parametrize(
    ("error", "tries", "last"),
    [
        (
            GuestError("no answer"),
            1,
            "the golden snapshot could not be made before: boot of golden: it hangs",
        ),
        (GuestLockedUp("its kernel stands still"), 2, "boot of golden: it hangs"),
    ],
)
def test_a_snapshot_is_tried_once_a_run_unless_the_kernel_of_its_guest_stood_still(
    tmp_path, monkeypatch, error, tries, last
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    maker = _Maker(SimpleNamespace(log=lambda name: tmp_path / name.replace("/", "-")), error)
    for _ in range(2):
        with pytest.raises(InfrastructureError) as failed:
            golden_maker.once({"a": 1}, maker)
    assert (maker.tries, str(failed.value)) == (tries, last)
    assert worth_another_attempt(failed.value) == isinstance(error, GuestLockedUp)
