"""The pictures of the documentation, taken of recorded runs: ``python -m tests.pictures`` writes docs/pictures."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from harness.record.results import ResultsFolder
from harness.report import write

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/pictures"


def main() -> None:
    """Take the first screen of a failed run, and the drawing of a patch that went well."""
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1100, "height": 640}, color_scheme="light")
        for run in ("broken-bundle", "main-job"):
            shutil.copytree(ROOT / "tests/data/runs" / run, Path(folder) / run)
            write(ResultsFolder(Path(folder) / run))
        page.goto((Path(folder) / "broken-bundle/report.html").as_uri())
        page.screenshot(path=TARGET / "report.png")
        page.goto((Path(folder) / "main-job/report.html").as_uri() + "#router-from-4.21-live-patch")
        page.wait_for_selector(".panel[data-ready]")
        page.evaluate("document.querySelector('.filter').style.position = 'static'")
        page.locator("svg.drawing").first.screenshot(path=TARGET / "timeline.png")
        browser.close()


if __name__ == "__main__":
    main()
