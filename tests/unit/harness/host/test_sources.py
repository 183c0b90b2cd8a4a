"""What is kept in a cache is kept under the sources that made it: no file that takes part can be forgotten."""

import shutil
from pathlib import Path

import pytest

from harness.host import sources

ROOT = Path(sources.__file__).parents[2]
MAKERS = ("harness.lab.golden_maker", "harness.image.building", "harness.image.base")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    copy = tmp_path_factory.mktemp("tree")
    for package in ("bundle", "harness"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize("maker", MAKERS)
def test_each_file_that_takes_part_changes_the_key(tree, maker):
    before = sources.digest_below(tree, [maker])
    parts = sources.files_behind([maker], tree)
    unseen = []
    for path in parts:
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        if sources.digest_below(tree, [maker]) == before:
            unseen.append(path)
        path.write_bytes(content)
    assert unseen == []
    assert sources.digest_below(tree, [maker]) == before


@pytest.mark.parametrize(
    ("maker", "part"),
    [
        ("harness.lab.golden_maker", "harness/machine/domain.xml.j2"),
        ("harness.lab.golden_maker", "harness/vm/boot.py"),
        ("harness.lab.golden_maker", "harness/vm/tenant/guest/init.sh"),
        ("harness.lab.golden_maker", "harness/network/databags.py"),
        ("harness.image.building", "harness/image/ext4.py"),
        ("harness.image.building", "harness/image/keystore.py"),
        ("harness.image.base", "harness/image/tree.py"),
    ],
)
def test_what_is_known_to_take_part_is_found(maker, part):
    assert ROOT / part in sources.files_behind([maker])


@pytest.mark.parametrize("part", ["harness/report/html.py", "harness/cli/run.py", "harness/plugin/hold.py"])
def test_what_only_shows_or_chooses_takes_no_part(part):
    assert ROOT / part not in sources.files_behind(["harness.lab.golden_maker"])


def test_a_module_that_is_imported_inside_a_function_takes_part(tmp_path):
    package = tmp_path / "harness" / "room"
    package.mkdir(parents=True)
    (tmp_path / "harness" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("def late():\n    from harness.room import two\n    return two\n")
    (package / "two.py").write_text("")
    assert package / "two.py" in sources.files_behind(["harness.room.one"], tmp_path)


def test_a_module_that_is_not_there_is_an_error():
    with pytest.raises(LookupError, match=r"no module harness\.nosuch"):
        sources.files_behind(["harness.nosuch"])
