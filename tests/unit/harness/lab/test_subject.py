"""What cannot be meant as a subject is refused before any work, in one line that says what to do."""

import pytest

from bundle import layout
from bundle.build import BuildOptions, build
from bundle.errors import UsageError
from harness.lab.subject import UPSTREAM_SCRIPT, Subject


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    (tree / UPSTREAM_SCRIPT).parent.mkdir(parents=True)
    (tree / UPSTREAM_SCRIPT).write_text("#!/bin/bash\n")
    return tree


@pytest.fixture
def trio(tmp_path):
    folder = tmp_path / "trio"
    folder.mkdir()
    for name in layout.PAYLOAD:
        (folder / name).write_bytes(b"x")
    return folder


def refused(subject, *, template=False):
    with pytest.raises(UsageError) as caught:
        subject.check(template=template)
    return caught.value.diagnostics()


def test_nothing_named_is_the_reference_payload():
    Subject().check()
    assert not Subject().named


def test_a_tree_after_a_tree_is_fine(tree):
    subject = Subject(source=tree, from_source=tree)
    subject.check()
    assert subject.named


def test_two_origins_are_refused_with_the_way_out(tree, trio):
    said = refused(Subject(source=tree))
    assert "the VM has scripts of the reference payload, and the bundle is of a CloudStack checkout" in said
    assert "--from-source TREE" in said and "--mixed" in said
    assert "--source TREE" in refused(Subject(from_source=tree))
    assert "an origin that nothing is known of" in refused(Subject(bundle=trio))
    assert "--source TREE" in refused(Subject(), template=True)


def test_two_origins_on_request_are_fine(tree):
    Subject(source=tree, mixed=True).check()


def test_a_bundle_of_the_reference_payload_is_known_by_its_manifest(tmp_path):
    bundle = build(BuildOptions(output=tmp_path / "b", release="4.22")).folder
    Subject(bundle=bundle).check()
    assert Subject(bundle=bundle).new_origin() == "reference"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"bundle": "trio", "source": "tree"}, "--bundle and --source say the same thing"),
        (
            {"from_bundle": "trio", "from_source": "tree"},
            "--from-bundle and --from-source say the same thing",
        ),
        ({"bundle": "nosuch"}, "nosuch: no such folder"),
        ({"source": "tree", "agent_jars": "nosuch", "from_source": "tree"}, "--agent-jars"),
        ({"bundle": "tree", "from_source": "tree"}, "it has no agent.zip"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tmp_path, tree, trio, names, words):
    assert words in refused(Subject(**{name: tmp_path / value for name, value in names.items()}))


def test_a_tree_without_a_patch_script_says_what_to_do(tmp_path, tree):
    (tree / UPSTREAM_SCRIPT).unlink()
    assert "--script ours" in refused(Subject(source=tree, from_source=tree))
    Subject(source=tree, from_source=tree, script="ours").check()


def test_the_answer_of_a_checkouts_own_script_is_read_as_cloudstacks_agent_reads_it(tree):
    assert Subject(source=tree, from_source=tree).dialect == "upstream"
    assert Subject(source=tree, from_source=tree, script="ours").dialect == "strict"
    assert Subject().dialect == "strict"
