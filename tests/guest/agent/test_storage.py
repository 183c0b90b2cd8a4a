"""What the agent of a storage VM does: uploads into files, copies, shares."""

import base64
import hashlib
import os
import re
import socket
import time
import uuid

import pytest

from tests.guest.agent.server import eventually
from tests.serving import listening


@pytest.fixture
def start(agent, authority, management):
    """Return a function that starts a storage VM's agent with limits of its own; registered, when it returns."""

    def begin(**limits):
        path = agent.conf / "agent.properties"
        path.write_text(path.read_text() + "".join(f"limit.{key}={value}\n" for key, value in limits.items()))
        agent.install(authority.answer(agent.request()), authority.certificate())
        agent.start()
        management.next(command="startup")
        return agent

    return begin


@pytest.fixture
def storage(start):
    return start()


def answer_of(connection):
    """Return the HTTP status, after the server has closed."""
    data = b""
    while block := connection.recv(4096):
        data += block
    status = [line for line in data.split(b"\r\n") if re.match(rb"HTTP/1\.1 [2-5]", line)][-1]
    return int(status.split()[1])


def upload(agent, identifier, data, *headers, path="/upload/", length=None):
    """Send an upload and return the HTTP status."""
    with agent.network.connect(8210) as connection:
        lines = [f"POST {path}{identifier} HTTP/1.1", *headers]
        if length != "":
            lines.append(f"Content-Length: {len(data) if length is None else length}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        connection.shutdown(socket.SHUT_WR)
        return answer_of(connection)


def form(data, boundary="----x", name="file", rest=b"--\r\n"):
    """Return the header and the body of a browser's form with one field before the file."""
    mark = f"--{boundary}\r\n".encode()
    field = b'Content-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    head = f'Content-Disposition: form-data; name="f"; {name}name="a.iso"\r\n\r\n'.encode()
    body = mark + field + mark + head + data + f"\r\n--{boundary}".encode() + rest
    return f"Content-Type: multipart/form-data; boundary={boundary}", body


def test_an_announced_upload_is_taken_once_and_an_unknown_one_is_not(storage, management):
    assert upload(storage, "tmpl-1", b"image") == 403
    assert management.ask("expect_upload", upload="tmpl-1", size=5)["result"] is True
    assert upload(storage, "tmpl-1", b"image that is too long") == 413
    assert upload(storage, "tmpl-1", b"imag") == 400
    assert upload(storage, "tmpl-1", b"image", length="") == 411
    assert upload(storage, "tmpl-1", b"image", "Transfer-Encoding: chunked") == 411
    assert upload(storage, "tmpl-1", b"image", "Content-Length: 5") == 400
    assert upload(storage, "tmpl-1", b"image", path="/other/") == 404
    assert upload(storage, "tmpl-1", b"image") == 201
    assert storage.inside("/mnt/SecStorage/upload/tmpl-1").read_bytes() == b"image"
    assert upload(storage, "tmpl-1", b"image") == 403


def test_a_browsers_form_is_taken_and_its_file_alone_is_kept(storage, management):
    data = os.urandom(300000)
    management.ask("expect_upload", upload="vol-1", size=len(data))
    header, body = form(data)
    assert upload(storage, "vol-1", body, header, path="/upload?uuid=") == 201
    assert storage.inside("/mnt/SecStorage/upload/vol-1").read_bytes() == data


@pytest.mark.parametrize(
    ("data", "more", "status"),
    [
        (b"image!", {}, 400),
        (b"imag", {}, 400),
        (b"image", {"name": "no"}, 422),
        (b"image", {"boundary": "a b"}, 415),
    ],
)
def test_a_form_whose_file_is_not_the_announced_one_leaves_nothing(storage, management, data, more, status):
    management.ask("expect_upload", upload="vol-1", size=5)
    header, body = form(data, **more)
    assert upload(storage, "vol-1", body, header) == status
    assert list(storage.inside("/mnt/SecStorage").glob("upload/*")) == []
    header, body = form(b"image")
    assert upload(storage, "vol-1", body, header) == 201


def test_an_upload_that_comes_too_slowly_is_told_so_and_may_be_tried_again(start, management):
    agent = start(block=1)
    management.ask("expect_upload", upload="vol-1", size=5)
    with agent.network.connect(8210) as connection:
        connection.sendall(b"POST /upload/vol-1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nima")
        assert eventually(lambda: management.ask("check_health")["uploads"] == 1)
        assert upload(agent, "vol-1", b"image") == 409
        assert answer_of(connection) == 408
    assert list(agent.inside("/mnt/SecStorage/upload").iterdir()) == []
    assert upload(agent, "vol-1", b"image") == 201


def test_an_upload_that_was_cut_off_leaves_nothing_and_may_be_tried_again(storage, management):
    management.ask("expect_upload", upload="vol-1", size=5)
    assert upload(storage, "vol-1", b"ima", length=5) == 400
    assert list(storage.inside("/mnt/SecStorage/upload").iterdir()) == []
    assert upload(storage, "vol-1", b"image") == 201


def test_no_more_uploads_run_at_once_and_no_more_are_announced_than_the_limits_say(start, management):
    agent = start(uploads=1, announced=2)
    for name in ("vol-1", "vol-2"):
        assert management.ask("expect_upload", upload=name, size=5)["result"] is True
    assert "announced already" in management.ask("expect_upload", upload="vol-3", size=5)["details"]
    with agent.network.connect(8210) as connection:
        connection.sendall(b"POST /upload/vol-1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nima")
        assert eventually(lambda: management.ask("check_health")["uploads"] == 1)
        assert upload(agent, "vol-2", b"image") == 503
        connection.sendall(b"ge")
        assert answer_of(connection) == 201
    assert upload(agent, "vol-2", b"image") == 201


def test_an_announcement_does_not_last_for_ever(storage, management):
    management.ask("expect_upload", upload="vol-1", size=5, seconds=1)
    time.sleep(1.1)
    assert upload(storage, "vol-1", b"image") == 403


def test_who_asks_first_is_told_to_go_on(storage, management):
    management.ask("expect_upload", upload="vol-1", size=5)
    with storage.network.connect(8210) as connection:
        connection.sendall(
            b"POST /upload?uuid=vol-1 HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(64) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"image")
        assert answer_of(connection) == 201


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".hidden", "a" * 65, "a\nb"])
def test_an_upload_cannot_leave_its_folder(storage, management, name):
    answer = management.ask("expect_upload", upload=name, size=1)
    assert answer["result"] is False


def test_an_upload_that_does_not_fit_is_told_so_before_it_is_sent(storage, management):
    size = 1 << 45
    management.ask("expect_upload", upload="vol-1", size=size)
    assert upload(storage, "vol-1", b"", length=size) == 507


IMAGE = os.urandom(700000)


def source(head, body=IMAGE, seen=None):
    """Return a web server with one answer; what it is asked is put into a list."""

    def serve(connection):
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        if seen is not None:
            seen.append(request.decode())
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass

    return serve


def pretend(agent, url):
    """Let a folder pass for a mounted share, for the agent looks into its list of mounts; returns the folder."""
    folder = f"/mnt/SecStorage/{uuid.uuid5(uuid.NAMESPACE_URL, url)}"
    agent.inside(folder).mkdir(parents=True)
    pid = str(agent.process.pid)
    command = ["nsenter", "--mount", f"--target={pid}", "--", "mount", "-t", "tmpfs", "tmpfs", folder]
    assert os.spawnvp(os.P_WAIT, "nsenter", command) == 0
    return agent.inside(folder)


SHARE = "nfs://10.0.0.6/secondary"
OK = f"HTTP/1.1 200 OK\r\nContent-Length: {len(IMAGE)}"


def test_a_template_is_copied_whole_with_the_password_of_the_other_side(storage, management, network):
    folder, seen = pretend(storage, SHARE), []
    digest = hashlib.sha256(IMAGE).hexdigest()
    with listening(source(OK, seen=seen), network.listen()) as port:
        fields = {"from": f"http://127.0.0.1:{port}/copy/template/a.qcow2", "path": "template/tmpl/1/a.qcow2"}
        answer = management.ask("copy", url=SHARE, sha256=digest, user="cloud", password="s3:cret", **fields)
    assert {key: answer[key] for key in ("result", "size", "sha256")} == {
        "result": True, "size": len(IMAGE), "sha256": digest,
    }  # fmt: skip
    assert (folder / "template/tmpl/1/a.qcow2").read_bytes() == IMAGE
    assert seen[0].startswith("GET /copy/template/a.qcow2 HTTP/1.0\r\n")
    login = base64.b64encode(b"cloud:s3:cret").decode()
    assert f"Authorization: Basic {login}\r\n" in seen[0]
    health = management.ask("check_health")
    assert (health["result"], health["shares"], health["copies"]) == (True, [SHARE], 0)


@pytest.mark.parametrize(
    ("head", "body", "more", "details"),
    [
        ("HTTP/1.1 401 Unauthorized", b"", {}, "answers 'HTTP/1.1 401"),
        ("HTTP/1.1 302 Found\r\nLocation: file:///etc/shadow", b"", {}, "answers 'HTTP/1.1 302"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"", {}, "how long"),
        ("RFB 003.008", b"", {}, "answers 'RFB"),
        (OK, IMAGE[:-1], {}, "IncompleteReadError"),
        (OK, IMAGE, {"sha256": "0" * 64}, "has the SHA-256"),
        (OK, IMAGE, {"size": 5}, "more than 5"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 30000000000000", b"", {}, "no room"),
    ],
)
def test_a_copy_that_is_not_what_was_asked_for_leaves_nothing(
    storage, management, network, head, body, more, details
):
    folder = pretend(storage, SHARE)
    with listening(source(head, body), network.listen()) as port:
        fields = {"from": f"http://127.0.0.1:{port}/a", "path": "template/a", **more}
        answer = management.ask("copy", url=SHARE, **fields)
    assert answer["result"] is False
    assert details in answer["details"]
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert "Traceback" not in storage.log()


def test_a_copy_that_stands_still_holds_nothing_up_and_is_given_up(start, management, network):
    agent = start(block=2)
    pretend(agent, SHARE)

    def serve(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        while connection.recv(4096):
            pass

    with listening(serve, network.listen()) as port:
        copy = {"command": "copy", "id": 5, "url": SHARE, "path": "a", "from": f"http://127.0.0.1:{port}/a"}
        management.send(copy)
        assert eventually(lambda: management.ask("check_health")["copies"] == 1)
        assert "under way" in management.ask("copy", url=SHARE, path="a", **{"from": copy["from"]})["details"]
        assert management.next(command="ping")
        assert management.next(id=5, answer="copy")["details"].startswith("TimeoutError")
    assert management.ask("check_health")["copies"] == 0


def test_a_share_that_is_gone_is_not_well(storage, management):
    pretend(storage, SHARE)
    assert management.ask("mount", url=SHARE)["result"] is True
    folder = management.ask("mount", url=SHARE)["path"]
    pid = str(storage.process.pid)
    os.spawnvp(os.P_WAIT, "nsenter", ["nsenter", "--mount", f"--target={pid}", "--", "umount", folder])
    health = management.ask("check_health")
    assert health["result"] is False
    assert f"{SHARE} is not mounted" in health["details"]


def test_the_web_server_is_set_up_by_the_programs_that_management_knows(storage, management, tmp_path):
    log = tmp_path / "asked"
    for name in ("config_ssl.sh", "config_auth.sh", "ipfirewall.sh"):
        script = f'#!/bin/bash\nprintf "%s|" {name} "$@" >>{log}; echo >>{log}\n'
        if name == "config_ssl.sh":
            script += f'stat --format=%a "$6" >>{log}; cat "$6" >>{log}\n'
        (storage.folder / name).write_text(script)
    secrets = {"user": "cloud", "password": "$(id) s3cret"}
    pair = {"key": "KEY\n", "certificate": "CERTIFICATE\n"}
    assert management.ask("setup", address="192.0.2.10", name="s-1-VM", **pair, **secrets)["result"] is True
    assert management.ask("firewall", append=True, addresses=["192.0.2.9", "-x"])["result"] is True
    ssl, mode, key, auth, firewall = log.read_text().splitlines()
    assert ssl.startswith("config_ssl.sh|-i|192.0.2.10|-h|s-1-VM|-k|")
    assert (mode, key) == ("600", "KEY")
    assert auth == "config_auth.sh|cloud|$(id) s3cret|"
    assert firewall == "ipfirewall.sh|true|192.0.2.9|-x|"
    (storage.folder / "ipfirewall.sh").write_text("#!/bin/bash\necho no address >&2\nexit 2\n")
    answer = management.ask("firewall", addresses=["x"])
    assert answer["details"] == "OSError: ipfirewall.sh ended with status 2: no address"
