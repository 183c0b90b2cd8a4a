"""Fixtures of the agent's tests; ``server.py`` tells what they are made of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.agent.server import AGENT, Agent, Authority, Management, Network


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    found = Network()
    yield found
    found.close()


@pytest.fixture
def authority() -> Authority:
    return Authority("cloud CA")


@pytest.fixture
def management(network: Network, tmp_path: Path, authority: Authority) -> Iterator[Management]:
    server = Management(network, tmp_path, authority)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def agent(tmp_path: Path, management: Management) -> Iterator[Agent]:
    """An agent of a secondary-storage VM, with properties but no certificate yet."""
    folder = tmp_path / "agent"
    shutil.copytree(AGENT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*folder.glob("*.sh"), *folder.glob("scripts/util/*")]:
        path.chmod(0o755)
    lines = ["host=127.0.0.1", f"port={management.port}", "guid=s-1-VM", "name=s-1-VM", "zone=1", "pod=1"]
    lines.append("resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource")
    (folder / "conf/agent.properties").write_text("\n".join(lines) + "\n")
    found = Agent(folder, management.network)
    yield found
    found.stop()


@pytest.fixture
def running(agent: Agent, authority: Authority) -> Agent:
    """An agent with a certificate, started."""
    agent.install(authority.answer(agent.request()), authority.certificate())
    agent.start()
    return agent
