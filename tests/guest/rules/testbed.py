"""A virtual router in network, mount and process namespaces, with real daemons and real clients around it.

``laboratory`` gives a fresh router with a guest network (eth0), a control network (eth1) and a public network (eth2)::

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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.guest.rules.bags import message

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
        enter = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--net",
            "--uts",
            "--pid",
            "--root",
            "--wd=/",
            "--",
        ]
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
                with suppress(ProcessLookupError):  # it has ended by itself
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
    own = ["unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
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


@dataclass
class RouterTestbed:
    """A router and what is around it."""

    stack: ExitStack
    router: Space
    lan: Space
    outside: Space
    host: Space

    def cable(self, place: Space, name: str, device: str, mac: str) -> None:
        """Plug the router into a space of the test's own."""
        connect(place, name, self.router, device, mac)

    def new_space(self) -> Space:
        """Return one more space; it goes with the laboratory."""
        return self.stack.enter_context(space())

    def plug_guest(self, device: str, mac: str, bridge: str = "br0") -> None:
        """Plug the router into a guest network."""
        port = f"r-{device}"
        self.lan.sh(
            f"ip link show {bridge} >/dev/null 2>&1 || ip link add {bridge} type bridge; ip link set {bridge} up"
        )
        connect(self.lan, port, self.router, device, mac)
        self.lan.sh(f"ip link set {port} master {bridge} up")

    def plug_public(self, device: str, mac: str = "1e:00:00:00:00:02") -> None:
        """Plug the router into the public network."""
        connect(self.outside, "eth0", self.router, device, mac)
        self.outside.sh("ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up")

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
        self.router.write(f"/var/cache/cloud/{file}", json.dumps(message(kind, fields, check)))
        return self.router.run("/opt/cloud/bin/update_config.py", file, check=check)

    def boot(
        self,
        parameters: dict[str, str] | None = None,
        services: tuple[str, ...] = ("haproxy", "dnsmasq", "apache2"),
    ) -> None:
        """Apply the command line and start what the boot starts."""
        self.send("cmdline", name="cmd_line.json", cmd_line=parameters or ROUTER)
        self.router.run("systemctl", "start", "cron", *services)
        self.router.sh("date > /var/cache/cloud/boot_up_done")
        self.asked()

    def aggregate(self, *bags: tuple[str, dict], check: bool = True, scripts: tuple[str, ...] = ()) -> Done:
        """Upload an aggregate and apply it."""
        lines = ["#Apache CloudStack Virtual Router Config File", "<version>", "1.0", "</version>"]
        for kind, fields in bags:
            name = f"{kind}.json.{uuid.uuid4()}"
            lines += [
                "<file>",
                f"/var/cache/cloud/{name}",
                json.dumps(message(kind, fields, check)),
                "</file>",
            ]
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


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Ask until the condition holds or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def laboratory(
    guest: str | None = "eth0", control: str = "eth1", public: str | None = "eth2"
) -> Iterator[RouterTestbed]:
    """Build the namespaces and the cables of one router; an interface that is None can be plugged in later."""
    with ExitStack() as stack:
        router = stack.enter_context(space("bash", str(HERE / "inside.sh"), str(PAYLOAD), str(HERE)))
        lan, outside, host = (stack.enter_context(space()) for _ in range(3))
        lan.sh("ip link add br0 type bridge; ip link set br0 up")
        lab = RouterTestbed(stack, router, lan, outside, host)
        connect(host, "eth0", router, control, "0e:00:a9:fe:0c:22")
        host.sh("ip address add 169.254.0.1/16 dev eth0; ip link set eth0 up")
        if guest:
            lab.plug_guest(guest, "02:00:00:00:00:01")
        if public:
            lab.plug_public(public)
        router.sh(
            f"ip address add 169.254.12.34/16 dev {control}; ip link set {control} up;"
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind"
        )
        yield lab
