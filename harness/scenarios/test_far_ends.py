"""Routers with far ends: tunnels, sessions and addresses that are the same on both sides, all through a patch."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bundle import catalogue
from harness.host import wait
from harness.network import Network, far_ends
from harness.scenario import GuestError, Lab, Tenant, Trial

# Seconds for a session or a tunnel to stand again, under emulation on a host that is not busy.
_AGAIN = 90.0
_RUN = "in-template"


def _require_tried(trial: Trial, rules: Iterable[str]) -> None:
    """Require that somebody has used each kind of flow all through the patch; how long each was gone, others judge."""
    seen = trial.cases[-1].budgets
    for rule in rules:
        there = any(row.name.startswith(rule) and row.sent for row in seen)
        trial.require(f"tried.{rule.replace(' ', '-')}", "" if there else "nobody tried it during the patch")


def _until(trial: Trial, host: Tenant, command: str, what: str) -> str:
    """Run a command on a host until it succeeds; returns what is wrong in the end, or nothing."""

    def well() -> bool:
        try:
            return host.run(command, check=False).status == 0
        except GuestError:
            return False

    try:
        wait.until(well, what, _AGAIN, tick=0.5, stretch=trial.vm.machine.stretch())
    except wait.DeadlineExceeded as error:
        return str(error)
    return ""


@pytest.mark.scenario(
    "S57-tunnels-live-on",
    types=catalogue.load().types_that(serve="vpc"),
    network="vpn",
    why="it is about the network 'vpn'",
)
def test_tunnels_live_on_and_are_made_anew(lab: Lab, live_patch: Trial, network: Network) -> None:
    """Both VPNs are used all through the patch and its rules; afterwards each can be made anew, by its keys."""
    live_patch.patch(lab.new_bundle)
    _require_tried(live_patch, ("site to site", "from the other site", "remote access"))
    for outsider, _ in far_ends.sites(network):
        host = live_patch.vm.tenants[outsider.name]
        anew = f"{_RUN} /usr/sbin/ipsec down site >/dev/null 2>&1; {_RUN} /usr/sbin/ipsec up site | grep -q success"
        live_patch.require("site.anew", _until(live_patch, host, anew, "a new tunnel to the other site"))
    for outsider, _ in far_ends.callers(network):
        host = live_patch.vm.tenants[outsider.name]
        # The daemon behind it dials again by itself.
        host.run(
            "killall pppd; while ip link show dev ppp0 >/dev/null 2>&1; do usleep 50000; done", check=False
        )
        logged_in = "ip address show dev ppp0 | grep -q 'inet '"
        live_patch.require("caller.anew", _until(live_patch, host, logged_in, "a new login"))
    live_patch.prove_rules()


@pytest.mark.scenario(
    "S58-ipv6-untranslated",
    types=("router",),
    network="router-ipv6",
    why="it is about the network 'router-ipv6'",
)
def test_ipv6_is_answered_untranslated(lab: Lab, live_patch: Trial) -> None:
    """IPv6 in and out all through the patch: answered, from and to the machines' own addresses."""
    live_patch.patch(lab.new_bundle)
    _require_tried(live_patch, ("IPv6 in", "IPv6 out"))


@pytest.mark.scenario(
    "S58-routed-untranslated",
    types=catalogue.load().types_that(serve="vpc"),
    network="vpc-routed",
    why="it is about the network 'vpc-routed'",
)
def test_a_routed_vpc_is_answered_untranslated(lab: Lab, live_patch: Trial) -> None:
    """Machines of a VPC without NAT, reached from outside all through the patch, keep their own addresses."""
    live_patch.patch(lab.new_bundle)
    _require_tried(live_patch, ("routed",))


@pytest.mark.scenario(
    "S59-bgp-comes-back",
    types=catalogue.load().types_that(serve="vpc"),
    network="vpc-routed",
    why="it is about the network 'vpc-routed'",
)
def test_a_bgp_session_comes_back_with_the_same_routes(lab: Lab, live_patch: Trial, network: Network) -> None:
    """A neighbour in BGP all through the patch: the session stands or returns, routes of both sides are the same."""
    ((outsider, _),) = far_ends.neighbours(network)
    host = live_patch.vm.tenants[outsider.name]
    before = _routes(live_patch, host)
    live_patch.patch(lab.new_bundle)
    _require_tried(live_patch, ("routed", "learned route"))
    stands = f"{_RUN} /usr/bin/vtysh -c 'show bgp neighbors json' | grep -q '\"bgpState\": *\"Established\"'"
    live_patch.require("bgp.stands", _until(live_patch, host, stands, "the session"))
    after = _routes(live_patch, host)
    live_patch.require("bgp.routes", "" if after == before else f"{after} instead of {before}")
    host.run(f"{_RUN} /usr/bin/vtysh -c 'clear bgp *'")
    live_patch.require("bgp.anew", _until(live_patch, host, stands, "a new session"))
    live_patch.prove_rules()


def _routes(trial: Trial, host: Tenant) -> dict[str, str]:
    """Return the routes that each side has learned; the router's kernel numbers their ways anew."""
    own = trial.vm.guest.run("ip route show proto bgp | sed 's/ nhid [0-9]*//' | sort").stdout
    # Its host has no other ways than these and its own network.
    return {"router": own.strip(), host.name: host.run("ip route show | grep ' via ' | sort").stdout.strip()}
