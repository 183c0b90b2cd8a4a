import pytest

from bundle import catalogue
from bundle.errors import InfrastructureError, UsageError
from harness.image import mirror

BULLSEYE = catalogue.load().debians[11]
BOOKWORM = catalogue.load().debians[12]
DEB822 = """# a comment
Types: deb
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/k.gpg

Types: deb deb-src
URIs: http://mirror.invalid/debian-security
Suites:
 bookworm-security
Components: main

Types: deb-src
URIs: http://sources.invalid/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://off.invalid/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://other.invalid/tools
Suites: nodistro
Components: main
"""
ONE_LINE = """# deb http://commented.invalid bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.invalid/debian bookworm main non-free # why
deb-src http://mirror.invalid/debian bookworm main
deb http://tools.invalid/apt tools-bookworm main
"""


@pytest.fixture
def apt(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_reads_the_deb822_format_and_leaves_out_what_is_not_debians(apt):
    (apt / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert mirror.lines(BOOKWORM, "bookworm", apt=apt) == [
        "deb http://mirror.invalid/debian bookworm main",
        "deb http://mirror.invalid/debian bookworm-updates main",
        "deb http://mirror.invalid/debian-security bookworm-security main",
    ]


def test_another_debian_comes_from_the_same_places(apt):
    (apt / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert mirror.lines(BULLSEYE, "bookworm", apt=apt)[::2] == [
        "deb http://mirror.invalid/debian bullseye main",
        "deb http://mirror.invalid/debian-security bullseye-security main",
    ]


def test_reads_the_one_line_format(apt):
    (apt / "sources.list").write_text(ONE_LINE)
    assert mirror.lines(BOOKWORM, "bookworm", apt=apt) == ["deb http://mirror.invalid/debian bookworm main"]


def test_the_same_source_twice_is_one_line(apt):
    (apt / "sources.list").write_text(ONE_LINE)
    (apt / "sources.list.d" / "again.list").write_text(ONE_LINE)
    assert len(mirror.lines(BOOKWORM, "bookworm", apt=apt)) == 1


def test_a_host_without_debian_sources_is_told_what_to_do(apt):
    with pytest.raises(InfrastructureError) as caught:
        mirror.lines(BOOKWORM, "bookworm", apt=apt)
    assert "--mirror" in caught.value.diagnostics()


def test_a_named_mirror_replaces_the_hosts_sources(apt):
    (apt / "sources.list").write_text(ONE_LINE)
    found = mirror.lines(BULLSEYE, "", mirror="file:///srv/debian/", apt=apt)
    assert found == ["deb file:///srv/debian bullseye main"]


@pytest.mark.parametrize("address", ["mirror.invalid", "ftp://mirror.invalid", "http:/x", ""])
def test_refuses_a_mirror_that_is_no_address(address, apt):
    with pytest.raises(UsageError, match="no address"):
        mirror.lines(BOOKWORM, "", mirror=address, apt=apt)


def test_the_hosts_release_is_read(tmp_path):
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    assert mirror.host_codename(tmp_path / "os-release") == "bookworm"


@pytest.mark.parametrize("text", ["ID=other\nVERSION_CODENAME=bookworm\n", "ID=debian\n", ""])
def test_a_host_that_is_no_debian_is_told_what_to_do(tmp_path, text):
    (tmp_path / "os-release").write_text(text)
    with pytest.raises(InfrastructureError, match="no release of Debian"):
        mirror.host_codename(tmp_path / "os-release")
