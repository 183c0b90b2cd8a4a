"""The judge is awake: patches that are wrong in one way each, on restored VMs, and the check that must say so."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

import pytest

from bundle import catalogue
from bundle.paths import payload_root
from harness.checks import failed, judge
from harness.kvmagent import patch
from harness.lab.bundles import build_bundle
from harness.lab.lab import open_lab
from harness.lab.management_network import site_of
from harness.lab.trial import Trial
from harness.lab.wish import Wish
from harness.observe import identity
from harness.record import results
from harness.record.events import EventLog
from harness.site.authority import Authority
from harness.traffic import HttpProbe, Traffic
from tests.mutants.vm import damages

# A watch of two seconds instead of ten: these patches are to be wrong in another way.
SHORT = "export LIVEPATCH_SOAK=2"


def scripted(lab, folder, *, first="", replace=("", "")):
    """Return the new bundle with another patch script: lines in front of it, or a part of it replaced."""
    bundle = folder / "bundle"
    shutil.copytree(lab.new_bundle, bundle)
    script = bundle / "patch-sysvms.sh"
    head, _, rest = script.read_text().partition("\n")
    old, new = replace
    assert not old or rest.count(old) == 1, f"the script has no such line to break: {old}"
    # The script starts itself anew in a session of its own; what comes first is to happen once.
    once = f"if [ ! -e /run/mutant ]; then touch /run/mutant; {first}; fi" if first else ":"
    script.write_text(f"{head}\n{SHORT}\n{once}\n{rest.replace(old, new) if old else rest}")
    return bundle


def drops_a_forward(lab, folder):
    source = folder / "systemvm"
    shutil.copytree(payload_root(), source, symlinks=True)
    rules = source / "debian/opt/cloud/bin/cloudrules/netfilter/forwarding.py"
    every = "for row in bag[public_ip]:"
    assert rules.read_text().count(every) == 1, "the rules have no such line to break"
    rules.write_text(rules.read_text().replace(every, "for row in bag[public_ip][1:]:"))
    return build_bundle(lab.new.name, folder / "bundle", source=source)


def leaves_haproxy(lab, folder):
    renew = 'do effect "bring service'
    return scripted(lab, folder, replace=(renew, f"do [[ $word == haproxy ]] || {renew.removeprefix('do ')}"))


def opens_sshd(lab, folder):
    everywhere = "sed -i 's/^ListenAddress .*/ListenAddress 0.0.0.0/' /etc/ssh/sshd_config"
    return scripted(lab, folder, first=f"{everywhere}; systemctl restart ssh.service")


def says_more(lab, folder):
    return scripted(lab, folder, first="echo 'stray output'")


@dataclass(frozen=True)
class Mutant:
    make: object
    check: str
    words: str
    rules: str = "leave"


MUTANTS = {
    "drops one port forward": Mutant(
        drops_a_forward, "rules.iptables", "after the rules were sent again", "send"
    ),
    "leaves haproxy on its old process": Mutant(
        leaves_haproxy, "services.renewed", "haproxy still runs on its old process"
    ),
    "opens sshd to the public side": Mutant(
        opens_sshd, "sshd.control-only", "sshd listens on tcp 0.0.0.0:3922, not only on 169.254."
    ),
    "writes one extra line": Mutant(says_more, "answer.protocol", "stray output"),
}


def reasons(trial):
    """Return and clear what a trial found, by check."""
    found = dict(failure.split(": ", 1) for failure in trial.failures)
    trial.failures.clear()
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_patch_of_a_router_is_caught(lab, live_patch, tmp_path, name):
    mutant = MUTANTS[name]
    live_patch.proof_deadline, live_patch.probing = 2.0, False

    files = live_patch.files(mutant.make(lab, tmp_path))
    live_patch.watch(files, lambda: patch.patch(live_patch.vm.guest, files), rules=mutant.rules)

    found = reasons(live_patch)
    assert mutant.check in found, found
    assert mutant.words in found[mutant.check].splitlines()[0]
    if mutant.make is drops_a_forward:
        first = next(row for row in lab.network.forwards if row.protocol == "tcp")
        rule = f"request.port forward {first.public}:{first.public_ports.first}"
        assert any(name.startswith(rule) for name in found), found


@pytest.mark.parametrize("expected", ["patched", "kept"])
def test_damage_anywhere_in_a_router_is_seen(lab, live_patch, expected):
    live_patch.proof_deadline, live_patch.probing = 2.0, False
    guest = live_patch.vm.guest
    files = live_patch.files(lab.new_bundle)

    def act():
        answer = patch.patch(guest, files) if expected == "patched" else None
        guest.run("bash -s", stdin="\n".join(row.shell for row in damages()).encode(), deadline=60)
        return answer

    case = live_patch.watch(files, act, expected=expected, rules="leave")

    live_patch.failures.clear()
    told = {row.name: [row.reason, *row.details] for row in failed(judge(case))}
    content = {"patched": "files.explained", "kept": "files.kept"}[expected]
    missed = [
        row.name
        for row in damages()
        if not any(row.words in line for line in told.get(content if row.check == "files" else row.check, ()))
    ]
    assert missed == [], told
    assert not any("{" in row[0] for row in told.values()), told


def test_what_somebody_does_between_two_patches_is_caught(lab, live_patch):
    live_patch.proof_deadline, live_patch.probing = 2.0, False
    files = live_patch.files(lab.new_bundle)
    live_patch.watch(files, lambda: patch.patch(live_patch.vm.guest, files), rules="leave")
    assert live_patch.failures == []

    live_patch.vm.guest.run("sysctl -qw vm.swappiness=7; logger -p daemon.err -t somebody nothing works")
    live_patch.observed()

    found = reasons(live_patch)
    assert found.keys() == {"between.kernel.settings", "between.journal.quiet"}, found
    assert "setting vm.swappiness was 60 and is 7 (before the next patch)" in found["between.kernel.settings"]
    assert "nothing works" in found["between.journal.quiet"]


@pytest.fixture(scope="module")
def proxy_lab(tmp_path_factory):
    """A lab of a console proxy, which has an agent and with it a trust store."""
    facts = catalogue.load()
    wish = Wish("consoleproxy", facts.default_from, facts.default)
    record = results.create(tmp_path_factory.mktemp("proxy"))
    with EventLog(record.events) as events, open_lab(wish, record, events) as lab:
        yield lab


@pytest.fixture
def proxy_trial(proxy_lab):
    with proxy_lab.system_vm("proxy") as vm:
        yield Trial(proxy_lab, vm, "proxy", probing=False)


def test_a_patch_that_loses_a_ca_is_caught(proxy_trial, tmp_path):
    trust = identity.TRUSTSTORE
    guest = proxy_trial.vm.guest
    guest.run(f"mkdir -p {trust.rsplit('/', 1)[0]}")
    guest.put("".join(Authority().identity.pem for _ in range(2)).encode(), trust)
    # Everything up to the end of the first certificate goes.
    bundle = scripted(proxy_trial.lab, tmp_path, first=f"sed -i '1,/END CERTIFICATE/d' {trust}")

    proxy_trial.patch(bundle)

    found = reasons(proxy_trial)
    assert "identity.truststore" in found, found
    assert found["identity.truststore"].startswith("1 of 2 certificates are lost: certificate ")


def judged_restart(trial, first=lambda: None):
    """Let the agent start anew, after whatever comes first, and return what the check of its connection says."""
    site, guest = site_of(trial.vm), trial.vm.guest

    def act():
        first()
        began = time.monotonic()
        guest.run("systemctl restart cloud.service")
        site.agents.wait_for(site.agents.sessions[0].guid, 60, since=began)

    bundle = trial.files(trial.lab.new_bundle)
    case = trial.watch(bundle, act, expected="kept", rules="leave")
    return judge(case, only=["identity.agent-connected"])


def test_an_agent_that_starts_anew_with_its_certificate_is_no_finding(proxy_trial):
    (outcome,) = judged_restart(proxy_trial)
    assert (outcome.verdict, outcome.reason) == ("passed", "")
    assert "identity.agent-connected" not in reasons(proxy_trial)
    link = proxy_trial.cases[-1].agent
    assert link.after == link.before
    assert 0 < link.away < link.limit


def test_an_agent_that_loses_its_certificate_is_caught(proxy_trial):
    vm = proxy_trial.vm

    (outcome,) = judged_restart(
        proxy_trial, lambda: site_of(vm).authority.provision(vm.guest, "another-passphrase")
    )

    assert outcome.verdict == "failed"
    assert outcome.reason.startswith("the agent shows another certificate: ")
    assert reasons(proxy_trial)["identity.agent-connected"] == outcome.reason


def test_a_service_that_is_frozen_for_two_seconds_is_measured(lab, system_vm):
    (balancer, *_) = lab.network.load_balancers
    port = system_vm.endpoints[(str(balancer.public), balancer.port)]
    freeze = (
        "p=$(pidof haproxy); read a _ </proc/uptime; kill -STOP $p; sleep 2; kill -CONT $p; "
        "read b _ </proc/uptime; echo $a $b"
    )

    with Traffic([HttpProbe("load balancer", "127.0.0.1", port, expect=b"tenant", rate=20.0)]) as traffic:
        took = system_vm.machine.stretch()
        system_vm.guest.run("sleep 1")
        began, ended = map(float, system_vm.guest.run(freeze).stdout.split())
        system_vm.guest.run("sleep 1")
        stretch = took()  # on a host that has other work, everything is less exact

    (seen,) = traffic.results
    assert ended - began == pytest.approx(2.0, abs=0.25 * stretch)
    tolerance = (0.1 if lab.engine.accelerator.domain_type == "kvm" else 0.3) * stretch
    assert seen.longest_gap_ms / 1000 == pytest.approx(ended - began, abs=tolerance)
