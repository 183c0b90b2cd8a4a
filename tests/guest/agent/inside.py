"""The agent's modules inside the test's own process, for what needs no process of the agent."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from tests.guest.agent.server import AGENT


def agent_module(name: str) -> ModuleType:
    """Import a module of the agent without leaving byte code in the payload."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(AGENT))
    try:
        return importlib.import_module(f"cloudagent.{name}")
    finally:
        sys.path.remove(str(AGENT))
        sys.dont_write_bytecode = before
