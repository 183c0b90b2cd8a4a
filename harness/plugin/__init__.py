"""The pytest plugin: fixtures and options for scenarios, ours and other people's.

Fixtures:
    lab: what the run shares (bundles, image, golden snapshot), made on first use.
    bundle: folder of the bundle to patch with.
    network: the network that is declared for the VM, with its rules.
    system_vm: a fresh, booted, configured system VM with its tenants; gone after the test.
    tenant: a host behind that VM.
    management_services: what an agent VM finds on its management network besides the server.
    live_patch: patches that VM and makes every check; the test fails at its end when one did not hold.
    traffic: runs probes beside whatever the test does, and records what they saw.

A test is a scenario when it has the mark ``scenario("name")``. Its events go to ``results/<run>/events.jsonl``. Some
scenarios are not about every VM type: ``scenario("name", types=("secstorage",), why="...")``. One that restores more
VMs says how many, and the room for all is reserved at once: ``scenario("name", companions=2)``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bundle import catalogue
from bundle.errors import SysvmError
from harness.plugin.cells import ALL, Cell, cells, is_chosen
from harness.plugin.run import RUN, Problem, Run
from harness.record import results
from harness.record.events import EventLog
from harness.record.results import Results

# pytest loads this module whenever the package is installed: what drives VMs is imported with the first scenario.
if TYPE_CHECKING:
    from harness.lab.lab import Lab
    from harness.lab.trial import Trial
    from harness.network import Network
    from harness.traffic import Probe, Traffic
    from harness.vm.cables import Forward
    from harness.vm.engine import SystemVm
    from harness.vm.tenant.tenant import Tenant

# The test that runs after one, in the same process.
_NEXT = pytest.StashKey[pytest.Item | None]()
# Keys under which pytest-xdist carries things to its workers and back.
_RESULTS, _PROBLEM = "sysvm_results", "sysvm_problem"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of a run."""
    facts = catalogue.load()
    group = parser.getgroup("sysvm", "live patches of system VMs")
    group.addoption("--type", default="router", help="VM types, separated by commas")
    group.addoption(
        "--from",
        dest="from_release",
        default=facts.default_from,
        help="releases before the patch, separated by commas",
    )
    group.addoption("--to", dest="to_release", default=facts.default, help="release after the patch")
    group.addoption("--debian", type=int, default=None, help="another Debian than the release's own")
    group.addoption("--network", default=None, help="declared network: a name or a TOML file")
    group.addoption(
        "--network-backend", default=None, help="segments between VMs: on loopback, or as taps on bridges"
    )
    group.addoption("--bundle", type=Path, default=None, help="patch with this bundle")
    group.addoption(
        "--scenario",
        default=ALL,
        help="scenarios by parts of their ids, separated by commas; 'default' or 'all' of them",
    )
    group.addoption(
        "--hold",
        default=None,
        help="stop before and after each scenario: with a shell in its VM, or with the output of a command",
    )
    group.addoption("--results", type=Path, default=Path("results"), help="folder of all runs")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_Workers(), "sysvm-workers")
    config.addinivalue_line(
        "markers",
        "scenario(name, default=False, types=None, why='', companions=0): a scenario that goes into the report under "
        "that name; a default one runs when nobody chooses; types: the VM types that it is for, why: why no others; "
        "companions: how many copies of its VM it restores, reserved, beside system_vm",
    )


def _run_of(config: pytest.Config) -> Run:
    """Return the run, starting it with the first scenario: collecting tests leaves no folder."""
    run = config.stash.get(RUN, None)
    if run is None:
        shared = getattr(config, "workerinput", {}).get(_RESULTS)
        folder = Results(Path(shared)) if shared else results.create(config.getoption("--results"))
        run = config.stash[RUN] = Run(folder, EventLog(folder.events))
        if not shared:
            run.events.emit("options", options=_options(config))
    return run


def _options(config: pytest.Config) -> dict[str, str]:
    """Return the options that decide what a scenario does, for its repetition."""
    named = {"--to": "to_release", **{name: name for name in ("--debian", "--network", "--bundle")}}
    values = {name: config.getoption(option) for name, option in named.items()}
    return {name: str(value) for name, value in values.items() if value is not None}


class _Workers:
    """What the parts of a run that pytest-xdist starts tell each other; registered when it is there."""

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where the run's results lie."""
        node.workerinput[_RESULTS] = str(_run_of(node.config).results.folder.absolute())

    def pytest_testnodedown(self, node: Any, error: object) -> None:  # noqa: ARG002 - xdist's signature
        """Take over what went wrong in a worker."""
        run = _run_of(node.config)
        told = getattr(node, "workeroutput", {}).get(_PROBLEM)
        if told and run.problem is None:
            run.problem = Problem(*told)


def cells_of(config: pytest.Config) -> list[Cell]:
    """Return the cells of the matrix that the options name.

    Raises:
        UsageError: an unknown release or VM type.
    """
    from harness.vm.topology import of_type

    option = config.getoption
    types = [of_type(word).vm_type for word in option("--type").split(",")]
    return cells(types, option("from_release").split(","), option("to_release"), option("--bundle"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let every test that uses the lab run in every cell; a scenario's readable id is that of its test."""
    if "system_vm_cell" in metafunc.fixturenames:
        chosen = cells_of(metafunc.config)
        mark = metafunc.definition.get_closest_marker("scenario")
        name = f"-{mark.args[0]}" if mark else ""
        metafunc.parametrize(
            "system_vm_cell", chosen, scope="session", ids=[f"{cell}{name}" for cell in chosen]
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the scenarios that nobody wants; of the wanted ones, skip those that cannot be."""
    wanted = config.getoption("--scenario")
    kept, left_out = [], []
    for item in items:
        identifier = scenario_id(item)
        mark = item.get_closest_marker("scenario")
        if (
            identifier is None
            or mark is None
            or is_chosen(identifier, wanted, is_default=mark.kwargs.get("default", False))
        ):
            kept.append(item)
        else:
            left_out.append(item)
    for item in kept:
        if reason := _why_not(item):
            item.add_marker(pytest.mark.skip(reason=reason))
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _why_not(item: pytest.Item) -> str:
    """Return why a scenario cannot be made in its cell, or nothing."""
    mark = item.get_closest_marker("scenario")
    if mark is None:
        return ""
    cell = cell_of(item)
    types = mark.kwargs.get("types")
    if types is not None and cell.vm_type not in types:
        return str(mark.kwargs.get("why") or f"it is about {', '.join(types)}")
    return cell.impossible


def cell_of(item: pytest.Item) -> Cell:
    """Return the cell that a test runs in."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "system_vm_cell" in callspec.params:
        cell: Cell = callspec.params["system_vm_cell"]
        return cell
    return cells_of(item.config)[0]


def scenario_id(item: pytest.Item) -> str | None:
    """Return the readable id of a scenario, or None for another test."""
    mark = item.get_closest_marker("scenario")
    if mark is None:
        return None
    callspec = getattr(item, "callspec", None)
    own = [value for name, value in callspec.params.items() if name != "system_vm_cell"] if callspec else []
    return "-".join([str(cell_of(item)), mark.args[0], *map(str, own)])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Record the begin of a scenario, and what comes after it."""
    item.stash[_NEXT] = nextitem
    identifier = scenario_id(item)
    if identifier is not None:
        cell = cell_of(item)
        title = (getattr(item, "function", None).__doc__ or identifier).strip().splitlines()[0]
        _run_of(item.config).events.emit(
            "scenario_started", scenario=identifier, title=title, type=cell.vm_type,
            **{"from": cell.from_release, "to": item.config.getoption("to_release")},
        )  # fmt: skip
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the end of a scenario, and keep the first error of the machine or the user."""
    report = yield
    identifier = scenario_id(item)
    if identifier is None:
        return report
    run = _run_of(item.config)
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, SysvmError) and run.problem is None:
        run.problem = Problem(error.diagnostics(), int(error.exit_status))
    ended = report.when == "call" or not report.passed
    if ended:
        verdict = "passed" if report.passed else "skipped" if report.skipped else "failed"
        if report.failed and report.when != "call":
            verdict = "error"
        reason = "" if error is None else (str(error).strip().splitlines() or [type(error).__name__])[0]
        run.events.emit(
            "scenario_finished", scenario=identifier, verdict=verdict, reason=reason, seconds=report.duration
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a scenario in which a check did not hold."""
    outcome = yield
    trial: Any = pyfuncitem.funcargs.get("live_patch")
    if trial is not None and trial.failures:
        pytest.fail("\n".join(trial.failures), pytrace=False)
    return outcome


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the event log and write the reports."""
    run = session.config.stash.get(RUN, None)
    if run is None:
        return
    if hasattr(session.config, "workeroutput"):
        if run.problem is not None:
            session.config.workeroutput[_PROBLEM] = (run.problem.text, run.problem.exit_status)
        run.events.close()
        return
    from harness.report import write

    verdict = {0: "passed", 1: "failed"}.get(int(exitstatus), "error")
    reason = run.problem.text if run.problem else ""
    run.events.emit("run_finished", verdict=verdict, reason=reason)
    run.events.close()
    write(run.results)


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, system_vm_cell: Cell) -> Iterator[Lab]:
    """Everything that scenarios share, up to the golden snapshot."""
    from harness.lab.lab import Wish, open_lab

    run = _run_of(request.config)
    option = request.config.getoption
    wish = Wish(
        vm_type=system_vm_cell.vm_type, from_release=system_vm_cell.from_release, to_release=option("to_release"),
        debian=option("--debian"), network=option("--network"), bundle=option("--bundle"),
        network_backend=option("--network-backend"),
    )  # fmt: skip
    with open_lab(wish, run.results, run.events) as made:
        yield made


@pytest.fixture
def management_services() -> Sequence[Forward]:
    """What an agent VM finds on its management network besides the server; a module of scenarios may have its own."""
    return ()


@pytest.fixture
def system_vm(
    request: pytest.FixtureRequest, lab: Lab, management_services: Sequence[Forward]
) -> Iterator[SystemVm]:
    """A fresh copy of the golden snapshot."""
    started = time.monotonic()
    mark = request.node.get_closest_marker("scenario")
    # Part of domain and socket names: short, and nothing but letters, digits and dashes.
    name = re.sub(r"[^A-Za-z0-9-]+", "-", mark.args[0] if mark else request.node.originalname)[:24]
    scenario = scenario_id(request.node)
    lab.events.emit("template", scenario=scenario, label=lab.image.label())
    companions = _companions(request.node)
    with lab.system_vm(name, logs=scenario, services=management_services, companions=companions) as vm:
        lab.events.emit("restored", vm=vm.name, seconds=time.monotonic() - started)
        if _wants_the_same(request.node):
            lab.spares.expect()
        with _held(vm, request.config.getoption("--hold")):
            yield vm


def _wants_the_same(item: pytest.Item) -> bool:
    """Say whether the next test needs another copy of the snapshot that this one uses."""
    following = item.stash.get(_NEXT, None)
    if following is None or "system_vm" not in getattr(following, "fixturenames", ()) or _why_not(following):
        return False
    # One that needs room for several at once waits for it empty-handed.
    return cell_of(following) == cell_of(item) and not _companions(following)


def _companions(item: pytest.Item) -> int:
    """Return how many more copies of its VM a scenario restores."""
    mark = item.get_closest_marker("scenario")
    return int(mark.kwargs.get("companions", 0)) if mark else 0


@contextmanager
def _held(vm: SystemVm, command: str | None) -> Iterator[None]:
    """Stop before and after what is done with a VM, if somebody asked for it."""
    if command is None:
        yield
        return
    from harness.report.repeat import stop_at

    stop_at(vm, "before", command)
    yield
    stop_at(vm, "after", command)


@pytest.fixture
def bundle(lab: Lab) -> Path:
    """The folder of the bundle to patch with."""
    return lab.new_bundle


@pytest.fixture
def network(lab: Lab) -> Network:
    """The network that is declared for the VM; a test of a VM without one is skipped."""
    if lab.network is None:
        pytest.skip(f"no network is declared for a {lab.wish.vm_type}")
    return lab.network


@pytest.fixture
def tenant(system_vm: SystemVm) -> Tenant:
    """The first host behind ``system_vm``; a test of a VM without one is skipped."""
    for host in system_vm.tenants.values():
        return host
    pytest.skip(f"nobody is behind a {system_vm.topology.vm_type}")


@pytest.fixture
def traffic(
    request: pytest.FixtureRequest, lab: Lab
) -> Callable[[Sequence[Probe]], AbstractContextManager[Traffic]]:
    """What runs probes beside a test, as a context manager; what they saw goes into the report."""
    from harness.traffic import Traffic

    @contextmanager
    def run(probes: Sequence[Probe]) -> Iterator[Traffic]:
        with Traffic(probes) as seen:
            yield seen
        seen.record(lab.events, scenario_id(request.node) or request.node.name, {})

    return run


@pytest.fixture
def live_patch(request: pytest.FixtureRequest, lab: Lab, system_vm: SystemVm) -> Trial:
    """What patches ``system_vm``: ``live_patch.patch(bundle)`` patches, sends the rules again and makes all checks."""
    from harness.lab.trial import Trial

    return Trial(lab, system_vm, scenario_id(request.node) or request.node.name)
