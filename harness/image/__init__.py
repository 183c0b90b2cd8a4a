"""Template images of system VMs: built from Debian packages or imported, kept in the cache."""

from harness.image.building import build
from harness.image.images import Image, find, list_images
from harness.image.spec import ImageSpec

__all__ = ["Image", "ImageSpec", "build", "find", "list_images"]
