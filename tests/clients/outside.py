"""Clients that need an environment of their own, for their size or their Python: ``nox -s ansible`` makes it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENVIRONMENT = "SYSVM_ANSIBLE"
REASON = "nox -s ansible makes the environment that this needs"


def programs() -> Path:
    """Return the folder of the programs of an environment that has ansible, cs and py-acs-sdk."""
    return Path(os.environ[ENVIRONMENT])


def play(
    url: str, key: str, secret: str, folder: Path, tasks: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Have Ansible carry out tasks, up to the first that fails, and return what each says."""
    book = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": list(tasks)}]
    (folder / "book.json").write_text(json.dumps(book))
    more = {
        "HOME": str(folder),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_PYTHON_INTERPRETER": str(programs() / "python"),
        "CLOUDSTACK_ENDPOINT": url,
        "CLOUDSTACK_KEY": key,
        "CLOUDSTACK_SECRET": secret,
    }
    done = _run([programs() / "ansible-playbook", "-i", "localhost,", "book.json"], folder, more)
    said = json.loads(done.stdout[done.stdout.index("{") :])
    return [task["hosts"]["localhost"] for task in said["plays"][0]["tasks"]]


_SDK = """
import json, sys
from acs_sdk import ApacheCloudStack, ApacheCloudStackConfig
url, key, secret = sys.argv[1:4]
client = ApacheCloudStack(ApacheCloudStackConfig(api_endpoint=url, api_key=key, api_secret=secret)).client
for line in sys.stdin:
    command, parameters = json.loads(line)
    try:
        print(json.dumps(client.call(command, parameters)), flush=True)
    except Exception as error:
        print(json.dumps({"raised": type(error).__name__, "text": str(error)}), flush=True)
"""


class Sdk:
    """The client of py-acs-sdk, in its own process; use it as a context."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [programs() / "python", "-c", _SDK, url, key, secret], env=_environment({}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Sdk:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def call(self, command: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer, without the name around it; ``raised`` and ``text`` are what it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, parameters]) + "\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "raised" in said or len(said) != 1:
            return said
        (answer,) = said.values()
        return dict(answer)


def _run(command: Sequence[Any], folder: Path, more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=_environment(more), capture_output=True, text=True, check=False, timeout=900
    )


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    path = f"{programs()}:{os.environ['PATH']}"
    found = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **more}
    found.pop("PYTHONPATH", None)
    return found
