"""The calls over HTTP, made by the client ``cs``: lists, roles, jobs, events and alerts."""

from __future__ import annotations

import threading
from typing import Any
from xml.etree import ElementTree

import pytest
from cs import CloudStack, CloudStackApiException

from harness.management.api import fleet, uid
from harness.management.api.fields import FIELDS
from tests.unit.harness.apiworld import World, populate
from tests.unit.harness.simulator import NEW, OLD


def refused(call: Any, **parameters: Any) -> tuple[int, str]:
    """Return status and text of a call that is refused."""
    with pytest.raises(CloudStackApiException) as caught:
        call(**parameters)
    error = caught.value.error
    assert caught.value.response.status_code == error["errorcode"]
    return error["errorcode"], error["errortext"]


def row(client: CloudStack, command: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    found = getattr(client, command)(name=name, **more)
    assert found["count"] == 1
    return found[kind][0]


# Lists


def test_a_system_vm_has_what_clients_expect_and_what_is_ours(world: World, url: str) -> None:
    found = row(world.client(url, "admin"), "listSystemVms", "systemvm", "s-2-VM")
    assert found["systemvmtype"] == "secondarystoragevm"
    assert (found["agentstate"], found["version"]) == ("Up", "4.21.0.0")
    assert (found["hostname"], found["zonename"], found["state"]) == ("host2", "zone1", "Running")
    assert found["livepatchavailable"] is True
    assert found["livepatchverdict"] == "yes"
    assert "4.15" in found["livepatchreason"]
    assert "scriptsversion" not in found


def test_a_router_tells_its_scripts_and_whom_it_serves(world: World, url: str) -> None:
    client = world.client(url, "admin")
    found = row(client, "listRouters", "router", "r-3-VM", listall=True)
    assert (found["version"], found["scriptsversion"]) == ("4.21.0", OLD)
    assert found["requiresupgrade"] is False  # its template is new enough: CloudStack asks for nothing more
    assert found["livepatchavailable"] is True
    assert (found["guestnetworkname"], found["account"]) == ("web", "user")
    assert found["guestnetworkid"] == uid("network", "web")
    pair = {one["name"]: one["redundantstate"] for one in client.listRouters(listall=True)["router"]}
    assert (pair["r-4-VM"], pair["r-5-VM"], pair["r-3-VM"]) == ("PRIMARY", "BACKUP", "UNKNOWN")


def test_the_verdict_is_that_of_the_vms_own_type(world: World, url: str) -> None:
    world.service.server.release = "4.19"
    for name in ("r-3-VM", "s-2-VM"):
        world.cloud.guests[name].template = "Cloudstack Release 4.17.0 Sat Jan 31 2026"
    world.service.watch.look_at_all()
    client = world.client(url, "admin")
    router = row(client, "listRouters", "router", "r-3-VM", listall=True)
    storage = row(client, "listSystemVms", "systemvm", "s-2-VM")
    assert (router["livepatchverdict"], storage["livepatchverdict"]) == ("yes", "caveat")
    assert "agent.properties" in storage["livepatchreason"]


def test_an_internal_load_balancer_has_a_list_of_its_own(world: World, url: str) -> None:
    found = world.client(url, "admin").listInternalLoadBalancerVMs(listall=True)
    assert [one["name"] for one in found["internalloadbalancervm"]] == ["b-7-VM"]
    assert found["internalloadbalancervm"][0]["role"] == "INTERNAL_LB_VM"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("listInternalLoadBalancerVMs", "listinternallbvmsresponse"),
        ("listRouters", "listroutersresponse"),
        ("listVPCs", "listvpcsresponse"),
    ],
)
def test_the_answer_has_the_name_that_cloudstack_gives_it(
    world: World, url: str, command: str, answer: str
) -> None:
    client = world.client(url, "admin")
    document = getattr(client, command)(json=False, response="json")
    assert document.startswith(f'{{"{answer}":')


def test_an_empty_list_is_an_empty_object(world: World, url: str) -> None:
    assert world.client(url, "admin").listRouters(name="nobody", listall=True) == {}


def test_a_page_has_the_count_of_all(world: World, url: str) -> None:
    client = world.client(url, "admin")
    page = client.listRouters(listall=True, page=2, pagesize=3)
    assert page["count"] == 4
    assert len(page["router"]) == 1
    assert len(client.listRouters(listall=True, fetch_list=True, pagesize=2)) == 4
    assert client.listRouters(listall=True, page=9, pagesize=3) == {}


def test_a_list_of_a_whole_cloud_comes_page_by_page_each_row_once() -> None:
    world = World()
    populate(world, networks=1100, vpcs=100, pairs=50)
    with world.served() as url:
        client = world.client(url, "admin")
        routers = client.listRouters(listall=True, projectid="-1", fetch_list=True)
        networks = client.listNetworks(listall=True, projectid="-1", fetch_list=True)
    assert len({row["id"] for row in routers}) == len(routers) == 1300
    assert len({row["id"] for row in networks}) == len(networks) == 1100 + 50 + 150
    assert sum("projectid" in row for row in networks) == 110


@pytest.mark.parametrize(
    ("paging", "words"),
    [
        ({"pagesize": 2}, "only together: page is missing"),
        ({"page": 1, "pagesize": 501}, "max allowed page size value: 500"),
        ({"page": 0, "pagesize": 5}, "Page number"),
        ({"page": "x", "pagesize": 5}, "due to invalid value"),
    ],
)
def test_a_page_that_cannot_be_is_refused(world: World, url: str, paging: dict[str, Any], words: str) -> None:
    code, text = refused(world.client(url, "admin").listZones, **paging)
    assert code == 431
    assert words in text


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("listSystemVms", "systemvm"),
        ("listRouters", "router"),
        ("listInternalLoadBalancerVMs", "internalloadbalancervm"),
        ("listNetworks", "network"),
        ("listVPCs", "vpc"),
        ("listZones", "zone"),
        ("listHosts", "host"),
        ("listManagementServers", "managementserver"),
        ("listUsers", "user"),
        ("listConfigurations", "configuration"),
        ("listEvents", "event"),
        ("listAlerts", "alert"),
    ],
)
def test_a_row_has_no_field_that_the_table_of_fields_does_not_have(
    world: World, url: str, command: str, kind: str
) -> None:
    client = world.client(url, "admin")
    world.cloud.guests["v-1-VM"].fails = "no"
    with pytest.raises(CloudStackApiException):
        client.patchSystemVm(id=uid("vm", "v-1-VM"), fetch_result=True)
    rows = getattr(client, command)(listall=True)[kind]
    assert rows
    assert set().union(*rows) <= set(FIELDS[kind])
    assert {"id", "name"} & set(rows[0])


def test_xml_is_what_a_client_gets_that_does_not_ask_for_json(world: World, url: str) -> None:
    world.router("r-8-VM", network="a<b>&c\x01")
    document = world.client(url, "admin").listNetworks(json=False, listall=True)
    root = ElementTree.fromstring(document)
    assert root.tag == "listnetworksresponse"
    assert root.get("cloud-stack-version") == "4.22.0.0"
    names = [network.findtext("name") for network in root.iter("network") if network.findtext("state")]
    assert "a<b>&c?" in names
    assert root.findtext("network/redundantrouter") == "false"


# Scope


def test_listall_decides_whether_the_roots_list_is_of_everybody(world: World, url: str) -> None:
    client = world.client(url, "admin")
    assert client.listNetworks() == {}
    assert client.listNetworks(listall=True)["count"] == 4


def test_what_belongs_to_projects_is_asked_for_apart(world: World, url: str) -> None:
    world.network("of-a-project", project="p1")
    client = world.client(url, "admin")

    def names(**scope: Any) -> set[str]:
        return {one["name"] for one in client.listNetworks(**scope).get("network", [])}

    assert "of-a-project" not in names(listall=True)
    assert names(projectid="-1") == {"of-a-project"}
    assert names(projectid="-1", listall=True) == {"web", "paired", "shop-1", "shop-2", "of-a-project"}
    assert names(projectid=uid("project", "p1")) == {"of-a-project"}


def test_a_user_sees_his_own_networks_and_no_host(world: World, url: str) -> None:
    networks = world.client(url, "user").listNetworks(listall=True)
    assert {one["name"] for one in networks["network"]} == {"web", "paired"}
    assert not [name for one in networks["network"] for name in one if "host" in name]


def test_a_domain_admin_sees_his_domain_and_no_address_of_a_host(world: World, url: str) -> None:
    routers = world.client(url, "operator").listRouters(listall=True)["router"]
    assert {one["name"] for one in routers} == {"r-3-VM", "r-4-VM", "r-5-VM"}
    assert not {"hostid", "hostname", "linklocalip"} & set().union(*routers)


# Roles


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        (
            "user",
            ("patchSystemVm", "listSystemVms", "listRouters", "listHosts", "rebootRouter", "listAlerts"),
        ),
        (
            "operator",
            ("patchSystemVm", "listSystemVms", "listHosts", "listManagementServers", "rebootSystemVm"),
        ),
    ],
)
def test_a_role_is_refused_what_it_does_not_have(
    world: World, url: str, name: str, commands: tuple[str, ...]
) -> None:
    client = world.client(url, name)
    told = {api["name"] for api in client.listApis()["api"]}
    for command in commands:
        code, text = refused(getattr(client, command), id=uid("vm", "s-2-VM"))
        assert code == 432
        assert text == f"The API [{command}] does not exist or is not available for the account {name}."
        assert command not in told
    assert world.cloud.timeline == []


def test_another_ones_network_is_refused_and_not_touched(world: World, url: str) -> None:
    code, text = refused(
        world.client(url, "stranger").restartNetwork, id=uid("network", "web"), livepatch=True
    )
    assert code == 531
    assert "does not have permission" in text
    assert world.cloud.timeline == []
    assert world.client(url, "stranger").listNetworks(id=uid("network", "web")) == {}


def test_a_command_that_nobody_has_is_refused_alike_for_a_wrong_key(world: World, url: str) -> None:
    assert refused(world.client(url, "admin").listUnicorns)[0] == 401
    wrong = CloudStack(url, key="nobody", secret="x")
    assert refused(wrong.listZones)[0] == 401


def test_a_wrong_secret_is_refused(world: World, url: str) -> None:
    client = CloudStack(url, key=world.service.accounts.named("admin").api_key, secret="wrong")
    code, text = refused(client.patchSystemVm, id=uid("vm", "s-2-VM"))
    assert code == 401
    assert "unable to verify user credentials" in text
    assert world.cloud.timeline == []


def test_an_expired_request_is_refused(world: World, url: str) -> None:
    client = world.client(url, "admin")
    assert refused(client.listZones, expires="2020-01-01T00:00:00+0000", signatureVersion="3")[0] == 401
    assert world.client(url, "admin", expiration=-1).listZones()["count"] == 1


# Jobs


def test_a_storage_vm_is_patched_and_the_row_tells_it(world: World, url: str) -> None:
    client = world.client(url, "admin")
    done = client.patchSystemVm(id=uid("vm", "s-2-VM"), fetch_result=True)
    assert done == {"success": True, "details": "Successfully patched systemVM s-2-VM"}
    assert world.cloud.guests["s-2-VM"].signature == NEW
    found = row(client, "listSystemVms", "systemvm", "s-2-VM")
    assert (found["livepatchavailable"], found["version"]) == (False, "4.22.0.0")


def test_a_patch_that_fails_fails_the_job_with_530_and_is_an_alert(world: World, url: str) -> None:
    world.cloud.guests["s-2-VM"].fails = "cloud is not active"
    client = world.client(url, "admin")
    with pytest.raises(CloudStackApiException) as caught:
        client.patchSystemVm(id=uid("vm", "s-2-VM"), fetch_result=True)
    assert caught.value.error["errorcode"] == 530
    assert "cloud is not active" in caught.value.error["errortext"]
    assert "cloud is not active" in client.listAlerts()["alert"][0]["description"]
    levels = [(one["state"], one["level"]) for one in client.listEvents()["event"]]
    assert levels == [("Completed", "ERROR"), ("Started", "INFO"), ("Scheduled", "INFO")]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "due to missing parameter id"),
        ({"id": "17"}, "due to invalid value"),
        ({"id": "00000000-0000-4000-8000-000000000000"}, "there is no such system VM"),
        ({"id": uid("vm", "r-3-VM")}, "there is no such system VM"),
        ({"id": "a\x01b"}, "control characters"),
    ],
)
def test_an_id_that_names_no_system_vm_is_refused_at_once(
    world: World, url: str, parameters: dict[str, str], words: str
) -> None:
    code, text = refused(world.client(url, "admin").patchSystemVm, **parameters)
    assert code == 431
    assert words in text
    assert world.cloud.timeline == []


@pytest.mark.parametrize("flag", ["livePatch", "livepatch", "LIVEPATCH"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_user_restarts_his_network_with_a_live_patch(
    world: World, url: str, flag: str, method: str
) -> None:
    client = world.client(url, "user", method=method)
    done = client.restartNetwork(id=uid("network", "web"), fetch_result=True, **{flag: True})
    assert done["success"] is True
    assert world.cloud.patches() == ["r-3-VM"]
    events = client.listEvents()["event"]
    assert [one["type"] for one in events] == ["NETWORK.RESTART"] * 3
    assert {one.get("parentid", one["id"]) for one in events} == {events[-1]["id"]}


@pytest.mark.parametrize("word", ["True", "true", "TRUE"])
def test_every_case_of_true_is_true_and_every_other_word_false(world: World, url: str, word: str) -> None:
    client = world.client(url, "user")
    for said in (word, "yes", "1"):
        client.restartNetwork(id=uid("network", "web"), livepatch=said, fetch_result=True)
    assert world.cloud.patches() == ["r-3-VM"]


def test_a_vpc_is_patched_once_whatever_its_tiers(world: World, url: str) -> None:
    client = world.client(url, "stranger")
    assert client.restartVPC(id=uid("vpc", "shop"), livepatch=True, fetch_result=True)["success"] is True
    assert sorted(world.cloud.patches()) == ["b-7-VM", "r-6-VM"]


def test_a_network_in_a_wrong_state_fails_only_inside_the_job(world: World, url: str) -> None:
    world.network("idle", state="Shutdown")
    client = world.client(url, "user")
    job = client.queryAsyncJobResult(jobid=_ended(client, client.restartNetwork(id=uid("network", "idle"))))
    assert (job["jobstatus"], job["jobresultcode"]) == (2, 431)
    assert "is Shutdown" in job["jobresult"]["errortext"]


def _ended(client: CloudStack, answer: dict[str, str]) -> str:
    """Wait for a job and return its id."""
    with pytest.raises(CloudStackApiException):
        client._jobresult(answer["jobid"])
    return answer["jobid"]


def test_jobs_on_one_vm_take_turns_and_stay_in_progress_meanwhile(world: World, url: str) -> None:
    guest = world.cloud.guests["r-6-VM"]
    guest.waits_for = threading.Event()
    client = world.client(url, "admin")
    ids = [
        client.restartVPC(id=uid("vpc", "shop"), livepatch=True)["jobid"],
        client.restartNetwork(id=uid("network", "shop-1"), livepatch=True)["jobid"],
        client.restartNetwork(id=uid("network", "shop-2"), livepatch=True)["jobid"],
    ]
    listed = client.listAsyncJobs(listall=True)
    assert {job["jobid"] for job in listed["asyncjobs"]} == set(ids)
    assert {job["jobstatus"] for job in listed["asyncjobs"]} == {0}
    tier = row(client, "listNetworks", "network", "shop-1", listall=True)
    assert (tier["jobid"], tier["jobstatus"]) == (ids[1], 0)
    guest.waits_for.set()
    for job in ids:  # the simulator fails the job when two patches meet
        assert client._jobresult(job)["success"] is True
    assert client.listAsyncJobs(listall=True) == {}


def test_a_job_tells_what_it_does_and_what_it_is_about(world: World, url: str) -> None:
    guest = world.cloud.guests["r-3-VM"]
    guest.waits_for = threading.Event()
    client = world.client(url, "user")
    job_id = client.restartNetwork(id=uid("network", "web"), livepatch=True)["jobid"]
    try:
        job = client.queryAsyncJobResult(jobId=job_id)
        while "patching" not in job["jobprogress"]:
            job = client.queryAsyncJobResult(jobId=job_id)
    finally:
        guest.waits_for.set()
    assert (job["jobinstancetype"], job["jobinstanceid"]) == ("Network", uid("network", "web"))
    assert job["cmd"].endswith(".RestartNetworkCmd")
    assert {"jobresult", "completed"} & set(job) == set()
    assert client._jobresult(job_id)["success"] is True
    ended = client.queryAsyncJobResult(jobid=job_id)
    assert (ended["jobstatus"], ended["jobresultcode"], ended["jobresulttype"]) == (1, 0, "object")
    assert set(ended) <= set(FIELDS["asyncjobs"])


def test_a_job_tells_the_phases_of_the_script_where_there_is_a_second_way_in(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "PHASE_EVERY", 0.02)
    guest = world.cloud.guests["s-2-VM"]
    world.cloud.inventory.change("s-2-VM", eyes=guest)
    guest.waits_for = threading.Event()
    client = world.client(url, "admin")
    job_id = client.patchSystemVm(id=uid("vm", "s-2-VM"))["jobid"]
    try:
        while client.queryAsyncJobResult(jobid=job_id)["jobprogress"] != "s-2-VM: backup":
            assert client.queryAsyncJobResult(jobid=job_id)["jobstatus"] == 0
    finally:
        guest.waits_for.set()
    client._jobresult(job_id)
    phases = [one["phase"] for one in client.queryAsyncJobResult(jobid=job_id)["jobphases"]]
    assert phases[:4] == ["started", "s-2-VM: asking what runs", "s-2-VM: patching", "s-2-VM: backup"]
    assert phases[-1] == "s-2-VM: verifying"


def test_a_user_asks_for_his_own_jobs_only(world: World, url: str) -> None:
    job = world.client(url, "user").restartNetwork(id=uid("network", "web"))["jobid"]
    assert refused(world.client(url, "stranger").queryAsyncJobResult, jobid=job)[0] == 531
    for other in ("admin", "operator"):
        assert world.client(url, other).queryAsyncJobResult(jobid=job)["jobid"] == job
    assert refused(world.client(url, "user").queryAsyncJobResult, jobid=uid("job", "none"))[0] == 431


def test_the_caller_may_choose_the_id_of_a_job_once(world: World, url: str) -> None:
    client, chosen = world.client(url, "user"), uid("job", "mine")
    assert client.restartNetwork(id=uid("network", "web"), customjobid=chosen) == {"jobid": chosen}
    assert refused(client.restartNetwork, id=uid("network", "web"), customjobid=chosen)[0] == 431


def test_health_checks_are_asked_for_and_remembered(world: World, url: str) -> None:
    client = world.client(url, "admin")
    world.cloud.guests["r-3-VM"].health = "FAILED"
    told = client.getRouterHealthCheckResults(routerid=uid("vm", "r-3-VM"), performfreshchecks=True)
    check = told["routerhealthchecks"]["healthchecks"][0]
    assert (check["checkname"], check["success"], check["status"]) == ("dns_check.py", False, "FAILED")
    found = client.listRouters(healthchecksfailed=True, fetchhealthcheckresults=True, listall=True)
    assert [one["name"] for one in found["router"]] == ["r-3-VM"]
    assert found["router"][0]["healthcheckresults"][0]["status"] == "FAILED"
