"""Guests that say too much: what is taken from them has a limit, and the error says it."""

import base64
import io
import os
import socket
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bundle.archive.limits import AnswerLimits
from bundle.errors import InfrastructureError
from harness.guest import collect, documents, transfer
from harness.guest.connection import AnswerTooLong, GuestError
from harness.guest.guest import SshGuest
from harness.vm.tenant.control import Control


class EndlessChannel:
    """A channel of a command that never stops writing; readable like a file descriptor."""

    eof_received = closed = False
    exit_status = 0

    def __init__(self, *, output, errors):
        self._output, self._errors = output, errors
        self._read, self._write = os.pipe()
        os.write(self._write, b"x")

    def fileno(self):
        return self._read

    def recv_ready(self):
        return self._output

    def recv_stderr_ready(self):
        return self._errors

    def recv(self, size):
        return b"x" * size

    recv_stderr = recv

    def close(self):
        os.close(self._read)
        os.close(self._write)


@pytest.mark.parametrize(("stream", "what"), [("output", "output"), ("errors", "errors")])
@pytest.mark.parametrize("ask", ["run", "get"])
def test_an_endless_answer_is_cut_and_the_limit_said(monkeypatch, stream, what, ask):
    guest = SshGuest("r-1-VM", "127.0.0.1", 1, Path("no-key"))
    guest.limits = replace(AnswerLimits(), output=1 << 20, errors=1 << 20)
    channel = EndlessChannel(output=stream == "output", errors=stream == "errors")
    monkeypatch.setattr(guest, "channel", lambda *_: channel)
    with pytest.raises(AnswerTooLong, match=f"r-1-VM: .* wrote more than 1048576 bytes of {what}"):
        getattr(guest, ask)("x")


class Says:
    name = "r-1-VM"

    def __init__(self, answer):
        self._answer = answer

    def run(self, command, **_):
        from harness.guest.connection import SshCommandResult

        return SshCommandResult(command, 0, self._answer, "", 0.0)


def test_a_collection_that_unpacks_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(AnswerLimits, "unpacked", 1 << 16)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("./files.all")
        member.size = 1 << 20
        archive.addfile(member, io.BytesIO(b"\0" * member.size))
    answer = f"{base64.b64encode(packed.getvalue()).decode()}\ncollected\n"
    with pytest.raises(InfrastructureError, match="unpacks to more than 65536 bytes, which is the limit"):
        collect.collect(Says(answer), {"files.all": "true"})


@pytest.mark.parametrize(
    ("text", "why"),
    [("[" * 100_000, "nested too deeply"), ("[" + "{}," * 500_000 + "{}]", "at most 1048576 are read")],
)
def test_a_document_that_would_fill_the_memory_is_unreadable(text, why):
    with pytest.raises(ValueError, match=why):
        documents.parse(text)


def test_a_refusal_of_a_file_without_end_is_cut():
    class Channel:
        answers = 0

        def recv(self, size):
            self.answers += 1
            return b"\1" if self.answers == 1 else b"x" * size

    channel = Channel()
    with pytest.raises(transfer._Failed):
        transfer._acknowledged(channel)
    assert channel.answers <= 1001


def test_a_tenant_that_never_ends_its_line_is_hung_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr(AnswerLimits, "output", 1 << 16)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "c"))
    listener.listen(1)

    def talk():
        stream, _ = listener.accept()
        with stream:
            stream.recv(1000)
            try:
                while True:
                    stream.sendall(b"x" * 4096)
            except OSError:
                return

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    control = Control("t", tmp_path / "c")
    with pytest.raises(GuestError, match="was closed: it said a line of more than 65536 bytes"):
        control.ask("host", "true", 10)
    talker.join(10)
    assert not talker.is_alive()
    listener.close()
