"""The agent and its management server: identity, registration, and what happens when the connection breaks."""

import json
import stat

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.guest.agent.server import PASSPHRASE, Authority, Management, eventually, packed


def test_registers_with_its_guid_and_resource_and_keeps_pinging(running, management):
    hello = management.next(command="startup")
    assert hello["guid"] == "s-1-VM"
    assert hello["resource"].endswith("NfsSecondaryStorageResource")
    assert hello["zone"] == "1"
    assert [management.next(command="ping")["guid"] for _ in range(2)] == ["s-1-VM", "s-1-VM"]
    state = json.loads(running.inside("/run/cloud/agent-state.json").read_text())
    assert state["state"] == "connected"


def test_answers_questions_and_says_so_when_it_does_not_know_one(running, management):
    management.next(command="startup")
    assert management.ask("check_health")["result"] is True
    assert management.ask("nonsense")["details"] == "unknown command 'nonsense'"


def test_comes_back_after_a_restart_of_the_server(running, management):
    management.next(command="startup")
    management.stop()
    management.start()
    assert management.next(command="startup")["guid"] == "s-1-VM"


def test_waits_for_a_certificate_and_starts_to_talk_when_it_comes(agent, authority, management):
    agent.start()
    assert eventually(lambda: "waiting for a certificate" in agent.log())
    agent.install(authority.answer(agent.request()), authority.certificate())
    assert management.next(command="startup")["guid"] == "s-1-VM"


def test_does_not_talk_to_a_server_of_another_ca(agent, authority, tmp_path, management):
    management.stop()
    folder = tmp_path / "impostor"
    folder.mkdir()
    impostor = Management(management.network, folder, authority, server_authority=Authority("another CA"))
    impostor.port = management.port
    impostor.start()
    agent.install(authority.answer(agent.request()), authority.certificate())
    agent.start()
    assert impostor.refusals.get(timeout=15)
    assert eventually(lambda: "certificate verify failed" in agent.log())
    impostor.stop()
    assert impostor.frames.empty()


def test_is_refused_by_a_server_of_another_ca(agent, management):
    stranger = Authority("another CA")
    agent.install(stranger.answer(agent.request()), stranger.certificate())
    agent.start()
    assert eventually(lambda: "verify failed" in agent.log())
    assert management.frames.empty()


def test_a_renewed_certificate_is_used_after_the_restart(running, authority, management):
    first = management.serials.get(timeout=15)
    running.install(authority.answer(running.request()), authority.certificate())
    running.stop()
    running.start()
    management.next(command="startup")
    assert management.serials.get(timeout=15) != first


def test_the_old_certificate_works_until_the_new_one_arrives(running, management):
    management.next(command="startup")
    running.request()
    running.stop()
    running.start()
    assert management.next(command="startup")["guid"] == "s-1-VM"


def test_the_keystore_opens_with_the_passphrase_of_the_properties(agent, authority):
    certificate = authority.answer(agent.request())
    agent.install(certificate, authority.certificate())
    assert f"keystore.passphrase={PASSPHRASE}\n" in (agent.conf / "agent.properties").read_text()
    store = pkcs12.load_pkcs12((agent.conf / "cloud.jks").read_bytes(), PASSPHRASE.encode())
    assert store.cert.friendly_name == b"cloud"
    assert len(store.additional_certs) == 1
    for name in ("cloud.jks", "cloud.key", "agent.properties"):
        assert stat.S_IMODE((agent.conf / name).stat().st_mode) == 0o600, name


def test_a_second_setup_keeps_the_passphrase(agent):
    agent.request()
    conf = str(agent.conf)
    names = [f"{conf}/agent.properties", f"{conf}/cloud.jks", "another", "365", f"{conf}/cloud.csr"]
    agent.tool("keystore-setup", *names)
    text = (agent.conf / "agent.properties").read_text()
    assert text.count("keystore.passphrase=") == 1
    assert f"keystore.passphrase={PASSPHRASE}\n" in text


def test_a_certificate_of_another_key_or_ca_is_not_installed(agent, authority):
    foreign = authority.answer(agent.request())
    request = agent.request()
    done = agent.install(foreign, authority.certificate(), check=False)
    assert done.returncode == 1
    assert "belongs to another key" in done.stderr
    done = agent.install(authority.answer(request), Authority("other").certificate(), check=False)
    assert done.returncode == 1
    assert "not signed by the given CA" in done.stderr
    assert not (agent.conf / "cloud.jks").exists()


def test_without_a_needed_value_it_ends_with_the_reason(agent):
    (agent.conf / "agent.properties").write_text("host=127.0.0.1\nguid=s-1-VM\n")
    agent.start()
    assert agent.process.wait(timeout=10) == 1
    assert "resource= is missing" in agent.log()


def test_a_frame_that_is_too_deep_ends_the_connection_and_not_the_agent(running, management):
    management.next(command="startup")
    management.send_raw(b"[" * 900000)
    assert management.next(command="startup")["guid"] == "s-1-VM"
    assert "Traceback" not in running.log()


@pytest.mark.parametrize(
    ("frame", "details"),
    [
        ({"command": ["mount"]}, "unknown command"),
        ({"command": "mount"}, "url is missing"),
        ({"command": "mount", "url": 7}, "url is missing"),
        ({"command": "expect_upload", "upload": "a", "size": "5"}, "size is missing"),
        ({"command": "expect_upload", "upload": "a", "size": True}, "size is missing"),
        ({"command": "expect_upload", "upload": "a", "size": -1}, "size is missing"),
        ({"command": "firewall", "addresses": "all"}, "no list"),
        (
            {"command": "copy", "from": "file:///etc/shadow", "path": "a", "url": "nfs://x/y"},
            "from is no URL",
        ),
        (
            {"command": "copy", "from": "http://x/\r\nX: y", "path": "a", "url": "nfs://x/y"},
            "control character",
        ),
        ({"command": "copy", "from": "http://x/y", "path": "../a", "url": "nfs://x/y"}, "no path"),
    ],
)
def test_a_question_of_the_wrong_shape_is_answered_with_what_is_wrong(running, management, frame, details):
    management.next(command="startup")
    management.send({**frame, "id": 77})
    answer = management.next(id=77, result=False)
    assert details in answer["details"]
    assert management.ask("check_health")["result"] is True
    assert "Traceback" not in running.log()


def test_answers_to_questions_that_nobody_asked_are_passed_over(running, management):
    management.next(command="startup")
    for number in ([1], {}, None, "1", 10**30):
        management.send({"answer": "ping", "id": number})
    assert management.ask("check_health")["result"] is True
    assert "Traceback" not in running.log()


def test_servers_since_4_17_say_the_passphrase_once_more(agent, authority):
    (agent.conf / "agent.properties").write_text("keystore.passphrase=kept\n")
    certificate, conf = authority.answer(agent.request()), str(agent.conf)
    pairs = [
        f"{conf}/cloud.crt",
        packed(certificate),
        f"{conf}/cloud.ca.crt",
        packed(authority.certificate()),
    ]
    names = [f"{conf}/agent.properties", "another", f"{conf}/cloud.jks", "ssh"]
    agent.tool("keystore-cert-import", *names, *pairs, f"{conf}/cloud.key", "")
    pkcs12.load_pkcs12((agent.conf / "cloud.jks").read_bytes(), b"kept")
