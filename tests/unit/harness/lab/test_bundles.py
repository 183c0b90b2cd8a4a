"""Bundles of a run: whether the agent of a VM can start with one."""

import zipfile

import pytest

from bundle import layout
from bundle.build import BuildOptions, build
from harness.lab import bundles


@pytest.mark.parametrize(("names", "there"), [(["_run.sh"], False), (["_run.sh", "cloud-agent.jar"], True)])
def test_an_agent_of_cloudstack_needs_its_jars(tmp_path, names, there):
    with zipfile.ZipFile(tmp_path / layout.AGENT, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    assert bundles.has_agent(tmp_path) is there


def test_the_agent_of_the_reference_payload_is_no_java_program(tmp_path):
    folder = build(BuildOptions(output=tmp_path / "b", release="4.22")).folder
    assert bundles.has_agent(folder)
