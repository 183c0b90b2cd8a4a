from pathlib import Path

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.image.spec import ImageSpec, resolve

MIRROR = "http://mirror.invalid/debian"


def plan(release, **wishes):
    return resolve(ImageSpec(release, Path("/nowhere"), **{"mirror": MIRROR, **wishes}))


def test_a_release_brings_its_debian():
    assert plan("4.22").debian.number == 12
    assert plan("4.19").debian.number == 11
    assert not plan("4.19").stand_in


def test_an_archived_debian_is_built_where_its_mirror_is_given():
    found = plan("4.14")
    assert (found.debian.number, found.stand_in) == (9, False)
    assert found.mirror_lines == (f"deb {MIRROR} stretch main",)


def test_an_archived_debian_has_a_labelled_stand_in_elsewhere(monkeypatch):
    monkeypatch.setattr(
        "harness.image.mirror.lines", lambda debian, *_, **__: [f"deb x {debian.codename} main"]
    )
    monkeypatch.setattr("harness.image.mirror.host_codename", lambda: "bookworm")
    found = plan("4.14", mirror=None)
    assert (found.debian.number, found.stand_in) == (11, True)
    assert found.mirror_lines == ("deb x bullseye main",)


def test_an_archived_debian_that_is_asked_for_by_name_has_no_stand_in():
    with pytest.raises(InfrastructureError, match="Debian 10 is only in the archive"):
        plan("4.22", debian=10, mirror=None)


def test_another_debian_than_the_releases_own_is_a_stand_in():
    assert plan("4.22", debian=13).stand_in


def test_a_network_that_needs_daemons_has_them_and_a_kernel_that_knows_ppp():
    slim, wide = plan("4.22"), plan("4.22", kind="network")
    assert set(wide.packages) - set(slim.packages) >= {"strongswan", "xl2tpd", "ppp", "frr", "radvd"}
    assert set(slim.packages) < set(wide.packages)
    kernels = [found.debian.kernel_package for found in (slim, wide)]
    assert kernels == ["linux-image-cloud-amd64", "linux-image-amd64"]
    assert "frr" not in plan("4.14", kind="network").packages


def test_full_has_what_slim_has_and_the_java_of_its_debian():
    slim, full = plan("4.22"), plan("4.22", kind="full")
    assert set(slim.packages) < set(full.packages)
    assert "openjdk-17-jre-headless" in full.packages
    assert "openjdk-11-jre-headless" in plan("4.15", kind="full").packages


def test_packages_that_a_debian_does_not_have_are_left_out():
    assert "python-is-python3" in plan("4.22", kind="full").packages
    assert "python-is-python3" not in plan("4.14", kind="full").packages


def test_packages_that_a_debian_has_under_another_name_are_found():
    assert "bind9-dnsutils" in plan("4.22", kind="full", debian=13).packages
    assert "dnsutils" not in plan("4.22", kind="full", debian=13).packages
    assert "bind9-dnsutils" not in plan("4.22", debian=13).packages


def test_unknown_debian_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown Debian release 8"):
        plan("4.22", debian=8)


def test_source_date_epoch_is_honoured(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234")
    assert plan("4.22").epoch == 1234
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH='yesterday'"):
        plan("4.22")
