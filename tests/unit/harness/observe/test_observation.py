"""Parsers of what a guest's programs print, and the commands themselves."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from cryptography.x509.oid import NameOID

from bundle.catalogue import load
from bundle.errors import InfrastructureError, UsageError
from bundle.seal.script import ScriptSpec, render
from harness.checks import shipped
from harness.guest.collect import Section
from harness.kvmagent.patch import BundleFiles
from harness.observe import identity, journal, observation, rules, services, sockets
from tests.unit.harness.simulated_patch import before


def certificate(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()), key


def jks(*entries: tuple[int, str, bytes]) -> bytes:
    """Write a JKS with entries of kind 1 (private key, random envelope) or 2 (trusted certificate)."""
    data = struct.pack(">III", 0xFEEDFEED, 2, len(entries))
    for tag, alias, certificate_bytes in entries:
        data += struct.pack(">IH", tag, len(alias)) + alias.encode() + bytes(8)
        if tag == 1:
            data += struct.pack(">I", 3) + b"key" + struct.pack(">I", 1)
        data += (
            struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(certificate_bytes)) + certificate_bytes
        )
    return data + bytes(20)


def test_the_entries_of_a_jks_are_read_without_its_password() -> None:
    entries = identity.store_entries(jks((1, "cloud", b"own"), (2, "ca", b"root")), "")
    assert set(entries) == {"cloud", "ca"}
    assert entries["ca"] == identity.store_entries(jks((2, "ca", b"root")), "")["ca"]


def test_a_cut_jks_counts_as_one_entry_that_differs() -> None:
    whole, cut = jks((2, "ca", b"root")), jks((2, "ca", b"root"))[:20]
    assert set(identity.store_entries(cut, "")) == {"the whole file"}
    assert identity.store_entries(cut, "") != identity.store_entries(whole, "")


def test_the_entries_of_a_pkcs12_are_read_with_the_agents_passphrase() -> None:
    own, key = certificate("s-1-VM")
    root, _ = certificate("root")
    data = pkcs12.serialize_key_and_certificates(
        b"cloud", key, own, [root], BestAvailableEncryption(b"secret")
    )
    assert set(identity.store_entries(data, "secret").values()) == {
        cert.fingerprint(hashes.SHA256()).hex() for cert in (own, root)
    }
    assert set(identity.store_entries(data, "wrong")) == {"the whole file"}


def test_properties_know_comments_blanks_and_equal_signs() -> None:
    assert identity.parse_properties("#a=b\n\n key = v=w \nkey2=\nkey=last\n") == {"key": "last", "key2": ""}


def test_listeners_are_read_with_their_programs() -> None:
    text = (
        "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n"
        'udp   UNCONN 0      0      10.1.1.1%eth0:53   0.0.0.0:*    users:(("dnsmasq",pid=300,fd=6))\n'
        'tcp LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=4,fd=4),("systemd",pid=1,fd=9))\n'
        "tcp   LISTEN 0      128    *:80               *:*\n"
        "u_str LISTEN 0 1 /run/x 1 * 0\n"
    )
    found = sockets.parse({"sockets": Section("sockets", 0, text.encode())})
    assert [str(row) for row in found] == [
        "tcp [::]:22 (sshd, systemd)",
        "tcp *:80 (unknown program)",
        "udp 10.1.1.1:53 (dnsmasq)",
    ]


def test_services_of_an_old_systemd_without_restart_counter() -> None:
    sections = {name: Section(name, 0, b"") for name in services.commands()}
    sections["services.units"] = Section(
        "x", 0, b"Id=a.service\nActiveState=active\nMainPID=7\n\nId=b.service\n"
    )
    sections["services.groups"] = Section(
        "x", 0, b"/proc/7/cgroup:12:cpu:/other\n/proc/7/cgroup:1:name=systemd:/system.slice/a.service\n"
    )
    found = services.parse(sections)
    assert found.get("a").restarts == 0
    assert found.get("c") is None
    assert found.enabled == ()


def test_a_target_has_a_state_and_whatever_failed_is_named() -> None:
    sections = {name: Section(name, 0, b"") for name in services.commands()}
    text = (
        b"network.target loaded active active Network\n"
        b"* x.mount loaded failed failed X\n"
        b"dev-a.device loaded active plugged A\n"
    )
    sections["services.states"] = Section("x", 0, text)
    found = services.parse(sections)
    assert {name: row.active for name, row in found.units.items()} == {"network.target": "active"}
    assert found.failed == {"x.mount"}


def test_a_journal_that_cannot_be_read_is_no_quiet_journal() -> None:
    sections = {name: Section(name, 1, b"") for name in journal.commands("s=1")}
    with pytest.raises(InfrastructureError, match="r-10-VM: its journal cannot be read"):
        journal.parse(sections, "r-10-VM")


def test_the_journal_begins_behind_a_line_that_may_be_a_warning_itself() -> None:
    """Not by "--after-cursor": with a priority, systemd up to 252 leaves out the first line behind it."""
    asked = journal.commands("s=1;i=7")["journal.lines"]
    assert "--cursor='s=1;i=7' -p warning" in asked
    lines = [
        {"__CURSOR": f"s=1;i={number}", "PRIORITY": "3", "MESSAGE": f"line {number}"} for number in (7, 8)
    ]
    texts = {
        "journal.began": 's=1;i=7\n{"__CURSOR": "s=1;i=7"}\n',
        "journal.lines": "\n".join(map(json.dumps, lines)),
        "journal.cursor": '{"__CURSOR": "s=1;i=8"}\n',
        "journal.cores": "",
        "journal.crashes": "",
    }
    found = journal.parse({name: Section(name, 0, text.encode()) for name, text in texts.items()})
    assert ([line.message for line in found.lines], found.is_whole) == (["line 8"], True)


def test_every_reviewed_line_has_a_reason_and_is_no_blank_cheque() -> None:
    assert journal.allowed()
    for row in journal.allowed():
        assert len(row.reason) > 20
        assert not row.message.search("")
        assert not row.message.search("Out of memory: Killed process 1 (haproxy)")


def test_the_commands_of_an_observation_are_sound_shell() -> None:
    for name, command in observation.commands(before().observation()).items():
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), name


def test_haproxy_is_asked_with_a_program_that_any_python_can_run() -> None:
    (program,) = re.findall(r"exec \$p -c '(.*)'; done", rules.commands()["rules.haproxy"], re.DOTALL)
    program = program.replace("'\"'\"'", "'")
    compile(program, "ask", "exec")
    assert "import socket" in program


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("ffff: 00000002 00000000 00010000 0001 01 16133 /run/haproxy/admin.sock.741.tmp", True),
        ("ffff: 00000003 00000000 00000000 0001 03 16134 /run/haproxy/admin.sock.741.tmp", False),
        ("ffff: 00000002 00000000 00010000 0001 01 16135 /run/dbus/system_bus_socket", False),
    ],
)
def test_haproxy_is_asked_where_somebody_accepts_behind_its_socket(line: str, asked: bool) -> None:
    done = subprocess.run(["grep", "-q", rules._LISTENS], input=line, text=True, check=False)
    assert (done.returncode == 0) == asked


def test_a_rule_set_that_the_guest_cannot_show_is_none() -> None:
    found = rules.parse({"rules.nft": Section("rules.nft", 127, b"")})
    assert found["nft"].lines is None
    assert rules.compare(found["nft"], found["nft"]) == []


def test_an_observation_holds_everything_at_once() -> None:
    seen = before().observation()
    assert seen.scripts.kept_matches
    assert seen.rules["haproxy"].lines == (
        "192_0_2_20-80 192_0_2_20-80_0 http",
        "192_0_2_20-80 FRONTEND http",
    )
    assert seen.journal.cursor == "s=1"
    assert len(seen.services.get("apache2").workers) == 2


def bundle_of(scripts: bytes, agent: bytes) -> BundleFiles:
    return BundleFiles(
        Path("b"), {"cloud-scripts.tgz": scripts, "agent.zip": agent, "patch-sysvms.sh": b""}, ""
    )


def archives() -> BundleFiles:
    scripts, agent = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=scripts, mode="w:gz") as archive:
        for name, kind, mode in (("./", tarfile.DIRTYPE, 0o755), ("./opt/x.sh", tarfile.REGTYPE, 0o755)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            archive.addfile(info, io.BytesIO())
        link = tarfile.TarInfo("opt/l")
        link.type, link.linkname = tarfile.SYMTYPE, "x.sh"
        archive.addfile(link)
    with zipfile.ZipFile(agent, "w") as packed:
        packed.writestr("conf/", "")
        packed.writestr("conf/a.xml", "x")
    return bundle_of(scripts.getvalue(), agent.getvalue())


def test_the_policy_is_what_our_script_says() -> None:
    script = render(
        ScriptSpec(release=load().release("4.22"), guest_manifest="format\t1\n", restart="changed")
    )
    ours = replace(bundle_of(b"", b""), contents={"patch-sysvms.sh": script.encode()})
    assert shipped.policy(ours) == "changed"
    assert shipped.policy(bundle_of(b"", b"")) == ""


def test_a_payload_is_read_from_the_archives() -> None:
    found = shipped.read(archives(), "secstorage")
    assert found["/opt/x.sh"].mode == 0o755
    assert (found["/opt/l"].kind, found["/opt/l"].link) == ("link", "x.sh")
    assert found["/usr/local/cloud/systemvm/conf/a.xml"].sha256.startswith("2d711642b726")
    assert "/usr/local/cloud/systemvm/conf/a.xml" not in shipped.read(archives(), "router")


@pytest.mark.parametrize(
    ("scripts", "agent", "name"), [(b"x", None, "cloud-scripts.tgz"), (None, b"x", "agent.zip")]
)
def test_an_archive_that_cannot_be_read_is_named(
    scripts: bytes | None, agent: bytes | None, name: str
) -> None:
    good = archives().contents
    broken = bundle_of(scripts or good["cloud-scripts.tgz"], agent or good["agent.zip"])
    with pytest.raises(UsageError, match=f"cannot read {name}"):
        shipped.read(broken, "secstorage")


def test_former_workers_of_an_old_haproxy_are_no_servers() -> None:
    head = "1\n# be_id be_name srv_id srv_name srv_addr srv_port\n"
    text = head + "0 MASTER 1 old-375 - 0\n3 192_0_2_20-80 1 192_0_2_20-80_0 10.1.1.50 80\n"
    assert rules.canonical_servers(text) == ["192_0_2_20-80 192_0_2_20-80_0 10.1.1.50 80"]
