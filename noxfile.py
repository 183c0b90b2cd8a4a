"""Sessions that a person can run one by one; ``nox`` alone runs every check.

The sessions use the environment that ``make install`` made: the pins are in one place, and nothing is installed twice.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

# nox reads this file from anywhere.
sys.path.insert(0, str(Path(__file__).parent))
from tests.fuzzing import EXAMPLES, TARGETS

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "docs", "unit", "guest", "e2e"]
nox.options.stop_on_first_error = True

# The programs of the environment that nox itself was installed in come first, also when nobody activated it.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

SHELL_DIALECT = ("--indent", "4", "--case-indent")


def _shell_files() -> list[str]:
    """Return every shell script of the tree: by ending, or by its first line."""
    found = []
    for path in sorted(p for root in (".ci", "systemvm", "tests", "harness") for p in Path(root).rglob("*")):
        if not path.is_file() or path.suffix in {".j2", ".py", ".md", ".toml"} or "__pycache__" in path.parts:
            continue
        with path.open("rb") as file:
            first = file.readline(64)
        if path.suffix == ".sh" or (first.startswith(b"#!") and first.rstrip().endswith((b"sh", b"bash"))):
            found.append(str(path))
    return found


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, codespell, shellcheck and shfmt."""
    session.run("ruff", "check", ".", external=True)
    session.run("ruff", "format", "--check", ".", external=True)
    session.run("codespell", external=True)
    shell = _shell_files()
    session.run("shellcheck", "--external-sources", *shell, external=True)
    session.run("shfmt", "--diff", *SHELL_DIALECT, *shell, external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy in its strict mode: on the tools, and on the benchmarks that tell what they cost."""
    session.run("mypy", external=True)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the unit tests: no VM, no root."""
    session.run("pytest", "-q", "--durations=12", "-n", "auto", "tests/unit", *session.posargs, external=True)


@nox.session
def guest(session: nox.Session) -> None:
    """Run the tests of what runs inside the guest, in namespaces: no VM, but root."""
    # --script FILE judges another patch script, --seed N draws other samples; the plugin of 'sysvm run' has both names.
    names = {"--script": "--patch-script", "--seed": "--walk-seed"}
    options = [names.get(word, word) for word in session.posargs]
    # Many of the tests wait for services most of the time: twice as many at once as there are processors.
    # A walk takes minutes, most tests a second: whoever has none left takes over some of another.
    spread = ["-n", str(2 * len(os.sched_getaffinity(0))), "--dist", "worksteal"]
    session.run("pytest", "-q", "--durations=12", *spread, "tests/guest", *options, external=True)


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the end-to-end tests with virtual machines."""
    # Two at a time: one VM keeps a core busy, and waits for half of the time. A file is one worker's, in our order.
    spread = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    session.run("pytest", "-q", "--durations=12", *spread, "tests/e2e", *session.posargs, external=True)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed one target (readers, import, events, networks, answers, depot; all without one) at length: TARGET [N]."""
    target, examples = [*session.posargs, *("all", "20000")[len(session.posargs) :]][:2]
    if target != "all" and target not in TARGETS:
        session.error(f"no target {target!r} (there is all, {', '.join(TARGETS)})")
    session.env[EXAMPLES] = examples
    paths = TARGETS.values() if target == "all" else [TARGETS[target]]
    session.run("pytest", "-q", "-n", "auto", "--timeout", "7200", *paths, external=True)


@nox.session
def hardship(session: nox.Session) -> None:
    """Try what hosts do to runs, then kill runs at random moments; the argument says how often: 100."""
    session.env["SYSVM_HARDSHIP"] = "1"
    session.run("pytest", "-q", "--timeout", "3600", "tests/e2e/test_hardship.py", external=True)
    session.env["SYSVM_KILLS"] = session.posargs[0] if session.posargs else "100"
    killed = ["tests/e2e/test_engine_hardship.py", "-k", "killed"]
    session.run("pytest", "-q", "--timeout", "3600", *killed, external=True)


@nox.session
def rollout(session: nox.Session) -> None:
    """Kill rollouts at length (the argument says how often: 200), then roll out over real VMs."""
    session.env["SYSVM_ROLLOUT_KILLS"] = session.posargs[0] if session.posargs else "200"
    session.run("pytest", "-q", "--timeout", "7200", "tests/unit/harness/rollout", external=True)
    session.env["SYSVM_ROLLOUT_VMS"] = "1"
    session.run("pytest", "-q", "tests/e2e/test_rollout.py", external=True)


@nox.session
def cluster(session: nox.Session) -> None:
    """Run on hosts in network namespaces, cut one off, then with real VMs and lose one: twenty minutes emulated."""
    session.env["SYSVM_CLUSTER_VMS"] = "1"
    session.run(
        "pytest",
        "-q",
        "-s",
        "--timeout",
        "3600",
        "tests/guest/cluster",
        "tests/e2e/test_cluster.py",
        *session.posargs,
        external=True,
    )


@nox.session
def guides(session: nox.Session) -> None:
    """Follow the guides on VMs, every block of theirs as it is written: half an hour under emulation."""
    session.env["SYSVM_GUIDE_VMS"] = "1"
    session.run("pytest", "-q", "tests/e2e/test_guides.py", *session.posargs, external=True)


@nox.session
def mutants(session: nox.Session) -> None:
    """Run the mutants of a set (script, payload, scenarios, later, vm, packed), or named rows: all have to die."""
    session.run("python", "-m", "tests.mutants", *(session.posargs or ["script"]), external=True)


@nox.session
def api(session: nox.Session) -> None:
    """Click on the page in a browser, and kill servers in the middle of a job: on real VMs."""
    session.env["SYSVM_API_VMS"] = "1"
    paths = [f"tests/e2e/test_api{part}.py" for part in ("", "_page", "_killed")]
    session.run("pytest", "-q", *paths, *session.posargs, external=True)


@nox.session(venv_backend="venv")
def ansible(session: nox.Session) -> None:
    """Have Ansible's own CloudStack modules and py-acs-sdk patch VMs, in an environment of their own: 600 MB."""
    session.install("ansible==12.3.0", "cs==5.2.0")
    # It asks for Python 3.12, and runs with 3.11.
    session.install("--ignore-requires-python", "py-acs-sdk==1.0.13")
    session.env["SYSVM_ANSIBLE"] = session.bin
    session.env["PATH"] = os.environ["PATH"]
    session.run(
        "pytest", "-q", "tests/clients", "tests/e2e/test_api_outside.py", *session.posargs, external=True
    )


@nox.session
def cloudmonkey(session: nox.Session) -> None:
    """Have CloudMonkey patch VMs; the argument is its program, which is written in Go."""
    if not session.posargs:
        session.skip("name CloudMonkey's program: nox -s cloudmonkey -- FILE")
    session.env["SYSVM_CLOUDMONKEY"] = str(Path(session.posargs[0]).absolute())
    paths = ["tests/clients/test_cloudmonkey.py", "tests/e2e/test_api_cloudmonkey.py"]
    session.run("pytest", "-q", *paths, *session.posargs[1:], external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks named in the arguments (all without one); prints ratios against rivals."""
    names = session.posargs or ["all"]
    session.run("python", "-m", "tests.bench", *names, external=True)


@nox.session
def genuine(session: nox.Session) -> None:
    """Run the product on genuine CloudStack trees: the one to patch to, then those to patch from."""
    if len(session.posargs) < 2:
        session.skip("no trees named: nox -s genuine -- TREE-TO TREE-FROM [TREE-FROM ...]")
    session.run("python", "-m", "tests.genuine", *session.posargs, external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages and the man pages into dist/docs; a warning is an error. ``--links`` asks every address."""
    for kind in ("html", "man"):
        session.run(
            "sphinx-build", "-q", "-W", "--keep-going", "-b", kind, "docs", f"dist/docs/{kind}", external=True
        )
    if "--links" in session.posargs:
        # The pages at the root have links, too. An address that does not answer ends the session.
        pages = (
            "-c", "docs", "-D", "root_doc=docs/index", "-D", "include_patterns=docs/*.md,docs/adr/*.md,*.md",
            "-D", "suppress_warnings=toc.not_included,myst.xref_missing",
        )  # fmt: skip
        session.run("sphinx-build", "-q", "-b", "linkcheck", *pages, ".", "dist/docs/links", external=True)


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel, source archive and Debian package into dist, and try each outside of the checkout."""
    session.run("python", "-m", "tests.packages", *session.posargs, external=True)
