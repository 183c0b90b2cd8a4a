"""``sysvm rollout``: the live patch of a whole cloud; without a word it plans, and a plan only reads."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bundle.cli._options import PATH, json_option
from bundle.errors import Exit, UsageError
from bundle.sink import show, tell, tell_json
from harness.cli import _complete
from harness.cli._options import results_option

if TYPE_CHECKING:
    from harness.rollout.clock import WallClock
    from harness.rollout.plan import RolloutPlan
    from harness.rollout.start import Asked

_F = TypeVar("_F", bound=Callable[..., Any])


class _PlanFirst(click.Group):
    """A group whose subcommand is ``plan`` when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``plan`` before options that belong to no subcommand."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["plan", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_PlanFirst, context_settings={"help_option_names": ["-h", "--help"]})
def rollout() -> None:
    """Live patch the system VMs of a whole CloudStack: plan it (the default), run, resume and report.

    A plan only reads. Nothing is changed but by 'run --yes' and 'resume'.
    """


def _access_options(function: _F) -> _F:
    for option in reversed(
        (
            click.option(
                "--api", metavar="URL", help="Address of the API; CLOUDSTACK_ENDPOINT or cloudstack.ini."
            ),
            click.option("--region", metavar="NAME", help="Section of cloudstack.ini."),
            click.option(
                "--user",
                metavar="NAME",
                help="Sign in with $CLOUDSTACK_PASSWORD, not with keys.",
            ),
            click.option("--domain", default="/", show_default=True, help="Domain of --user."),
            click.option("--plain-http", is_flag=True, help="Allow a server on another machine without TLS."),
        )
    ):
        function = option(function)
    return function


def _target_options(function: _F) -> _F:
    for option in reversed(
        (
            click.option(
                "--bundle", type=PATH, metavar="DIR", help="The new bundle: what will be installed."
            ),
            click.option("--from-bundle", type=PATH, metavar="DIR", help="The bundle that is installed now."),
            click.option(
                "--scripts-digest", metavar="FILE|HEX", help="The server's cloud-scripts.tgz, or its digest."
            ),
            click.option(
                "--script",
                type=click.Choice(["ours", "upstream"]),
                help="Whose patch-sysvms.sh does it (what --bundle holds; else CloudStack's own).",
            ),
            click.option("--expect-release", metavar="R", help="Refuse a server of another release."),
            click.option(
                "--accept-unknown", is_flag=True, help="Patch templates that the catalogue does not know."
            ),
        )
    ):
        function = option(function)
    return function


def _choice_options(function: _F) -> _F:
    words = "a name, an id, a VM, or FIELD=PATTERN such as zone=Z1; @FILE for a list. May be repeated."
    for option in reversed(
        (
            click.option("--only", multiple=True, metavar="WORD", help=f"Only these units: {words}"),
            click.option("--exclude", multiple=True, metavar="WORD", help="Not these units."),
            click.option(
                "--canary", multiple=True, metavar="WORD", help="These units first (one a kind and zone)."
            ),
            click.option(
                "--plan", "approved", type=PATH, metavar="FILE", help="Only units of this plan (of --json)."
            ),
        )
    ):
        function = option(function)
    return function


def _limit_options(function: _F) -> _F:
    for option in reversed(
        (
            click.option(
                "--at-once", type=click.IntRange(1, 100), help="Units at the same time; 1 without it."
            ),
            click.option("--pause", metavar="TIME", help="Rest after each unit, such as 30s or 5m."),
            click.option("--window", metavar="HH:MM-HH:MM", help="Hours in which units begin, local time."),
            click.option(
                "--timezone", metavar="NAME", help="Time zone of --window; the machine's own without it."
            ),
            click.option("--max", "most", type=click.IntRange(1), metavar="N", help="Begin at most N units."),
            click.option("--max-failures", type=click.IntRange(1), help="End after so many failures; 1."),
        )
    ):
        function = option(function)
    return function


def _time(name: str, default: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, metavar="TIME", default=default, show_default=True, help=text)


def _unit_options(function: _F) -> _F:
    for option in reversed(
        (
            _time("--job-timeout", "90m", "End of the patience with a job."),
            _time(
                "--grace", "1m", "After a lost answer, ask so long for its job before sending the call again."
            ),
            _time("--settle", "3m", "Within this time after its job everything must hold."),
            _time("--soak", "1m", "For so long the roles of a pair must stay as they are."),
            click.option("--health/--no-health", default=True, help="Run health checks before and after."),
            click.option(
                "--probe", default="", metavar="COMMAND", help="Before and after: './check {unit}'."
            ),
            _time("--probe-timeout", "1m", "For one run of --probe."),
        )
    ):
        function = option(function)
    return function


_AT_END = click.option(
    "--at-window-end",
    type=click.Choice(["wait", "stop"]),
    default="wait",
    show_default=True,
    help="Wait for the next window, or end.",
)
_PATIENCE = click.option(
    "--patience", metavar="TIME", default="10m", show_default=True, help="While the server is away or busy."
)


@rollout.command("plan")
@_access_options
@_target_options
@_choice_options
@_limit_options
@_PATIENCE
@results_option
@click.option("--json", "form", flag_value="json", help="Print JSON for a machine, and for 'run --plan'.")
@click.option("--markdown", "form", flag_value="markdown", help="Print a page for a change board.")
@click.option("--check", is_flag=True, help="Exit with 1 when a unit is to be patched or is blocked.")
def plan_command(form: str | None, check: bool, **asked: Any) -> int:
    """Say what would be patched, in which order, why, for how long, and what hinders it. Reads only."""
    from harness.rollout import render

    plan, _ = _planned(asked)
    _show(plan, form)
    counts = render.summary(plan)
    return Exit.FAILED if check and (counts["patch"] or counts["blocked"]) else Exit.OK


def _show(plan: RolloutPlan, form: str | None) -> None:
    from harness.rollout import render

    if form == "json":
        tell_json(render.document(plan))
    elif form == "markdown":
        tell(render.markdown(plan).removesuffix("\n"))
    else:
        show(render.table(plan))


def _planned(asked: dict[str, Any]) -> tuple[RolloutPlan, Asked]:
    from harness.rollout.start import Asked, plan_of

    wanted = Asked.of(asked, say=_say)
    return plan_of(wanted), wanted


def _say(line: str) -> None:
    tell(line, err=True)


@rollout.command("run")
@_access_options
@_target_options
@_choice_options
@_limit_options
@_unit_options
@_AT_END
@_PATIENCE
@results_option
@click.option(
    "--dry-run", is_flag=True, help="Print the plan and every call, in order; send and write nothing."
)
@click.option("--yes", is_flag=True, help="Begin without being asked.")
@json_option
def run_command(dry_run: bool, yes: bool, at_window_end: str, as_json: bool, **asked: Any) -> int:
    """Plan, and patch unit by unit: canaries first, each verified before the next, until a failure."""
    from harness.rollout.start import begin, calls_of

    plan, wanted = _planned(asked)
    if dry_run or not plan.order or not as_json:
        _show(plan, "json" if as_json else None)
    if dry_run:
        for line in () if as_json else calls_of(plan):
            tell(line)
        _say("nothing was sent, and nothing was written")
        return Exit.OK
    if not plan.order:
        _say("nothing is to be patched")
        return Exit.OK
    _ask(yes, len(plan.order))
    with _ending() as clock:
        return begin(plan, wanted.on(clock), at_window_end, as_json=as_json)


def _ask(yes: bool, count: int) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{count} units would be patched", hint="say --yes, or --dry-run to see every call")
    if not click.confirm(f"patch {count} units now?", err=True):
        raise click.Abort


@contextmanager
def _ending() -> Iterator[WallClock]:
    """Give the clock of a run that Ctrl-C ends well, after what is under way; twice ends it at once."""
    from harness.rollout.clock import WallClock

    clock = WallClock()

    def end(number: int, _frame: object) -> None:
        if clock.wants_end:
            raise KeyboardInterrupt
        clock.end()
        _say(
            f"ending ({signal.Signals(number).name}): what is under way is followed to its end; once more ends at once"
        )

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield clock
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@rollout.command("resume")
@click.argument("run", default="latest", shell_complete=_complete.runs)
@_access_options
@_limit_options
@_AT_END
@_PATIENCE
@results_option
@click.option(
    "--retry", multiple=True, metavar="WORD", help="Try these failed units again, after a look at them."
)
@json_option
def resume_command(run: str, at_window_end: str, retry: tuple[str, ...], as_json: bool, **asked: Any) -> int:
    """Go on with a rollout that ended or was killed: first find out what became of what was under way."""
    from harness.rollout.start import Asked, resume

    with _ending() as clock:
        return resume(run, Asked.of(asked, say=_say).on(clock), at_window_end, retry, as_json=as_json)


@rollout.command("report")
@click.argument("run", default="latest", shell_complete=_complete.runs)
@results_option
@click.option("--junit", type=PATH, metavar="FILE", help="Write the JUnit file here, too.")
@click.option("--markdown", "form", flag_value="markdown", help="Print the report in Markdown.")
@click.option("--json", "form", flag_value="json", help="Print JSON for a machine.")
def report_command(run: str, root: Path, junit: Path | None, form: str | None) -> int:
    """Write the reports of a rollout again from its journal, and print what stands where."""
    from bundle import files
    from harness.record import results
    from harness.report import PAGE, render_junit
    from harness.report.document import document
    from harness.rollout import report

    found = results.find(run, root)
    told = report.write(found)
    if junit is not None:
        files.write(junit, render_junit(told.report))
    if form == "json":
        tell_json(document(told.report))
    elif form == "markdown":
        tell(report.markdown(told).removesuffix("\n"))
    else:
        for line in report.lines(told):
            tell(line)
        tell(f"report: {found.folder / PAGE}")
    return Exit.OK if told.report.verdict == "passed" else Exit.FAILED
