"""A program that fails, is killed or hangs has not answered: no run takes its silence for an answer."""

from __future__ import annotations

import random

import pytest

from tests.guest.conftest import sampled
from tests.guest.livepatch import bundles, helpers, walk

SAMPLE = 10  # cases a chunk, without --helper-walk
TYPES = ("router", "secstorage", "consoleproxy")
pytestmark = pytest.mark.helper_walk


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    return helpers.build(tmp_path_factory.mktemp("helper"))


def _cases(stage, program, types):
    for type_ in types:
        for story in ("patch", "rollback"):
            count = len(helpers.calls(stage, program, type_, story))
            yield from (
                helpers.Case(type_, story, number, how)
                for number in range(1, count + 1)
                for how in helpers.HOWS
            )


def test_no_program_that_fails_is_taken_for_an_answer(stage, program, tally, request, chunk, chunks):
    draw = random.Random(f"{request.config.getoption('--walk-seed')} helpers {chunk}")
    if request.config.getoption("--helper-walk"):
        rows = sampled(request.config, list(_cases(stage, program, walk.TYPES))[chunk::chunks], draw)
    else:
        # One that hangs takes as long as the limits of the run.
        pool = list(_cases(stage, program, [TYPES[chunk % len(TYPES)]]))
        quick = [case for case in pool if case.how != "hang"]
        rows = draw.sample(quick, SAMPLE) + draw.sample([case for case in pool if case.how == "hang"], 1)
    lies = []
    for case in rows:
        try:
            helpers.try_case(stage, program, case)
        except walk.Mixed as error:
            lies.append(str(error))
    tally("helper walk", len(rows), len(lies))
    assert not lies, "\n".join(lies)


@pytest.mark.parametrize("how", ["fail", "kill", "hang"])
@pytest.mark.parametrize("name", ["systemctl", "ss"])
def test_a_question_without_an_answer_ends_the_run(stage, program, name, how):
    """What was seen: all services counted as unknown, none was watched, and a broken bundle was a success."""
    number = helpers.calls(stage, program, "router", "rollback").index(name) + 1
    helpers.try_case(stage, program, helpers.Case("router", "rollback", number, how))
    helpers.try_case(stage, program, helpers.Case("router", "patch", number, how))


@pytest.mark.parametrize("name", ["find", "stat", "head"])
def test_what_a_killed_program_did_not_tell_is_not_taken_for_nothing(stage, program, name):
    """What was seen: a search of the agent folder that was killed, and the VM's identity was gone for good."""
    rows = helpers.calls(stage, program, "consoleproxy", "patch")
    for number in [number for number, called in enumerate(rows, 1) if called == name][:4]:
        helpers.try_case(stage, program, helpers.Case("consoleproxy", "patch", number, "kill"))


def test_a_program_that_fails_is_noticed(stage, program):
    """The walk can find something: a run whose helper failed at its first question is no success."""
    number = helpers.calls(stage, program, "router", "patch").index("systemctl") + 1
    with stage.clone("router") as lab:
        helpers.install(lab, program)
        helpers.plan(lab, number)
        run = lab.patch(bundles.new())
        assert (run.status, "nothing changed" in run.output) == (1, True), run


@pytest.mark.parametrize("type_", TYPES)
def test_the_walk_knows_every_program_that_a_patch_calls(stage, program, type_):
    with stage.clone(type_) as lab:
        helpers.install(lab, program, helpers.of_this_machine())
        helpers.plan(lab, 0)
        assert lab.patch(bundles.broken()).status == 1
        called = set(lab.read("run/lab/helper.log").split())
    assert {"tar", "mv", "ss"} <= called <= set(helpers.PROGRAMS)
