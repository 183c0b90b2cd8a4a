"""The page in a real browser, as a person sees it: of recorded runs, and of runs of 500 and 1,680 scenarios."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness.record.results import ResultsFolder
from harness.report import compare, write
from harness.report.html import render_html
from harness.report.rows import RunReport
from tests.unit.harness.report.recorded import DATA, many, recorded

HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\u202e\x1b[2J&amp;{{7*7}}"
)
ALERT = "unknown keyword 'this-is-no-keyword' in 'global' section"
BROKEN = "router-from-4.21-live-patch"
# Ratio of luminance between each visible text and what is behind it; returns those below what WCAG AA wants.
CONTRAST = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      const alpha = numbers(color)[3];
      if (alpha === undefined || alpha === 1) return color;
    }
    throw new Error("no background");
  };
  const seen = [], bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script,title")) continue;
    const style = getComputedStyle(element);
    const front = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(front), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    seen.push(ratio);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 60)}`);
  }
  return { seen: seen.length, bad };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "chromium is not installed: make machine"
    with sync_playwright() as playwright:
        # Its sandbox cannot be had by root.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=program, args=flags) as found:
            yield found


Open = Callable[..., Page]


@pytest.fixture
def show(browser: Browser) -> Iterator[Open]:
    """Open a page and fail on any script error and on any request for what is not a file of the run."""
    pages: list[Page] = []
    wrong: list[str] = []

    def opened(
        path: Path, fragment: str = "", width: int = 1280, scheme: str = "light", script: bool = True
    ) -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script
        )
        pages.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on(
            "request",
            lambda request: wrong.append(request.url) if path.parent.as_uri() not in request.url else None,
        )
        page.goto(path.as_uri() + fragment)
        return page

    yield opened
    for page in pages:
        page.close()
    assert wrong == []


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the recorded run of a broken bundle, with its logs."""
    folder = tmp_path_factory.mktemp("runs") / "broken"
    shutil.copytree(DATA / "broken-bundle", folder)
    write(ResultsFolder(folder))
    return folder / "report.html"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "good"
    shutil.copytree(DATA / "main-job", folder)
    write(ResultsFolder(folder))
    return folder / "report.html"


@pytest.fixture(scope="module")
def five_hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("runs") / "report.html"
    page.write_text(render_html(many(500, 10)))
    return page


@pytest.fixture(scope="module")
def largest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("runs") / "report.html"
    page.write_text(render_html(many(1680, 40)))
    return page


def open_first(page: Page) -> None:
    page.locator("details.row > summary").first.click()
    page.wait_for_selector(".panel[data-ready]")


def on_first_screen(page: Page, text: str) -> bool:
    box = page.get_by_text(text).first.bounding_box()
    assert box is not None, f"{text} is nowhere"
    return box["y"] >= 0 and box["y"] + box["height"] <= 800 and box["x"] >= 0


def test_a_person_finds_the_reason_on_the_first_screen(show: Open, broken: Path) -> None:
    page = show(broken)
    cause = page.locator(".cause")
    expect(cause).to_contain_text("cannot bring service haproxy up with the new files")
    expect(cause.locator("li").nth(1)).to_contain_text(ALERT)
    digest = recorded("broken-bundle").subjects[0]["bundle"]["content_digest"]
    for text in ("failed", ALERT, digest, "4.21 → 4.22", "7 failed", "4.20.2 on Debian 12 slim"):
        assert on_first_screen(page, text), text
    assert page.locator("button.cell").first.bounding_box()["y"] < 800  # type: ignore[index]


def test_the_line_that_proves_it_opens_the_log_at_this_line(show: Open, broken: Path) -> None:
    page = show(broken)
    page.locator(".cause li a", has_text=ALERT).click()
    page.wait_for_url("**/livepatch.log.html#L*")
    line = page.locator(":target")
    expect(line).to_contain_text(ALERT)
    expect(line).to_be_in_viewport()
    number = int(page.url.rpartition("#L")[2])
    log = next((DATA / "broken-bundle").rglob("livepatch.log")).read_text().splitlines()
    assert ALERT in log[number - 1]


def test_failures_come_first_and_passed_checks_are_folded(show: Open, broken: Path) -> None:
    page = show(broken)
    page.locator(".cause a", has_text=BROKEN).click()
    page.wait_for_selector(".panel[data-ready]")
    shown = page.locator(".panel .check strong").all_inner_texts()
    assert shown[0] == "answer.outcome (first patch)"
    assert len(shown) == 7
    passed = page.get_by_text("services.listed (first patch)", exact=True)
    expect(passed).to_have_count(0)
    page.get_by_text(re.compile(r"^\d+ checks passed$")).click()
    expect(passed).to_be_visible()


def test_each_log_is_a_link(show: Open, broken: Path) -> None:
    page = show(broken, f"#{BROKEN}")
    page.locator(".logs a", has_text="livepatch.log").click()
    expect(page.locator("ol.log li").first).to_be_visible()


def test_a_patch_has_one_drawing_with_a_time_axis(show: Open, good: Path) -> None:
    page = show(good, f"#{BROKEN}")
    page.wait_for_selector(".panel[data-ready]")
    drawings = page.locator("svg.drawing")
    told = [drawing.get_attribute("aria-label") or "" for drawing in drawings.all()]
    assert [text.split(":")[0] for text in told] == ["first patch", "second patch"]
    first = drawings.first
    texts = first.locator("text").all_text_contents()
    assert texts[0] == "0 s"
    for label in (
        "steps: live patch",
        "script: prepare",
        "haproxy: haproxy reloaded",
        "dnsmasq: restarting dnsmasq",
    ):
        assert any(text.startswith(label) for text in texts), (label, texts)
    assert any(text.startswith("load balancer 192.0.2.20:80") for text in texts)
    assert first.locator("rect.answers").count() == 10
    assert first.locator("rect.rules").count() >= 1
    assert "from second" in (first.locator("rect.gap title").first.text_content() or "")


def test_a_filter_finds_scenarios_by_word_verdict_type_release_and_check(
    show: Open, five_hundred: Path
) -> None:
    page = show(five_hundred)
    count, box = page.locator("#count"), page.get_by_label("Filter")
    expect(count).to_have_text("500 of 500")
    for query, found in (
        ("verdict:failed", 10), ("type:ilbvm from:4.15", 6), ("check:files.installed", 10),
        ("passed:services.up verdict:passed", 490), ("S0007-", 1), ("type:router verdict:failed check:nosuch", 0),
    ):  # fmt: skip
        box.fill(query)
        expect(count).to_have_text(f"{found} of 500")
        assert page.locator("details.row").count() == min(found, 100)


def test_what_failed_stands_before_what_passed(show: Open, five_hundred: Path) -> None:
    page = show(five_hundred)
    shown = page.locator("details.row > summary > .badge:first-child").all_inner_texts()
    assert shown[:11] == ["failed"] * 10 + ["passed"]


def test_a_cell_of_the_matrix_and_a_count_can_be_clicked(show: Open, five_hundred: Path) -> None:
    page = show(five_hundred)
    cell = page.locator("tr", has=page.locator("th", has_text="4.13")).locator("button").nth(2)
    cell.click()
    expect(page.get_by_label("Filter")).to_have_value("type:ilbvm from:4.13")
    ids = page.locator("details.row .id").all_inner_texts()
    assert ids
    assert all(name.startswith("ilbvm-from-4.13-") for name in ids)
    expect(cell).to_have_attribute("aria-pressed", "true")
    cell.click()
    expect(page.locator("#count")).to_have_text("500 of 500")
    page.locator("button.chip.failed").click()
    expect(page.locator("#count")).to_have_text("10 of 500")


def test_the_largest_run_is_usable_within_a_second_and_below_two_megabytes(show: Open, largest: Path) -> None:
    assert largest.stat().st_size < 2_000_000
    took = []
    # What else this machine does at the moment is not the page's: one undisturbed time is enough.
    while not took or (min(took) >= 1000 and len(took) < 6):
        page = show(largest)
        took.append(int(page.get_attribute("html", "data-usable") or 10_000))
    assert min(took) < 1000, took
    assert page.locator("details.row").count() == 100
    box = page.get_by_label("Filter")
    box.fill("S1679-")
    expect(page.locator("#count")).to_have_text("1 of 1680")
    open_first(page)
    assert page.locator("svg.drawing").count() == 2
    box.fill("")
    expect(page.locator("#count")).to_have_text("1680 of 1680")
    page.locator("details.row").last.scroll_into_view_if_needed()
    expect(page.locator("details.row")).not_to_have_count(100)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(show: Open, broken: Path, scheme: str) -> None:
    page = show(broken, f"#{BROKEN}", scheme=scheme)
    page.wait_for_selector(".panel[data-ready]")
    for fold in page.locator(".folded > summary").all():
        fold.click()
    found = page.evaluate(CONTRAST)
    assert found["seen"] > 100
    assert found["bad"] == []


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_cut_off_on_a_narrow_screen(show: Open, broken: Path, width: int) -> None:
    page = show(broken, f"#{BROKEN}", width=width)
    page.wait_for_selector(".panel[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for badge in page.locator(".badge").all():
        box = badge.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width


def test_everything_can_be_reached_with_the_keyboard(show: Open, broken: Path) -> None:
    page = show(broken)

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        pytest.fail(f"{selector} cannot be reached")

    tab_to("button.chip.failed")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter")).to_have_value("verdict:failed")
    tab_to("button.cell")
    tab_to("#filter")
    tab_to("details.row > summary")
    page.keyboard.press("Enter")
    page.wait_for_selector(".panel[data-ready]")
    tab_to(".logs a")
    tab_to(".folded > summary")
    page.keyboard.press("Enter")
    expect(page.locator(".folded[open]")).to_have_count(1)


def hostile(report: RunReport) -> RunReport:
    (row,) = report.scenarios
    checks = tuple(
        replace(check, name=HOSTILE, reason=HOSTILE, details=(HOSTILE,), occasion=HOSTILE)
        for check in row.checks
    )
    evil = replace(
        row, id=HOSTILE, title=HOSTILE, reason=HOSTILE, template=HOSTILE, services=(HOSTILE,), vm_type=HOSTILE,
        from_release=HOSTILE, checks=checks, logs=(HOSTILE, "../../etc/passwd"),
        steps=tuple(replace(step, name=HOSTILE, vm=HOSTILE, reason=HOSTILE) for step in row.steps),
        patches=tuple(replace(p, details=HOSTILE, log=(HOSTILE,), occasion=HOSTILE) for p in row.patches),
        probes=tuple(replace(p, name=HOSTILE, occasion=HOSTILE) for p in row.probes),
    )  # fmt: skip
    subject = {"bundle": {"version": HOSTILE, "files": {HOSTILE: HOSTILE}}, "template": {"label": HOSTILE}}
    return replace(
        report, name=HOSTILE, reason=HOSTILE, facts={HOSTILE: HOSTILE}, subjects=(subject,), scenarios=(evil,)
    )


def test_hostile_text_is_shown_and_never_obeyed(show: Open, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render_html(hostile(recorded("broken-bundle")), tmp_path))
    page = show(tmp_path / "report.html")
    open_first(page)
    for fold in page.locator(".folded > summary").all():
        fold.click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    words = page.inner_text("body")
    assert "<script>window.hacked=1</script>" in words
    assert "{{7*7}}" in words
    assert "\\u202e\\x1b[2J&amp;" in words
    assert not set("\u202e\x1b") & set(words)


def test_the_policy_lets_no_other_script_run(show: Open, good: Path) -> None:
    page = show(good)
    ran = page.evaluate("""async () => {
      const refused = new Promise((done) =>
        addEventListener("securitypolicyviolation", (e) => done(e.effectiveDirective)));
      const script = document.createElement("script");
      script.textContent = "window.hacked = 1";
      document.body.append(script);
      return [await refused, window.hacked ?? null];
    }""")
    assert ran == ["script-src-elem", None]


def test_without_scripts_the_first_screen_is_still_there(show: Open, broken: Path) -> None:
    page = show(broken, script=False)
    expect(page.locator(".cause")).to_contain_text(ALERT)
    expect(page.locator("noscript p")).to_be_visible()


def test_what_is_new_since_an_earlier_run_is_shown_and_can_be_picked(show: Open, tmp_path: Path) -> None:
    earlier, now = many(40, 0), many(40, 4)
    then = replace(earlier, name="earlier", scenarios=tuple(
        replace(old, id=new.id) for old, new in zip(earlier.scenarios, now.scenarios, strict=True)
    ))  # fmt: skip
    (tmp_path / "report.html").write_text(render_html(now, None, compare(now, then)))
    page = show(tmp_path / "report.html")
    expect(page.locator(".against")).to_contain_text("against earlier: 4 broken")
    page.get_by_role("button", name="with news").click()
    assert page.locator("details.row .id").count() >= 4
    open_first(page)
    expect(page.locator(".panel").first).to_contain_text("failed now, passed then")


def test_a_gap_that_the_host_may_have_made_tells_how_much_of_it_is_sure(show: Open, tmp_path: Path) -> None:
    report = recorded("main-job")
    row = next(row for row in report.scenarios if row.probes)
    probes = [replace(row.probes[0], name="stood still", longest_gap_ms=9000.0, sure_gap_ms=2100.0)]
    probes.append(replace(row.probes[0], name="awake", longest_gap_ms=400.0, sure_gap_ms=400.0))
    path = tmp_path / "report.html"
    path.write_text(render_html(replace(report, scenarios=(replace(row, probes=tuple(probes)),))))
    page = show(path)
    open_first(page)
    page.get_by_text("2 probes in numbers").click()
    expect(page.locator("tr", has_text="stood still").last).to_contain_text("9.0 s (2.1 s of it for sure)")
    expect(page.locator("tr", has_text="awake").last).not_to_contain_text("for sure")
