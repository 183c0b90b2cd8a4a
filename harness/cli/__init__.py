"""The ``sysvm`` command: a group that imports a subcommand only when it is called."""

from __future__ import annotations

import errno
import sys

import click

from bundle import __version__
from bundle.cli._group import LazyCommand, LazyGroup
from bundle.cli._options import JSON_ASKED
from bundle.errors import Exit, InfrastructureError, SysvmError, UsageError
from bundle.sink import tell, tell_json

COMMANDS: dict[str, LazyCommand] = {
    "bundle": LazyCommand("bundle.cli", "bundle", "Build, verify, compare, sign and install patch bundles."),
    "cache": LazyCommand(
        "harness.cli.cache", "cache", "Show, clean and share the cache of images and golden snapshots."
    ),
    "checks": LazyCommand("harness.cli.checks", "checks", "List the checks that judge a live patch."),
    "completion": LazyCommand(
        "harness.cli.completion", "completion", "Print what makes a shell complete the words of sysvm."
    ),
    "doctor": LazyCommand(
        "harness.cli.doctor", "doctor", "Explain what this machine lacks, and mend what is safe."
    ),
    "image": LazyCommand("harness.cli.image", "image", "Build, import and list system VM template images."),
    "matrix": LazyCommand(
        "bundle.cli.matrix", "matrix", "Say which template may be live patched to which release."
    ),
    "patch": LazyCommand("harness.cli.patch", "patch", "Live patch running system VMs with a bundle."),
    "report": LazyCommand("harness.cli.report", "report", "Make the reports of a run again from its events."),
    "repro": LazyCommand(
        "harness.cli.repro", "repro", "Repeat a scenario, with a shell in its VM before and after."
    ),
    "rollout": LazyCommand(
        "harness.cli.rollout", "rollout", "Live patch the system VMs of a whole CloudStack, unit by unit."
    ),
    "run": LazyCommand("harness.cli.run", "run", "Boot, patch, break, roll back and judge: the main job."),
    "scenarios": LazyCommand(
        "harness.cli.scenarios", "scenarios", "List the acceptance scenarios, and what each is about."
    ),
    "serve": LazyCommand(
        "harness.cli.serve", "serve", "Serve the management server's API, and a page to click."
    ),
    "status": LazyCommand(
        "harness.cli.status", "status", "Say what system VMs run and what a bundle offers them."
    ),
    "vm": LazyCommand("harness.cli.vm", "vm", "Start, enter, snapshot and stop system VMs by hand."),
    "worker": LazyCommand("harness.cli.worker", "worker", "Lend this machine to runs of other machines."),
}
# The modules that not every installation has, and the extra that brings each.
_EXTRA_MODULES = {
    **dict.fromkeys(("libvirt", "libvirt_qemu", "paramiko", "testinfra", "pytest", "wsproto"), "harness"),
    **dict.fromkeys(("starlette", "uvicorn"), "api"),
    **dict.fromkeys(("cs", "requests"), "rollout"),
    **dict.fromkeys(("dask", "distributed"), "cluster"),
}

# What the host refuses, with the file that it is about: nobody's mistake in the program.
_HOST_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
}


@click.group(cls=LazyGroup, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sysvm")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def sysvm(ctx: click.Context, verbose: bool) -> None:
    """Build and test live patches of Apache CloudStack system VMs."""
    ctx.ensure_object(dict)["verbose"] = verbose
    from harness.cli import _leftovers

    _leftovers.remove()


def main() -> None:
    """Run the command; a mistake of the user or the machine ends in one line on standard error."""
    asked: dict[str, bool] = {}
    try:
        status = sysvm.main(prog_name="sysvm", standalone_mode=False, obj=asked)
    except (SysvmError, ModuleNotFoundError, OSError) as error:
        problem = _known(error)
        if problem is None or asked.get("verbose"):
            raise
        _tell_error(problem, as_json=bool(asked.get(JSON_ASKED)))
        sys.exit(problem.exit_status)
    except click.ClickException as error:
        if asked.get(JSON_ASKED) or "--json" in sys.argv:
            _tell_error(UsageError(error.format_message()), as_json=True)
        else:
            error.show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        tell("sysvm: interrupted", err=True)
        sys.exit(Exit.INTERRUPTED)
    sys.exit(status if isinstance(status, int) else Exit.OK)


def _tell_error(error: SysvmError, *, as_json: bool) -> None:
    """Say one line for a person on standard error, or a document for a machine where it looks for one."""
    if as_json:
        tell_json({"error": str(error), "hint": error.hint, "exit_status": int(error.exit_status)})
    else:
        tell(f"sysvm: {error.diagnostics()}", err=True)


def _known(error: SysvmError | ModuleNotFoundError | OSError) -> SysvmError | None:
    """Return an error as the one line that a person needs, or None for one that nobody has foreseen."""
    if isinstance(error, SysvmError):
        return error
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA_MODULES:
            return None
        return InfrastructureError(
            f"this command needs the Python module {missing}, which is not installed",
            hint=f"pip install 'sysvm-livepatch[{_EXTRA_MODULES[missing]}]'",
        )
    if error.errno == errno.ENOSPC:
        return InfrastructureError(f"no space is left for {error.filename or 'what has to be written'}")
    if error.errno in _HOST_ERRORS and error.filename:
        return InfrastructureError(f"{error.filename}: {error.strerror}")
    return None
