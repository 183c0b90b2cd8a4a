"""The boot scripts of every type, run in the order of their units, from the command line to ``boot_up_done``."""

import hashlib
import json
import tarfile
import tomllib
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guest.rules.testbed import HERE, PAYLOAD, RouterTestbed, connect, space

COMMON = "template=domP name=x-1-VM authorized_key=c3NoLXJzYSBBQUFBIHRlc3Q="
DNS = "dns1=192.0.2.53"
CONTROL0 = "eth0ip=169.254.1.9 eth0mask=255.255.0.0"
CONTROL1 = "eth1ip=169.254.1.9 eth1mask=255.255.0.0"
GUEST = "eth0ip=10.1.1.1 eth0mask=255.255.255.0 domain=cs1.cloud.internal cidrsize=24 dhcprange=10.1.1.1"
TIER = "eth0ip=10.20.1.100 eth0mask=255.255.255.0 gateway=10.20.1.1 dns1=10.20.1.1"
ELASTIC = "eth1ip=10.30.0.9 eth1mask=255.255.255.0 gateway=10.30.0.1"
PUBLIC = "eth2ip=192.0.2.10 eth2mask=255.255.255.0 gateway=192.0.2.1"
AGENT = "host=10.0.0.5 port=8250 guid=s-1-VM zone=1 pod=1 eth1ip=10.0.0.30 eth1mask=255.255.255.0"
STORAGE = (
    "public.network.device=eth2 mgmtcidr=10.0.0.0/24 localgw=10.0.0.1 instance=SecStorage internaldns1=10.0.0.2 "
    "nfsVersion=null resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource"
)
CMDLINES = {
    "router": f"{COMMON} {PUBLIC} {GUEST} {CONTROL1} type=router disable_rp_filter=true {DNS} privateMtu=null",
    "vpcrouter": f"vpccidr=10.20.0.0/16 {COMMON} {CONTROL0} has_public_network=true type=vpcrouter {DNS}",
    "dhcpsrvr": f"{COMMON} {GUEST} gateway=10.1.1.254 {CONTROL1} type=dhcpsrvr {DNS}",
    "ilbvm": f"{COMMON} {TIER} {CONTROL1} type=ilbvm",
    "elbvm": f"{COMMON} type=elbvm {CONTROL0} {ELASTIC} {DNS}",
    "secstorage": f"{COMMON} type=secstorage {AGENT} {CONTROL0} {PUBLIC} {STORAGE} {DNS}",
    "consoleproxy": f"{COMMON} type=consoleproxy {AGENT} proxy_vm=2 {CONTROL0} {PUBLIC} {DNS} vncport=8443",
}
DEVICES = {
    "router": 3,
    "vpcrouter": 1,
    "dhcpsrvr": 2,
    "ilbvm": 2,
    "elbvm": 2,
    "secstorage": 3,
    "consoleproxy": 3,
}
FORWARDS = {"router": "1\n", "vpcrouter": "1\n", "dhcpsrvr": "0\n", "ilbvm": "0\n"}
CONTROL = {"router": "eth1", "dhcpsrvr": "eth1", "ilbvm": "eth1"}
RELEASE = "Cloudstack Release 4.22.0 Sat Jan 1 00:00:00 UTC 2022\n"
STEPS = ("init.sh", "cloud-early-config", "postinit.sh")
UNITS = ("apache2", "dnsmasq", "haproxy", "keepalived", "conntrackd", "rpcbind", "ssh", "qemu-guest-agent")


@pytest.fixture
def machine():
    """A VM that has its interfaces but was never booted."""
    with ExitStack() as stack:
        router = stack.enter_context(space("bash", str(HERE / "inside.sh"), str(PAYLOAD), str(HERE)))
        around = stack.enter_context(space())
        # The disk in a namespace is the one of this machine: it must not be grown.
        router.write("/opt/cloud/bin/setup/grow.sh", "grow_root() { :; }\n")
        folder = "/etc/systemd/system"
        for unit in UNITS:
            router.run("touch", f"{folder}/{unit}.service")
        router.run("ln", "-s", "rpcbind.service", f"{folder}/portmap.service")
        router.run("ln", "-s", "/dev/null", f"{folder}/nfs-common.service")
        router.write("/etc/cloudstack-release", RELEASE)
        router.sh("rm -rf /etc/ssh/ssh_host_* /usr/local/cloud /usr/share/cloud")
        yield RouterTestbed(stack, router, around, around, around)


@pytest.fixture
def bundle(tmp_path):
    """cloud-scripts.tgz of this tree."""
    path = tmp_path / "cloud-scripts.tgz"

    def keep(member):
        return None if member.name.endswith(("grow.sh", "__pycache__")) else member

    with tarfile.open(path, "w:gz") as archive:
        for name in ("etc", "opt", "var"):
            archive.add(PAYLOAD / name, name, filter=keep)
    return path


def boot(machine, kind, bundle=None, steps=STEPS):
    """Run the boot, or some steps of it; the bundle comes between the first two steps, as from the host."""
    for number in range(DEVICES[kind]):
        if not machine.router.sh(f"ip link show eth{number}", check=False).stdout:
            connect(machine.lan, f"n{number}", machine.router, f"eth{number}")
            machine.lan.sh(f"ip link set n{number} up")
    for step in steps:
        machine.router.run(f"/opt/cloud/bin/setup/{step}")
        if step == "init.sh" and bundle:
            # Management uploads with the mode of programs.
            machine.router.run("install", "-m755", str(bundle), "/var/cache/cloud/cloud-scripts.tgz")
            machine.router.run("cp", str(agent_zip(bundle)), "/var/cache/cloud/agent.zip")


def agent_zip(bundle):
    """Return agent.zip of this tree."""
    path = bundle.with_name("agent.zip")
    if not path.exists():
        folder = PAYLOAD.parent / "agent"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(
                file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts
            ):
                archive.write(file, file.relative_to(folder))
    return path


# By this file the payload knows that frr is installed.
FRR = Path("/lib/systemd/system/frr.service")


def deliver(machine, kind):
    machine.router.write("/var/cache/cloud/cmdline", CMDLINES[kind] + "\n")


def words(machine, name):
    return machine.router.read(f"/var/cache/cloud/{name}").split()


def catalogue(kind):
    with (PAYLOAD.parent / "releases.toml").open("rb") as file:
        return tomllib.load(file)["services"][kind]


@pytest.mark.parametrize("kind", sorted(CMDLINES))
def test_every_type_boots(machine, bundle, kind):
    deliver(machine, kind)
    boot(machine, kind, bundle)
    router = machine.router
    digest = hashlib.sha512(bundle.read_bytes()).hexdigest()
    assert router.read("/var/cache/cloud/cloud-scripts-signature") == digest + "\n"
    enabled = words(machine, "enabled_svcs")
    assert [name for name in enabled if name != "frr"] == catalogue(kind)["enabled"]
    # frr is enabled where it is installed, as here or not, on the types that route for networks.
    assert ("frr" in enabled) == (kind in {"router", "vpcrouter"} and FRR.exists())
    assert sorted(words(machine, "disabled_svcs")) == sorted(catalogue(kind)["disabled"])
    assert router.read("/var/cache/cloud/boot_up_done")
    assert router.sh("ls /var/cache/cloud").stdout.split().count("agent.zip") == 0
    assert router.run("sha512sum", "/usr/share/cloud/cloud-scripts.tgz").stdout.startswith(digest)
    version = router.run("/opt/cloud/bin/get_template_version.sh").stdout
    assert version == f"{RELEASE.strip()}&{digest}\n"
    device = CONTROL.get(kind, "eth0")
    assert "ListenAddress 169.254.1.9" in router.read("/etc/ssh/sshd_config").splitlines()
    assert f"-A INPUT -i {device} -p tcp -m tcp --dport 3922" in router.run("iptables-save").stdout
    assert router.read("/etc/ssh/sshd_config").count("PubkeyAcceptedAlgorithms=+ssh-rsa") == 1
    kept = "/usr/share/cloud/cloud-scripts.tgz"
    modes = f"stat --format=%a /var/cache/cloud/cmdline /root/.ssh/authorized_keys {kept}"
    assert router.sh(modes).stdout == "600\n600\n644\n"
    if kind in FORWARDS:
        assert router.read("/proc/sys/net/ipv4/ip_forward") == FORWARDS[kind]
    assert router.read("/root/.ssh/authorized_keys") == "ssh-rsa AAAA test\n"
    assert "x-1-VM" in router.run("hostname").stdout
    places = "/etc/dnsmasq.d /etc/apache2/sites-enabled /etc/iptables /etc/keepalived"
    assert router.sh(rf"grep -rnE '\$\{{[a-z]|%\(|@[A-Z]+@' {places} || true").stdout == ""


def test_the_agent_gets_what_the_command_line_says_and_keeps_its_identity(machine, bundle):
    deliver(machine, "secstorage")
    boot(machine, "secstorage", bundle)
    properties = machine.router.read("/usr/local/cloud/systemvm/conf/agent.properties").splitlines()
    assert "resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource" in properties
    assert sum(line.startswith("resource=") for line in properties) == 1
    assert "guid=s-1-VM" in properties
    conf = "/usr/local/cloud/systemvm/conf"
    machine.router.sh(
        f"echo keystore >{conf}/cloud.jks; echo keystore.passphrase=secret >>{conf}/agent.properties"
    )
    deliver(machine, "secstorage")
    boot(machine, "secstorage", bundle)
    assert machine.router.read(f"{conf}/cloud.jks") == "keystore\n"
    assert "keystore.passphrase=secret" in machine.router.read(f"{conf}/agent.properties").splitlines()


def test_the_console_port_of_the_command_line_is_opened(machine, bundle):
    deliver(machine, "consoleproxy")
    boot(machine, "consoleproxy", bundle)
    assert machine.router.read("/root/vncport") == "8443\n"
    assert "-A INPUT -i eth2 -p tcp -m tcp --dport 8443" in machine.router.run("iptables-save").stdout


def test_the_packet_filter_is_closed_before_an_address_is_there(machine):
    """Nothing that listens from the start is open to the outside, not even for a moment."""
    machine.router.write(
        "/run/stand-in/iptables-restore",
        "#!/bin/bash\nip -o -4 address show scope global >/run/addresses\nexec /usr/sbin/iptables-restore\n",
    )
    machine.router.run("chmod", "0755", "/run/stand-in/iptables-restore")
    deliver(machine, "router")
    boot(machine, "router", steps=("init.sh",))
    assert machine.router.read("/run/addresses") == ""
    assert "192.0.2.10/24" in machine.router.sh("ip -o -4 address").stdout
    assert ":INPUT DROP" in machine.router.run("iptables-save").stdout


def test_an_agent_vm_is_filtered_again_at_the_end_of_its_boot(machine, bundle):
    """What the bundle brings may be another filter than that of the template."""
    deliver(machine, "consoleproxy")
    boot(machine, "consoleproxy", bundle, steps=STEPS[:2])
    machine.router.sh("iptables -F; iptables -P INPUT ACCEPT")
    machine.router.run("/opt/cloud/bin/setup/postinit.sh")
    assert ":INPUT DROP" in machine.router.run("iptables-save").stdout


def test_a_reboot_keeps_the_rules_and_does_not_wait_for_a_bundle(machine, bundle):
    deliver(machine, "router")
    boot(machine, "router", bundle)
    machine.send("dhcpentry", mac_address="02:00:00:00:00:99", ipv4_address="10.1.1.50", host_name="vm1")
    boot(machine, "router")
    assert machine.router.read("/run/cloud/boot-kind") == "reboot\n"
    assert "10.1.1.50" in machine.router.read("/etc/cloudstack/dhcpentry.json")
    assert "10.1.1.50" in machine.router.read("/etc/dhcphosts.txt")


def test_a_start_by_management_forgets_the_rules_and_takes_a_newer_bundle(machine, bundle):
    deliver(machine, "router")
    boot(machine, "router", bundle)
    machine.send("dhcpentry", mac_address="02:00:00:00:00:99", ipv4_address="10.1.1.50", host_name="vm1")
    newer = bundle.with_name("newer.tgz")
    note = bundle.with_name("note")
    note.write_text("newer\n")
    with tarfile.open(bundle) as old, tarfile.open(newer, "w:gz") as new:
        for member in old.getmembers():
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        new.add(note, "opt/cloud/note")
    deliver(machine, "router")
    boot(machine, "router", newer)
    assert machine.router.read("/run/cloud/boot-kind") == "start\n"
    assert machine.router.sh("ls /etc/cloudstack").stdout.split() == ["cmdline.json", "ips.json"]
    assert machine.router.read("/opt/cloud/note") == "newer\n"
    digest = hashlib.sha512(newer.read_bytes()).hexdigest()
    assert machine.router.read("/var/cache/cloud/cloud-scripts-signature") == digest + "\n"


def test_an_unknown_type_is_refused_before_anything_is_touched(machine):
    machine.router.write(
        "/var/cache/cloud/cmdline", CMDLINES["router"].replace("type=router", "type=toaster") + "\n"
    )
    before = machine.router.sh("iptables-save; ip -o address; cat /etc/ssh/sshd_config").stdout
    done = machine.router.run("/opt/cloud/bin/setup/init.sh", check=False)
    assert done.status == 1
    assert "unknown VM type 'toaster'" in done.stderr
    assert machine.router.sh("iptables-save; ip -o address; cat /etc/ssh/sshd_config").stdout == before


def test_no_template_version_while_a_patch_was_interrupted(machine, bundle):
    deliver(machine, "router")
    boot(machine, "router", bundle)
    for interrupted in ("rm", "truncate --size=0"):
        machine.router.sh(f"{interrupted} /var/cache/cloud/cloud-scripts-signature")
        done = machine.router.run("/opt/cloud/bin/get_template_version.sh", check=False)
        assert done.status == 1
        assert done.stdout == ""


def test_the_command_line_becomes_a_databag_without_its_nulls(machine, bundle):
    deliver(machine, "router")
    boot(machine, "router", bundle)
    config = json.loads(machine.router.read("/etc/cloudstack/cmdline.json"))["config"]
    assert config["authorized_key"] == "c3NoLXJzYSBBQUFBIHRlc3Q="
    assert "privateMtu" not in config
    assert machine.router.sh("ls /var/cache/cloud/processed").stdout == "cmd_line.json.gz\n"
