"""Real images from real Debian packages: the same bytes twice, what is inside, and that they boot by themselves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bundle import catalogue
from bundle.build import BuildOptions
from bundle.build import build as build_bundle
from harness.host import cache, wait
from harness.image import ImageSpec, build, importing
from harness.image.extreader import ExtReader

RELEASE = "4.21"
MIB = 1024 * 1024
SYSVM = [sys.executable, "-c", "from harness.cli import main; main()", "image"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / RELEASE
    build_bundle(BuildOptions(output=folder, release=RELEASE))
    return folder


@pytest.fixture(scope="module")
def image(bundle):
    return build(ImageSpec(RELEASE, bundle))


@pytest.fixture(scope="module")
def root(image, tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw") / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image.path, raw], check=True)
    yield ExtReader(raw, MIB)
    raw.unlink()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def command(*arguments, environment=None):
    return subprocess.run(
        [*SYSVM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def test_an_empty_cache_gives_the_same_bytes(image, bundle, empty_cache, tmp_path, monkeypatch):
    again = build(ImageSpec(RELEASE, bundle))
    assert again.folder.parent.parent == empty_cache
    if again.sbom.read_bytes() != image.sbom.read_bytes():
        # The mirror has moved since the host's cache was filled: the same packages have to be built twice today.
        image = again
        monkeypatch.setenv("SYSVM_CACHE", str(tmp_path / "another"))
        again = build(ImageSpec(RELEASE, bundle))
        assert again.folder.parent.parent == tmp_path / "another"
    assert again.sbom.read_bytes() == image.sbom.read_bytes()
    assert again.digest == image.digest
    assert again.initrd.read_bytes() == image.initrd.read_bytes()


def test_a_second_call_takes_under_two_seconds(image, bundle):
    start = os.times().elapsed
    result = command("build", "--release", RELEASE, "--bundle", str(bundle), "--json")
    assert os.times().elapsed - start < 2
    assert json.loads(result.stdout)["digest"] == image.digest


def test_the_file_system_is_sound(root):
    done = subprocess.run(
        ["/usr/sbin/e2fsck", "-fn", f"{root.disk}?offset={root.offset}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_it_says_what_it_is(root):
    assert root.read("etc/cloudstack-release").decode().split()[:3] == ["Cloudstack", "Release", "4.20.2"]


def test_the_scripts_and_their_signature_are_baked_in(root, bundle, image):
    scripts = (bundle / "cloud-scripts.tgz").read_bytes()
    assert root.read("usr/share/cloud/cloud-scripts.tgz") == scripts
    digest = hashlib.md5(scripts).hexdigest()
    assert root.read("var/cache/cloud/cloud-scripts-signature").decode() == f"{digest}\n"
    assert image.signature == digest
    assert root.read("opt/cloud/bin/setup/init.sh").startswith(b"#!")


def test_nobody_has_a_password_and_nothing_secret_is_shared(root):
    for line in root.read("etc/shadow").decode().splitlines():
        assert line.split(":")[1] in ("*", "!", "!*")
    assert [name for name in root.names("etc/ssh") if "host" in name] == []
    assert root.read("etc/machine-id") == b""
    assert root.read("root/.ssh/authorized_keys") == b""


@pytest.mark.parametrize(
    "unit", ["ssh", "apache2", "haproxy", "dnsmasq", "keepalived", "conntrackd", "rpcbind"]
)
def test_services_wait_for_the_scripts(root, unit):
    assert f"{unit}.service" not in root.names("etc/systemd/system/multi-user.target.wants")
    assert root.read(f"lib/systemd/system/{unit}.service")


@pytest.mark.parametrize("unit", ["cloud-preinit", "cloud-early-config", "cloud-postinit"])
def test_the_scripts_units_start_at_boot(root, unit):
    wanted = [
        root.names(f"etc/systemd/system/{target}.target.wants")
        for target in ("multi-user", "sysinit", "basic")
    ]
    assert f"{unit}.service" in [name for names in wanted for name in names]


def test_every_package_is_in_the_bill_of_materials(root, image):
    document = json.loads(image.sbom.read_text())
    names = {component["name"] for component in document["components"]}
    assert set(catalogue.load().packages.slim) <= names
    assert len(document["components"]) == image.packages


def test_a_template_can_be_imported_packed(image, tmp_path, empty_cache):
    packed = tmp_path / "template.qcow2.zst"
    subprocess.run(["zstd", "-q", "-1", "-T2", image.path, "-o", packed], check=True)
    imported = importing.take(packed, "4.20")
    assert (imported.template, imported.debian, imported.kind) == ("4.20.2", 12, "imported")
    assert imported.packages == image.packages
    assert imported.modules() == image.modules()


def test_a_mirror_that_does_not_answer_is_one_line_and_leaves_nothing(bundle, tmp_path):
    cache_folder = tmp_path / "cache"
    result = command(
        "build", "--release", RELEASE, "--bundle", str(bundle), "--mirror", f"file://{tmp_path}/no-mirror",
        environment={"SYSVM_CACHE": str(cache_folder)},
    )  # fmt: skip
    assert result.returncode == 3
    assert "image build: mmdebstrap for Debian 12 failed" in result.stderr.splitlines()[-1]
    assert [
        p for p in cache_folder.rglob("*") if p.is_file() and p.parent.name not in ("locks", "logs")
    ] == []


def test_a_killed_build_leaves_no_process_and_the_next_one_cleans_up(bundle, empty_cache):
    process = subprocess.Popen(
        [*SYSVM, "build", "--release", RELEASE, "--bundle", str(bundle)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    scratch = wait.until(
        lambda: list(empty_cache.glob("bases/*.partial/scratch/*/usr")), "packages unpacked", 120
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait.until(lambda: not processes_below(empty_cache), "mmdebstrap's end", 10)
    assert not any(str(empty_cache) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
    assert command("list").stdout.startswith("no images")
    assert command("gc").returncode == 0
    assert not scratch[0].exists()
    assert cache.entries("bases") == []


def processes_below(folder):
    """Return the processes that name the folder in their arguments or have their root below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes().decode(errors="replace") + str(
                (process / "root").readlink()
            )
        except OSError:
            continue
        if str(folder) in text and process.name != str(os.getpid()):
            found.append((process.name, text))
    return found


@pytest.mark.vm
def test_it_boots_by_itself(image, tmp_path):
    """Without kernel and harness: GRUB loads the kernel, and the guest agent answers in the end."""
    overlay, agent, serial = tmp_path / "o.qcow2", tmp_path / "agent", tmp_path / "serial"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.path, overlay], check=True
    )
    process = subprocess.Popen(
        [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64", "-smp", "2", "-m", "512", "-display", "none",
            "-nodefaults", "-serial", f"file:{serial}", "-drive", f"file={overlay},if=virtio,cache=unsafe",
            "-device", "virtio-serial", "-chardev", f"socket,id=agent,path={agent},server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        ]
    )  # fmt: skip
    try:
        wait.until(lambda: answers(agent), f"guest agent (console: {serial})", 180, tick=0.5)
        assert "root=UUID=" in serial.read_text(errors="replace")
    finally:
        process.kill()
        process.wait()


def answers(path):
    """Say whether the guest agent answers a ping."""
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b'{"execute": "guest-ping"}\n')
            return b"return" in connection.recv(4096)
        except OSError:
            return False
