"""The gravest finding comes first, whatever was found first."""

from harness.checks import checks
from harness.record import severity


def test_an_outage_is_told_before_a_stray_file():
    lines = [
        "files.no-leftovers: 1 file",
        "journal.quiet: a warning",
        "request.web: refused",
        "sshd.host-keys: new",
    ]
    assert [line.partition(":")[0] for line in severity.gravest_first(lines)] == [
        "request.web",
        "sshd.host-keys",
        "files.no-leftovers",
        "journal.quiet",
    ]


def test_among_equals_the_order_of_finding_stays():
    assert severity.gravest_first(["services.up: a", "request.x: b"]) == ["services.up: a", "request.x: b"]


def test_every_shipped_check_has_a_severity_of_its_subject():
    unknown = [check.name for check in checks() if check.name.partition(".")[0] not in severity._OF]
    assert unknown == []
