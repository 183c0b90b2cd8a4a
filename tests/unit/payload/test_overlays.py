"""Older payloads as overlays: what a patch from one to the next has to cope with."""

import pytest

from bundle.catalogue import load
from bundle.source.payload import reference_payload
from tests.unit.payload import guest

DIGEST = "opt/cloud/bin/setup/digest.sh"
TRANSPORT = "opt/cloud/bin/setup/transport.sh"


def scripts(release):
    """Return path, content and declared mode of every file of a release's scripts."""
    items = reference_payload(guest.SYSTEMVM, release, load()).scripts
    return {
        path: (item.source.read_bytes(), item.mode) for path, item in items.items() if item.source is not None
    }


def test_a_patch_from_4_21_to_4_22_adds_removes_changes_and_re_modes():
    old, new = scripts("4.21"), scripts("4.22")
    assert "opt/cloud/bin/setup/userdata.sh" in new.keys() - old.keys()
    assert "root/reconfigLB.sh" in old.keys() - new.keys()
    assert old[DIGEST][0] != new[DIGEST][0]
    assert old["etc/logrotate.d/cloud"] == (new["etc/logrotate.d/cloud"][0], 0o755)


@pytest.mark.parametrize("release", sorted(load().releases))
def test_the_scripts_sign_with_the_digest_of_their_release(release):
    tool = f"{load().release(release).signature}sum"
    assert f'sum=$({tool} "$1")' in scripts(release)[DIGEST][0].decode()


@pytest.mark.parametrize("release", sorted(load().releases))
def test_the_router_tells_its_role_in_the_word_of_its_release(release):
    said = scripts(release)["opt/cloud/bin/checkrouter.sh"][0].decode().split("echo 'Status: ")[1:]
    first = "MASTER" if release in ("4.14", "4.15") else "PRIMARY"
    assert [word.partition("'")[0] for word in said] == ["FAULT", first, "BACKUP"]


@pytest.mark.parametrize("release", sorted(load().releases))
def test_the_bundle_comes_the_way_of_its_release(release):
    from_disc = b"/dev/sr0" in scripts(release)[TRANSPORT][0]
    assert from_disc == (load().release(release).transport == "iso")
