"""Every fault breaks something of the bundle under test and nothing else; a new one is one row."""

import tarfile
import zipfile

import pytest

from bundle import catalogue, layout
from bundle.build import BuildOptions, build
from bundle.derive import derive
from bundle.errors import UsageError
from harness.lab import faults

# The faults that edit the agent; all others edit the scripts.
OF_THE_AGENT = {"cloud.program", "agent.empty"}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return build(BuildOptions(output=tmp_path_factory.mktemp("ours") / "b", release="4.22")).folder


def members(folder):
    with tarfile.open(folder / layout.SCRIPTS) as scripts, zipfile.ZipFile(folder / layout.AGENT) as agent:
        found = {
            ("scripts", m.name.rstrip("/")): scripts.extractfile(m).read() if m.isfile() else b""
            for m in scripts
        }
        return found | {("agent", name): agent.read(name) for name in agent.namelist()}


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_the_bundle_where_it_says(ours, tmp_path, fault):
    before, after = members(ours), members(derive(ours, tmp_path / "broken", fault.edit))
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed
    assert {archive for archive, _ in changed} == {"agent" if fault.name in OF_THE_AGENT else "scripts"}


def test_haproxy_is_broken_by_its_unit_where_its_configuration_is_live():
    """A payload without a part of its own ships the one file that rules rewrite: a careful script never installs it."""
    of_its_own = faults.breakable("router", {"etc/haproxy/conf.d/00-cloud.cfg"})
    assert (of_its_own.name, of_its_own.stops) == ("haproxy.configuration", False)
    live = faults.breakable("router", {"etc/haproxy/haproxy.cfg"})
    assert (live.name, live.stops) == ("haproxy.unit", True)


def test_each_type_has_a_fault_of_a_service_that_it_has():
    for name in catalogue.load().types:
        words = {word for row in catalogue.load().services_of(name) for word in row.enabled}
        assert faults.breakable(name).service in words


def test_an_unknown_fault_is_one_line_that_names_those_there_are():
    with pytest.raises(UsageError) as caught:
        faults.fault("nosuch")
    assert "haproxy.configuration" in caught.value.diagnostics()


def test_what_is_down_before_is_not_what_is_broken():
    assert faults.breakable("secstorage").service == "cloud"
    assert faults.breakable("secstorage", down=("cloud",)).service == "apache2"
    with pytest.raises(UsageError, match="no service of a consoleproxy can be broken on purpose"):
        faults.breakable("consoleproxy", down=("cloud",))
