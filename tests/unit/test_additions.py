"""The table "to add X, touch Y" of docs/house.md is true: a made-up X works after edits of no other files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/house.md").read_text(encoding="utf-8").split("## To add X, touch Y")[1]
ROWS = {name: int(count) for name, count in re.findall(r"^\| (a [^|]+?) \| (\d+) \|", TABLE, re.MULTILINE)}


@dataclass(frozen=True)
class Addition:
    """A made-up thing.

    Attributes:
        edits: by file: text that is put at the end, or the line that text is put behind, and that text.
        proof: a program that ends well when the thing is there, and not when it is not.
    """

    edits: dict[str, str | tuple[str, str]]
    proof: str


RELEASE = Addition(
    {
        "systemvm/releases.toml": """
            [release."4.23"]
            points = ["4.23.0"]
            template = "4.23.0"
            debian = 13
            java = 21
            signature = "sha512"
            transport = "upload"
            ssh_key = "cmdline"
            guest_python = "3"
            agent_on_routers = "removed"
            disk_mib = 5000
        """
    },
    """
        from bundle import catalogue, matrix
        from bundle.build import BuildOptions, build
        from bundle.inspect.verify import verify

        facts = catalogue.load()
        assert facts.releases_in("4.22..4.23") == ["4.22", "4.23"]
        assert "4.23" in matrix.targets(facts)
        build(BuildOptions(output=Path("made"), release="4.23", cache=False))
        assert verify(Path("made")).manifest.facts.version.startswith("4.23")
    """,
)
CHECK = Addition(
    {
        "harness/checks/logs.py": """

            @check("console.short", "nobody reads a long console")
            def console_short(case: Case) -> Result:
                \"\"\"The console says one line at most.\"\"\"
                return Finding("it says more") if "\\n" in case.console else None
        """
    },
    """
        from types import SimpleNamespace
        from harness.checks.registry import judge

        said = {
            text: [row.verdict for row in judge(SimpleNamespace(expected="patched", console=text), ["console.short"])]
            for text in ("one", "one\\ntwo")
        }
        assert said == {"one": ["passed"], "one\\ntwo": ["failed"]}, said
        assert "The console says one line at most." in sysvm("checks", "console")
    """,
)
SCENARIO = Addition(
    {
        "harness/scenarios/test_made_up.py": '''
            """Scenarios of nothing in particular."""

            import pytest

            from harness.scenario import Lab, Trial


            @pytest.mark.scenario("made-up", tags=("odd",))
            def test_nothing(lab: Lab, live_patch: Trial) -> None:
                """A healthy bundle, and nothing else."""
                live_patch.patch(lab.new_bundle)
        '''
    },
    """
        assert "made-up" in sysvm("scenarios")
        assert sysvm("run", "--type", "router,ilbvm", "--scenario", "odd", "--list").count("made-up") == 2
    """,
)
VM_TYPE = Addition(
    {
        "systemvm/releases.toml": """
            [type.edge]
            family = "router"
            patched_by = "restartNetwork"
            serves = "network"
            api = "VIRTUAL_ROUTER"
            alert = 9
            has = ["machines", "rules"]
            [services.edge]
            enabled = ["dnsmasq"]
            disabled = ["haproxy"]
        """,
        "harness/vm/types.py": """

            def edge() -> Topology:
                \"\"\"Return a router at the edge.\"\"\"
                return Topology(
                    "edge", "r-90-VM", (_guest("10.1.1.1"), _control(90), _public(90)), (*_GUEST_NETWORK, "type=edge")
                )


            _TOPOLOGIES["edge"] = edge
        """,
    },
    """
        from bundle import catalogue
        from bundle.seal.script import ScriptSpec, render
        from harness.lab import faults
        from harness.vm import types

        facts = catalogue.load()
        assert " edge'" in render(ScriptSpec(facts.release("4.22"), "format\\t1\\n"))
        assert [nic.address for nic in types.of_type("edge").nics] == ["10.1.1.1", "169.254.12.90", "192.0.2.90"]
        assert faults.breakable("edge").service == "dnsmasq"
        assert "edge-from-4.21-live-patch" in sysvm("run", "--type", "edge", "--list")
    """,
)
SERVICE = Addition(
    {
        "systemvm/releases.toml": """
            [service.chrony]
            turn = "first"
            renewed = "restart"
            reads = ["etc/chrony/*"]
            check = "chronyd -p"
            starts = "the boot"
            types = ["router"]
        """
    },
    """
        from bundle import catalogue
        from bundle.inspect.impact import PatchScript, affected, renewals
        from bundle.seal.script import ScriptSpec, render

        facts = catalogue.load()
        assert "chronyd -p" in render(ScriptSpec(facts.release("4.22"), "format\\t1\\n"))
        changed = [("cloud-scripts.tgz", "etc/chrony/chrony.conf")]
        readers, strangers = affected(changed, renewals(PatchScript("ours", policy="graceful"), changed, facts), facts)
        assert [(row.reader, row.types) for row in readers] == [("chrony", ("router",))], readers
        assert not strangers
    """,
)
BACKEND = Addition(
    {
        "harness/vm/strings.py": '''
            """Segments as strings between tins."""

            from harness.vm.loopback import Loopback


            class Strings(Loopback):
                """Cables that somebody holds tight."""

                name = "strings"
        ''',
        "harness/vm/backends.py": """

            from harness.vm.strings import Strings

            BACKENDS[Strings.name] = Strings()
        """,
    },
    """
        from harness.vm import backends

        assert backends.find("strings").cable("r-1-VM", "eth0", iter((7001, 7002)).__next__).local_port == 7001
        assert "strings" in sysvm("run", "--help") and "strings" in sysvm("vm", "start", "--help")
    """,
)
FORMAT = Addition(
    {
        "harness/report/words.py": '''
            """The view of people in a hurry: one word."""

            from harness.report.formats import report_format
            from harness.report.rows import RunReport


            @report_format("word.txt")
            def render_word(report: RunReport) -> str:
                """Return the verdict."""
                return report.verdict
        '''
    },
    """
        from harness.record import results
        from harness.record.events import EventLog

        run = results.create(Path("results"), "one")
        with EventLog(run.events) as log:
            log.emit("run_finished", verdict="passed", reason="")
        sysvm("report", "one", "--results", "results")
        found = {path.name for path in run.folder.iterdir()}
        assert found == {"events.jsonl", "junit.xml", "report.html", "run.json", "word.txt"}, found
        assert (run.folder / "word.txt").read_text() == "passed"
    """,
)
FAULT = Addition(
    {
        "harness/lab/faults/contents.py": (
            "FAULTS: tuple[Fault, ...] = (",
            '    Fault("apache2.unit.masked", "apache2", "a unit that is in the way", _unit("made-up")),',
        )
    },
    """
        import tarfile
        from bundle.build import BuildOptions, build
        from harness.lab import faults

        row = faults.fault("apache2.unit.masked")
        build(BuildOptions(output=Path("made"), cache=False))
        broken = faults.build_broken(Path("made"), row, Path("broken"), "sha512")
        with tarfile.open(broken / "cloud-scripts.tgz") as archive:
            assert "etc/systemd/system/made-up.service.d/zz-broken.conf" in archive.getnames()
        assert faults.breakable("secstorage").service == "cloud"
    """,
)
LATER_USE = Addition(
    {
        "harness/lab/aftermath/uses.py": (
            '        yield Use("versions", problem)',
            '        yield Use("made up", "" if self.release else "no release")',
        ),
    },
    """
        from types import SimpleNamespace
        from harness.lab.aftermath import uses

        uses.upkeep = SimpleNamespace(versions=lambda guest, signature: (None, ""))
        uses.site_of = lambda vm: None
        for release, problem in (("4.22", ""), ("", "no release")):
            made = uses.Later(SimpleNamespace(guest=None), None, release, "").short()
            assert uses.Use("made up", problem) in list(made)
    """,
)
OUTSIDE = Addition(
    {
        "harness/lab/faults/clock.py": """

            @outside("clock.stopped", "the clock stands still")
            def stopped(vm: SystemVm) -> Iterator[str]:
                \"\"\"Stop the clock.\"\"\"
                yield "stopped"
        """
    },
    """
        from harness.lab.faults import begin, outsides

        assert "clock.stopped" in {row.name for row in outsides()}
        with begin("clock.stopped", None) as told:
            assert told == "stopped"
    """,
)
API_COMMAND = Addition(
    {
        "harness/management/api/commands.py": (
            "_PAGE: tuple[Command, ...] = (",
            '    Command("tellNothing", "Tells nothing.", _ALL, lists.tell_nothing),',
        ),
        "harness/management/api/lists.py": """

            def tell_nothing(call: ApiCall) -> Row:
                \"\"\"Return nothing.\"\"\"
                return {}
        """,
    },
    """
        from harness.management.api.commands import table

        assert table()["tellNothing"].handler(None) == {}
    """,
)
PROBE = Addition(
    {
        "harness/traffic/probes.py": """

            @dataclass(frozen=True)
            class KnockProbe(Repeated):
                \"\"\"A connection that asks for nothing.\"\"\"

                async def ask(self) -> None:
                    \"\"\"Connect.\"\"\"
                    async with connection(self.host, self.port):
                        pass
        """,
        "harness/traffic/plan.py": (
            "    port = vm.endpoints[(str(flow.target), flow.port or 0)]",
            "    from harness.traffic.probes import KnockProbe\n\n"
            '    yield KnockProbe(f"knock at {flow.name}", "127.0.0.1", port, rate=pace.rate)',
        ),
    },
    """
        import asyncio, socket
        from collections import defaultdict
        from types import SimpleNamespace
        from harness import network
        from harness.traffic.plan import Pace, probes

        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            vm = SimpleNamespace(endpoints=defaultdict(lambda: port), tenants={})
            found = [probe for probe in probes(vm, network.load(), Pace(1, 1)) if probe.name.startswith("knock")]
            assert found
            asyncio.run(found[0].ask())
            server.settimeout(5)
            assert server.accept()[0].recv(1) == b""
    """,
)
TRIO = Addition(
    {
        "bundle/layout.py": """

            NOTES = "patch-notes.txt"
            PAYLOAD = (*PAYLOAD, NOTES)
            LISTED = (*LISTED, NOTES)
            REQUIRED = (*REQUIRED, NOTES)
        """,
        "bundle/seal/finish.py": """

            _MADE[layout.NOTES] = lambda parts, _signer: parts.content.facts.version.encode()
        """,
        "bundle/templates/patch-sysvms/commit.sh.j2": (
            '    [[ $ACTION != worker ]] || SWEPT+=("$CACHE/patch-sysvms.sh")',
            '    [[ $ACTION != worker ]] || SWEPT+=("$CACHE/patch-notes.txt")',
        ),
    },
    """
        from types import SimpleNamespace
        from bundle.build import BuildOptions, build
        from bundle.inspect.verify import verify
        from harness.kvmagent import patch
        from harness.lab import faults
        from harness.observe import reviewed

        NOTES = "patch-notes.txt"
        build(BuildOptions(output=Path("made"), cache=False))
        faults.build_broken(Path("made"), faults.breakable("router"), Path("broken"), "sha512")
        for folder in (Path("made"), Path("broken")):
            assert verify(folder).manifest.files[NOTES].size == len((folder / NOTES).read_bytes()) > 0
        arrived = []
        guest = SimpleNamespace(put=lambda data, path, mode: arrived.append(path))
        patch.upload(guest, patch.load_bundle(Path("made")).contents)
        assert f"/var/cache/cloud/{NOTES}" in arrived, arrived
        assert reviewed.may_differ("path", f"/var/cache/cloud/{NOTES}")
        Path("host").mkdir()
        sysvm("bundle", "stage", "made", "--root", "host")
        assert list(Path("host").rglob(NOTES))
        assert f"$CACHE/{NOTES}" in Path("made/patch-sysvms.sh").read_text()
    """,
)
ADDITIONS = {
    "a release": RELEASE,
    "a check": CHECK,
    "a later use": LATER_USE,
    "a scenario": SCENARIO,
    "a VM type": VM_TYPE,
    "a service": SERVICE,
    "a network backend": BACKEND,
    "a report format": FORMAT,
    "a fault of a bundle": FAULT,
    "a fault from outside": OUTSIDE,
    "a command of the API": API_COMMAND,
    "a probe": PROBE,
    "a file of the bundle's trio": TRIO,
}
PRELUDE = """
from pathlib import Path
from click.testing import CliRunner
from harness.cli import sysvm as command


def sysvm(*arguments):
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert done.exception is None and not done.return_value, (done.exception, done.return_value, done.output)
    return done.output


"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is shipped."""
    for folder in ("bundle", "harness", "systemvm"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(tree: Path, edits: dict[str, str | tuple[str, str]]) -> None:
    for name, how in edits.items():
        path = tree / name
        if isinstance(how, str):
            before = path.read_text() if path.exists() else ""
            path.write_text(before + textwrap.dedent(how))
        else:
            line, text = how
            lines = path.read_text().split("\n")
            lines.insert(lines.index(line) + 1, text)
            path.write_text("\n".join(lines))


def prove(tree: Path, proof: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "SYSVM_CACHE": str(tree / "cache"),
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(proof)],
        cwd=tree, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_each_row_of_the_table_has_an_example_of_as_many_files() -> None:
    assert {name: len(addition.edits) for name, addition in ADDITIONS.items()} == ROWS


@pytest.mark.parametrize("name", ADDITIONS)
def test_a_made_up_thing_works_after_edits_of_these_files_alone(tree: Path, name: str) -> None:
    addition = ADDITIONS[name]
    without = prove(tree, addition.proof)
    assert without.returncode == 1, "the proof holds before the thing is there"
    for made in ("made", "broken", "results", "host"):
        shutil.rmtree(tree / made, ignore_errors=True)
    edit(tree, addition.edits)
    done = prove(tree, addition.proof)
    assert done.returncode == 0, done.stderr
