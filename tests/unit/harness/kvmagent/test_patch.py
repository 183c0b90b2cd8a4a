"""The agent's side of a live patch: what it asks, uploads and runs, and how it reads the one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import InfrastructureError, UsageError
from harness.kvmagent.patch import (
    BundleFiles,
    ask_versions,
    load_bundle,
    patch,
    protocol_fault,
    read_upstream,
    upload,
)

OLD = "0" * 32
NEW = "a" * 128
TEMPLATE = "Cloudstack Release 4.21.0 Sat Jan 31 2026"
BUNDLE = BundleFiles(Path("b"), {"agent.zip": b"A", "cloud-scripts.tgz": b"S", "patch-sysvms.sh": b"#!"}, NEW)


class Answer:
    def __init__(self, stdout: str = "", status: int = 0, stderr: str = "") -> None:
        self.stdout, self.status, self.stderr, self.seconds = stdout, status, stderr, 1.0


class Machine:
    """Stands in for a VM: knows its signature, takes uploads and answers the script as the test says."""

    name = "r-10-VM"

    def __init__(self, answer: Answer | Exception, signature: str = OLD, broken_uploads: int = 0) -> None:
        self.answer, self.signature, self.broken_uploads = answer, signature, broken_uploads
        self.uploads: list[tuple[str, bytes, int]] = []
        self.commands: list[tuple[str, float]] = []

    def run(self, command: str, *, deadline: float = 60.0, stdin: bytes = b"", check: bool = True) -> Answer:
        self.commands.append((command, deadline))
        if command.endswith("get_template_version.sh"):
            return Answer(f"{TEMPLATE}&{self.signature}\n")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        if self.broken_uploads:
            self.broken_uploads -= 1
            raise InfrastructureError("connection cut")
        self.uploads.append((path, data, mode))


def healthy() -> Answer:
    return Answer(f"version:{NEW} \n")


def test_it_uploads_three_files_and_runs_the_script_within_the_agents_bounds() -> None:
    machine = Machine(healthy())
    answer = patch(machine, BUNDLE)
    assert answer.success
    assert answer.patched
    assert (answer.scripts_version, answer.template_version) == (NEW, TEMPLATE)
    assert machine.uploads == [
        ("/var/cache/cloud/agent.zip", b"A", 0o755),
        ("/var/cache/cloud/cloud-scripts.tgz", b"S", 0o755),
        ("/var/cache/cloud/patch-sysvms.sh", b"#!", 0o755),
    ]
    assert machine.commands[-1] == ("/var/cache/cloud/patch-sysvms.sh", 600.0)


def test_an_equal_signature_is_not_patched_unless_forced() -> None:
    machine = Machine(healthy(), signature=NEW)
    answer = patch(machine, BUNDLE)
    assert (answer.success, answer.patched, answer.ran) == (True, False, False)
    assert answer.details == "No change in the scripts checksum, not patching systemVM r-10-VM"
    assert machine.uploads == []
    assert patch(machine, BUNDLE, forced=True).patched


def test_an_md5_signature_differs_from_a_sha512_bundle() -> None:
    assert patch(Machine(healthy(), signature=OLD), BUNDLE).patched


def test_a_cut_upload_is_tried_three_times() -> None:
    assert patch(Machine(healthy(), broken_uploads=2), BUNDLE).success
    failed = patch(Machine(healthy(), broken_uploads=3), BUNDLE)
    assert (failed.success, failed.ran, failed.details) == (False, False, "upload failed: connection cut")


def test_an_upload_is_tried_once_where_nobody_asks_for_more() -> None:
    machine = Machine(healthy(), broken_uploads=1)
    with pytest.raises(InfrastructureError, match="connection cut"):
        upload(machine, BUNDLE.contents)
    assert machine.uploads == []
    upload(machine, BUNDLE.contents)
    assert [path.rpartition("/")[2] for path, *_ in machine.uploads] == list(BUNDLE.contents)


def test_a_failing_script_keeps_the_old_version_and_its_words() -> None:
    answer = patch(Machine(Answer("", status=1, stderr="haproxy is not active\n")), BUNDLE)
    assert (answer.success, answer.ran, answer.patched) == (False, True, False)
    assert answer.details == "haproxy is not active"
    assert answer.scripts_version == OLD


def test_a_silent_failure_names_its_status() -> None:
    assert patch(Machine(Answer("", status=137)), BUNDLE).details == (
        "the script ended with status 137 and said nothing"
    )


def test_a_lost_connection_is_a_failed_answer_that_ran() -> None:
    answer = patch(Machine(InfrastructureError("the connection ended")), BUNDLE)
    assert (answer.success, answer.ran, answer.details) == (False, True, "the connection ended")


def test_one_extra_line_fails_the_strict_dialect_only() -> None:
    noisy = Answer(f"/var/cache/cloud\nversion:{NEW} \n")
    strict = patch(Machine(noisy), BUNDLE)
    upstream = patch(Machine(noisy), BUNDLE, dialect="upstream")
    assert not strict.success
    assert "a line on standard output that is no version line: '/var/cache/cloud'" in strict.details
    assert (upstream.success, upstream.scripts_version) == (True, NEW)
    assert upstream.fault
    assert upstream.legible
    assert not strict.legible


def test_a_second_colon_makes_the_upstream_agent_keep_the_old_version() -> None:
    noisy = Answer(f"version:{NEW} \n", stderr="keytool: warning\n")
    answer = patch(Machine(noisy), BUNDLE, dialect="upstream")
    assert (answer.success, answer.scripts_version) == (True, OLD)
    assert "2 colons" in answer.fault
    assert not answer.legible


@pytest.mark.parametrize(
    ("output", "version"),
    [
        (f"version:{NEW} ", NEW),
        (f"version:{NEW}\n", NEW),
        (f"noise\nversion:{NEW} more", NEW),
        ("version: ", ""),
        ("version:", None),
        ("", None),
        ("a:b:", "b"),
        ("a:b:c", None),
        ("a::b", None),
        ("no colon", None),
    ],
)
def test_the_upstream_dialect_splits_at_colons_as_java_does(output: str, version: str | None) -> None:
    assert read_upstream(output) == version


@pytest.mark.parametrize(
    ("stdout", "stderr", "words"),
    [
        ("", "", "it wrote nothing"),
        (f"version:{NEW}\n", "warning\n", "standard error"),
        ("version: \n", "", "no version line"),
        (f"version:{NEW[:-1]}\n", "", "no version line"),
        (f"version:{NEW}\nversion:{NEW}\n", "", "2 colons"),
        ("", f"version:{NEW} \n", "on standard error"),
        (f"\nversion:{NEW}\n", "", "not alone"),
    ],
)
def test_every_other_output_is_a_fault(stdout: str, stderr: str, words: str) -> None:
    assert words in protocol_fault(stdout, stderr)


@given(st.text(min_size=1, max_size=60))
def test_only_the_exact_line_is_without_fault(noise: str) -> None:
    line = f"version:{NEW} \n"
    assert protocol_fault(line, "") == ""
    assert protocol_fault(line + noise, "")
    assert protocol_fault(line, noise)


@pytest.mark.parametrize(
    ("stdout", "status", "words"),
    [("", 1, "ended with status 1"), ("a&b&c", 0, "expected"), ("hello", 0, "expected")],
)
def test_a_version_that_cannot_be_read_fails_the_call(stdout: str, status: int, words: str) -> None:
    class Odd(Machine):
        def run(self, command: str, **_: object) -> Answer:
            return Answer(stdout, status)

    with pytest.raises(InfrastructureError, match=words):
        ask_versions(Odd(healthy()))
    answer = patch(Odd(healthy()), BUNDLE)
    assert not answer.success
    assert answer.details.startswith("asking for the version failed: r-10-VM")


def make_bundle(folder: Path, signature: str | None = None) -> None:
    for name in ("agent.zip", "cloud-scripts.tgz", "patch-sysvms.sh"):
        (folder / name).write_bytes(name.encode())
    if signature is not None:
        (folder / "cloud-scripts-signature").write_text(signature + "\n")


@pytest.mark.parametrize("algorithm", ["md5", "sha512"])
def test_a_bundle_states_which_digest_it_uses(tmp_path: Path, algorithm: str) -> None:
    signature = hashlib.new(algorithm, b"cloud-scripts.tgz").hexdigest()
    make_bundle(tmp_path, signature)
    assert load_bundle(tmp_path).signature == signature


def test_a_bundle_of_cloudstack_has_no_signature_file(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    assert len(load_bundle(tmp_path).signature) == 128
    assert len(load_bundle(tmp_path, "md5").signature) == 32


def test_files_of_two_bundles_are_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path, "b" * 128)
    with pytest.raises(UsageError, match="says bbbbbbbbbbbbbbbb…, but"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["agent.zip", "cloud-scripts.tgz", "patch-sysvms.sh"])
def test_a_missing_or_empty_file_is_named(tmp_path: Path, name: str) -> None:
    make_bundle(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=f"{name} is empty"):
        load_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=f"cannot read {name}: No such file"):
        load_bundle(tmp_path)
