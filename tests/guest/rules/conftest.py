"""A virtual router in network, mount and process namespaces, with real daemons and real clients around it.

``lab`` gives a fresh router with a guest network (eth0), a control network (eth1) and a public network (eth2)::

    vm1 10.1.1.50 --+                     +-- 169.254.0.1  host
    vm2 10.1.1.60 --+-- lan -- [ router ] +
                                          +-- 192.0.2.1    outside

Everything dies with its first process, so a test that is killed leaves nothing behind; nothing has a name that another
test could have, too. Only systemd is a stand-in (``systemctl`` beside this file), because none runs in a namespace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).resolve().parent
PAYLOAD = HERE.parents[2] / "systemvm" / "debian"
PATH = "/run/stand-in:/usr/sbin:/usr/bin:/sbin:/bin"

ROUTER = {
    "type": "router",
    "name": "r-10-VM",
    "eth0ip": "10.1.1.1",
    "eth0mask": "255.255.255.0",
    "eth1ip": "169.254.12.34",
    "eth1mask": "255.255.0.0",
    "eth2ip": "192.0.2.10",
    "eth2mask": "255.255.255.0",
    "gateway": "192.0.2.1",
    "domain": "cs1.cloud.internal",
    "dhcprange": "10.1.1.1",
    "dns1": "192.0.2.1",
    "privateMtu": "1500",
}


@dataclass(frozen=True)
class Done:
    """What a command returned."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Space:
    """Namespaces that live as long as their first process."""

    pid: int

    def start(self, *command: str, **options) -> subprocess.Popen:
        """Start a program inside."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--root", "--wd=/", "--"]
        env = {"PATH": PATH, "LC_ALL": "C.UTF-8"}
        return subprocess.Popen([*enter, *command], env=env, text=True, **options)

    @contextmanager
    def background(self, *command: str, **options) -> Iterator[subprocess.Popen]:
        """Run a program inside until the block ends."""
        process = self.start(*command, **options)
        try:
            yield process
        finally:
            # nsenter waits for a child of its own in the process namespace, and does not pass signals on to it.
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            process.kill()
            process.communicate()

    def run(self, *command: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> Done:
        """Run a program inside; with ``check`` a status other than 0 fails the test."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.start(*command, **pipes) as process:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        done = Done(process.returncode, stdout, stderr)
        assert not check or done.status == 0, f"{command} ended with {done.status}: {stdout}{stderr}"
        return done

    def sh(self, script: str, check: bool = True) -> Done:
        """Run a shell script inside."""
        return self.run("bash", "-ec", script, check=check)

    def read(self, path: str) -> str:
        """Return the content of a file inside."""
        return self.run("cat", path).stdout

    def write(self, path: str, content: str) -> None:
        """Write a file inside."""
        self.run("tee", path, stdin=content)


@contextmanager
def space(*command: str, mount: bool = True) -> Iterator[Space]:
    """Make namespaces whose first process is ``command``; it says ``ready`` when it is."""
    own = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
    program = (
        list(command) if command else ["bash", "-c", "ip link set lo up; echo ready; sleep infinity & wait"]
    )
    process = subprocess.Popen([*own, *program], stdout=subprocess.PIPE, text=True, env={"PATH": PATH})
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Space(int(children[0]))
    finally:
        process.kill()
        process.communicate()


def connect(first: Space, first_name: str, second: Space, second_name: str, mac: str | None = None) -> None:
    """Put a cable between two spaces; ``mac`` is the address of the second end."""
    tag = uuid.uuid4().hex[:8]
    ends = [f"a{tag}", f"b{tag}"]
    address = ["address", mac] if mac else []
    subprocess.run(
        ["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], *address], check=True
    )
    for end, place, name in zip(ends, (first, second), (first_name, second_name), strict=True):
        subprocess.run(["ip", "link", "set", end, "netns", str(place.pid), "name", name], check=True)
        # A virtual NIC leaves checksums to hardware that is not there; UDP answers to a raw socket would be dropped.
        place.run("ethtool", "-K", name, "tx", "off", check=False)


@dataclass
class Lab:
    """A router and what is around it."""

    stack: ExitStack
    router: Space
    lan: Space
    outside: Space
    vms: dict[str, Space] = field(default_factory=dict)

    def vm(
        self, mac: str, address: str | None = None, bridge: str = "br0", gateway: str = "10.1.1.1"
    ) -> Space:
        """Plug a VM into the guest network; without an address it has none yet."""
        vm = self.stack.enter_context(space())
        port = "p" + mac.replace(":", "")[-6:]
        connect(self.lan, port, vm, "eth0", mac)
        self.lan.sh(f"ip link set {port} master {bridge} up")
        vm.sh("ip link set eth0 up")
        if address:
            vm.sh(f"ip address add {address}/24 dev eth0; ip route add default via {gateway}")
        self.vms[mac] = vm
        return vm

    def site(self, place: Space, text: str, port: int = 80, address: str = "") -> None:
        """Serve one page over HTTP."""
        folder = f"/mnt/site-{port}"
        place.sh(
            f"mountpoint -q /mnt || mount -t tmpfs tmpfs /mnt; mkdir -p {folder}; echo '{text}' > {folder}/index.html"
        )
        where = f"{address}:{port}" if address else str(port)
        self.stack.enter_context(place.background("busybox", "httpd", "-f", "-p", where, "-h", folder))
        ready = eventually(
            lambda: (
                place.run("curl", "-s", f"http://{address or '127.0.0.1'}:{port}/", check=False).status == 0
            )
        )
        assert ready, f"no web server on port {port}"

    def send(self, kind: str, /, name: str | None = None, check: bool = True, **fields) -> Done:
        """Upload a databag and apply it, as management does outside an aggregate."""
        file = name or f"{kind}.json.{uuid.uuid4()}"
        self.router.write(f"/var/cache/cloud/{file}", json.dumps({"type": kind, **fields}))
        return self.router.run("/opt/cloud/bin/update_config.py", file, check=check)

    def boot(self, **parameters: str) -> None:
        """Apply the command line and start what the boot starts."""
        self.send("cmdline", name="cmd_line.json", cmd_line={**ROUTER, **parameters})
        self.router.sh("for s in haproxy dnsmasq apache2; do systemctl start $s.service; done")
        self.router.sh("date > /var/cache/cloud/boot_up_done")
        self.asked()

    def aggregate(self, *bags: tuple[str, dict], check: bool = True, scripts: tuple[str, ...] = ()) -> Done:
        """Upload an aggregate and apply it."""
        lines = ["#Apache CloudStack Virtual Router Config File", "<version>", "1.0", "</version>"]
        for kind, fields in bags:
            name = f"{kind}.json.{uuid.uuid4()}"
            lines += ["<file>", f"/var/cache/cloud/{name}", json.dumps({"type": kind, **fields}), "</file>"]
            lines += ["<script>", f"/opt/cloud/bin/update_config.py {name}", "</script>"]
        for script in scripts:
            lines += ["<script>", script, "</script>"]
        path = f"/var/cache/cloud/VR-{uuid.uuid4()}.cfg"
        self.router.write(path, "\n".join(lines) + "\n")
        return self.router.run("/opt/cloud/bin/vr_cfg.sh", "-c", path, check=check)

    def asked(self) -> list[str]:
        """Return what systemd was asked for since the last time."""
        lines = self.router.read("/run/stand-in/asked").splitlines()
        self.router.sh(": >/run/stand-in/asked")
        return lines

    def bag(self, name: str) -> dict:
        """Return a databag of the router."""
        return json.loads(self.router.read(f"/etc/cloudstack/{name}.json"))


def fetch(client: Space, url: str, *options: str) -> str | None:
    """Return the body behind a URL, or None when there is no answer within two seconds."""
    done = client.run("curl", "-s", "-f", "-m", "2", *options, url, check=False)
    return done.stdout.strip() if done.status == 0 else None


def firewall_rule(number: int, address: str, port: int, **more) -> dict:
    """Return an ingress rule that opens a TCP port of a public address."""
    return {
        "id": number,
        "src_ip": address,
        "protocol": "tcp",
        "src_port_range": [port, port],
        "revoked": False,
        "already_added": False,
        "source_cidr_list": ["0.0.0.0/0"],
        "dest_cidr_list": [],
        "purpose": "Firewall",
        "traffic_type": "Ingress",
        "default_egress_policy": False,
        "type": "",
        **more,
    }


def forward_rule(
    address: str, port: int, vm: str, inner: int, protocol: str = "tcp", revoke: bool = False
) -> dict:
    """Return a port-forwarding rule."""
    return {
        "revoke": revoke,
        "protocol": protocol,
        "source_ip_address": address,
        "source_port_range": f"{port}:{port}",
        "destination_ip_address": vm,
        "destination_port_range": f"{inner}:{inner}",
    }


def public_ip(address: str, **more) -> dict:
    """Return an association of a public address with eth2."""
    return {
        "public_ip": address,
        "source_nat": False,
        "add": True,
        "one_to_one_nat": False,
        "first_i_p": False,
        "gateway": "192.0.2.1",
        "netmask": "255.255.255.0",
        "vif_mac_address": "1e:00:00:00:00:02",
        "nic_dev_id": 2,
        "new_nic": False,
        "nw_type": "public",
        "is_private_gateway": False,
        "mtu": 1500,
        **more,
    }


def balancer(*listeners: tuple[str, int, list[str]]) -> dict:
    """Return a load-balancer rule as management writes it: address, port and the servers behind it."""
    lines = [
        "global",
        "\tlog 127.0.0.1:3914   local0 warning",
        "\tmaxconn 4096",
        "\tmaxpipes 1024",
        "\tchroot /var/lib/haproxy",
        "\tuser haproxy",
        "\tgroup haproxy",
        "\tstats socket /run/haproxy/admin.sock",
        "\tdaemon",
        " ",
        "defaults",
        "\tlog     global",
        "\tmode    tcp",
        "\toption  dontlognull",
        "\tretries 3",
        "\toption redispatch",
        "\ttimeout connect    5000",
        "\ttimeout client     50000",
        "\ttimeout server     50000",
        " ",
    ]
    for address, port, servers in listeners:
        name = f"{address.replace('.', '_')}-{port}"
        lines += [f"listen {name}", f"\tbind {address}:{port}", "\tbalance roundrobin"]
        lines += [f"\tserver {name}_{number} {server} check" for number, server in enumerate(servers)]
        lines.append(" ")
    return {
        "configuration": lines,
        "tmp_cfg_file_path": "/etc/haproxy/",
        "tmp_cfg_file_name": "haproxy.cfg.new",
        "add_rules": [f"{address}:{port}:" for address, port, _servers in listeners],
        "remove_rules": [],
        "stat_rules": ["169.254.12.34:8081:0/0:,"],
        "router_ip": "169.254.12.34",
    }


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Ask until the condition holds or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def laboratory() -> Iterator[Lab]:
    """Build the namespaces and the cables of one router."""
    with ExitStack() as stack:
        router = stack.enter_context(space("bash", str(HERE / "inside.sh"), str(PAYLOAD), str(HERE)))
        lan = stack.enter_context(space())
        outside = stack.enter_context(space())
        host = stack.enter_context(space())
        lan.sh("ip link add br0 type bridge; ip link set br0 up")
        connect(lan, "router", router, "eth0", "02:00:00:00:00:01")
        lan.sh("ip link set router master br0 up")
        connect(host, "eth0", router, "eth1", "0e:00:a9:fe:0c:22")
        connect(outside, "eth0", router, "eth2", "1e:00:00:00:00:02")
        host.sh("ip address add 169.254.0.1/16 dev eth0; ip link set eth0 up")
        outside.sh(
            "ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip route add 10.1.1.0/24 via 192.0.2.10"
        )
        router.sh(
            "ip address add 169.254.12.34/16 dev eth1; ip link set eth1 up;"
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind"
        )
        yield Lab(stack, router, lan, outside, {"host": host})


@pytest.fixture
def make():
    """The builders of messages."""
    return SimpleNamespace(firewall=firewall_rule, forward=forward_rule, ip=public_ip, balancer=balancer)


@pytest.fixture
def get():
    """Fetch a URL from a space."""
    return fetch


@pytest.fixture
def wait():
    """Ask until a condition holds."""
    return eventually


@pytest.fixture
def bare_lab() -> Iterator[Lab]:
    """A router that has not been booted."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    with laboratory() as lab:
        yield lab


@pytest.fixture
def lab(bare_lab: Lab) -> Lab:
    """A router of type ``router``, booted."""
    bare_lab.boot()
    return bare_lab
