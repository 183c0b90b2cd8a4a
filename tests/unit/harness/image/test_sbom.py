import json

from harness.image import sbom
from tests.unit.harness.image.image_samples import STATUS

SUBJECT = sbom.ImageSubject("4.20.2", 12, False)


def test_lists_what_is_installed_and_its_source():
    assert sbom.packages(STATUS) == [
        sbom.Package("haproxy", "2.6.12-1", "amd64", "haproxy"),
        sbom.Package("libx", "1:3~4", "amd64", "xorg"),
    ]


def test_the_document_names_every_package_with_a_package_address():
    document = json.loads(sbom.render(sbom.packages(STATUS), SUBJECT, "key", 0))
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["version"] == "4.20.2"
    assert [c["purl"] for c in document["components"]] == [
        "pkg:deb/debian/haproxy@2.6.12-1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libx@1:3~4?arch=amd64&distro=debian-12&upstream=xorg",
    ]


def test_the_same_input_gives_the_same_bytes():
    found = sbom.packages(STATUS)
    assert sbom.render(found, SUBJECT, "key", 0) == sbom.render(found, SUBJECT, "key", 0)
    assert sbom.render(found, SUBJECT, "key", 0) != sbom.render(found, SUBJECT, "other", 0)
