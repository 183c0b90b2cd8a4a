"""Services are rows of the catalogue: a mistake in one is named, and script and documentation say what the rows say."""

import re
from pathlib import Path

import pytest

from bundle import catalogue, services
from bundle.errors import UsageError
from bundle.seal.script import ScriptSpec, render

ROOT = Path(__file__).parents[3]
ROWS = catalogue.load().service_rows
PLAIN = {"turn": "first", "renewed": "restart"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"renewed": "restart"}, "turn is None (expected first or last)"),
        ({"turn": "first", "renewed": "kick"}, "renewed is 'kick' (expected reload or restart)"),
        ({**PLAIN, "colour": "red"}, "unknown key 'colour'"),
        ({**PLAIN, "check": "x' ; rm -rf /"}, "check has characters that the script cannot hold"),
        ({**PLAIN, "reads": ["etc/a b"]}, "'etc/a b' has characters that a list in the script cannot hold"),
        ({**PLAIN, "workers": True}, "only a reload starts new workers"),
    ],
)
def test_a_mistake_in_a_row_is_one_line(row, words):
    with pytest.raises(UsageError, match=re.escape(f"service 'x' of the catalogue: {words}")):
        services.parse({"x": row})


def test_every_word_of_enabled_svcs_has_a_row():
    words = {word for row in catalogue.load().services.values() for word in row.enabled}
    assert words <= set(ROWS)


def test_what_routers_have_since_4_20_has_rows():
    assert {"frr", "radvd"} <= set(ROWS)


def test_the_script_renews_as_the_rows_say():
    text = render(ScriptSpec(catalogue.load().release("4.22"), "format\t1\n"))
    assert f"@({'|'.join(services.reloaded(ROWS))})" in text
    for row in ROWS.values():
        assert (f"[{row.name}]='{row.check}'" in text) == bool(row.check)
        assert f"['{row.name}']='{' '.join(services.sources(row))}'" in text


def test_the_documentation_has_the_row_of_every_service_in_its_order():
    text = (ROOT / "docs/livepatch.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `([\w-]+)` \| (reload|restart) \| (.*?) \|", text, re.MULTILINE)
    told = [(row.name, row.renewed, " ".join(f"`{p}`" for p in row.reads) or "–") for row in ROWS.values()]
    assert found == told


def test_what_the_harness_knows_of_a_service_is_in_its_row():
    assert {row.name for row in ROWS.values() if row.failover} == {"keepalived"}
    assert {row.name for row in ROWS.values() if row.by_rules} == {"apache2", "dnsmasq", "haproxy", "radvd"}
    assert {row.name for row in ROWS.values() if row.probes} == {"apache2", "dnsmasq", "haproxy"}
