"""Monitoring and health checks: on the strings that management sends, answered in the form that it parses."""

import json

import pytest

from tests.guest.rules.test_types import MONITOR

VM = "02:00:26:c3:00:02"
RELEASE, SIGNATURE = (
    "Cloudstack Release 4.22.0 Sat Jan 1 00:00:00 UTC 2022",
    "14829be797d19c6d38e8c77efff9aeea",
)
SERVER = {
    "gateways": "gatewaysIps=192.0.2.1 ",
    "haproxyData": "",
    "portForwarding": "",
    "virtualMachines": "",
    "routerVersion": f"templateVersion={RELEASE},scriptsVersion={SIGNATURE}\n",
    "systemThresholds": "minDiskNeeded=100.0,maxCpuUsage=100.0,maxMemoryUsage=100.0;",
}


def send(lab, **config):
    lab.router.write("/etc/cloudstack-release", RELEASE + "\n")
    lab.router.write("/var/cache/cloud/cloud-scripts-signature", SIGNATURE + "\n")
    lab.send("monitorservice", **{**MONITOR, "health_checks_config": {**SERVER, **config}})


def check(lab, name, kind):
    return lab.router.run(f"/root/health_checks/{name}_check.py", kind, check=False)


def results(lab, fresh="true"):
    """Parse the answer as the server does: a list of names between two headings, then JSON over any lines."""
    lines = lab.router.run("/opt/cloud/bin/getRouterMonitorResults.sh", fresh).stdout.splitlines()
    first, second = lines.index("FAILING CHECKS:"), lines.index("MONITOR RESULTS:")
    failing = [name for line in lines[first + 1 : second] for name in line.split(",")]
    return failing, json.loads("".join(lines[second + 1 :]))


def test_f08_health_checks_on_the_data_that_management_sends(lab):
    send(lab)
    done = check(lab, "router_version", "basic")
    assert (done.status, done.stderr) == (0, "")
    failing, found = results(lab)
    assert failing == []
    basic = {name for name in found["basic"] if name.endswith("_check.py")}
    assert basic == {
        "cpu_usage_check.py", "disk_space_check.py", "gateways_check.py", "memory_usage_check.py",
        "router_version_check.py",
    }  # fmt: skip
    advanced = {name for name in found["advanced"] if name.endswith("_check.py")}
    assert advanced == {"dhcp_check.py", "dns_check.py", "haproxy_check.py", "iptables_check.py"}
    entries = [row for kind in found.values() for name, row in kind.items() if name != "lastRun"]
    assert {row["success"] for row in entries} == {"SUCCESS"}
    assert all(isinstance(value, str) for row in entries for value in row.values())
    assert all(row["lastUpdate"].isdigit() and float(row["lastRunDuration"]) >= 0 for row in entries)
    assert set(found["basic"]["lastRun"]) == {"start", "end", "duration"}


def test_results_that_nobody_asked_for_yet_are_empty(lab):
    assert results(lab, "false") == ([], {"basic": {}, "advanced": {}})


@pytest.mark.parametrize("key", ["templateVersion", "scriptsVersion"])
def test_another_version_is_a_failed_check_that_names_it(lab, key):
    words = {"templateVersion": RELEASE, "scriptsVersion": SIGNATURE, key: "another"}
    send(lab, routerVersion=",".join(f"{name}={value}" for name, value in words.items()))
    done = check(lab, "router_version", "basic")
    assert done.status == 1
    assert f"{key} is" in done.stdout
    assert "expected 'another'" in done.stdout
    assert results(lab)[0] == ["router_version_check.py"]


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("disk_space", "minDiskNeeded=99999999999.0,maxCpuUsage=100.0,maxMemoryUsage=100.0;"),
        ("memory_usage", "minDiskNeeded=1.0,maxCpuUsage=100.0,maxMemoryUsage=0.1;"),
        ("cpu_usage", "minDiskNeeded=1.0,maxCpuUsage=-1.0,maxMemoryUsage=100.0;"),
    ],
)
def test_a_limit_that_is_passed_is_a_failed_check(lab, name, limit):
    send(lab, systemThresholds=limit)
    assert check(lab, name, "basic").status == 1
    send(lab)
    assert check(lab, name, "basic").status == 0


def test_a_gateway_that_does_not_answer_is_named(lab):
    send(lab, gateways="gatewaysIps=192.0.2.1 192.0.2.99 ")
    done = check(lab, "gateways", "basic")
    assert (done.status, done.stdout) == (1, "192.0.2.99 does not answer\n")


def test_reservations_and_names_are_those_of_the_machines_that_management_knows(lab):
    send(lab, virtualMachines=f"vmName=vm1,macAddress={VM},ip=10.1.1.50,dhcp=true,dns=true;")
    assert [check(lab, name, "advanced").status for name in ("dhcp", "dns")] == [1, 1]
    entry = {"mac_address": VM, "ipv4_address": "10.1.1.50", "host_name": "vm1"}
    for default in (True, False):
        lab.send("dhcpentry", **entry, default_entry=default)
        assert [check(lab, name, "advanced").status for name in ("dhcp", "dns")] == [0, 0]


def test_forwardings_are_looked_for_in_the_kernel(lab, make):
    row = "sourceIp=192.0.2.10,sourcePortStart=222,sourcePortEnd=222,destIp=10.1.1.50,destPortStart=22,"
    row += "destPortEnd=22;"
    send(lab, portForwarding=row)
    assert check(lab, "iptables", "advanced").status == 1
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 2222, "10.1.1.50", 22)])
    assert check(lab, "iptables", "advanced").status == 1
    lab.send("forwardrules", rules=[make.forward("192.0.2.10", 222, "10.1.1.50", 22)])
    assert check(lab, "iptables", "advanced").status == 0


def test_balancer_rules_are_looked_for_in_the_configuration(lab, make):
    row = (
        "maxconn=4096,sourcePortStart=8000,sourcePortEnd=8000,sourceIp=192.0.2.10,destPortStart=80,destPortEnd=80,"
        "algorithm=roundrobin,protocol=tcp,stickiness=None,keepAliveEnabled=false,vmIps=10.1.1.50 10.1.1.60;"
    )
    send(lab, haproxyData=row)
    done = check(lab, "haproxy", "advanced")
    assert done.status == 1
    assert "no section 'listen 192_0_2_10-8000'" in done.stdout
    lab.send("loadbalancer", rules=[make.balancer(("192.0.2.10", 8000, ["10.1.1.50:80", "10.1.1.60:80"]))])
    assert check(lab, "haproxy", "advanced").status == 0
    lab.send("loadbalancer", rules=[make.balancer(("192.0.2.10", 8000, ["10.1.1.50:80"]))])
    done = check(lab, "haproxy", "advanced")
    assert done.status == 1
    assert done.stdout == "listen 192_0_2_10-8000: no line 'server 192_0_2_10-8000_1 10.1.1.60:80'\n"


def test_a_check_of_the_other_kind_says_nothing(lab):
    send(lab)
    for name, kind in (("router_version", "advanced"), ("dns", "basic")):
        done = check(lab, name, kind)
        assert (done.status, done.stdout) == (0, "")


def test_an_excluded_check_is_not_run(lab):
    lab.send(
        "monitorservice", **{**MONITOR, "excluded_health_checks": "disk_space_check.py,gateways_check.py"}
    )
    lab.router.run("/root/monitorServices.py", "basic")
    found = json.loads(lab.router.read("/root/basic_monitor_results.json"))
    assert "router_version_check.py" in found
    assert not {"disk_space_check.py", "gateways_check.py"} & set(found)


def test_a_dead_service_is_started_again(lab):
    send(lab)
    assert "*/3 * * * * root /root/monitorServices.py basic" in lab.router.read("/etc/cron.d/process")
    lab.router.sh("systemctl stop haproxy.service")
    assert "haproxy.service did not run" in results(lab)[1]["basic"]["haproxy.service"]["message"]
    lab.router.run("systemctl", "is-active", "--quiet", "haproxy.service")
    assert results(lab)[1]["basic"]["haproxy.service"]["message"] == "service is running"


def test_what_cron_is_told_to_run_starts_a_dead_service_and_reports_it(lab):
    lab.send("monitorservice", **MONITOR)
    lab.router.sh("systemctl stop haproxy.service")
    # As cron does: the environment of its file, and the words behind the times and the user.
    row = lab.router.run("grep", "basic$", "/etc/cron.d/process").stdout.split(maxsplit=6)
    variables = lab.router.run("grep", "=", "/etc/cron.d/process").stdout.split()
    assert row[5] == "root"
    path = [word.replace("PATH=", "PATH=/run/stand-in:") for word in variables]
    lab.router.run("env", "-i", *path, "/bin/bash", "-c", row[6])
    lab.router.run("systemctl", "is-active", "--quiet", "haproxy.service")
    assert "haproxy.service did not run" in lab.router.read("/var/log/routerServiceMonitor.log")


def test_watching_that_nobody_does_fails_the_message(lab):
    lab.router.sh("systemctl stop cron.service")
    done = lab.send("monitorservice", check=False, **MONITOR)
    assert done.status == 1
    assert "cron.service does not run, so nothing is watched" in done.stderr
    lab.send("monitorservice", **{**MONITOR, "health_checks_enabled": False})


def test_a_refresh_of_the_health_data_keeps_the_services_to_watch(lab):
    send(lab)
    refresh = {key: value for key, value in MONITOR.items() if key != "config"}
    lab.send("monitorservice", **{**refresh, "health_checks_advanced_run_interval": 0})
    assert "[haproxy]" in lab.router.read("/etc/monitor.conf")
    assert "advanced" not in lab.router.read("/etc/cron.d/process")
