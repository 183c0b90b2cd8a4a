"""The worker dies alone: the caller's side finishes or undoes at once; and it dies again while that goes on."""

from __future__ import annotations

import itertools
import random
import re
import subprocess

import pytest

from tests.guest.livepatch import bundles, walk
from tests.guest.livepatch.folder_vm import JOURNAL

CHUNKS = 4
SAMPLE = 8  # a chunk
TYPES = ("router", "secstorage", "consoleproxy", "ilbvm")


def _die_alone(stage, type_, story, point, again=""):
    """Kill the worker at a point, and the recovery that follows at another; returns what was wrong."""
    what = f"{type_}, {story}, killed at {point}, then at {again or 'no'} point"
    with stage.clone(type_) as lab:
        run = lab.patch(
            walk.BUNDLE[story](),
            LIVEPATCH_CRASH_AT=str(point),
            LIVEPATCH_CRASH_WHOLE="",
            LIVEPATCH_CRASH_AGAIN=str(again),
        )
        try:
            if again and (lab.root / JOURNAL / "attempt").exists():
                done = lab.run("--recover")
                if done.status:
                    return f"{what}: the recovery ended with {done}"
                walk.judge(lab, stage, what, services=True, attended=True)
            else:
                # Before anybody calls again.
                verdict = walk.judge(lab, stage, what, services=True, attended=True)
                if (run.status == 0) != (verdict == "new") or run.output.count(":") != (run.status == 0):
                    return f"{what}: the VM is {verdict}, the answer {run}"
            walk.converge(lab, stage, what, second=False)
        except walk.Mixed as error:
            return str(error)
    return ""


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_vm_is_old_or_new_at_once_when_the_worker_alone_dies(stage, tally, request, chunk):
    full = request.config.getoption("--full")
    draw = random.Random(f"{request.config.getoption('--walk-seed')} deaths {chunk}")
    rows = []
    for type_ in TYPES if full else [TYPES[chunk % len(TYPES)]]:
        stage.prepare(type_)
        for story in ("patch", "rollback"):
            rows += [(type_, story, n) for n in range(1, len(walk.points(stage, type_, story)) + 1)]
    rows = rows[chunk::CHUNKS] if full else draw.sample(rows, SAMPLE)
    mixed = [wrong for row in rows if (wrong := _die_alone(stage, *row))]
    tally("death of the worker", len(rows), len(mixed))
    assert not mixed, "\n".join(mixed)


# The caller's side, whose patience ends in the middle of lines, and a worker that talks all the time.
_TALK = r"""
set -Eeuo pipefail
DIED=yes ENDED='' REST='' PHASE='' LABEL='' said=0 odd=0
%s
exec 7<> <(:)
(for i in {1..5000}; do printf '%%s %%s %%s\t\n' "$i" apply "step  $i" >&7; done; printf 'end 3\t\n' >&7) &
while [[ $DIED ]]; do
    UNTIL=''
    hear "0.000$((RANDOM %% 9 + 1))" || continue
    [[ $UNTIL && $DIED ]] || continue
    said=$((said + 1))
    [[ $PHASE == apply && $LABEL == "step  $((UNTIL / 100))" && $said -eq $((UNTIL / 100)) ]] || odd=$((odd + 1))
done
printf '%%s said, %%s odd, end %%s\n' "$said" "$odd" "$ENDED"
"""


def test_nothing_that_the_worker_says_is_lost_when_a_wait_for_it_ends():
    """Bash may take the end of a line and tell all the same that the time ran out."""
    assert (
        _bash(_TALK % f"deadline() {{ UNTIL=$(($1 * 100)); }}\n{_function('hear')}")
        == "5000 said, 0 odd, end 3\n"
    )


# The worker has said that it ends, and is gone; the first wait for it is over before anything was read.
_GONE = """
set -Eeuo pipefail
WORKER=0 ENDED='' TICK=1 LAST=0 LOST='' GONE='' STEP=0 DEATH='' PHASE=none LABEL='' calls=0
kill() { return 1; }
deadline() { UNTIL=0; }
read() { if (((calls += 1) == 1)); then return 142; fi; builtin read "$@"; }
%s
exec 7<> <(:)
printf '%%s\t\n' '9 apply a step' 'end 0' >&7
stay
printf '%%s.\n' "$DIED$ENDED"
"""


def test_a_machine_that_stood_still_does_not_take_a_worker_that_has_ended_for_dead():
    assert _bash(_GONE % f"{_function('hear')}\n{_function('stay')}") == "0.\n"


def _function(name):
    """Return the source of a function of the script."""
    found = re.search(rf"^{name}\(\) \{{.*?^\}}$", bundles.new().script, re.MULTILINE | re.DOTALL)
    assert found
    return found[0]


def _bash(text):
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=100, check=False)
    return done.stdout + done.stderr


def _recovery_points(stage, type_, story, point):
    """Return how many crash points the recovery has that follows when the worker is killed at a point."""
    trace = "run/lab/trace"
    with stage.clone(type_) as lab:
        lab.patch(
            walk.BUNDLE[story](),
            LIVEPATCH_CRASH_AT=str(point),
            LIVEPATCH_CRASH_WHOLE="",
            LIVEPATCH_TRACE=f"/{trace}",
        )
        numbers = [int(line.partition("\t")[0]) for line in lab.read(trace).splitlines()]
        # The recovery counts anew, from one.
        assert numbers[:point] == list(range(1, point + 1)), numbers
        again = numbers[point:]
        assert again == list(range(1, len(again) + 1)), numbers
        return len(again)


def _pairs(stage, firsts):
    """Yield each row with every point of the recovery that follows."""
    for row in firsts:
        yield from ((*row, again) for again in range(1, _recovery_points(stage, *row) + 1))


def _some_pairs(stage, firsts, draw, size):
    """Yield as many rows, each with one point of the recovery that follows; fewer where no recovery has a point."""
    draw.shuffle(firsts)
    for row in itertools.chain.from_iterable(itertools.repeat(firsts, size)):
        if size > 0 and (count := _recovery_points(stage, *row)):
            yield (*row, draw.randint(1, count))
            size -= 1
        if size <= 0:
            return


@pytest.mark.pair_walk
def test_two_deaths_end_old_or_new(stage, tally, request, chunk, chunks):
    draw = random.Random(f"{request.config.getoption('--walk-seed')} pairs {chunk}")
    whole = request.config.getoption("--pair-walk")
    size = request.config.getoption("--sample") if whole else SAMPLE
    firsts = []
    for type_ in TYPES if whole else [TYPES[chunk % len(TYPES)]]:
        stage.prepare(type_)
        for story in ("patch", "rollback"):
            count = len(walk.points(stage, type_, story))
            firsts += [(type_, story, first) for first in range(1, count + 1)]
    if whole:
        firsts = firsts[chunk::chunks]
    rows = list(_pairs(stage, firsts) if size is None else _some_pairs(stage, firsts, draw, size))
    mixed = [wrong for row in rows if (wrong := _die_alone(stage, *row))]
    tally("pair walk", len(rows), len(mixed))
    assert rows
    assert not mixed, "\n".join(mixed)


def test_somebody_stays_when_the_caller_goes(lab):
    """The session is lost, and then the worker is killed: what stayed behind undoes the patch, and nobody calls."""
    before = lab.state()
    (lab.unit("dnsmasq") / "delay").write_text("2\n")
    lab.land(walk.BUNDLE["patch"]())
    process = lab.start(
        "-c",
        "bash /var/cache/cloud/patch-sysvms.sh & front=$!; until [[ -e /run/lab/restarted ]]; do sleep 0.01; done;"
        "kill -HUP $front; wait $front; echo $?; read -r worker </run/cloud-livepatch.lock; kill -KILL $worker;"
        f"for i in {{1..400}}; do [[ -d /{JOURNAL}/attempt ]] || break; sleep 0.05; done",
    )
    stdout, stderr = process.communicate(timeout=60)
    assert stdout == b"129\n", (stdout, stderr)
    assert lab.state() == before
    assert lab.status()["state"] == "rolled-back"
