"""The boot side of storage VMs and console proxies: routes in the kernel, and the site of uploads and copies."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.guest.agent.server import Authority, _name, pem
from tests.guest.rules import test_boot as steps
from tests.guest.rules.test_boot import CONTROL0, DNS, PUBLIC, bundle, machine
from tests.guest.rules.testbed import connect

__all__ = ["bundle", "machine"]

AGENT = "/usr/local/cloud/systemvm"
COMMON = (
    f"{steps.COMMON} type=secstorage port=8250 guid=s-1-VM zone=1 pod=1 {CONTROL0} {PUBLIC} {DNS} "
    "public.network.device=eth2 private.network.device=eth1 instance=SecStorage nfsVersion=null "
    "resource=org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource "
)
MANAGEMENT = "host=10.0.5.10 eth1ip=10.0.0.30 eth1mask=255.255.255.0 mgmtcidr=10.0.0.0/24 localgw=10.0.0.1 "
STORAGE = (
    "eth3ip=192.168.16.192 eth3mask=255.255.255.0 storageip=192.168.16.192 storagenetmask=255.255.255.0 "
)
COPY_URL = "https://192.0.2.10/copy/template/share/file"


def start(machine, bundle, words):
    """Boot a storage VM with these words of the command line."""
    if "eth3ip=" in words:
        connect(machine.lan, "n3", machine.router, "eth3")
        machine.lan.sh("ip link set n3 up")
    machine.router.write("/var/cache/cloud/cmdline", COMMON + words + "\n")
    steps.boot(machine, "secstorage", bundle)
    return machine.router


def way(router, address):
    """Return how the kernel reaches an address."""
    words = router.run("ip", "-4", "route", "get", address).stdout.split()
    return {key: words[words.index(key) + 1] for key in ("via", "dev") if key in words}


def test_the_storage_network_inside_the_management_networks_stays_connected(machine, bundle):
    words = MANAGEMENT.replace("mgmtcidr=", "mgmtcidr=192.168.16.0/24,")
    router = start(machine, bundle, words + STORAGE + "storagegateway=192.168.16.1 mtu=9000")
    assert way(router, "192.168.16.16") == {"dev": "eth3"}
    assert way(router, "10.0.0.7") == {"dev": "eth1"}
    assert "mtu 9000" in router.run("ip", "link", "show", "eth3").stdout
    assert "mtu 1500" in router.run("ip", "link", "show", "eth2").stdout


@pytest.mark.parametrize(
    ("address", "mask", "network", "neighbour"),
    [
        ("10.0.1.30", "255.255.252.0", "10.0.0.0/22", "10.0.2.7"),
        ("10.0.0.94", "255.255.255.192", "10.0.0.64/26", "10.0.0.99"),
    ],
)
def test_a_management_network_of_any_prefix_length_stays_connected(
    machine, bundle, address, mask, network, neighbour
):
    gateway = "10.0.0.1" if network.endswith("22") else "10.0.0.65"
    words = (
        f"host=10.0.0.5 eth1ip={address} eth1mask={mask} mgmtcidr={network},172.16.0.0/12 localgw={gateway}"
    )
    router = start(machine, bundle, words)
    assert way(router, neighbour) == {"dev": "eth1"}
    assert way(router, "172.17.0.1") == {"via": gateway, "dev": "eth1"}


def test_nothing_of_the_operator_leaves_by_the_public_interface(machine, bundle):
    words = "internaldns1=10.7.0.2 storagegateway=192.168.16.1 secondaryStorageServerAddress=192.168.99.7"
    router = start(machine, bundle, MANAGEMENT + STORAGE + words)
    inner = {"via": "10.0.0.1", "dev": "eth1"}
    assert way(router, "10.0.5.10") == way(router, "10.7.0.2") == inner
    assert way(router, "192.168.99.7") == {"via": "192.168.16.1", "dev": "eth3"}
    assert way(router, "198.51.100.1") == {"via": "192.0.2.1", "dev": "eth2"}


UPLOADS = """
import asyncio, sys
sys.path.insert(0, "/usr/local/cloud/systemvm")
sys.dont_write_bytecode = True
from cloudagent.limits import Limits
from cloudagent.shares import Shares
from cloudagent.uploads import Uploads

async def main():
    uploads = Uploads(Shares({}, 5), Limits())
    await uploads.expect({"upload": "vol-1", "size": int(sys.argv[1])})
    await uploads.start()
    print("ready", flush=True)
    await asyncio.get_event_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


def curl(router, *words):
    """Return status and what else curl prints."""
    done = router.run("curl", "-sk", "-m", "20", "-o", "/run/body", "-w", "%{http_code}", *words, check=False)
    return int(done.stdout)


@pytest.fixture
def upload(machine, bundle):
    """Return a function that boots with words, announces an upload of 3 MB and returns the VM."""
    running = []

    def begin(words=""):
        router = start(machine, bundle, MANAGEMENT + words)
        router.sh("head -c 3000000 /dev/urandom >/run/volume")
        process = router.start(
            "/usr/bin/python3", "-c", UPLOADS, "3000000", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return router

    yield begin
    for process in running:
        process.communicate("")


def same(router):
    return router.sh("cmp /run/volume /mnt/SecStorage/upload/vol-1", check=False).status == 0


@pytest.mark.parametrize(
    "how", [("--data-binary", "@/run/volume"), ("-F", "name=x", "-F", "file=@/run/volume")]
)
def test_a_browser_uploads_over_tls_after_it_was_told_that_it_may(upload, how):
    router = upload("useHttpsToUpload=true")
    for scheme in ("https", "http"):
        head = router.run("curl", "-skiX", "OPTIONS", "-m", "5", f"{scheme}://192.0.2.10/upload/vol-1").stdout
        assert " 204" in head.splitlines()[0]
        assert "access-control-allow-origin: *" in head.lower()
        assert "x-signature" in head.lower().partition("access-control-allow-headers:")[2].splitlines()[0]
    assert curl(router, *how, "http://192.0.2.10/upload/vol-1") == 403
    assert curl(router, *how, "https://192.0.2.10/upload/vol-2") == 403
    for more in ("%3fuuid=vol-1", "%26size=1"):
        assert curl(router, *how, f"https://192.0.2.10/upload/vol-1{more}") == 403
    assert curl(router, *how, "https://192.0.2.10/upload/vol-1", "-D", "/run/head") == 201
    assert same(router)
    assert "access-control-allow-origin: *" in router.read("/run/head").lower()


def test_uploads_come_without_tls_when_management_says_so(upload):
    router = upload("useHttpsToUpload=false")
    assert curl(router, "--data-binary", "@/run/volume", "http://192.0.2.10/upload/vol-1") == 201
    assert same(router)


def identity(folder: Path, authority: Authority, name: str) -> None:
    """Write key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign(_name(name), key.public_key())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.crt").write_text(pem(certificate))


def shown(router):
    """Return what identifies the certificate of port 443."""
    text = router.sh("openssl s_client -connect 192.0.2.10:443 -showcerts </dev/null 2>/dev/null").stdout
    found = x509.load_pem_x509_certificates(text.encode())
    return [certificate.fingerprint(hashes.SHA256()).hex() for certificate in found]


def test_the_clouds_own_certificate_takes_the_place_of_the_boots(machine, bundle, tmp_path):
    router = start(machine, bundle, MANAGEMENT)
    (first,) = shown(router)
    authority = Authority("cloud CA")
    for name in ("own", "other"):
        identity(tmp_path, authority, name)
    chain = authority.certificate()
    (tmp_path / "chain.crt").write_text(chain)
    for path in tmp_path.glob("*.[ck]*"):
        router.write(f"/run/{path.name}", path.read_text())
    program = [f"{AGENT}/config_ssl.sh", "-i", "192.0.2.10", "-h", "s-1-VM"]
    pair = ["-k", "/run/own.key", "-p", "/run/own.crt"]

    def refused(*words):
        done = router.run(*program, *words, check=False)
        assert done.stderr.startswith("config_ssl.sh: ")
        assert shown(router)[0] == first
        return done.status

    assert refused("-c") == 1
    assert refused("-k", "/run/own.key") == 1
    assert refused("-k", "/run/none", "-p", "/run/own.crt") == 2
    assert refused("-k", "/run/own.key", "-p", "/run/other.crt") == 3
    assert refused(*pair, "-t", "/run/none") == 4
    assert refused(*pair, "-u", "/run/none") == 5
    router.run(*program, *pair, "-t", "/run/chain.crt", "-u", "/run/chain.crt")
    own = x509.load_pem_x509_certificate((tmp_path / "own.crt").read_bytes())
    assert shown(router)[0] == own.fingerprint(hashes.SHA256()).hex()
    assert len(shown(router)) == 2
    assert router.read(f"{AGENT}/certs/root-ca.crt") == chain
    assert router.sh("stat --format=%a /etc/ssl/private/cert_apache.key").stdout == "600\n"
    router.run(*program)
    assert shown(router)[0] == own.fingerprint(hashes.SHA256()).hex()


def test_copies_need_an_address_that_was_let_in_and_the_password(machine, bundle):
    router = start(machine, bundle, MANAGEMENT)
    folder = "/mnt/SecStorage/share/template"
    router.sh(f"mkdir -p /var/www/html/copy/template {folder}; echo image >{folder}/file")
    router.sh(f"ln -s {folder} /var/www/html/copy/template/share")
    login = ("-u", "cloud:s3cret $HOME")
    assert curl(router, COPY_URL) == 403
    router.run(f"{AGENT}/config_auth.sh", "cloud", "s3cret $HOME")
    assert curl(router, *login, COPY_URL) == 403
    router.run(f"{AGENT}/ipfirewall.sh", "false", "192.0.2.10", "2001:db8::/64")
    assert curl(router, COPY_URL) == 401
    assert curl(router, "-u", "cloud:wrong", COPY_URL) == 401
    assert curl(router, *login, COPY_URL) == 200
    router.run(f"{AGENT}/ipfirewall.sh", "false", "203.0.113.9")
    assert curl(router, *login, COPY_URL) == 403
    for wrong in ("192.0.2", "all", "192.0.2.10\nRequire all granted", "192.0.2.256", "192.0.2.0/33", "host"):
        done = router.run(f"{AGENT}/ipfirewall.sh", "true", "192.0.2.10", wrong, check=False)
        assert (done.status, curl(router, *login, COPY_URL)) == (2, 403)
    router.run(f"{AGENT}/ipfirewall.sh", "true", "192.0.2.10")
    assert curl(router, *login, COPY_URL) == 200
    assert "203.0.113.9" in router.read("/var/www/html/copy/.htaccess")
    router.run(f"{AGENT}/ipfirewall.sh", "false")
    assert curl(router, *login, COPY_URL) == 403


def test_the_user_of_copies_is_kept_as_a_hash_and_nothing_else_gets_into_the_file(machine, bundle):
    router = start(machine, bundle, MANAGEMENT)
    for words in (("cloud",), ("cl:oud", "x"), ("cloud", ""), ("cloud", "a\nroot:b"), ("a\nb", "x")):
        assert router.run(f"{AGENT}/config_auth.sh", *words, check=False).status == 2
    assert router.sh("ls /etc/apache2/.htpasswd", check=False).status != 0
    router.run(f"{AGENT}/config_auth.sh", "cloud", "s3cret")
    text = router.read("/etc/apache2/.htpasswd")
    assert text.startswith("cloud:$apr1$")
    assert "s3cret" not in text
    assert router.sh("stat --format='%a %G' /etc/apache2/.htpasswd").stdout == "640 www-data\n"
