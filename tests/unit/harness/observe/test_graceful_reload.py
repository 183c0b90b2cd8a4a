"""A real haproxy: its graceful reload is told from nothing and from a restart, and its socket speaks as we read it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.guest.collect import Section
from harness.observe import rules, services, sockets
from harness.observe.services import Service
from harness.observe.sockets import Listener

CONFIG = """
global
    stats socket {folder}/admin.sock mode 600
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen 192_0_2_20-80
    bind 127.0.0.1:{port}
    server s0 127.0.0.1:{backend}
"""


@dataclass
class Haproxy:
    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    backend: socket.socket

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def until(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not what():
            assert time.monotonic() < end, f"haproxy did not get there in time: {self.log}"
            time.sleep(0.02)

    def children(self) -> list[int]:
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def seen(self) -> tuple[Service, tuple[Listener, ...]]:
        pids = [self.process.pid, *self.children()]
        sections = {name: Section(name, 0, b"") for name in services.commands()}
        main = f"Id=haproxy.service\nActiveState=active\nMainPID={pids[0]}\nControlGroup=/haproxy\n"
        sections["services.units"] = Section("", 0, main.encode())
        stat = "".join(Path(f"/proc/{pid}/stat").read_text() for pid in pids)
        sections["services.stat"] = Section("", 0, stat.encode())
        groups = "".join(f"/proc/{pid}/cgroup:0::/haproxy\n" for pid in pids)
        sections["services.groups"] = Section("", 0, groups.encode())
        command = sockets.commands()["sockets"]
        listing = subprocess.run(command.split(), capture_output=True, check=True).stdout
        found = sockets.parse({"sockets": Section("", 0, listing)})
        service = services.parse(sections).get("haproxy")
        assert service
        return service, tuple(row for row in found if row.port == self.port)

    def ask(self, question: str) -> str:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.folder / "admin.sock"))
            channel.sendall(f"{question}\n".encode())
            return b"".join(iter(lambda: channel.recv(65536), b"")).decode()


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Haproxy]:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    assert program, "the Debian package haproxy is missing: run 'make machine'"
    with socket.create_server(("127.0.0.1", 0)) as backend, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        config = CONFIG.format(folder=tmp_path, port=port, backend=backend.getsockname()[1])
        (tmp_path / "haproxy.cfg").write_text(config)
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, "-W", "-f", str(tmp_path / "haproxy.cfg")], stderr=log, cwd=tmp_path
            )
        backend.settimeout(30)
        made = Haproxy(process, tmp_path, port, backend)
        made.until(lambda: "Loading success" in made.log and bool(made.seen()[1]))
        yield made
        process.terminate()
        process.wait()


def test_nothing_happened_is_unchanged(haproxy: Haproxy) -> None:
    service, listeners = haproxy.seen()
    assert len(service.workers) == 1
    assert service.renewed_as(service, listeners) == "unchanged"


def test_a_reload_is_seen_although_the_old_worker_still_serves_a_customer(haproxy: Haproxy) -> None:
    with socket.create_connection(("127.0.0.1", haproxy.port)) as customer:
        customer.sendall(b"x")
        served, _ = haproxy.backend.accept()  # until then the old worker has no reason to live on
        before, _ = haproxy.seen()
        (old,) = before.workers
        haproxy.process.send_signal(signal.SIGUSR2)
        haproxy.until(
            lambda: len(haproxy.children()) == 2 and all(old.pid not in row.pids for row in haproxy.seen()[1])
        )
        after, listeners = haproxy.seen()
        served.close()
    assert old in after.workers
    assert after.main_pid == before.main_pid
    assert before.renewed_as(after, listeners) == "reloaded"


def test_its_answers_are_canonical(haproxy: Haproxy) -> None:
    stat, servers = rules.split_haproxy(haproxy.ask("show stat;show servers state"))
    assert rules.canonical_stat(stat) == [
        "192_0_2_20-80 BACKEND tcp",
        "192_0_2_20-80 FRONTEND tcp",
        "192_0_2_20-80 s0 tcp",
    ]
    (line,) = rules.canonical_servers(servers)
    assert line.startswith("192_0_2_20-80 s0 127.0.0.1 ")
