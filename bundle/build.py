"""Build a bundle: source tree in, bundle folder out, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundle import catalogue, layout
from bundle.archive import canonical, output
from bundle.archive.deflate import FLAVOUR
from bundle.archive.digest import TrailingDigest
from bundle.archive.measure import measure
from bundle.archive.members import Archive, Item, Member
from bundle.archive.modes import ModeRule
from bundle.archive.output import write
from bundle.archive.packer import Compress, Packer
from bundle.archive.store import Store, configured_limit
from bundle.archive.tar import tgz_stream
from bundle.archive.zip import write_zip
from bundle.errors import SysvmError, UsageError
from bundle.paths import cache_place
from bundle.seal import provenance
from bundle.seal.finish import Parts, file_facts, seal
from bundle.seal.guest_manifest import Packed
from bundle.seal.manifest import ARCHIVES, Facts, Manifest, load, member_rows
from bundle.seal.signer import Signer, choose
from bundle.services import Policy
from bundle.source.checkout import Jars
from bundle.source.find import find_payload
from bundle.source.line_ends import check_line_ends, mend_line_ends
from bundle.source.payload import Payload

_ALGORITHMS: dict[Archive, tuple[str, ...]] = {
    "agent.zip": ("sha256", "sha512"),
    "cloud-scripts.tgz": ("sha256", "sha512", "md5"),
}
_LARGEST_SCRIPT = 16 << 20
# Without SOURCE_DATE_EPOCH the time stamp is made from the content and lies in these years, from 1980 to
# 2014: in the past of any clock, and another one for other content, because Python trusts byte code whose
# source has the time and size that it remembers.
_EPOCH_FROM, _EPOCH_SPAN = 315532800, 1 << 30


@dataclass(frozen=True)
class BuildOptions:
    """The wish for one build: source, release, options and output.

    Attributes:
        output: the bundle folder that is to appear.
        source: a CloudStack checkout or a copy of the reference payload; None for our own reference payload.
        release: overrides the release that the source says; the default of the catalogue for the reference
            payload.
        modes: the mode rules.
        agent_jars: where the jars of a checkout's agent are.
        key: private key that signs the bundle, when there is no other signer.
        signer: who signs the bundle.
        script: a foreign patch script in place of ours.
        restart: how our script restarts services.
        architecture: ``all``, ``amd64`` or ``arm64``.
        minimum_template: overrides the oldest template that may be patched.
        newest: whether the newest row of the catalogue stands in for a release that is newer than all of them.
        build: number of the build, which grows; 0 takes ``SOURCE_DATE_EPOCH``, or says none.
        compress: ``fast`` stores what is compressed already, ``small`` deflates whatever shrinks.
        workers: threads that read and compress; 0 takes one a core.
        cache: whether packed members are kept for the next build.
        mend_line_ends: whether text with CR LF is packed with LF; such scripts are refused otherwise.
        force: whether a signed bundle with another content may be replaced.
    """

    output: Path
    source: Path | None = None
    release: str | None = None
    modes: ModeRule = "careful"
    agent_jars: Path | None = None
    key: Path | None = None
    signer: Signer | None = None
    script: Path | None = None
    restart: Policy = "graceful"
    architecture: str = "all"
    minimum_template: str | None = None
    newest: bool = False
    build: int = 0
    compress: Compress = "fast"
    workers: int = 0
    cache: bool = True
    mend_line_ends: bool = False
    force: bool = False


@dataclass(frozen=True)
class Built:
    """A finished bundle: its folder, its manifest, and what a person should know about the source."""

    folder: Path
    manifest: Manifest
    notes: tuple[str, ...]


class WouldReplaceError(UsageError):
    """The output is a signed bundle of another content, which somebody may need."""


def _check_replaced(output: Path, content: Manifest) -> None:
    """Refuse to replace a signed bundle that has another content; one without signature is made again at any time.

    Raises:
        WouldReplaceError: it would be.
    """
    if not (output / layout.MANIFEST_SIGNATURE).exists():
        return
    try:
        former = load(output / layout.MANIFEST)
        what = f"a signed bundle of CloudStack {former.facts.name}, content digest sha256:{former.content_digest}"
        same = former.content_digest == content.content_digest
    except SysvmError:
        what, same = "a signed bundle with a manifest that cannot be read", False
    if not same:
        raise WouldReplaceError(
            f"{output} holds {what}", hint="choose another --output, or replace it: --force"
        )


def source_date_epoch() -> int | None:
    """Return ``SOURCE_DATE_EPOCH`` in seconds, or None when it is not set.

    Raises:
        UsageError: it is not a whole number that an archive can hold.
    """
    value = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not value:
        return None
    if not value.isascii() or not value.isdigit() or int(value) >= 1 << 33:
        raise UsageError(f"invalid SOURCE_DATE_EPOCH {value!r} (expected whole seconds since 1970)")
    return int(value)


def _epoch_of(members: dict[Archive, tuple[Member, ...]]) -> int:
    """Return a time stamp that is the same for the same members, whatever else was asked for."""
    digest = hashlib.sha256(canonical.dumps(member_rows(members))).digest()
    return _EPOCH_FROM + int.from_bytes(digest[:4], "big") % _EPOCH_SPAN // 2 * 2


def _script_digest(payload: Payload, options: BuildOptions, script: bytes | None) -> str:
    if script is not None:
        return hashlib.sha256(script).hexdigest()
    from bundle.seal.script import program_digest

    return program_digest(payload.release, options.restart)


def _facts(
    payload: Payload, options: BuildOptions, members: dict[Archive, tuple[Member, ...]], script: bytes | None
) -> Facts:
    epoch = source_date_epoch()
    if options.minimum_template is not None:
        catalogue.number_of(options.minimum_template)
    return Facts(
        release=payload.release.name,
        row=payload.row,
        version=payload.version,
        label=payload.label,
        build=options.build or epoch or 0,
        architecture=options.architecture,
        minimum_template=options.minimum_template or payload.minimum_template,
        origin=payload.origin,
        modes=options.modes,
        digest=payload.release.signature,
        epoch=_epoch_of(members) if epoch is None else epoch,
        script="rendered" if script is None else "foreign",
        script_digest=_script_digest(payload, options, script),
        restart=options.restart if script is None else "unknown",
    )


class _Archiver:
    """Writes both archives with one pool of threads and one cache."""

    def __init__(
        self, pool: ThreadPoolExecutor, store: Store | None, workers: int, epoch: int, compress: Compress
    ) -> None:
        self._compress: Compress = compress
        self._pool = pool
        self._store = store
        self._depth = 2 * workers + 2
        self._epoch = epoch

    def _recipe(self, name: Archive, members: tuple[Member, ...]) -> str:
        """Return a key for everything that the bytes of an archive depend on."""
        rows = "\n".join(f"{row.kind} {row.mode:o} {row.size} {row.sha256} {row.path}" for row in members)
        return f"{name} {FLAVOUR} {self._compress} {self._epoch} {hashlib.sha256(rows.encode()).hexdigest()}"

    def write(self, name: Archive, path: Path, members: tuple[Member, ...]) -> Packed:
        """Write one archive and return its size, its digests and its members."""
        recipe = self._recipe(name, members)
        digests = self._known_digests(recipe)
        with path.open("w+b") as file:
            follower = TrailingDigest(file.fileno(), () if digests else _ALGORITHMS[name])
            try:
                size = self._fill(name, file, members, recipe, follower)
            finally:
                found = follower.finish()
        if digests is None:
            digests = found
            if self._store is not None:
                self._store.put(f"digests {recipe}", json.dumps(digests).encode())
        path.chmod(layout.mode_of(name))
        return Packed(size, digests, members)

    def _known_digests(self, recipe: str) -> dict[str, str] | None:
        """Return the digests of an archive that was written before from the same proven pieces."""
        data = self._store.get(f"digests {recipe}") if self._store is not None else None
        return json.loads(data) if data is not None else None

    def _fill(
        self,
        name: Archive,
        file: BinaryIO,
        members: tuple[Member, ...],
        recipe: str,
        follower: TrailingDigest,
    ) -> int:
        if name == "agent.zip":
            packer = Packer(self._pool, self._store, self._depth, self._compress)
            return write_zip(file, members, self._epoch, packer, self._store, follower)
        kept = self._store.open(f"stream {recipe}") if self._store is not None else None
        size = 0
        if kept is not None:
            with kept:
                while block := kept.read(1 << 20):
                    size += file.write(block)
        else:
            size = self._compress_scripts(file, members, recipe)
        file.flush()
        follower.advance(size)
        return size

    def _compress_scripts(self, file: BinaryIO, members: tuple[Member, ...], recipe: str) -> int:
        size = 0
        stream = tgz_stream(members, self._epoch, self._pool, self._depth)
        if self._store is None:
            return sum(file.write(block) for block in stream)
        with self._store.writer(f"stream {recipe}") as keeper:
            for block in stream:
                size += file.write(block)
                keeper.write(block)
        return size


def _foreign_script(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if not data.startswith(b"#!") or len(data) > _LARGEST_SCRIPT:
        raise UsageError(f"{path}: not a script (it does not begin with '#!', or is larger than 16 MiB)")
    return data


def _bill(store: Store | None, content: Manifest, archives: dict[Archive, Packed], folder: Path) -> bytes:
    """Return the bill of materials, from the cache when nothing changed."""
    files = file_facts(folder, archives, ARCHIVES)
    key = f"sbom {content.content_digest} {files}"
    data = store.get(key) if store is not None else None
    if data is None:
        from bundle.seal import sbom

        data = sbom.render(content.facts, content.content_digest, content.members, files)
        if store is not None:
            store.put(key, data)
    return data


def build(options: BuildOptions) -> Built:
    """Build a bundle; the folder appears complete or not at all.

    Raises:
        WouldReplaceError: a signed bundle of another content is there, and may not be replaced.
        UsageError: the source, the key or an option is at fault.
        InfrastructureError: the output cannot be written.
    """
    workers = options.workers or len(os.sched_getaffinity(0))
    signer = options.signer or choose(options.key, None, None, None, None)
    script = _foreign_script(options.script)
    store = Store(cache_place() / "bundle", configured_limit()) if options.cache else None
    with output.folder(options.output, layout.is_bundle) as folder:
        jars = Jars(options.agent_jars, folder.parent / "jars") if options.agent_jars else None
        payload = find_payload(options.source, options.release, catalogue.load(), jars, newest=options.newest)
        if options.mend_line_ends:
            payload = mend_line_ends(payload, folder.parent / "mended")
        check_line_ends(payload)

        def measured(items: dict[str, Item], name: Archive) -> tuple[Member, ...]:
            return tuple(measure(items.values(), name, options.modes, workers))

        members: dict[Archive, tuple[Member, ...]] = {
            "agent.zip": measured(payload.agent, "agent.zip"),
            "cloud-scripts.tgz": measured(payload.scripts, "cloud-scripts.tgz"),
        }
        facts = _facts(payload, options, members, script)
        with ThreadPoolExecutor(workers) as pool:
            archiver = _Archiver(pool, store, workers, facts.epoch, options.compress)
            archives = {name: archiver.write(name, folder / name, rows) for name, rows in members.items()}
        content = Manifest(facts, members)
        if not options.force:
            _check_replaced(options.output, content)
        write(folder / layout.SBOM, _bill(store, content, archives, folder))
        made_of = provenance.dependencies(facts, content.content_digest, payload.checkout)
        manifest = seal(folder, Parts(content, archives, script, made_of), signer)
    if store is not None:
        store.trim()
    return Built(options.output, manifest, payload.notes)
