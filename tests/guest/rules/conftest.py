"""Fixtures of the tests of rules; ``testbed.py`` tells what they are made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.guest.rules.bags import balancer, firewall_rule, forward_rule, public_ip
from tests.guest.rules.testbed import RouterTestbed, eventually, fetch, laboratory
from tests.guest.rules.tiers import PUBLIC_MAC, VPC


def pytest_runtest_setup() -> None:
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")


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
def bare_lab() -> Iterator[RouterTestbed]:
    """A router that has not been booted."""
    with laboratory() as lab:
        yield lab


@pytest.fixture
def lab(bare_lab: RouterTestbed) -> RouterTestbed:
    """A router of type ``router``, booted."""
    bare_lab.boot()
    return bare_lab


@pytest.fixture
def vpc(make):
    """A VPC router with a public address and no tier."""
    with laboratory(guest=None, control="eth0", public=None) as lab:
        lab.boot(VPC)
        lab.plug_public("eth1", PUBLIC_MAC)
        source = make.ip("192.0.2.10", source_nat=True, first_i_p=True, nic_dev_id=1, new_nic=True)
        lab.send("ips", ip_address=[source])
        yield lab
