"""The pytest plugin: fixtures and options for scenarios, ours and other people's.

Fixtures:
    lab: what the run shares (bundles, image, golden snapshot), made on first use.
    bundle: folder of the bundle to patch with.
    network: the network that is declared for the VM, with its rules.
    system_vm: a fresh, booted, configured system VM with its tenants; gone after the test.
    tenant: a host behind that VM.
    management_services: what an agent VM finds on its management network besides the server.
    live_patch: patches that VM and makes every check; the test fails at its end when one did not hold.
    fault: begins a fault of that VM by its name.
    draw: random numbers that are the same for the same ``--seed``.
    traffic: runs probes beside whatever the test does, and records what they saw.

A test is a scenario when it has the mark ``scenario("name")``. Its events go to ``results/<run>/events.jsonl``. Some
scenarios are not about every VM type: ``scenario("name", types=("secstorage",), why="...")``. One that restores more
VMs says how many, and the room for all is reserved at once: ``scenario("name", companions=2)``. ``mark.Scenario`` has
every keyword.

Every hook and fixture is imported here; pytest need not rewrite a package without assertions, and callers import
parts of it before pytest does: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from harness.plugin.choosing import pytest_collection_modifyitems, pytest_generate_tests
from harness.plugin.fixtures import (
    bundle,
    draw,
    fault,
    lab,
    live_patch,
    management_services,
    network,
    system_vm,
    tenant,
    traffic,
)  # fmt: skip
from harness.plugin.options import pytest_addoption
from harness.plugin.preflight import pytest_sessionstart
from harness.plugin.recording import (
    pytest_configure,
    pytest_pyfunc_call,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_sessionfinish,
)  # fmt: skip

__all__ = [
    "bundle",
    "draw",
    "fault",
    "lab",
    "live_patch",
    "management_services",
    "network",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_pyfunc_call",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_sessionstart",
    "system_vm",
    "tenant",
    "traffic",
]
