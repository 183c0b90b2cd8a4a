"""A checkout's appliance definition is read, never run: packages, units, version, and what comes from elsewhere."""

import pytest

from bundle import catalogue
from bundle.errors import UsageError
from harness.image import appliance
from tests.miniature import make

PACKAGES = f"{appliance.FOLDER}/install_systemvm_packages.sh"
SERVICES = f"{appliance.FOLDER}/configure_systemvm_services.sh"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make(tmp_path_factory.mktemp("trees") / "tree", "4.22")


def written(tmp_path, packages, services="CLOUDSTACK_RELEASE=4.22.0\n"):
    for name, text in ((PACKAGES, packages), (SERVICES, services)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return appliance.read(tmp_path)


def test_the_miniature_says_what_it_was_made_of(tree):
    found = appliance.read(tree)
    assert set(catalogue.load().packages.slim) <= set(found.packages)
    assert set(found.enabled) == set(catalogue.load().units.enabled)
    assert found.version == catalogue.load().release("4.22").template


def test_what_comes_from_elsewhere_is_listed_with_its_reason(tree):
    left_out = {item.what: item.why for item in appliance.read(tree).left_out}
    assert left_out == {
        "libc6:i386": "a package of a foreign architecture",
        "some-tool_1.0_amd64.deb": "a download from elsewhere than Debian",
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("apt-get install -y python3-flask cloud-init\n", {"python3-flask", "cloud-init"}),
        ("apt-get -q -y -t stretch-backports install nftables\n", {"nftables"}),
        ("apt-get install -t stretch-backports nftables\n", {"nftables"}),
        ("${apt_get} install one \\\n  two three \\\n  four\n", {"one", "two", "three", "four"}),
        ("$apt_get install one && echo install two\n", {"one"}),
        ("apt-get install one # install two\n", {"one"}),
        ("# apt-get install two\napt-get install one\n", {"one"}),
    ],
)
def test_packages_are_what_stands_behind_install(tmp_path, text, names):
    assert set(written(tmp_path, text).packages) == names


def test_units_get_their_suffix(tmp_path):
    services = "CLOUDSTACK_RELEASE=4.18.1\n  systemctl disable apt-daily.timer\nsystemctl disable haproxy\n"
    found = written(tmp_path, "apt-get install one\n", services)
    assert (found.version, found.disabled) == ("4.18.1", ("apt-daily.timer", "haproxy.service"))


@pytest.mark.parametrize(
    ("packages", "services", "words"),
    [
        ("echo nothing\n", "CLOUDSTACK_RELEASE=4.22.0\n", "no package is found"),
        ("apt-get install one\n", "echo nothing\n", "no CLOUDSTACK_RELEASE is found"),
    ],
)
def test_a_definition_that_says_nothing_is_refused(tmp_path, packages, services, words):
    with pytest.raises(UsageError, match=words):
        written(tmp_path, packages, services)


def test_a_tree_without_a_definition_is_one_line(tmp_path):
    with pytest.raises(
        UsageError, match=r"install_systemvm_packages\.sh: No such file.*no template can be made"
    ):
        appliance.read(tmp_path)
