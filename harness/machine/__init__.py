"""One QEMU machine under libvirt."""
