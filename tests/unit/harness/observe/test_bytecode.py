"""Compiled modules: one that runs in the place of its source is found, and no other is told of."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
from pathlib import Path

import pytest

from harness.observe import bytecode, files

TEXT = "import os\n\n\ndef answer(x=1.5):\n    return {x, 'a', (1, 2)} if x in {1, 2} else f'{x}'\n"


@pytest.fixture
def module(tmp_path):
    source = tmp_path / "module.py"
    source.write_text(TEXT)
    return source


def strange(guest, source: Path, *, before: files.DiskState | None = None) -> list[str]:
    now = files.take(guest, [str(source.parent)])
    told = bytecode.strange(guest, before or files.DiskState((), {}), now)
    assert told.status == 0
    return [Path(path).name for path in told.text.split("\0") if path]


def forged(source: Path, text: str, *, of: int | None = None) -> Path:
    """Write a compiled module of another text that looks like the source's, or like one of another time."""
    made = Path(py_compile.compile(str(source), doraise=True))
    seconds = int(source.stat().st_mtime) if of is None else of
    head = (
        importlib.util.MAGIC_NUMBER
        + b"\0\0\0\0"
        + b"".join(n.to_bytes(4, "little") for n in (seconds, len(TEXT)))
    )
    made.write_bytes(head + marshal.dumps(compile(text, str(source), "exec")))
    return made


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("mode", py_compile.PycInvalidationMode)
def test_what_python_compiles_is_its_source(local_guest, module, level, mode):
    py_compile.compile(str(module), doraise=True, optimize=level, invalidation_mode=mode)
    assert strange(local_guest, module) == []


def test_one_of_another_text_is_found(local_guest, module):
    made = forged(module, TEXT.replace("1.5", "2.5"))
    assert strange(local_guest, module) == [made.name]
    made.write_bytes(made.read_bytes()[:40])
    assert strange(local_guest, module) == [made.name]


def test_one_of_another_text_that_is_never_compared_with_its_source_is_found(local_guest, module):
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    made = py_compile.compile(str(module), doraise=True, invalidation_mode=mode)
    module.write_text(TEXT.replace("1.5", "2.5"))
    assert strange(local_guest, module) == [Path(made).name]


def test_one_that_no_interpreter_would_run_is_none(local_guest, module):
    forged(module, "import sys", of=5)
    assert strange(local_guest, module) == []
    made = forged(module, "import sys")
    made.rename(made.with_name("other.cpython-311.pyc"))
    made.with_name("module.cpython-34.pyc").write_bytes(b"x" * 40)
    assert strange(local_guest, module) == []


def test_only_those_that_were_written_are_compared(local_guest, module):
    made = forged(module, "import sys")
    before = files.take(local_guest, [str(module.parent)])
    assert strange(local_guest, module, before=before) == []
    os.utime(made)
    assert strange(local_guest, module, before=before) == [made.name]


def test_several_are_told_one_by_one(local_guest, module):
    other = module.with_name("other.py")
    other.write_text(TEXT)
    made = {forged(source, "import sys").name for source in (module, other)}
    assert set(strange(local_guest, module)) == made


def test_a_source_that_cannot_be_read_is_no_answer(local_guest, module):
    py_compile.compile(str(module), doraise=True)
    module.unlink()
    module.mkdir()
    told = bytecode.strange(
        local_guest, files.DiskState((), {}), files.take(local_guest, [str(module.parent)])
    )
    assert told.status != 0
