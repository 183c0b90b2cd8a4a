"""What is required of a VM that is told rules: against a guest that tells the truth, and against one that does not."""

from types import SimpleNamespace

import pytest

from harness.guest.connection import SshCommandResult
from harness.lab.wish import Wish
from harness.scenarios import test_told_truly as scenarios


class _Guest:
    """A guest that stores rule files as CloudStack's or as they were sent, and fails truly or not."""

    def __init__(self, *, truly: bool):
        self.truly = truly
        self.stored = {}

    def put(self, data, path, mode=0o644):
        lines = data.decode().split("\n")
        for number, line in enumerate(lines):
            if line != "<file>":
                continue
            name, text = lines[number + 1].rpartition("/")[2], lines[number + 2]
            if "firewall_rules" in name:  # the sound rule file after it is skipped, too
                break
            self.stored[name] = text if self.truly else " ".join(text.split())
        self.broken = b"firewall_rules" in data

    def run(self, command, deadline=60.0, check=True):
        if command.startswith("gzip"):
            name = command.rpartition("/")[2].removesuffix(".gz")
            return SshCommandResult("", 0, self.stored.get(name, ""), "", 0.0)
        if command.startswith("ls"):
            return SshCommandResult("", 0, "\n".join(f"{name}.gz" for name in self.stored), "", 0.0)
        if "get_template_version" in command:
            return (
                SshCommandResult("", 1, "", "no", 0.0)
                if self.truly
                else SshCommandResult("", 0, "4.22&abc\n", "", 0.0)
            )
        return SshCommandResult("", 1 if self.broken and self.truly else 0, "", "", 0.0)


class _Trial:
    def __init__(self, guest):
        self.vm = SimpleNamespace(guest=guest)
        self.wrong = {}

    def require(self, name, problem):
        if problem:
            self.wrong[name] = problem

    def send_rules(self):
        return True

    def prove_rules(self):
        pass


@pytest.fixture
def lab():
    declared = Wish("router", "4.20", "4.22").declared()
    return SimpleNamespace(network=declared, old=SimpleNamespace(name="4.20"))


def test_a_guest_that_tells_the_truth_passes(lab):
    trial = _Trial(_Guest(truly=True))
    scenarios.test_rules_are_stored_as_they_were_sent_and_failures_told(lab, trial)
    scenarios.test_a_vm_whose_boot_does_not_end_names_no_version(trial)
    assert trial.wrong == {}


def test_a_guest_that_hides_a_failure_and_alters_texts_is_caught(lab):
    trial = _Trial(_Guest(truly=False))
    scenarios.test_rules_are_stored_as_they_were_sent_and_failures_told(lab, trial)
    scenarios.test_a_vm_whose_boot_does_not_end_names_no_version(trial)
    assert set(trial.wrong) == {"rules.as-sent", "rules.failure-told", "version.boot-unfinished"}
    assert "'Small Instance * (2 cores)'" in trial.wrong["rules.as-sent"]
    assert "firewall_rules, vm_metadata not applied" in trial.wrong["rules.failure-told"]
    assert "4.22&abc" in trial.wrong["version.boot-unfinished"]
