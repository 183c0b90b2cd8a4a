"""A VM that is born new: which template, key and rules it has, beside the one that is patched."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.checks.shipped import Shipped
from harness.kvmagent.patch import Versions
from harness.lab import born
from harness.vm import golden


class _Narrator:
    def step(self, *_: object) -> Any:
        return nullcontext()


class _Wish:
    vm_type = "router"

    def __init__(self, template: str | None) -> None:
        self.template = template

    def built_image(self, bundle: Path) -> str:
        return f"built with {bundle.name}"


def lab_of(tmp_path: Path, template: str | None = None, network: object = None) -> Any:
    """Return a lab whose golden snapshot has a key pair, and whose engine tells what it restores."""
    if not (tmp_path / golden.KEY_NAME).exists():
        golden.make_key(tmp_path)
    vm = SimpleNamespace(stop=lambda: None)
    return SimpleNamespace(
        wish=_Wish(template), image="the old template", new_bundle=Path("new"), old_bundle=Path("old"), host=None,
        engine=SimpleNamespace(restore=lambda *row, **_: restored.append(row) or vm), plan=None, network=network,
        new=SimpleNamespace(name="4.22"), old=SimpleNamespace(name="4.20"), narrator=_Narrator(),
        golden=golden.Golden(tmp_path, {}), results=SimpleNamespace(log=Path), has_agent=False,
        keep_logs=lambda *_: None,
    )  # fmt: skip


restored: list[tuple[Any, ...]] = []


@pytest.mark.parametrize(
    ("template", "image"), [(None, "built with new"), ("genuine.qcow2", "the old template")]
)
def test_it_boots_the_template_that_never_had_the_old_scripts_with_the_key_of_the_patched_one(
    template: str | None, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, Any]] = []
    monkeypatch.setattr(born, "ingredients", lambda image, *_: {"image": image})
    monkeypatch.setattr(born, "once", lambda *row: made.append(row) or golden.Golden(tmp_path, {}))
    monkeypatch.setattr(born, "management_of", lambda *_, **__: nullcontext())
    lab = lab_of(tmp_path, template)
    with born.born_new(lab):
        pass
    ((parts, maker),) = made
    public = (tmp_path / "id_ecdsa.pub").read_text().strip()
    assert parts == {"image": image, "public key": public, "command line": "4.20"}
    assert (maker.image, maker.keys, maker.bundle) == (image, tmp_path, lab.new_bundle)
    assert (maker.release.name, maker.sender.name) == ("4.22", "4.20")
    name, _, of_image, key, _ = restored.pop()
    assert (name, of_image, key) == (born.NAME, image, tmp_path / "id_ecdsa")


def test_a_snapshot_takes_the_key_pair_of_another(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    line = golden.make_key(one)
    assert golden.copy_key(one, other) == line
    assert (other / golden.KEY_NAME).read_bytes() == (one / golden.KEY_NAME).read_bytes()
    assert (other / golden.KEY_NAME).stat().st_mode & 0o777 == 0o600


def test_both_get_the_same_rules_of_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, object]] = []
    monkeypatch.setattr(born, "ask_versions", lambda _: Versions("4.20.2", "signature"))
    monkeypatch.setattr(born, "deliver", lambda guest, steps, _plug: sent.append((guest, steps)))
    monkeypatch.setattr(born, "Orders", lambda *row: SimpleNamespace(start=lambda: (row[0], row[1], row[3])))
    new, other = SimpleNamespace(guest="new"), SimpleNamespace(guest="patched")
    born.send_alike(lab_of(tmp_path), new, other)
    assert sent == []
    born.send_alike(lab_of(tmp_path, network="declared"), new, other)
    (one, orders), (two, same) = sent
    assert (one, two) == ("new", "patched")
    assert orders is same
    assert orders == ("declared", "4.22", ("4.20.2", "signature"))


def test_only_a_named_template_has_something_left_of_the_old_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {"old": ["/root/dropped.sh", "/root/kept.sh"], "new": ["/root/kept.sh"]}
    monkeypatch.setattr(born, "load_bundle", lambda folder: folder.name)
    monkeypatch.setattr(
        born.shipped, "read", lambda name, _: {p: Shipped(p, "file", 0o755) for p in shipped[name]}
    )
    assert born.left_over(lab_of(tmp_path)) == frozenset()
    assert born.left_over(lab_of(tmp_path, "genuine.qcow2")) == {"/root/dropped.sh"}
