"""The place where hosts meet: TLS beyond loopback, certificates of nobody else, and one line for what is wrong."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.plugin.cluster import address
from harness.plugin.cluster.address import make_certificates, read_meeting


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch):
    monkeypatch.delenv("SYSVM_CERTIFICATES", raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates") / "tls"
    make_certificates(folder)
    return folder


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786"])
def test_loopback_needs_no_certificates(text):
    assert str(read_meeting(text)) == text


@pytest.mark.parametrize("text", ["tcp://scheduler:8786", "tcp://10.0.0.1:1", "tls://127.0.0.1:8786"])
def test_beyond_loopback_nobody_speaks_without_certificates(text):
    with pytest.raises(UsageError, match="reached with TLS only") as refusal:
        read_meeting(text)
    assert "--init" in refusal.value.hint


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_whoever_has_certificates_speaks_tls(scheme, certificates, monkeypatch):
    assert str(read_meeting(f"{scheme}://scheduler:8786", certificates)) == "tls://scheduler:8786"
    monkeypatch.setenv("SYSVM_CERTIFICATES", str(certificates))
    meeting = read_meeting(f"{scheme}://scheduler:8786")
    assert str(meeting) == "tls://scheduler:8786"
    assert meeting.security().require_encryption


@pytest.mark.parametrize(
    "text",
    ["", "scheduler", "scheduler:8786", "http://a:1", "tcp://a", "tcp://a:0", "tcp://a:65536", "tcp://a b:1"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="invalid address"):
        read_meeting(text)


def test_certificates_are_their_owners_only(certificates):
    assert certificates.stat().st_mode & 0o777 == 0o700
    assert (certificates / "host-key.pem").stat().st_mode & 0o777 == 0o600
    assert not [path for path in certificates.iterdir() if "authority" in path.name and "key" in path.name]


def test_certificates_are_not_put_among_other_things(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UsageError, match="has something in it"):
        make_certificates(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_key_that_others_may_read_is_refused(tmp_path):
    make_certificates(tmp_path / "tls")
    (tmp_path / "tls/host-key.pem").chmod(0o640)
    with pytest.raises(UsageError, match="may be read by others"):
        read_meeting("tcp://a:1", tmp_path / "tls")


def test_certificates_whose_time_is_over_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(address, "DAYS", 0)
    make_certificates(tmp_path / "tls")
    with pytest.raises(UsageError, match=f"ended on {datetime.datetime.now(datetime.UTC):%Y}"):
        read_meeting("tcp://a:1", tmp_path / "tls")


@pytest.mark.parametrize("name", ["authority.pem", "host.pem", "host-key.pem"])
def test_a_folder_that_lacks_something_is_refused_by_its_name(tmp_path, name):
    make_certificates(tmp_path / "tls")
    (tmp_path / "tls" / name).unlink()
    with pytest.raises(UsageError, match=name):
        read_meeting("tcp://a:1", tmp_path / "tls")


def test_a_certificate_that_is_none_is_refused(tmp_path):
    make_certificates(tmp_path / "tls")
    (tmp_path / "tls/host.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="cannot be read"):
        read_meeting("tcp://a:1", tmp_path / "tls")


@pytest.fixture
def listener(certificates):
    """A server with these certificates; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "host.pem", certificates / "host-key.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def answer():
            connection, _ = server.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_who_has_the_same_certificates_is_answered(listener, certificates):
    read_meeting(f"tcp://127.0.0.1:{listener}", certificates).require_answer()


def test_a_scheduler_with_other_certificates_is_told_from_one_that_is_not_there(listener, tmp_path):
    make_certificates(tmp_path / "tls")
    with pytest.raises(InfrastructureError, match="of another 'sysvm worker --init'"):
        read_meeting(f"tcp://127.0.0.1:{listener}", tmp_path / "tls").require_answer()


def test_nobody_at_an_address_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InfrastructureError, match="Connection refused") as refusal:
        read_meeting(f"tcp://127.0.0.1:{port}").require_answer()
    assert f"sysvm worker --scheduler tcp://127.0.0.1:{port}" in refusal.value.hint
