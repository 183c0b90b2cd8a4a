"""The manual of the API says what the tables say."""

from __future__ import annotations

from pathlib import Path

from harness.management.api.commands import table
from harness.management.api.limits import ApiLimits

MANUAL = (Path(__file__).parents[5] / "docs/api.md").read_text(encoding="utf-8")
LETTERS = {"Admin": "R", "ResourceAdmin": "A", "DomainAdmin": "D", "User": "U"}


def test_each_command_is_in_the_manual_with_its_roles_and_parameters() -> None:
    rows = []
    for command in table().values():
        roles = "".join(letter for role, letter in LETTERS.items() if role in command.roles)
        words = [f"**{one.name}**" if one.required else one.name for one in command.parameters]
        rows.append(
            f"| `{command.name}`{' (job)' if command.is_async else ''} | {roles} | {', '.join(words)} |"
        )
    assert [row for row in rows if row not in MANUAL] == []


def test_the_bounds_of_the_manual_are_those_of_the_server() -> None:
    limits = ApiLimits()
    for words in (
        f"{limits.body >> 10} KiB of body", f"{limits.query >> 10} KiB of query string",
        f"{limits.parameters}\nparameters",
        f"{limits.connections} connections", f"{limits.header_time:g} s for the head", f"{limits.sessions} sessions",
        f"{limits.session_idle / 60:g} minutes of idling", f"{limits.sign_ins} failed sign-ins",
        f"{limits.jobs} unfinished jobs", f"(at\nmost {limits.page_size})",
    ):  # fmt: skip
        assert words in MANUAL
    assert limits.header_time == limits.body_time
