"""The road from a Debian base to a system VM template: a pure function on the tree."""

from __future__ import annotations

import gzip
import hashlib
import io
import posixpath
import tarfile
import time

from bundle.catalogue import Units
from bundle.errors import UsageError
from bundle.paths import payload_root
from harness.image import keystore
from harness.image.boot_kernel import BootKernel
from harness.image.disk import DiskLayout
from harness.image.spec import Plan
from harness.image.tree import Tree

SYSTEM = "etc/systemd/system"
_UNIT_FOLDERS = (SYSTEM, "lib/systemd/system", "usr/lib/systemd/system")
# Made while packages were installed, different every time, or of the build host.
_LEFTOVERS = (
    "etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ecdsa_key.pub", "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub",
    "etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/ssl/private/ssl-cert-snakeoil.key", "var/lib/systemd/random-seed",
    "var/lib/systemd/catalog/database", "var/lib/dbus/machine-id", "var/cache/debconf", "var/cache/ldconfig/aux-cache",
    "etc/ssl/certs/java/cacerts.dpkg-old",
    # Owned by apt's user or by root, as that user could reach the build's folder or not; apt makes them anew.
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
)  # fmt: skip
_JAVA_STORE = "etc/ssl/certs/java/cacerts"
SCRIPTS = "usr/share/cloud/cloud-scripts.tgz"
SIGNATURE = "var/cache/cloud/cloud-scripts-signature"
BOOT_OPTIONS = "console=tty0 console=ttyS0,115200n8 net.ifnames=0 biosdevname=0 nomodeset"


def apply(
    tree: Tree, plan: Plan, layout: DiskLayout, kernel: BootKernel, initrd: bytes, scripts: bytes
) -> None:
    """Change the base's tree into the template's."""
    clean(tree)
    _identity(tree, plan)
    _mounts(tree, layout)
    _static_files(tree)
    bake(tree, scripts, plan.release.signature)
    set_units(tree, plan.units)
    _boot(tree, layout, kernel, initrd)


def clean(tree: Tree) -> None:
    """Remove what belongs to the build, and logs."""
    for path in _LEFTOVERS:
        tree.remove(path)
    tree.add_dir("var/cache/debconf")
    for path in tree.below("var/log"):
        if tree.nodes[path].kind == "file":
            tree.remove(path)
    if _JAVA_STORE in tree:
        tree.add_file(_JAVA_STORE, keystore.normalized(tree.read(_JAVA_STORE), tree.epoch))


def _identity(tree: Tree, plan: Plan) -> None:
    date = time.strftime("%a %b %d %I:%M:%S %p UTC %Y", time.gmtime(plan.epoch))
    tree.add_file("etc/cloudstack-release", f"Cloudstack Release {plan.template} {date}\n".encode())
    # Empty, not absent: systemd makes an identity, but does not take this for a first boot with all its presets.
    tree.add_file("etc/machine-id", b"", 0o444)
    tree.add_link("var/lib/dbus/machine-id", "/etc/machine-id")
    tree.add_file("etc/hostname", b"systemvm\n")
    tree.add_file("etc/hosts", b"127.0.0.1 localhost\n127.0.1.1 systemvm\n::1 localhost ip6-localhost\n")
    tree.add_file("etc/resolv.conf", b"")
    tree.add_file("etc/apt/sources.list", b"# A template names no mirror.\n")
    # As new as anything in /usr: else systemd rebuilds its databases at every first boot.
    for path in ("etc/.updated", "var/.updated"):
        tree.add_file(path, b"")


def _mounts(tree: Tree, layout: DiskLayout) -> None:
    lines = [f"UUID={layout.root_uuid} / ext4 defaults 0 0"]
    if layout.var_size:
        lines.append(f"UUID={layout.var_uuid} /var ext4 defaults 0 0")
    lines.append("tmpfs /run tmpfs nosuid,nodev,size=20%,mode=755 0 0")
    tree.add_file("etc/fstab", "".join(f"{line}\n" for line in lines).encode())


def _static_files(tree: Tree) -> None:
    """Add the files of ``systemvm/template/files``; a first line ``#!`` makes one executable."""
    root = payload_root() / "template" / "files"
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        content = path.read_bytes()
        mode = 0o755 if content.startswith(b"#!") else 0o644
        tree.add_file(path.relative_to(root).as_posix(), content, mode)


def bake(tree: Tree, scripts: bytes, algorithm: str) -> None:
    """Unpack ``cloud-scripts.tgz`` over the tree, keep a copy, and write its signature.

    Folders that Debian has keep their modes: the archive would open ``/root`` to everybody.

    Raises:
        UsageError: it is no gzipped tar archive.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(scripts), mode="r:gz") as archive:
            for member in archive:
                _bake_member(tree, archive, member)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UsageError(f"cloud-scripts.tgz cannot be read: {error}") from None
    tree.add_file(SCRIPTS, scripts, 0o644)
    digest = hashlib.new(algorithm, scripts, usedforsecurity=False).hexdigest()
    tree.add_file(SIGNATURE, f"{digest}\n".encode())
    tree.add_dir("usr/local/cloud")
    tree.add_dir("var/www/html")


def without_keystore(scripts: bytes) -> bytes:
    """Return the scripts as a template has them baked in: a template of CloudStack's own lacks the keystore scripts.

    So the bundle that is uploaded at the first boot is another archive than the one in the template, and is unpacked.

    Raises:
        UsageError: it is no gzipped tar archive.
    """
    packed = io.BytesIO()
    try:
        with (
            tarfile.open(fileobj=io.BytesIO(scripts), mode="r:gz") as archive,
            gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as baked,
        ):
            for member in archive:
                if not posixpath.normpath(member.name).startswith("opt/cloud/bin/keystore-"):
                    baked.addfile(member, archive.extractfile(member) if member.isfile() else None)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UsageError(f"cloud-scripts.tgz cannot be read: {error}") from None
    return packed.getvalue()


def _bake_member(tree: Tree, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = posixpath.normpath(member.name)
    if path == ".":
        return
    if path.startswith(("/", "../")) or path == "..":
        raise UsageError(f"cloud-scripts.tgz: the name {member.name!r} leaves the root")
    if member.isdir():
        tree.add_dir(path, member.mode, uid=member.uid, gid=member.gid)
    elif member.issym():
        tree.add_link(path, member.linkname)
    elif content := archive.extractfile(member):
        tree.add_file(path, content.read(), member.mode, uid=member.uid, gid=member.gid)
    else:
        raise UsageError(f"cloud-scripts.tgz: {member.name!r} is neither file, folder nor link")


def set_units(tree: Tree, units: Units) -> None:
    """Disable, mask and enable systemd units, in this order; a unit that is not installed is passed over."""
    disabled = _with_aliases(tree, units.disabled)
    for path in [p for p in tree.below(SYSTEM) if tree.nodes[p].kind == "link"]:
        name = posixpath.basename(path)
        folder = posixpath.basename(posixpath.dirname(path))
        if name in disabled and folder.endswith((".wants", ".requires")):
            tree.remove(path)
    for unit in units.masked:
        if unit_file(tree, unit):
            tree.add_link(f"{SYSTEM}/{unit}", "/dev/null")
    for unit in units.enabled:
        file = unit_file(tree, unit)
        if file is not None:
            for target in _wanted_by(tree.read(file).decode()):
                tree.add_link(f"{SYSTEM}/{target}.wants/{unit}", f"/{file}")


def _with_aliases(tree: Tree, names: tuple[str, ...]) -> set[str]:
    """Return units with those that they are another name of: ``sshd.service`` is a link to ``ssh.service``."""
    found = set(names)
    for name in names:
        for folder in _UNIT_FOLDERS:
            node = tree.nodes.get(f"{folder}/{name}")
            if node is not None and node.kind == "link" and node.target != "/dev/null":
                found.add(posixpath.basename(node.target))
    return found


def unit_file(tree: Tree, unit: str) -> str | None:
    """Return where a unit is, or None."""
    for folder in _UNIT_FOLDERS:
        path = f"{folder}/{unit}"
        if tree.resolve(path) in tree:
            return path
    return None


def _wanted_by(text: str) -> list[str]:
    targets: list[str] = []
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == "[Install]" and line.startswith("WantedBy="):
            targets += line.partition("=")[2].split()
    return targets


def _boot(tree: Tree, layout: DiskLayout, kernel: BootKernel, initrd: bytes) -> None:
    """Add what GRUB reads; it loads the kernel by the links that Debian's packages keep."""
    tree.add_file(f"boot/initrd.img-{kernel.version}", initrd)
    menu = (
        "serial --unit=0 --speed=115200\n"
        "terminal_input console serial\n"
        "terminal_output console serial\n"
        "set timeout=0\n"
        "menuentry 'System VM' {\n"
        f"  linux /boot/vmlinuz root=UUID={layout.root_uuid} rw {BOOT_OPTIONS}\n"
        "  initrd /boot/initrd.img\n"
        "}\n"
    )
    tree.add_file("boot/grub/grub.cfg", menu.encode())
