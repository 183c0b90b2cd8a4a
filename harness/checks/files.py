"""Files: after a patch all changes are the bundle's and all of it is there; after a failure nothing changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bundle import layout
from harness.checks.case import Case
from harness.checks.registry import Finding, Result, Skip, check
from harness.checks.shipped import AGENT_FOLDER, Shipped
from harness.kvmagent import patch
from harness.observe import files, reviewed
from harness.observe.files import PathDifference, PathState

SIGNATURE = "/var/cache/cloud/cloud-scripts-signature"
_RECOVERY = "/etc/systemd/system/cloud-livepatch-recover.service"
_RECOVERY_LINK = "/etc/systemd/system/sysinit.target.wants/cloud-livepatch-recover.service"
# What the patch script itself leaves behind, with the reason.
_TRACES = {
    SIGNATURE: "says what is installed; version.agreement looks at its content",
    "/usr/share/cloud/cloud-scripts.tgz": "the kept archive; version.agreement looks at its content",
    _RECOVERY: "finishes or undoes a patch after a power cut",
    _RECOVERY_LINK: "starts that unit at boot",
    "/etc/systemd/system/sysinit.target.wants": "holds that link",
    "/var/lib/cloud-livepatch/installed.manifest": "what of the agent this release installed, for the next patch",
    "/var/lib/cloud-livepatch/installed.signature": "which release that list is of",
}
# Files in which the release and the VM both have lines: identity.agent-properties looks at their content.
_MERGED = frozenset({"/usr/local/cloud/systemvm/conf/agent.properties"})
_KEYSTORE = "/usr/local/cloud/systemvm/certs/realhostip.keystore"
# What the patch script calls an operator's version: the second where programs read every file of a folder.
_OPERATORS_COPY = (".dist-old", ".dpkg-old")
_WHAT_IT_IS = ("type", "mode", "owner", "group", "link", "sha256")
_LEFTOVER = re.compile(r"bkpup_live_patch|livepatch[^/]*\.(new|tmp|stage)|\.(cloud-)?livepatch|\.sysvm-")
_SECRET = re.compile(
    r"(_key|\.jks|\.keystore|\.pem|\.key|ipsec\.secrets|agent\.properties|chap-secrets|authorized_keys)$"
)
_PUBLIC = re.compile(r"/etc/(ssl|ca-certificates)/|/usr/share/")
# Where a file whose name ends so is started by itself, not given to a shell.
_SCRIPTS = ("/opt/cloud/bin/", f"{AGENT_FOLDER}/")
_NO_FILES = Skip("none of the folders that are looked at has a file")


@check(
    "files.kept",
    "old or new, never mixed: a failed patch that leaves one file is a state nobody has tested",
    ("kept",),
)
def kept(case: Case) -> Result:
    """Every path has the type, mode, owner, link, content and attributes that it had before."""
    if not case.before.state.entries and not case.patched.state.entries:
        return _NO_FILES
    differences = files.diff(case.before.state, case.patched.state)
    if not differences:
        return None
    lines = files.readable(differences)
    paths = len({difference.path for difference in differences})
    return Finding(
        f"{paths} {'path differs' if paths == 1 else 'paths differ'} from before: {lines[0]}", tuple(lines)
    )


@check(
    "files.attributes",
    "an attribute that a rollback loses takes a program's rights away, or gives it some",
    ("kept",),
)
def attributes(case: Case) -> Result:
    """Every path has the extended attributes that it had, where the VM can list them."""
    if not case.before.state.entries and not case.patched.state.entries:
        return _NO_FILES
    if not (case.before.state.with_xattrs and case.patched.state.with_xattrs):
        return Skip("the VM has neither getfattr nor Python: it cannot list attributes")
    differences = files.diff(case.before.state, case.patched.state, lambda row: row.change == "attributes")
    return _finding(list(map(str, differences)), "attributes differ from before")


@check("files.installed", "a patch that leaves an old file is half a patch", ("patched",))
def installed(case: Case) -> Result:
    """Every file of the bundle is there with its content and mode, owned by root."""
    if not case.new:
        return Skip("the content of the bundle is not known")
    covered = [row for row in case.new.values() if _is_covered(case, row.path)]
    if not covered:
        return Skip("nothing of the bundle belongs into a folder that is looked at")
    return _finding(
        [line for row in covered for line in _faults(case, row)], "the bundle is not installed as it is"
    )


@check(
    "files.removed",
    "what a release dropped must not run on: a stale jar stays on the class path",
    ("patched",),
)
def removed(case: Case) -> Result:
    """What only the old bundle had is gone."""
    dropped = [
        path
        for path, row in case.old.items()
        if row.kind != "folder" and path not in case.new and not case.is_live(path) and path not in _TRACES
    ]
    if not dropped:
        return Skip("the new release drops nothing that the old one had")
    stale = [
        f"{path}: dropped by the new release, still there" for path in dropped if path in case.patched.state
    ]
    return _finding(stale, "files of the old release are still there")


@check(
    "files.none-landed",
    "the next boot installs the archives that lie where a server leaves them, whatever became of their patch",
)
def none_landed(case: Case) -> Result:
    """No archive lies in the landing folder since the patch ran that did not lie there before."""
    if case.answer is None or not case.answer.ran:
        return Skip("the patch script was not run")
    if not case.tidy:
        return Skip("the patch script could not have removed what was uploaded")
    before, after = case.before.state.entries, case.patched.state.entries
    wrong = [
        f"{path}: {'new' if path not in before else 'another one'} since the patch"
        for path in (f"{patch.LANDING}/{name}" for name in (layout.SCRIPTS, layout.AGENT))
        if path in after and (path not in before or before[path].stamp != after[path].stamp)
    ]
    return _finding(wrong, "the next boot would install")


@check("files.explained", "a change that no bundle explains is damage", ("patched",))
def explained(case: Case) -> Result:
    """Every path that differs is one that the bundles, or the patch itself, account for."""
    if not case.new:
        return Skip("the content of the bundle is not known")
    strange = files.diff(case.before.state, case.patched.state, lambda row: not _is_explained(case, row))
    return _finding(files.readable(strange), "changes that the bundle does not explain")


@check(
    "files.live",
    "live configuration that a patch resets takes the data plane down until rules are sent again",
)
def live(case: Case) -> Result:
    """Live configuration is as it was before rules were sent again."""
    if not any(case.is_live(path) for path in case.before.state.entries):
        return Skip("the VM had no live configuration")
    touched = files.diff(
        case.before.state, case.patched.state,
        lambda row: case.is_live(row.path) and row.path in case.before.state and not _is_renewed(case, row),
    )  # fmt: skip
    return _finding(files.readable(touched), "live configuration was changed by the patch")


@check(
    "files.by-rules",
    "what is planted while rules are sent is there when the next patch looks for what was before",
)
def by_rules(case: Case) -> Result:
    """Sending rules again writes live configuration, and nothing else but what is reviewed."""
    if case.after is case.patched:
        return Skip("no rules were sent")
    if not case.after.state.entries:
        return _NO_FILES
    strange = files.diff(
        case.patched.state, case.after.state,
        lambda row: not (case.is_live(row.path) and row.change in {"content", "added"})
        and not reviewed.excuses("rules", row.path),
    )  # fmt: skip
    return _finding(files.readable(strange), "changes since the patch that sending rules does not explain")


@check("files.secrets", "a secret that others may read is no secret")
def secrets(case: Case) -> Result:
    """No file with secrets is open to others, if it was not before; /root stays closed."""
    wrong = []
    secret = {
        path: entry
        for path, entry in case.after.state.entries.items()
        if path == "/root" or (entry.type == "file" and _SECRET.search(path) and not _PUBLIC.search(path))
    }
    if not secret:
        return Skip("no folder that is looked at has a secret")
    for path, entry in secret.items():
        before = case.before.state.entries.get(path)
        closed_before = before is None or not before.mode & 0o007
        if entry.mode & 0o007 and closed_before:
            was = f"it was {before.mode:04o}" if before else "new"
            wrong.append(f"{path}: mode {entry.mode:04o} lets everybody in ({was})")
    return _finding(wrong, "secrets are open")


@check(
    "files.modes",
    "units that are executable make systemd complain, scripts that are not do not run",
    ("patched",),
)
def modes(case: Case) -> Result:
    """Shipped units are not executable, shipped scripts and the agent's are, nothing is writable for others."""
    wrong = []
    entries = {path: case.patched.state.entries.get(path) for path in case.new}
    there = {path: entry for path, entry in entries.items() if entry is not None and entry.type == "file"}
    if not there:
        return Skip("the VM has no file of the bundle")
    for path, entry in there.items():
        if path.startswith("/etc/systemd/") and entry.mode & 0o111:
            wrong.append(f"{path}: a unit with mode {entry.mode:04o}")
        if path.startswith(_SCRIPTS) and path.endswith(".sh") and not entry.mode & 0o100:
            wrong.append(f"{path}: a script with mode {entry.mode:04o}")
        if entry.mode & 0o002:
            wrong.append(f"{path}: mode {entry.mode:04o} lets everybody write")
    return _finding(wrong, "modes are wrong")


@check("files.no-leftovers", "what a patch forgets fills the disk and confuses the next one")
def no_leftovers(case: Case) -> Result:
    """No staging file or backup that was not there before lies about."""
    if not case.patched.state.entries:
        return _NO_FILES
    new = case.patched.state.entries.keys() - case.before.state.entries.keys()
    return _finding(sorted(path for path in new if _LEFTOVER.search(path)), "the patch left working files")


@check("files.byte-code", "a compiled module runs in the place of its source, which nobody looks at then")
def byte_code(case: Case) -> Result:
    """Compiled modules of Python that were written since before are what their sources are."""
    if not case.after.state.entries:
        return _NO_FILES
    wrong = [
        f"{path} is not what its source is ({when})"
        for when, moment in case.moments()
        for path in moment.strange_code
    ]
    return _finding(wrong, "compiled modules of something else")


@check("files.setuid", "a program that runs as root for everybody is a way to become root")
def setuid(case: Case) -> Result:
    """No file runs with the rights of its owner or group that did not before."""
    if not case.after.state.entries:
        return _NO_FILES
    before = case.before.state.entries
    wrong = [
        f"{path}: mode {entry.mode:04o}, runs as {entry.owner}:{entry.group} whoever starts it"
        for _, moment in case.moments()
        for path, entry in moment.state.entries.items()
        if entry.type == "file" and entry.mode & 0o6000
        and (path not in before or entry.mode & 0o6000 & ~before[path].mode)
    ]  # fmt: skip
    return _finding(list(dict.fromkeys(wrong)), "new programs with the rights of others")


def _finding(lines: list[str], what: str) -> Result:
    if not lines:
        return None
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return Finding(f"{what}: {lines[0]}{more}", tuple(lines))


def _is_covered(case: Case, path: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in case.patched.state.folders)


def _faults(case: Case, row: Shipped) -> Iterator[str]:
    entry = case.patched.state.entries.get(row.path)
    before = case.before.state.entries.get(row.path)
    if case.is_live(row.path) and before is not None:
        return
    if entry is None:
        yield f"{row.path}: missing"
    elif row.path == _KEYSTORE and before is not None and _holds_more(case, before, entry):
        was, now = (f"{seen.mode:04o} {seen.owner}:{seen.group}" for seen in (before, entry))
        if was != now:
            yield f"{row.path}: it was {was} and is {now}"
    elif row.kind != "folder" or before is None:
        yield from _compare(row, entry)


def _holds_more(case: Case, before: PathState, entry: PathState) -> bool:
    """Say whether the VM kept a keystore that is not the one of its release: boot and operators import into it."""
    old = case.old.get(_KEYSTORE)
    return before.sha256 == entry.sha256 and (old is None or old.sha256 != entry.sha256)


def _compare(row: Shipped, entry: PathState) -> Iterator[str]:
    if entry.type != row.kind:
        yield f"{row.path}: a {entry.type}, the bundle has a {row.kind}"
    elif row.kind == "file" and entry.sha256 != row.sha256 and row.path not in _MERGED:
        yield f"{row.path}: not the content of the bundle"
    elif row.kind == "link" and entry.link != row.link:
        yield f"{row.path}: leads to {entry.link}, not to {row.link}"
    if row.mode is not None and row.kind == entry.type and entry.mode != row.mode:
        yield f"{row.path}: mode {entry.mode:04o}, the bundle has {row.mode:04o}"
    if row.mode is None and entry.type == "file" and not entry.mode & 0o400:
        yield f"{row.path}: mode {entry.mode:04o}, its owner cannot read it"
    if (entry.owner, entry.group) != ("root", "root"):
        yield f"{row.path}: belongs to {entry.owner}:{entry.group}, not to root"


def _is_explained(case: Case, difference: PathDifference) -> bool:
    path = difference.path
    # No bundle has any of these: an immutable file makes the next patch fail, a second name is a way to it.
    if difference.change in {"flags", "attributes", "hard links"}:
        return False
    if path in _TRACES:
        return _is_closed(case, path) and _is_recovery(case, path)
    if path.endswith(_OPERATORS_COPY) and difference.change == "added":
        return _is_operators(case, path)
    if path in case.new:
        # That it is the bundle's version is what files.installed looks at; a live path has a check of its own.
        row = case.new[path]
        return row.kind != "folder" or difference.change == "added"
    if path in case.old:
        return difference.change == "removed"
    return difference.change in {"added", "removed"} and _is_folder_of_shipped(case, path)


def _is_operators(case: Case, path: str) -> bool:
    """True if it is what stood at a shipped path before, kept beside."""
    shipped = path.rpartition(".")[0]
    was = case.before.state.entries.get(shipped)
    kept = case.patched.state.entries[path]
    return (
        shipped in {**case.old, **case.new}
        and was is not None
        and all(getattr(was, name) == getattr(kept, name) for name in _WHAT_IT_IS)
    )


def _is_recovery(case: Case, path: str) -> bool:
    """True if the unit that root runs at each boot says what the patch script has in it, and its link leads there."""
    entry = case.patched.state.entries.get(path)
    if entry is None or path not in {_RECOVERY, _RECOVERY_LINK}:
        return True
    if path == _RECOVERY_LINK:
        return entry.type == "link" and entry.link == _RECOVERY
    return entry.type == "file" and entry.sha256 == case.recovery != ""


def _is_closed(case: Case, path: str) -> bool:
    """True if what the patch script leaves behind there belongs to root, and nobody else may change it."""
    entry = case.patched.state.entries.get(path)
    return entry is None or (
        (entry.owner, entry.group) == ("root", "root") and (entry.type == "link" or not entry.mode & 0o6022)
    )


def _is_folder_of_shipped(case: Case, path: str) -> bool:
    entry = case.patched.state.entries.get(path) or case.before.state.entries.get(path)
    below = f"{path}/"
    return (
        entry is not None
        and entry.type == "folder"
        and (path in case.before.state or not (entry.mode & 0o022 or entry.owner != "root"))
        and any(shipped.startswith(below) for shipped in (*case.new, *case.old))
    )


def _is_renewed(case: Case, difference: PathDifference) -> bool:
    """True if what the old bundle had shipped stood there, so nobody had configured it, and now the new one's does."""
    old, before = case.old.get(difference.path), case.before.state.entries.get(difference.path)
    if old is None or before is None or not old.sha256 == before.sha256 != "":
        return False
    new, after = case.new.get(difference.path), case.patched.state.entries.get(difference.path)
    return after is None if new is None else after is not None and after.sha256 == new.sha256
