"""The subject of a run: the scripts that a VM has before the patch, and the bundle that it is patched with.

Both may be a person's own. What nobody names is the reference payload's, which is one subject among others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from bundle import layout
from bundle.errors import UsageError
from harness.kvmagent.patch import Dialect

ScriptChoice: TypeAlias = Literal["upstream", "ours"]
Origin: TypeAlias = Literal["reference", "checkout", "foreign"]
# The patch script of a checkout; trees before 4.17 have none.
UPSTREAM_SCRIPT = Path("systemvm/patch-sysvms.sh")


@dataclass(frozen=True)
class Subject:
    """The scripts that are patched, and the bundle that they are patched with.

    Attributes:
        bundle: a finished bundle, or any folder with the three files, to patch with.
        source: a CloudStack checkout to build that bundle from.
        script: for ``source``: the checkout's own patch script, or ours.
        agent_jars: for ``source`` and ``from_source``: where the VM agent's jars are.
        from_bundle: the bundle that the VM boots with.
        from_source: a CloudStack checkout to build template and boot bundle from.
        mixed: whether scripts of one origin may be patched with a bundle of another.
    """

    bundle: Path | None = None
    source: Path | None = None
    script: ScriptChoice = "upstream"
    agent_jars: Path | None = None
    from_bundle: Path | None = None
    from_source: Path | None = None
    mixed: bool = False

    @property
    def named(self) -> bool:
        """True if the bundle to patch with is a person's own."""
        return self.bundle is not None or self.source is not None

    @property
    def dialect(self) -> Dialect:
        """The dialect of the script's answer: that of a checkout is what CloudStack's own agent reads."""
        return "upstream" if self.source is not None and self.script == "upstream" else "strict"

    def check(self, *, template: bool = False) -> None:
        """Refuse what cannot be meant, before any work starts.

        Args:
            template: whether a template is named that the VM boots from.

        Raises:
            UsageError: two answers to one question, a folder that is not there, or two origins without a word.
        """
        for one, other in (("bundle", "source"), ("from_bundle", "from_source")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise UsageError(f"{_option(one)} and {_option(other)} say the same thing: name one of them")
        for name in ("bundle", "source", "agent_jars", "from_bundle", "from_source"):
            path = getattr(self, name)
            if path is not None and not path.is_dir():
                raise UsageError(f"{_option(name)} {path}: no such folder")
        for name in ("bundle", "from_bundle"):
            self._check_files(name)
        if (
            self.source is not None
            and self.script == "upstream"
            and not (self.source / UPSTREAM_SCRIPT).is_file()
        ):
            raise UsageError(
                f"--source {self.source}: no {UPSTREAM_SCRIPT}: the tree is older than live patches",
                hint="patch with our script: --script ours",
            )
        self._check_origins(template=template)

    def _check_files(self, name: str) -> None:
        folder = getattr(self, name)
        missing = [] if folder is None else [file for file in layout.PAYLOAD if not (folder / file).is_file()]
        if missing:
            raise UsageError(f"{_option(name)} {folder}: it has no {missing[0]}")

    def _check_origins(self, *, template: bool) -> None:
        old, new = self.old_origin(template=template), self.new_origin()
        if self.mixed or (old == "reference") == (new == "reference"):
            return
        if new == "reference":
            hint = "name what to patch with: --source TREE or --bundle DIR"
        else:
            hint = "name what the VM runs before: --from-source TREE, --from-bundle DIR or --template"
        raise UsageError(
            f"the VM has scripts of {_words(old)}, and the bundle is of {_words(new)}",
            hint=f"{hint}; or ask for the mix with --mixed",
        )

    def old_origin(self, *, template: bool) -> Origin:
        """Return where the scripts of the VM come from."""
        if self.from_source is not None:
            return "checkout"
        if self.from_bundle is not None:
            return origin_of(self.from_bundle)
        return "foreign" if template else "reference"

    def new_origin(self) -> Origin:
        """Return where the bundle that is patched with comes from."""
        if self.source is not None:
            return "checkout"
        return origin_of(self.bundle) if self.bundle is not None else "reference"


REFERENCE = Subject()


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _words(origin: Origin) -> str:
    words: dict[Origin, str] = {
        "reference": "the reference payload",
        "checkout": "a CloudStack checkout",
        "foreign": "an origin that nothing is known of",
    }
    return words[origin]


def origin_of(folder: Path) -> Origin:
    """Return where a bundle comes from, as its manifest says."""
    from bundle.errors import CheckFailed
    from bundle.seal.manifest import load

    try:
        origin = load(folder / layout.MANIFEST).facts.origin
    except (CheckFailed, OSError):
        return "foreign"
    return "reference" if origin == "reference" else "checkout"


def release_of(tree: Path) -> str:
    """Return the catalogue's name of a checkout's release.

    Raises:
        UsageError: the tree says none, or one that the catalogue does not have.
    """
    from bundle import catalogue
    from bundle.source.checkout import tree_version

    return catalogue.load().release(tree_version(tree)).name
