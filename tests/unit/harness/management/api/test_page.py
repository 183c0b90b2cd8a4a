"""The page, clicked on in a browser: what each role sees, what a click does, and what a hostile name does not."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from harness.management.api import app, uid
from harness.management.api.pages import POLICY, pages
from harness.management.api.serving import served
from tests.unit.harness.apiworld import PEOPLE, World
from tests.unit.harness.management.api.conftest import inhabited
from tests.unit.harness.simulator import NEW, OLD

CHROMIUM = Path("/usr/bin/chromium")
PICTURE = Path(__file__).parents[5] / "docs/api-page.png"
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def world() -> World:
    return inhabited()


@pytest.fixture
def address(world: World) -> Iterator[str]:
    world.service.watch.look_at_all()
    made = app.app(world.service, ["127.0.0.1"], pages(world.service.version))
    with served(made, world.limits) as url:
        yield url
    world.service.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 720})
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    opened.goto(address)
    yield opened
    context.close()


def sign_in(page: Page, name: str) -> None:
    (account,) = (one for one in PEOPLE if one.name == name)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(account.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def line(page: Page, name: str):
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))


def test_root_patches_a_storage_vm_and_sees_how_it_goes_and_ends(world: World, page: Page) -> None:
    guest = world.cloud.guests["s-2-VM"]
    guest.waits_for = threading.Event()
    sign_in(page, "admin")
    row = line(page, "s-2-VM")
    expect(row).to_contain_text("available (yes)")
    expect(row).to_contain_text(NEW[:12])
    row.get_by_role("button", name="Live patch s-2-VM").click()
    expect(row.get_by_role("status")).to_have_text("s-2-VM: patching")
    guest.waits_for.set()
    expect(row.get_by_role("status")).to_have_text("Succeeded: Successfully patched systemVM s-2-VM")
    expect(row).to_contain_text("not available it runs the server's scripts")
    expect(row.get_by_role("button")).to_have_count(0)
    row.get_by_text("Report").click()
    phases = row.get_by_role("listitem").all_inner_texts()
    assert [text.partition(" ")[2] for text in phases] == [
        "started", "s-2-VM: asking what runs", "s-2-VM: patching", "s-2-VM: verifying",
    ]  # fmt: skip
    assert guest.signature == NEW


def test_root_is_told_why_a_patch_failed_and_may_try_again(world: World, page: Page) -> None:
    world.cloud.guests["v-1-VM"].fails = "cloud is not active"
    sign_in(page, "admin")
    row = line(page, "v-1-VM")
    row.get_by_role("button").click()
    expect(row.get_by_role("status")).to_have_text(
        "Failed: v-1-VM: the live patch failed: cloud is not active"
    )
    expect(row.get_by_role("button")).to_be_enabled()
    world.cloud.guests["v-1-VM"].fails = ""
    world.cloud.guests["v-1-VM"].waits_for = threading.Event()
    row.get_by_role("button").click()
    # What the last try ended with is gone, and its report.
    expect(row.get_by_role("status")).to_have_text(re.compile("asked for|v-1-VM: "))
    expect(row.get_by_text("Report")).to_have_count(0)
    world.cloud.guests["v-1-VM"].waits_for.set()
    expect(row.get_by_role("status")).to_have_text("Succeeded: Successfully patched systemVM v-1-VM")


def polls_lost(page: Page, lost: Callable[[int], bool]) -> None:
    """Let some of the polls of a job, which are counted from 1, never arrive."""
    number = count(1)

    def sort_out(route: Route) -> None:
        if "command=queryAsyncJobResult" in (route.request.post_data or "") and lost(next(number)):
            route.abort()
        else:
            route.continue_()

    page.route("**/client/api", sort_out)


def test_a_poll_that_gets_lost_is_no_verdict(world: World, page: Page) -> None:
    sign_in(page, "admin")
    polls_lost(page, lambda number: number < 3)
    row = line(page, "s-2-VM")
    row.get_by_role("button").click()
    expect(row.get_by_role("status")).to_have_text("Succeeded: Successfully patched systemVM s-2-VM")


def test_a_server_that_answers_no_more_leaves_the_end_of_a_patch_unknown(world: World, page: Page) -> None:
    page.clock.install()
    sign_in(page, "admin")
    polls_lost(page, lambda number: True)
    row = line(page, "s-2-VM")
    row.get_by_role("button").click()
    state = row.get_by_role("status")
    for _ in range(20):
        page.clock.run_for(1000)
        if "Not known" in state.inner_text():
            break
    expect(state).to_have_text(re.compile("Not known: .*; job [-0-9a-f]{36} may go on"))


def test_who_is_signed_out_during_a_patch_is_told_so(world: World, page: Page) -> None:
    guest = world.cloud.guests["s-2-VM"]
    guest.waits_for = threading.Event()
    sign_in(page, "admin")
    row = line(page, "s-2-VM")
    row.get_by_role("button").click()
    expect(row.get_by_role("status")).to_have_text("s-2-VM: patching")
    page.context.clear_cookies()  # as after another start of the server, which knows no session
    expect(page.get_by_role("alert")).to_contain_text("You are signed out: ")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    guest.waits_for.set()


def test_a_user_patches_his_network_and_sees_no_vm_and_no_one_elses(world: World, page: Page) -> None:
    sign_in(page, "user")
    expect(page.get_by_role("heading", level=2)).to_have_text(["Networks"])
    expect(page.locator("tbody tr")).to_have_count(2)
    row = line(page, "web")
    row.get_by_role("button", name="Live patch web").click()
    expect(row.get_by_role("status")).to_have_text("Succeeded: r-3-VM: Successfully patched systemVM r-3-VM")
    assert world.cloud.patches() == ["r-3-VM"]
    text = page.locator("body").inner_text()
    assert "host1" not in text
    assert "shop" not in text


def test_a_button_is_there_only_where_a_patch_is(world: World, page: Page) -> None:
    world.cloud.inventory.change("r-3-VM", scripts_version=NEW)
    world.cloud.inventory.change("r-6-VM", template_version="Cloudstack Release 4.11.0")
    sign_in(page, "admin")
    expect(line(page, "r-3-VM").get_by_role("button")).to_have_count(0)
    expect(line(page, "r-6-VM").get_by_role("button")).to_have_count(0)
    expect(line(page, "r-6-VM")).to_contain_text("not available")
    expect(line(page, "r-4-VM").get_by_role("button")).to_have_count(1)
    expect(line(page, "r-4-VM")).to_contain_text(OLD[:12])


def test_a_hostile_name_is_text_and_nothing_else(world: World, page: Page) -> None:
    world.router(HOSTILE, network="hostile-net")
    world.cloud.guests[HOSTILE].fails = HOSTILE
    world.service.watch.look_at_all()
    sign_in(page, "admin")
    row = page.get_by_role("row").filter(has_text=HOSTILE)
    row.get_by_role("button").click()
    expect(row.get_by_role("status")).to_contain_text(f"Failed: {HOSTILE}")
    assert page.title() == "System VMs: live patches"
    assert page.locator("img").count() == 0


def test_a_wrong_password_is_refused_in_words(page: Page) -> None:
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong name, password or domain")


def test_who_reloads_stays_signed_in_and_who_signs_out_does_not(page: Page) -> None:
    sign_in(page, "user")
    page.reload()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_foreign_page_cannot_have_the_browser_call(world: World, page: Page, address: str) -> None:
    sign_in(page, "user")
    target = (
        f"{address}/client/api?command=restartNetwork&livepatch=true&response=json&id={uid('network', 'web')}"
    )
    answer = page.goto(target)  # with the cookies of the session, as a link on any page would
    assert answer is not None
    assert answer.status == 401
    assert world.cloud.timeline == []


def test_no_script_but_the_pages_own_can_run(page: Page, address: str) -> None:
    assert requests.get(address, timeout=10).headers["content-security-policy"] == POLICY
    ran = page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); return window.ran === undefined; }"
    )
    assert ran is True


def test_the_page_fits_its_window_and_can_be_pictured_for_the_manual(page: Page) -> None:
    """``SYSVM_PICTURES=1`` makes the picture of docs/api.md anew."""
    sign_in(page, "admin")
    row = line(page, "s-2-VM")
    row.get_by_role("button").click()
    expect(row.get_by_role("status")).to_contain_text("Succeeded")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    taken = page.screenshot(full_page=True)
    if os.environ.get("SYSVM_PICTURES"):
        PICTURE.write_bytes(taken)
    assert taken.startswith(b"\x89PNG")
