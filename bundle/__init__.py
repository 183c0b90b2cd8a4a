"""Build, sign, verify and compare live-patch bundles of CloudStack system VMs."""

__version__ = "0.2.0"
