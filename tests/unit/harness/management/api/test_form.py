"""The form of requests and answers: addresses, names, headers, and XML for who does not ask for JSON."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
import requests

from harness.management.api import signature
from harness.management.api.fields import FIELDS
from tests.unit.harness.apiworld import World


@pytest.mark.parametrize("path", ["", "/"])
def test_both_addresses_answer(world: World, url: str, path: str) -> None:
    account = world.service.accounts.named("admin")
    sent = {"command": "listCapabilities", "response": "json", "apikey": account.api_key}
    sent["signature"] = signature.sign(sent, account.secret)
    answer = requests.get(f"{url}{path}?{urlencode(sent)}", timeout=10, allow_redirects=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    capability = answer.json()["listcapabilitiesresponse"]["capability"]
    assert capability["cloudstackversion"] == "4.22.0.0"
    assert set(capability) <= set(FIELDS["capability"])


def test_a_refusal_is_also_in_a_header(world: World, url: str) -> None:
    answer = requests.get(url, params={"command": "listZones", "response": "json"}, timeout=10)
    assert answer.status_code == 401
    assert list(answer.json()) == ["listzonesresponse"]
    assert answer.headers["x-description"] == answer.json()["listzonesresponse"]["errortext"]
