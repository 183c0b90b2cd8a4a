"""Keys, signatures, bill of materials and provenance say what they should, in forms that others read."""

from __future__ import annotations

import base64
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import rfc8785
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import Signature

from bundle import layout
from bundle.archive import canonical
from bundle.errors import CheckFailed, UsageError
from bundle.inspect.verify import verify
from bundle.seal import dsse
from bundle.seal.components import Component, identify
from bundle.seal.ecdsa import generate, load_private, load_public
from bundle.seal.manifest import load
from bundle.seal.trust import load as load_trust
from bundle.ship.resign import sign
from tests.unit.bundle.source.jar_sets import write_jar

Make = Callable[..., Path]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner),
)


@given(values)
def test_our_canonical_form_is_that_of_rfc_8785(value: object) -> None:
    canonical.check(value)
    assert canonical.dumps(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [1.5, {"ü": 1}, [2**53], {"a": [float("nan")]}])
def test_what_our_canonical_form_does_not_cover_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical.check(value)


def test_keys_are_made_once_and_kept_secret(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        public = generate(tmp_path / "K")
    finally:
        os.umask(old)
    assert (tmp_path / "K").stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    with pytest.raises(UsageError, match="exists already"):
        generate(tmp_path / "K")
    (tmp_path / "K").unlink()
    with pytest.raises(UsageError, match="exists already"):
        generate(tmp_path / "K")


def test_openssl_accepts_the_signature_of_the_manifest(bundle_dir: Path, tmp_path: Path) -> None:
    public = generate(tmp_path / "K")
    sign(bundle_dir, tmp_path / "K", None)
    command = [
        "openssl",
        "dgst",
        "-sha384",
        "-verify",
        public,
        "-signature",
        bundle_dir / "manifest.json.sig",
    ]
    done = subprocess.run(
        [*command, bundle_dir / "manifest.json"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "Verified OK\n"
    other = generate(tmp_path / "other")
    command[4] = other
    assert (
        subprocess.run([*command, bundle_dir / "manifest.json"], capture_output=True, check=False).returncode
        != 0
    )


def test_what_openssl_made_is_a_key_for_us(tmp_path: Path) -> None:
    command = ["openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", tmp_path / "K"]
    subprocess.run(command, check=True)
    assert load_private(tmp_path / "K").curve.name == "secp384r1"


@pytest.mark.parametrize(
    "arguments",
    [["genrsa", "-out"], ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]],
    ids=["RSA", "P-256"],
)
def test_other_keys_are_refused(arguments: list[str], tmp_path: Path) -> None:
    subprocess.run(["openssl", *arguments, tmp_path / "K"], check=True, capture_output=True)
    with pytest.raises(UsageError, match="not a P-384 key"):
        load_private(tmp_path / "K")


def test_files_that_are_no_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "K").write_text("nothing")
    for reader in (load_private, load_public):
        with pytest.raises(UsageError, match="not a"):
            reader(tmp_path / "K")
        with pytest.raises(UsageError, match="No such file"):
            reader(tmp_path / "absent")


def test_the_commands_make_sign_and_trust(source: Path, script: Path, sysvm: Callable) -> None:
    assert sysvm("bundle", "keygen", "K").returncode == 0
    assert sysvm("bundle", "keygen", "L").returncode == 0
    build = ("bundle", "build", "--source", source, "--patch-script", script, "--key", "K", "-o", "A")
    assert sysvm(*build).returncode == 0
    assert sysvm("bundle", "verify", "A", "--trust", "K.pub").returncode == 0
    other = sysvm("bundle", "verify", "A", "--trust", "L.pub")
    assert other.returncode == 1
    assert "manifest.json.sig" in other.stderr
    assert sysvm("bundle", "sign", "A", "--key", "L").returncode == 0
    assert sysvm("bundle", "verify", "A", "--trust", "L.pub").returncode == 0
    assert sysvm("bundle", "sign", "A").returncode == 2


def test_signing_later_is_the_same_as_signing_at_once(source: Path, make: Make, tmp_path: Path) -> None:
    generate(tmp_path / "K")
    at_once = make(source, tmp_path / "at once", script=None, key=tmp_path / "K")
    later = make(source, tmp_path / "later", script=None)
    assert (later / "patch-sysvms.sh").read_bytes() != (at_once / "patch-sysvms.sh").read_bytes()
    sign(later, tmp_path / "K", None)
    names = sorted(path.name for path in at_once.iterdir())
    assert names == sorted(path.name for path in later.iterdir())
    assert all((at_once / name).read_bytes() == (later / name).read_bytes() for name in names)


@pytest.fixture
def gpg_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    command = [
        "gpg",
        "--batch",
        "--passphrase",
        "",
        "--quick-gen-key",
        "Release Engineer <re@example.org>",
        "ed25519",
    ]
    subprocess.run(command, check=True, capture_output=True)
    yield "re@example.org"
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=False, capture_output=True)


def test_openpgp_signatures_and_sums_are_those_that_the_asf_publishes(
    bundle_dir: Path, gpg_home: str
) -> None:
    sign(bundle_dir, None, gpg_home)
    for name in (*layout.PAYLOAD, layout.MANIFEST):
        command = ["gpg", "--batch", "--verify", bundle_dir / f"{name}.asc", bundle_dir / name]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(["sha512sum", "--status", "-c", f"{name}.sha512"], check=True, cwd=bundle_dir)
    verify(bundle_dir)


def test_an_unknown_openpgp_user_is_the_users_mistake(bundle_dir: Path, gpg_home: str) -> None:
    before = sorted(path.name for path in bundle_dir.iterdir())
    with pytest.raises(UsageError, match="gpg cannot sign"):
        sign(bundle_dir, None, "nobody@example.org")
    assert sorted(path.name for path in bundle_dir.iterdir()) == before


def test_sha512sum_accepts_the_sums(bundle_dir: Path) -> None:
    subprocess.run(["sha512sum", "--status", "--strict", "-c", "SHA512SUMS"], check=True, cwd=bundle_dir)


def test_the_provenance_is_an_in_toto_statement_about_the_three_files(bundle_dir: Path) -> None:
    document = json.loads((bundle_dir / layout.PROVENANCE).read_bytes())
    manifest = load(bundle_dir / layout.MANIFEST)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {row["name"]: row["digest"]["sha512"] for row in document["subject"]}
    assert subjects == {name: manifest.files[name].sha512 for name in layout.PAYLOAD}
    definition = document["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["release"] == "4.22"
    assert definition["resolvedDependencies"][0]["digest"] == {"sha256": manifest.content_digest}
    assert str(bundle_dir.parent) not in json.dumps(document)


def jar(path: Path, *poms: tuple[str, str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for group, artifact, version in poms:
            text = f"#Generated\ngroupId={group}\nartifactId={artifact}\nversion={version}\n"
            archive.writestr(f"META-INF/maven/{group}/{artifact}/pom.properties", text)
    return path


def deb(path: Path, packer: Callable[[bytes], bytes], ending: str) -> Path:
    text = b"Package: python3-netaddr\nVersion: 0.7.19-5\nArchitecture: all\nDescription: x\n more\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("./control")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    members = [("debian-binary", b"2.0\n"), (f"control.tar{ending}", packer(buffer.getvalue()))]
    data = b"!<arch>\n"
    for name, content in members:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    path.write_bytes(data)
    return path


def test_the_signed_provenance_is_an_envelope_that_others_verify(
    source: Path, make: Make, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    public = generate(tmp_path / "K")
    out = make(source, tmp_path / "out", key=tmp_path / "K")
    document = json.loads((out / layout.ENVELOPE).read_bytes())
    key = SSlibKey.from_crypto(load_pem_public_key(public.read_bytes()), document["signatures"][0]["keyid"])
    document["signatures"][0]["sig"] = base64.b64decode(document["signatures"][0]["sig"]).hex()
    document["payload"] = base64.b64decode(document["payload"])
    envelope = Envelope(
        document["payload"],
        document["payloadType"],
        {row["keyid"]: Signature(row["keyid"], row["sig"]) for row in document["signatures"]},
    )
    assert list(envelope.verify([key], 1)) == [key.keyid]
    assert envelope.payload == (out / layout.PROVENANCE).read_bytes()
    assert envelope.payload_type == "application/vnd.in-toto+json"


def test_an_envelope_of_another_statement_or_key_is_caught(source: Path, make: Make, tmp_path: Path) -> None:
    public = generate(tmp_path / "K")
    out = make(source, tmp_path / "out", key=tmp_path / "K")
    payload = (out / layout.PROVENANCE).read_bytes()
    data = (out / layout.ENVELOPE).read_bytes()
    dsse.check(data, payload, load_trust(public), "x")
    other = load_trust(generate(tmp_path / "other"))
    with pytest.raises(CheckFailed, match="not made with the trusted key"):
        dsse.check(data, payload, other, "x")
    with pytest.raises(CheckFailed, match="not an envelope of the statement"):
        dsse.check(data, payload + b" ", None, "x")
    for broken in (b"", b"[]", b'{"payloadType": 1}', b"{" * 100_000):
        with pytest.raises(CheckFailed, match="x: not a"):
            dsse.check(broken, payload, None, "x")


def test_a_shaded_pom_is_not_the_jar_and_a_classifier_is_kept(tmp_path: Path) -> None:
    shaded = write_jar(tmp_path / "wrapper-1.0.jar", ("org.inner", "inner", "9"))
    assert identify("wrapper-1.0.jar", shaded) == Component("generic", "wrapper", "1.0")
    native = write_jar(tmp_path / "epoll-4.1.9.Final-linux-x86_64.jar", ("io.netty", "epoll", "4.1.9.Final"))
    found = identify(native.name, native)
    assert found is not None
    assert (found.group, found.version, found.classifier) == ("io.netty", "4.1.9.Final", "linux-x86_64")
    vendor = write_jar(tmp_path / "x-2.jar", manifest="Implementation-Vendor-Id: org.example.group\r\n")
    assert identify("x-2.jar", vendor) == Component("maven", "x", "2", "org.example.group")


@pytest.mark.parametrize(
    ("manifest", "pom", "licences"),
    [
        (
            "",
            "<licenses><license><name>MIT License</name><url>u</url></license></licenses>",
            ("MIT License",),
        ),
        ("Bundle-License: https://www.apache.org/licenses/LICENSE-2.0.txt\r\n", "", None),
        ('Bundle-License: "Apache-2.0";link="https://x, y",MIT\r\n', "", ("Apache-2.0", "MIT")),
        ("Bundle-License: a-very-lo\r\n ng-name\r\n", "", ("a-very-long-name",)),
    ],
)
def test_licences_are_those_that_the_jar_says(
    manifest: str, pom: str, licences: tuple[str, ...] | None, tmp_path: Path
) -> None:
    jar = write_jar(tmp_path / "a-1.jar", ("org.a", "a", "1"), manifest=manifest, pom=pom)
    found = identify("a-1.jar", jar)
    assert found is not None
    assert found.licences == (licences or ("https://www.apache.org/licenses/LICENSE-2.0.txt",))


def test_the_libraries_of_the_console_page_are_named(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(
        '{"name": "@novnc/novnc", "version": "1.6.0", "license": "MPL-2.0"}'
    )
    found = identify("noVNC/package.json", tmp_path / "package.json")
    assert found == Component("npm", "novnc", "1.6.0", "@novnc", licences=("MPL-2.0",))
    (tmp_path / "jquery.js").write_text("/*\n * jQuery JavaScript Library v1.3.2\n */\n")
    assert identify("js/jquery.js", tmp_path / "jquery.js") == Component("npm", "jquery", "1.3.2")
    (tmp_path / "broken").write_text("{")
    assert identify("noVNC/package.json", tmp_path / "broken") is None


def test_jars_are_identified_by_their_own_metadata_else_by_name(tmp_path: Path) -> None:
    one = jar(tmp_path / "gson-2.10.1.jar", ("com.google.code.gson", "gson", "2.10.1"))
    assert identify("gson-2.10.1.jar", one) == Component("maven", "gson", "2.10.1", "com.google.code.gson")
    shaded = jar(tmp_path / "b-1.jar", ("org.a", "a", "9"), ("org.b", "b", "1.0"))
    assert identify("b-1.jar", shaded) == Component("maven", "b", "1.0", "org.b")
    bare = jar(tmp_path / "cloud-utils-4.22.0.0-SNAPSHOT.jar")
    assert identify(bare.name, bare) == Component("generic", "cloud-utils", "4.22.0.0-SNAPSHOT")
    (tmp_path / "broken.jar").write_bytes(b"no zip")
    assert identify("broken.jar", tmp_path / "broken.jar") == Component("generic", "broken.jar")


@pytest.mark.parametrize(("packer", "ending"), [(gzip.compress, ".gz"), (lzma.compress, ".xz"), (bytes, "")])
def test_debian_packages_are_identified_by_their_control_file(
    packer: Callable, ending: str, tmp_path: Path
) -> None:
    path = deb(tmp_path / "x.deb", packer, ending)
    assert identify("packages/x.deb", path) == Component(
        "deb", "python3-netaddr", "0.7.19-5", "debian", "all"
    )


def test_debian_packages_that_cannot_be_read_are_identified_by_name(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"!<arch>\nbroken")
    found = identify("packages/python3-netaddr_0.7.19-5_all.deb", tmp_path / "x")
    assert found == Component("deb", "python3-netaddr", "0.7.19-5", "debian", "all")
    assert identify("packages/odd.deb", tmp_path / "x") == Component("generic", "odd.deb")


def test_ordinary_files_are_no_components(tmp_path: Path) -> None:
    assert identify("run.sh", tmp_path / "absent") is None


def test_the_bill_of_materials_is_valid_cyclonedx(source: Path, make: Make, tmp_path: Path) -> None:
    agent = source / "systemvm/agent"
    (agent / "packages").mkdir()
    licence = "<licenses><license><name>Apache License, Version 2.0</name></license></licenses>"
    write_jar(agent / "gson-2.10.1.jar", ("com.google.code.gson", "gson", "2.10.1"), pom=licence)
    write_jar(agent / "odd-1.jar", manifest="Bundle-License: A licence of our own\r\n")
    deb(agent / "packages/python3-netaddr_0.7.19-5_all.deb", gzip.compress, ".gz")
    out = make(source, tmp_path / "out")
    data = (out / layout.SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data) is None
    document = json.loads(data)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert "timestamp" not in document["metadata"]
    purls = {row["purl"] for row in document["components"] if "purl" in row}
    assert purls == {
        "pkg:maven/com.google.code.gson/gson@2.10.1",
        "pkg:generic/odd@1",
        "pkg:deb/debian/python3-netaddr@0.7.19-5?arch=all",
    }
    licences = {
        row["name"]: row["licenses"][0]["license"] for row in document["components"] if "licenses" in row
    }
    assert licences == {"gson": {"id": "Apache-2.0"}, "odd": {"name": "A licence of our own"}}
    files = {
        row["name"]: row["hashes"][0]["content"] for row in document["components"] if row["type"] == "file"
    }
    manifest = load(out / layout.MANIFEST)
    assert files == {name: manifest.files[name].sha256 for name in ("agent.zip", "cloud-scripts.tgz")}
    from cyclonedx.model.bom import Bom

    assert len(Bom.from_json(document).components) == 5
