"""What nobody should send: each gets the right answer, touches nothing, and leaves the server as it was."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from harness.management.api import ApiLimits, signature, uid
from tests.unit.harness.apiworld import World

# Small enough to meet each bound soon.
TIGHT = ApiLimits(
    body=4096,
    query=2048,
    parameters=20,
    value=100,
    connections=20,
    header_time=1.0,
    body_time=0.5,
    sign_ins=3,
)


@pytest.fixture
def world() -> World:
    world = World(limits=TIGHT)
    world.system_vm("s-2-VM", "secstorage")
    world.router("r-3-VM", network="web")
    return world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.served() as address:
        yield address


def signed(world: World, command: str, name: str = "admin", **more: str) -> dict[str, str]:
    account = world.service.accounts.named(name)
    sent = {"command": command, "response": "json", "apikey": account.api_key, **more}
    return {**sent, "signature": signature.sign(sent, account.secret)}


def still_works(world: World, url: str) -> None:
    """Make sure that nothing was touched, and that the next one is served."""
    assert world.cloud.timeline == []
    assert requests.get(url, params=signed(world, "listZones"), timeout=10).status_code == 200


# Sizes and times


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda url: requests.post(url, data=b"a=" + b"x" * 10_000_000, timeout=10), 413),
        (lambda url: requests.post(url, data=(b"x" * 1024 for _ in range(10)), timeout=10), 413),
        (lambda url: requests.get(url, params={"a": "x" * 3000}, timeout=10), 414),
        (lambda url: requests.get(url, params={f"p{n}": "1" for n in range(30)}, timeout=10), 430),
        (lambda url: requests.post(url, data={f"p{n}": "1" for n in range(30)}, timeout=10), 430),
        (lambda url: requests.get(f"{url}?command=%ff%fe", timeout=10), 430),
        (lambda url: requests.post(url, json={"command": "listZones"}, timeout=10), 415),
        (lambda url: requests.post(url, files={"file": b"x"}, timeout=10), 415),
        (lambda url: requests.put(url, timeout=10), 405),
        (lambda url: requests.get(url, headers={"Host": "evil.example"}, timeout=10), 400),
        (lambda url: requests.get(url.replace("/client/api", "/client/../etc/passwd"), timeout=10), 404),
    ],
    ids=[
        "10 MB",
        "chunked",
        "query",
        "parameters",
        "form",
        "not UTF-8",
        "JSON",
        "files",
        "PUT",
        "Host",
        "path",
    ],
)
def test_a_request_out_of_bounds_is_refused(
    world: World, url: str, send: Callable[[str], requests.Response], status: int
) -> None:
    try:
        answer = send(url)
        assert answer.status_code == status
    except requests.ConnectionError:
        # It was answered, and closed, while the client was still sending: that is a refusal, too.
        assert status == 413
    still_works(world, url)


def raw(url: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=10)


def test_who_sends_the_head_of_a_request_slowly_is_cut_off(world: World, url: str) -> None:
    with raw(url) as slow:
        slow.sendall(b"GET /client/api HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert slow.recv(100) == b""
    still_works(world, url)


def test_who_sends_the_body_of_a_request_slowly_is_told_so(world: World, url: str) -> None:
    with raw(url) as slow:
        head = b"POST /client/api HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\ncommand="
        slow.sendall(head)
        assert slow.recv(12) == b"HTTP/1.1 408"
    still_works(world, url)


def test_two_hundred_connections_leave_room_after_they_are_cut_off(world: World, url: str) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(raw(url))
        full = requests.get(url, params=signed(world, "listZones"), timeout=10)
        assert full.status_code == 503
    still_works(world, url)


def test_two_hundred_calls_at_once_are_all_answered(world: World, url: str) -> None:
    def ask(_: int) -> int:
        return requests.get(url, params=signed(world, "listRouters", listall="true"), timeout=30).status_code

    with ThreadPoolExecutor(15) as pool:
        assert set(pool.map(ask, range(200))) == {200}


# Values


@pytest.mark.parametrize(
    "value",
    [
        "x" * 101,
        "../../etc/passwd",
        "' OR 1=1 --",
        "{{7*7}}",
        "\x00",
        "-1",
        "١٢",
        "00000000000000000000000000000000x",
    ],
)
def test_no_value_of_an_id_gets_through(world: World, url: str, value: str) -> None:
    answer = requests.get(url, params=signed(world, "patchSystemVm", id=value), timeout=10)
    assert answer.status_code == 431
    assert answer.json()["patchsystemvmresponse"]["cserrorcode"] == 4350
    still_works(world, url)


@pytest.mark.parametrize("command", ["", "ListZones", "listzones", "__init__", "<script>", "x" * 500])
def test_a_command_that_is_none_is_refused_by_the_name_of_an_error(
    world: World, url: str, command: str
) -> None:
    answer = requests.get(url, params=signed(world, command), timeout=10)
    assert answer.status_code == 401
    assert list(answer.json()) == ["errorresponse"]
    document = requests.get(url, params={"command": command}, timeout=10).text
    assert "<script>" not in document


def test_parameters_that_were_changed_after_signing_are_refused(world: World, url: str) -> None:
    sent = signed(world, "restartNetwork", "user", id=uid("network", "web"))
    assert requests.get(url, params={**sent, "livepatch": "true"}, timeout=10).status_code == 401
    assert requests.get(url, params={**sent, "apikey": "other"}, timeout=10).status_code == 401
    again = {name: value for name, value in sent.items() if name != "signature"}
    assert requests.get(url, params=again, timeout=10).status_code == 401
    still_works(world, url)


def test_a_name_that_is_there_twice_counts_once_and_the_query_string_wins(world: World, url: str) -> None:
    sent = signed(world, "listZones")
    assert requests.post(
        f"{url}?{urlencode(sent)}", data={"command": "listHosts"}, timeout=10
    ).json().keys() == {"listzonesresponse"}
    assert requests.get(f"{url}?command=listHosts&lonely&{urlencode(sent)}", timeout=10).status_code == 200


def test_a_request_that_expired_cannot_be_sent_again(world: World, url: str) -> None:
    old = signed(world, "listZones", signatureVersion="3", expires="2020-01-01T00:00:00+0000")
    assert requests.get(url, params=old, timeout=10).status_code == 401


# Sign-in, sessions, and what other sites could make a browser do


def login(world: World, url: str, name: str, password: str | None = None) -> requests.Response:
    known = world.service.accounts.named(name)
    form = {
        "command": "login",
        "username": name,
        "password": known.password if password is None else password,
        "response": "json",
    }
    return requests.post(url, data=form, timeout=10)


def test_a_session_needs_the_cookie_and_the_key(world: World, url: str) -> None:
    answer = login(world, url, "user")
    said = answer.json()["loginresponse"]
    assert {"timezone", "timezoneoffset", "sessionkey", "userid", "timeout"} <= set(said)
    cookies = answer.headers["set-cookie"]
    assert cookies.count("HttpOnly") == 2
    assert cookies.lower().count("samesite=lax") == 2
    call = {"command": "listNetworks", "response": "json"}
    whole = {**call, "sessionkey": said["sessionkey"]}
    assert requests.get(url, params=whole, cookies=answer.cookies, timeout=10).status_code == 200
    assert requests.get(url, params=whole, timeout=10).status_code == 401
    assert (
        requests.get(url, params={**call, "sessionkey": "x"}, cookies=answer.cookies, timeout=10).status_code
        == 401
    )
    # The wrong key has ended the session.
    assert requests.get(url, params=whole, cookies=answer.cookies, timeout=10).status_code == 401


def test_a_session_ends_by_logout_and_by_idling(world: World, url: str) -> None:
    now = [1000.0]
    world.service.sessions._clock = lambda: now[0]
    answer = login(world, url, "user")
    whole = {
        "command": "listZones",
        "response": "json",
        "sessionkey": answer.json()["loginresponse"]["sessionkey"],
    }

    def status() -> int:
        return requests.get(url, params=whole, cookies=answer.cookies, timeout=10).status_code

    now[0] += world.limits.session_idle - 1
    assert status() == 200
    now[0] += world.limits.session_idle + 1
    assert status() == 401
    second = login(world, url, "user")
    sent = {"command": "logout", "response": "json"}
    assert requests.post(url, data=sent, cookies=second.cookies, timeout=10).status_code == 200
    whole["sessionkey"] = second.json()["loginresponse"]["sessionkey"]
    answer = second
    assert status() == 401


def test_a_login_by_get_is_no_login(world: World, url: str) -> None:
    sent = {
        "command": "login",
        "username": "admin",
        "password": world.service.accounts.named("admin").password,
    }
    answer = requests.get(url, params=sent, timeout=10)
    assert answer.status_code == 405
    assert not answer.cookies


@pytest.mark.parametrize("wrong", [{"password": "x"}, {"username": "nobody"}, {"domain": "elsewhere"}])
def test_a_wrong_login_says_nothing_of_what_was_wrong(world: World, url: str, wrong: dict[str, str]) -> None:
    right = {
        "command": "login",
        "username": "user",
        "password": world.service.accounts.named("user").password,
    }
    answer = requests.post(url, data={**right, **wrong, "response": "json"}, timeout=10)
    assert answer.status_code == 531
    text = answer.json()["loginresponse"]["errortext"]
    assert text == "Failed to authenticate user, wrong name, password or domain"


def test_a_password_cannot_be_guessed_by_trying(world: World, url: str) -> None:
    for _ in range(TIGHT.sign_ins):
        assert login(world, url, "user", "guess").status_code == 531
    assert login(world, url, "user").status_code == 531
    assert login(world, url, "operator").status_code == 200


def test_the_oldest_session_ends_when_there_are_too_many(world: World, url: str) -> None:
    world.service.sessions._limits = replace(TIGHT, sessions=2)
    answers = [login(world, url, "user") for _ in range(3)]

    def status(answer: requests.Response) -> int:
        sent = {"command": "listZones", "sessionkey": answer.json()["loginresponse"]["sessionkey"]}
        return requests.get(url, params=sent, cookies=answer.cookies, timeout=10).status_code

    assert [status(answer) for answer in answers] == [401, 200, 200]


# Settings that a cloud may have


def test_enforced_post_and_expiry_are_demanded_of_what_changes_something(world: World) -> None:
    world.service.limits = replace(TIGHT, enforce_post=True, value=4096)
    with world.served() as url:
        network = uid("network", "web")
        posting = world.client(url, "user", method="post")
        assert posting.restartNetwork(id=network, fetch_result=True)["success"] is True
        assert world.client(url, "user").listZones()["count"] == 1
        refusals: list[tuple[dict[str, Any], int]] = [
            ({}, 400),
            ({"expiration": -1, "method": "post"}, 401),
            ({"expiration": 3600, "method": "post"}, 401),
        ]
        for options, status in refusals:
            client = world.client(url, "user", **options)
            with pytest.raises(Exception, match=f"HTTP {status}"):
                client.restartNetwork(id=network)


def test_too_many_calls_are_refused_with_429_and_then_served_again(world: World) -> None:
    now = [1000.0]
    world.service.throttle._limits = replace(TIGHT, calls=3)
    world.service.throttle._clock = lambda: now[0]
    with world.served() as url:
        found = [
            requests.get(url, params=signed(world, "listZones"), timeout=10).status_code for _ in range(5)
        ]
        assert found == [200, 200, 200, 429, 429]
        assert requests.get(url, params=signed(world, "listZones", "user"), timeout=10).status_code == 200
        now[0] += TIGHT.calls_window + 0.1
        assert requests.get(url, params=signed(world, "listZones"), timeout=10).status_code == 200


def test_too_many_unfinished_jobs_are_refused_with_503(world: World) -> None:
    world.service.jobs.limits = replace(TIGHT, jobs=0)
    with world.served() as url:
        sent = signed(world, "restartNetwork", "user", id=uid("network", "web"), livepatch="true")
        assert requests.get(url, params=sent, timeout=10).status_code == 503
        assert world.service.chronicle.events() == []
        still_works(world, url)


def test_a_job_that_ended_is_forgotten_after_a_day(world: World, url: str) -> None:
    client = world.client(url, "admin")
    job = client.patchSystemVm(id=uid("vm", "s-2-VM"))["jobid"]
    client._jobresult(job)
    assert client.queryAsyncJobResult(jobid=job)["jobstatus"] == 1
    world.service.jobs.limits = replace(TIGHT, job_expiry=0.0)
    sent = signed(world, "queryAsyncJobResult", jobid=job)
    assert requests.get(url, params=sent, timeout=10).status_code == 431


def test_the_oldest_events_and_alerts_go_when_there_are_too_many() -> None:
    world = World(limits=replace(TIGHT, events=3))
    world.system_vm("s-2-VM", "secstorage")
    for number in range(5):
        world.service.chronicle.alert(9, "x", f"alert {number}")
    with world.served() as url:
        client = world.client(url, "admin")
        for _ in range(2):
            client.patchSystemVm(id=uid("vm", "s-2-VM"), forced=True, fetch_result=True)
        assert client.listEvents()["count"] == 3
        assert [row["description"] for row in client.listAlerts()["alert"]] == [
            "alert 4",
            "alert 3",
            "alert 2",
        ]


def test_no_secret_is_in_a_log_or_an_answer(
    world: World, url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        login(world, url, "admin").text,
        login(world, url, "user", "wrong").text,
        requests.get(url, params=signed(world, "listUsers", listall="true"), timeout=10).text,
        requests.get(url, params={**signed(world, "listZones"), "signature": "x"}, timeout=10).text,
    ]
    said = "".join(
        [*answers, *(record.message for record in caplog.records if record.name != "urllib3.connectionpool")]
    )
    said += "".join(capfd.readouterr())
    for account in world.service.accounts:
        assert account.password not in said
        assert account.secret not in said
        assert account.api_key not in said


def test_a_defect_is_told_as_an_internal_error_and_the_next_call_is_served(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[str]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(world.service, "zones", broken)
    answer = requests.get(url, params=signed(world, "listZones"), timeout=10)
    assert answer.status_code == 530
    assert "secret detail" not in answer.text
    assert requests.get(url, params=signed(world, "listHosts"), timeout=10).status_code == 200
