"""The page on real VMs, clicked on in a browser: root patches a storage VM, a user his network.

``SYSVM_API_VMS=1`` runs it, as ``nox -s api`` does: the simulated VMs of the unit tests have more cases, and cost less.
"""

from __future__ import annotations

import json
import os
import re

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.served_vms import refusing, serving, started

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(
        "SYSVM_API_VMS" not in os.environ, reason="nox -s api runs it: some minutes without KVM"
    ),
]
STORAGE, ROUTER = "page-s", "page-r"
# The name of a VM that somebody else started, and of a folder in a VM: whoever made them wanted to do harm.
HOSTILE_VM = "<b>hostile</b>"
HOSTILE_FOLDER = '<img src=x onerror="document.title=1">'
# A patch of an emulated VM on a busy machine.
PATIENCE = 300_000


@pytest.fixture
def served(sysvm, tmp_path):
    """Serve a storage VM and a router, and the storage VM once more as one that somebody else started."""
    built = sysvm("bundle", "build", "--output", str(tmp_path / "bundle"))
    assert built.returncode == 0, built.stderr
    with started(sysvm, {STORAGE: "secstorage", ROUTER: "router"}) as kinds:
        port, key = where(sysvm)
        words = ("--ssh", f"{HOSTILE_VM}=127.0.0.1:{port}", "--ssh-key", key, "--trust-first")
        with serving(tmp_path / "state", "--bundle", str(tmp_path / "bundle"), *words, *kinds) as server:
            yield server


def where(sysvm):
    """Return port and key of the storage VM, as a person is told them."""
    (kept,) = (row for row in json.loads(sysvm("vm", "list", "--json").stdout) if row["name"] == STORAGE)
    return kept["ssh_port"], kept["ssh_key"]


@pytest.fixture
def page(served):
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        opened = chromium.new_context().new_page()
        opened.goto(served.url)
        yield opened
        chromium.close()


def sign_in(page: Page, account):
    page.get_by_label("Name").fill(account["name"])
    page.get_by_label("Password").fill(account["password"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def line(page: Page, name: str):
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))


def click(page: Page, name: str) -> tuple[str, set[str]]:
    """Click on the button of a row; returns what the row says at the end, and what it said before."""
    row = line(page, name)
    row.get_by_role("button", name=f"Live patch {name}").click()
    state, seen = row.get_by_role("status"), set()
    for _ in range(PATIENCE // 200):
        text = state.inner_text()
        if text.startswith(("Succeeded", "Failed", "Not known")):
            return text, seen
        seen.add(text)
        page.wait_for_timeout(200)
    raise AssertionError(f"no end within {PATIENCE} ms; seen: {seen}")


def test_root_patches_a_storage_vm_and_a_user_his_network(sysvm, served, page):
    sign_in(page, served.account("admin"))
    expect(line(page, STORAGE)).to_contain_text("available (yes)")
    assert line(page, HOSTILE_VM).count() == 1
    with refusing(sysvm, STORAGE, HOSTILE_FOLDER):
        said, _ = click(page, STORAGE)
    assert said.startswith("Failed: ")
    assert HOSTILE_FOLDER in said
    said, seen = click(page, STORAGE)
    assert said == f"Succeeded: Successfully patched systemVM {STORAGE}"
    assert len(shown := {text for text in seen if re.fullmatch(rf"{STORAGE}: [a-z ]+", text)}) > 2, shown
    row = line(page, STORAGE)
    expect(row).to_contain_text("not available it runs the server's scripts")
    expect(row.get_by_role("button")).to_have_count(0)
    row.get_by_text("Report").click()
    assert f"{STORAGE}: verifying" in row.get_by_role("list").inner_text()
    harmless(page)
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, served.account("user"))
    expect(page.get_by_role("heading", level=2)).to_have_text(["Networks"])
    expect(page.get_by_role("button", name="Live patch")).to_have_count(1)
    network = f"{ROUTER}-network"
    said, seen = click(page, network)
    assert said == f"Succeeded: {ROUTER}: Successfully patched systemVM {ROUTER}"
    assert len(seen) > 2, seen
    expect(page.get_by_role("button", name="Live patch")).to_have_count(0)
    assert STORAGE not in page.locator("body").inner_text()
    harmless(page)


def harmless(page: Page) -> None:
    assert page.title() == "System VMs: live patches"
    assert page.locator("main").locator("b, img").count() == 0
