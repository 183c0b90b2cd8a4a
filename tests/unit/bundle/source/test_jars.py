"""Only jars that the agents of SSVM and CPVM can start from are packed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pycdlib
import pytest

from bundle.errors import UsageError
from bundle.source.jars import check_jars, collect_jars
from tests.unit.bundle.source import checkout_tree
from tests.unit.bundle.source.jar_sets import VERSION, write_agent_zip, write_jar, write_set

Make = Callable[..., Path]


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that finds and checks jars, and returns their names."""

    def run(place: Path, *versions: str) -> list[str]:
        found = collect_jars(place, tmp_path / "scratch")
        check_jars(found, versions or (VERSION,))
        return sorted(found.jars)

    return run


NAMES = sorted(
    f"{name}-{VERSION}.jar" for name in ("cloud-agent", "cloud-secondary-storage", "cloud-console-proxy")
)


@pytest.mark.parametrize(
    "place",
    [
        "agent.zip",
        "vms/agent.zip",
        "dist/agent.zip",
        "target/agent.zip",
        "systemvm/dist/agent.zip",
        "systemvm/target/agent.zip",
    ],
)
def test_an_agent_zip_is_found_wherever_a_build_or_a_package_has_it(
    place: str, take: Callable, tmp_path: Path
) -> None:
    archive = tmp_path / "tree" / place
    archive.parent.mkdir(parents=True)
    write_agent_zip(archive)
    assert take(tmp_path / "tree") == NAMES


def test_the_archive_itself_may_be_named(take: Callable, tmp_path: Path) -> None:
    assert take(write_agent_zip(tmp_path / "agent.zip")) == NAMES


def test_the_jars_of_the_management_server_beside_it_are_left_alone(take: Callable, tmp_path: Path) -> None:
    common = tmp_path / "cloudstack-common"
    write_jar(common / "lib/jasypt-1.9.3.jar")
    write_jar(common / "lib/cloudstack-utils.jar")
    (common / "vms").mkdir()
    with pytest.raises(UsageError, match=r"no cloud-agent-4\.22\.0\.0-SNAPSHOT\.jar: these are not the jars"):
        take(common)
    write_agent_zip(common / "vms/agent.zip")
    assert take(common) == NAMES


@pytest.mark.parametrize("named", ["systemvm.iso", "."])
def test_the_cd_of_4_16_and_older_is_opened(named: str, take: Callable, tmp_path: Path) -> None:
    archive = write_agent_zip(tmp_path / "agent.zip", "4.16.1.0")
    (tmp_path / "common").mkdir()
    image = pycdlib.PyCdlib()
    image.new(interchange_level=1, rock_ridge="1.09")
    with archive.open("rb") as file:
        image.add_fp(file, archive.stat().st_size, "/AGENT.ZIP;1", rr_name="agent.zip", file_mode=0o100444)
        image.write(str(tmp_path / "common/systemvm.iso"))
    image.close()
    assert len(take(tmp_path / "common" / named, "4.16.1.0")) == 3


def test_a_cd_without_an_agent_is_refused(take: Callable, tmp_path: Path) -> None:
    (tmp_path / "systemvm.iso").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"systemvm\.iso: no agent\.zip can be read out of it"):
        take(tmp_path / "systemvm.iso")


def test_loose_jars_of_one_release_are_taken(take: Callable, tmp_path: Path) -> None:
    write_set(tmp_path / "target/dependencies", VERSION, "gson-2.10.1.jar", "x-1-sources.jar")
    assert take(tmp_path) == sorted([*NAMES, "gson-2.10.1.jar"])


@pytest.mark.parametrize("missing", ["cloud-agent", "cloud-secondary-storage", "cloud-console-proxy"])
def test_every_root_of_the_agent_must_be_there(missing: str, take: Callable, tmp_path: Path) -> None:
    write_set(tmp_path / "jars", VERSION, "gson-2.10.1.jar")
    (tmp_path / f"jars/{missing}-{VERSION}.jar").unlink()
    with pytest.raises(UsageError, match=f"no {missing}-"):
        take(tmp_path)


def test_one_lone_jar_is_no_agent(take: Callable, tmp_path: Path) -> None:
    write_jar(tmp_path / "jars/gson-2.10.1.jar")
    with pytest.raises(UsageError, match="not the jars of the agent"):
        take(tmp_path)


def test_jars_of_another_release_are_refused(take: Callable, tmp_path: Path) -> None:
    write_set(tmp_path / "jars", "4.21.0.0")
    with pytest.raises(UsageError, match=r"is of 4\.21\.0\.0, and the source tree of 4\.22\.0\.0-SNAPSHOT"):
        take(tmp_path)
    assert take(tmp_path, VERSION, "4.21.0.0")


def test_two_versions_of_one_artifact_are_refused(take: Callable, tmp_path: Path) -> None:
    write_set(tmp_path / "jars", VERSION, "gson-2.10.1.jar", "gson-2.9.jar")
    with pytest.raises(UsageError, match=r"gson-2\.10\.1\.jar and gson-2\.9\.jar are two versions"):
        take(tmp_path)


def test_classifiers_and_groups_tell_artifacts_of_one_name_apart(take: Callable, tmp_path: Path) -> None:
    jars = write_set(
        tmp_path / "jars", VERSION, "netty-4.1.9.Final-linux-x86_64.jar", "netty-4.1.8.Final.jar"
    )
    write_jar(jars / "api-1.0.jar", ("org.one", "api", "1.0"))
    write_jar(jars / "api-2.0.jar", ("org.two", "api", "2.0"))
    assert len(take(tmp_path)) == 7


@pytest.mark.parametrize(
    "data", [b"", b"text\n", b"PK\x05\x06" + bytes(18)], ids=["nothing", "text", "no entry"]
)
def test_what_is_only_named_a_jar_is_refused(data: bytes, take: Callable, tmp_path: Path) -> None:
    write_set(tmp_path / "jars")
    (tmp_path / "jars/x-1.jar").write_bytes(data)
    with pytest.raises(UsageError, match=r"x-1\.jar is (no jar|an empty archive)"):
        take(tmp_path)


def test_only_jars_at_the_root_of_an_agent_zip_are_taken(take: Callable, tmp_path: Path) -> None:
    archive = write_agent_zip(tmp_path / "agent.zip")
    with zipfile.ZipFile(archive, "a") as file:
        for name in ("../evil.jar", "packages/inner.jar", "x-sources.jar"):
            file.writestr(name, name)
    assert take(archive) == NAMES


def test_the_build_packs_them_and_says_where_they_came_from(
    tmp_path: Path, script: Path, sysvm: Callable
) -> None:
    tree = checkout_tree.make_checkout(tmp_path / "tree")
    (tree / "systemvm/dist").mkdir()
    archive = write_agent_zip(tree / "systemvm/dist/agent.zip")
    done = sysvm(
        "bundle", "build", "--source", tree, "--agent-jars", tree, "--patch-script", script, "-o", "place/out"
    )
    assert (done.returncode, f"note: 3 jars from {archive}" in done.stderr) == (0, True)
    with zipfile.ZipFile(tmp_path / "place/out/agent.zip") as file:
        assert [name for name in file.namelist() if name.endswith(".jar")] == NAMES
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["out"]
