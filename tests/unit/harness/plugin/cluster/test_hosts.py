"""What a run demands of hosts before it starts: an answer, the same program, the same files."""

from __future__ import annotations

import pytest

from bundle.errors import InfrastructureError, UsageError
from harness.plugin.cluster import host
from harness.plugin.cluster.hosts import Cluster, HostFacts


class Client:
    """The engine's client, to which hosts answer as a table says; an exception among the answers is one."""

    status = "running"

    def __init__(self, answers):
        self.answers = answers

    def scheduler_info(self, n_workers):
        rows = {address: {"name": f"name-{address}", "resources": {"SLOT": 2.0}} for address in self.answers}
        return {"workers": rows}

    def run(self, function, *arguments, workers, on_error):
        name = function.__name__
        return {address: self.answers[address].get(name, {}) for address in workers}


GOOD = {"program": host.program(), "golden": ["router-from-4.21"]}


def facts_of(answers, files=()):
    return Cluster(Client(answers)).facts(list(answers), files)


def test_a_host_with_the_same_program_takes_part():
    assert facts_of({"a": {"tell_facts": GOOD}}) == {"a": HostFacts("name-a", 2, ("router-from-4.21",))}


@pytest.mark.parametrize(
    "answer", [{**GOOD, "program": "other"}, ModuleNotFoundError("harness.plugin.cluster")]
)
def test_a_host_with_another_program_is_refused_by_its_name(answer):
    with pytest.raises(InfrastructureError, match="name-b has another version of this program"):
        facts_of({"a": {"tell_facts": GOOD}, "b": {"tell_facts": answer}})


def test_a_host_that_has_gone_meanwhile_is_left_out():
    assert list(facts_of({"a": {"tell_facts": GOOD}, "b": {"tell_facts": OSError("gone")}})) == ["a"]


@pytest.mark.parametrize(("theirs", "what"), [({}, "nothing"), ({"FILE": "other"}, "something else")])
def test_a_host_with_other_files_is_refused_by_the_path(tmp_path, theirs, what):
    path = tmp_path / "bundle"
    path.write_text("bundle")
    digests = {str(path): digest for digest in theirs.values()}
    with pytest.raises(UsageError, match=f"name-a has {what} at {path}"):
        facts_of({"a": {"tell_facts": GOOD, "tell_digests": digests}}, [str(path)])


def test_a_scheduler_that_is_gone_is_the_machines_fault():
    client = Client({})
    client.status = "closed"
    with pytest.raises(InfrastructureError, match="the scheduler is gone"):
        Cluster(client).present()
