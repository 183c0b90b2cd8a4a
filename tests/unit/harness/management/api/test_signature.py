"""The signature of a request: the server's own rule, and where clients agree with it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cs import CloudStack

from harness.management.api import signature


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("~", "%7E"),
        ("a*b-c.d_e", "a*b-c.d_e"),
        ("ä", "%C3%A4"),
        ("[0].key/x", "%5B0%5D.key%2Fx"),
        ("", ""),
    ],
)
def test_values_are_encoded_as_java_does(value: str, encoded: str) -> None:
    assert signature.encode(value) == encoded


def test_a_request_has_the_signature_that_openssl_works_out() -> None:
    # printf %s 'apikey=plgwjfz&command=listrouters&response=json' | openssl dgst -sha1 -hmac VDaACYb -binary | base64
    sent = {"response": "json", "command": "listRouters", "apiKey": "plgWJfZ"}
    assert signature.sign(sent, "VDaACYb") == "4iFd3orD395HTGFnRtxZMng33/k="


@pytest.mark.parametrize(
    "parameters",
    [
        {"command": "listRouters", "listall": "true", "name": "a b"},
        {"command": "restartNetwork", "livePatch": "true", "id": "ä/[x]"},
        {"command": "listZones", "Zone": "1", "zone2": "2", "apiKey": "k"},
    ],
)
def test_the_client_cs_signs_the_same(parameters: dict[str, str]) -> None:
    client = CloudStack("http://localhost", key="k", secret="s")
    signed = dict(parameters)
    client._sign(signed)
    assert signature.is_signed(signed, "s")
    assert not signature.is_signed(signed, "other")
    assert not signature.is_signed({**signed, "name": "changed"}, "s")


def test_capitals_come_before_small_letters() -> None:
    assert signature.sign({"B": "1", "a": "2"}, "s") != signature.sign({"b": "1", "a": "2"}, "s")


def test_a_request_without_a_signature_is_not_signed() -> None:
    assert not signature.is_signed({"command": "listZones"}, "s")


def test_only_version_three_has_an_expiry() -> None:
    assert signature.expiry({"expires": "rubbish"}) is None
    sent = {"signatureVersion": "3", "expires": "2026-11-26T21:24:23+0000"}
    assert signature.expiry(sent) == datetime(2026, 11, 26, 21, 24, 23, tzinfo=UTC)


@pytest.mark.parametrize("expires", ["", "yesterday", "2026-11-26", "2026-11-26T21:24:23"])
def test_an_expiry_that_cannot_be_read_is_an_error(expires: str) -> None:
    with pytest.raises(ValueError, match="does not match format"):
        signature.expiry({"signatureVersion": "3", "expires": expires})
