"""Whatever a guest answers is an observation or one line: broken programs of a guest break nothing of ours."""

from __future__ import annotations

import base64
import io
import tarfile
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import InfrastructureError
from harness.guest.collect import Section, collect
from harness.kvmagent import patch
from harness.management import health, status
from harness.observe import observation
from harness.observe.files import FOLDERS
from harness.observe.kernel import HOST_CLOCK
from tests.fuzzing import damaged, damaged_text, fuzz
from tests.unit.harness.simulated_patch import before

TEXTS = {name: text for name, text in before()._all_texts().items() if text is not None}
SECTIONS = {name: Section(name, 1, b"") for name in (*observation.commands(), HOST_CLOCK)} | {
    name: Section(name, 0, text.encode("utf-8", "surrogateescape")) for name, text in TEXTS.items()
}
HEALTH = (
    'text\nMONITOR RESULTS:{"basic": {"dns_check.py": {"success": "true", "lastUpdate": "1700000000000",'
    ' "message": "ok"}, "lastRun": {"start": "now"}}, "advanced": {}}\n'
)
LAST = '{"state": "failed", "phase": "backup", "reason": "disk full", "way_out": "run it again"}\n'


def guest(stdout, stderr="", code=0):
    """Return a guest that answers every command so."""
    done = SimpleNamespace(status=code, stdout=stdout, stderr=stderr, seconds=0.1)
    return SimpleNamespace(name="r-1-VM", run=lambda *_, **__: done)


def one_line(act, *given_to_it):
    """Do something that may end in the one error that a guest can cause; returns what it returned, or None."""
    try:
        return act(*given_to_it)
    except InfrastructureError as error:
        assert "\n" not in error.diagnostics()
        return None


def test_the_sound_answers_are_read():
    assert observation.parse(SECTIONS, FOLDERS).scripts.signature == before().signature
    assert health.monitor(guest(HEALTH))[0].name == "dns_check.py"
    assert status.last_patch(guest(LAST)).state == "failed"


@fuzz(150)
@given(data=st.data())
def test_any_output_of_any_program_is_an_observation_or_one_line(data):
    outputs = dict(SECTIONS)
    for name in data.draw(st.lists(st.sampled_from(sorted(TEXTS)), min_size=1, max_size=3, unique=True)):
        whole = outputs[name].output
        text = whole.decode("utf-8", "surrogateescape")
        wrong = data.draw(
            damaged(whole) | damaged_text(text).map(lambda t: t.encode("utf-8", "surrogatepass"))
        )
        outputs[name] = Section(name, data.draw(st.sampled_from([0, 0, 0, 1, 127])), wrong)
    found = one_line(observation.parse, outputs, FOLDERS)
    assert found is None or found.state is not None


def packed(outputs):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in outputs.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


PACKED = packed({"a.b": b"one\n" * 50, "status": b"a.b 0\n"})


@fuzz(60)
@given(answer=damaged(PACKED) | damaged(base64.b64encode(PACKED) + b"\ncollected\n"))
def test_any_archive_of_outputs_is_read_or_one_line(answer):
    try:
        text = answer.decode("ascii")
    except UnicodeDecodeError:
        text = f"{base64.b64encode(answer).decode()}\ncollected\n"
    found = one_line(lambda: collect(guest(text), {"a.b": "true"}))
    assert found is None or set(found) == {"a.b"}


@fuzz(60)
@given(text=damaged_text(HEALTH) | st.text(max_size=200).map(lambda text: f"MONITOR RESULTS:{text}"))
def test_any_health_results_are_read_or_one_line(text):
    found = one_line(health.monitor, guest(text))
    assert found is None or all(isinstance(row.name, str) for row in found)


@fuzz(60)
@given(text=damaged_text(LAST) | damaged(LAST.encode()).map(lambda data: data.decode(errors="replace")))
def test_any_word_of_the_last_patch_is_read(text):
    assert isinstance(status.last_patch(guest(text)).state, str)
    assert isinstance(status.patch_phase(guest(text)), str)


@fuzz(100)
@given(
    stdout=st.text(max_size=200) | damaged_text("version:0123456789abcdef0123456789abcdef\n"),
    stderr=st.text(max_size=20),
)
def test_any_answer_of_the_script_is_a_version_or_a_fault(stdout, stderr):
    fault = patch.protocol_fault(stdout, stderr)
    assert fault == "" or "\n" not in fault
    version = patch.read_upstream(stdout + stderr)
    assert fault or version
