"""The call that tells which calls there are: the table of commands, as far as the caller's role may use it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.management.api.call import ApiCall, Command
from harness.management.api.fields import FIELDS
from harness.management.api.problems import not_yours
from harness.management.api.rows import Row


def list_apis(call: ApiCall) -> Row:
    """Return the commands that the caller's role has."""
    name = call.get("name")
    found = [row for row in _apis(call) if name is None or row["name"].lower() == name.lower()]
    if name is not None and not found:
        raise not_yours(f"the API {name}")
    return {"count": len(found), "api": found}


def _apis(call: ApiCall) -> list[Row]:
    mine = [command for command in call.table.values() if call.caller.role in command.roles]
    return [_api(command, mine) for command in mine]


def _api(command: Command, all_of_role: Sequence[Command]) -> Row:
    related = [
        other.name
        for other in all_of_role
        if other.object == command.object and other.object and other.name != command.name
    ]
    answer = FIELDS.get(command.object, {})
    if command.is_async:
        answer = {
            "success": ("boolean", "whether it succeeded"),
            "displaytext": ("string", "what was done"),
        }
    return {
        "name": command.name,
        "description": command.text,
        "since": command.since or None,
        "isasync": command.is_async,
        "related": ",".join(related),
        "params": [
            {
                "name": one.name,
                "description": one.text,
                "type": one.kind,
                "length": 255,
                "required": one.required,
                "since": one.since or None,
            }
            for one in command.parameters
        ],
        "response": [
            {"name": name, "description": text, "type": kind} for name, (kind, text) in answer.items()
        ],
    }
