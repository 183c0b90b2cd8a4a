"""Report formats: each registers itself, and none takes another one's file."""

from __future__ import annotations

import pytest

from harness.report.formats import formats, report_format


def test_every_module_of_the_room_that_has_a_format_is_found() -> None:
    assert [each.file for each in formats()] == ["junit.xml", "report.html", "run.json"]


def test_two_formats_of_one_file_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two report formats write 'run\.json'"):
        report_format("run.json")(lambda report: report.name)
    assert len(formats()) == 3
