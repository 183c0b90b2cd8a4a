"""The table of commands: listApis, the checks, the refusals and the manual all come from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.management.api import actions, apis, lists
from harness.management.api.accounts import AccountRole
from harness.management.api.call import Command, Parameter

_R: frozenset[AccountRole] = frozenset({"Admin"})
_RA: frozenset[AccountRole] = frozenset({"Admin", "ResourceAdmin"})
_RAD: frozenset[AccountRole] = frozenset({"Admin", "ResourceAdmin", "DomainAdmin"})
_ALL: frozenset[AccountRole] = frozenset({"Admin", "ResourceAdmin", "DomainAdmin", "User"})

_PAGING = (
    Parameter("page", "integer", "which page, from 1"),
    Parameter("pagesize", "integer", "rows of a page"),
    Parameter("keyword", "string", "part of the name"),
)
_SCOPE = (
    Parameter("listall", "boolean", "everything that the caller may see, and not only what is his own"),
    Parameter("account", "string", "what belongs to this account"),
    Parameter("domainid", "uuid", "with account: its domain"),
    Parameter("projectid", "uuid", "what belongs to this project; -1: to any"),
    Parameter("isrecursive", "boolean", "with domainid: also the domains below"),
)
_ID = Parameter("id", "uuid", "only this one")
_NAME = Parameter("name", "string", "only those of this name")
_STATE = Parameter("state", "string", "only those in this state")
_ZONE = Parameter("zoneid", "uuid", "only those in this zone")
_POD = Parameter("podid", "uuid", "only those in this pod")
_HOST = Parameter("hostid", "uuid", "only those on this host")
_ARCH = Parameter("arch", "string", "only those of this architecture", since="4.20.1")
_FORCED = Parameter("forced", "boolean", "also where the scripts are the server's already")
_JOB_ID = Parameter("customjobid", "uuid", "the id that the job shall have")


def _must(name: str, what: str) -> Parameter:
    return Parameter(name, "uuid", what, required=True)


_OF_ROUTERS = (
    _ID, _NAME, _STATE, _ZONE, _POD, _HOST,
    Parameter("clusterid", "uuid", "only those in this cluster"),
    Parameter("networkid", "uuid", "only those that serve this network"),
    Parameter("vpcid", "uuid", "only those that serve this VPC"),
    Parameter("forvpc", "boolean", "only those that serve a VPC, or only those that serve none"),
    Parameter("version", "string", "only those with a template of this version"),
    Parameter("healthchecksfailed", "boolean", "only those whose health checks failed, or did not", since="4.16"),
    Parameter("fetchhealthcheckresults", "boolean", "tell the results of the health checks", since="4.14"),
    _ARCH,
)  # fmt: skip
_RESTART = (
    Parameter("cleanup", "boolean", "make the routers anew; no live patch then"),
    Parameter("makeredundant", "boolean", "make a pair of one router; no live patch then", since="4.11.1"),
    Parameter("livepatch", "boolean", "patch the routers where they stand", since="4.17.0"),
    _JOB_ID,
)


def _list(command: Command, *, scoped: bool = False) -> Command:
    more = (*_PAGING, *(_SCOPE if scoped else ()))
    return replace(command, parameters=(*command.parameters, *more))


_VMS: tuple[Command, ...] = (
    _list(
        Command(
            "listSystemVms", "Lists console proxies and secondary storage VMs.", _RA, lists.list_system_vms,
            (
                _ID, _NAME, _STATE,
                Parameter("systemvmtype", "string", "consoleproxy or secondarystoragevm"),
                _ZONE, _POD, _HOST, Parameter("storageid", "uuid", "only those on this storage"), _ARCH,
            ),
            object="systemvm",
        )
    ),
    _list(
        Command("listRouters", "Lists routers.", _RAD, lists.list_routers, _OF_ROUTERS, object="router"), scoped=True
    ),
    _list(
        Command(
            "listInternalLoadBalancerVMs", "Lists internal load balancers.", _R, lists.list_balancers,
            tuple(one for one in _OF_ROUTERS if one.name not in {"clusterid", "version"}),
            object="internalloadbalancervm", answer="listinternallbvmsresponse",
        ),
        scoped=True,
    ),
    Command(
        "getRouterHealthCheckResults", "Returns what a router's health checks say.", _R, lists.health_checks,
        (
            _must("routerid", "the router"),
            Parameter("performfreshchecks", "boolean", "make the checks first"),
        ),
        since="4.14.0", object="routerhealthchecks",
    ),
    Command(
        "patchSystemVm", "Patches a console proxy or a secondary storage VM live.", _R, actions.patch_system_vm,
        (Parameter("id", "uuid", "the VM"), _FORCED, _JOB_ID),
        since="4.17.0", is_async=True, java="org.apache.cloudstack.api.command.admin.systemvm.PatchSystemVMCmd",
    ),
    Command(
        "rebootSystemVm", "Reboots a console proxy or a secondary storage VM.", _RA, actions.reboot_system_vm,
        (_must("id", "the VM"), Parameter("forced", "boolean", "pull the plug", since="4.16.0"), _JOB_ID),
        is_async=True, java="org.apache.cloudstack.api.command.admin.systemvm.RebootSystemVmCmd",
    ),
    Command(
        "rebootRouter", "Reboots a router.", _RAD, actions.reboot_router,
        (_must("id", "the router"), Parameter("forced", "boolean", "pull the plug", since="4.16.0"), _JOB_ID),
        is_async=True, java="org.apache.cloudstack.api.command.admin.router.RebootRouterCmd",
    ),
)  # fmt: skip

_NETWORKS: tuple[Command, ...] = (
    _list(
        Command(
            "listNetworks", "Lists networks.", _ALL, lists.list_networks,
            (
                _ID, _NAME, _ZONE, _STATE,
                Parameter("type", "string", "Isolated, Shared or L2"),
                Parameter("restartrequired", "boolean", "only those with a restart due, or without"),
                Parameter("forvpc", "boolean", "only tiers of VPCs, or only others"),
                Parameter("vpcid", "uuid", "only tiers of this VPC"),
            ),
            object="network",
        ),
        scoped=True,
    ),
    _list(
        Command(
            "listVPCs", "Lists VPCs.", _ALL, lists.list_vpcs,
            (
                _ID, _NAME, _ZONE, _STATE,
                Parameter("restartrequired", "boolean", "only those with a restart due, or without"),
            ),
            object="vpc",
        ),
        scoped=True,
    ),
    Command(
        "restartNetwork", "Restarts a network; its routers may be patched live.", _ALL, actions.restart_network,
        (_must("id", "the network"), *_RESTART), is_async=True,
        java="org.apache.cloudstack.api.command.user.network.RestartNetworkCmd",
    ),
    Command(
        "restartVPC", "Restarts a VPC; its routers may be patched live.", _ALL, actions.restart_vpc,
        (_must("id", "the VPC"), *_RESTART), is_async=True,
        java="org.apache.cloudstack.api.command.user.vpc.RestartVPCCmd",
    ),
)  # fmt: skip

_SERVER: tuple[Command, ...] = (
    Command(
        "listApis", "Lists the commands that the caller may use.", _ALL, apis.list_apis,
        (Parameter("name", "string", "only this command"),), object="api",
    ),
    Command("listCapabilities", "Tells what the server can do.", _ALL, lists.list_capabilities, object="capability"),
    _list(Command("listZones", "Lists zones.", _ALL, lists.list_zones, (_ID, _NAME), object="zone")),
    _list(
        Command(
            "listHosts", "Lists hosts.", _RA, lists.list_hosts,
            (_ID, _NAME, Parameter("type", "string", "Routing"), _ZONE, _STATE), object="host",
        )
    ),
    _list(
        Command(
            "listManagementServers", "Lists management servers.", _R, lists.list_management_servers, (_ID, _NAME),
            object="managementserver",
        )
    ),
    _list(
        Command(
            "listConfigurations", "Lists the settings that decide about system VMs.", _R, lists.list_configurations,
            (_NAME, _ZONE), object="configuration",
        )
    ),
    _list(
        Command(
            "listUsers", "Lists users.", _ALL, lists.list_users,
            (
                _ID, Parameter("username", "string", "only this one"),
                Parameter("account", "string", "only of this account"),
                Parameter("showicon", "boolean", "with their icons"),
            ),
            object="user",
        )
    ),
    Command(
        "queryAsyncJobResult", "Tells where a job stands.", _ALL, lists.query_job, (_must("jobid", "the job"),),
        object="asyncjobs",
    ),
    _list(
        Command(
            "listAsyncJobs", "Lists jobs in progress.", _ALL, lists.list_jobs,
            (
                Parameter("listall", "boolean", "everybody's, as far as the caller may ask"),
                Parameter("startdate", "date", "made since"),
                Parameter("managementserverid", "uuid", "of this server"),
            ),
            object="asyncjobs",
        )
    ),
    _list(
        Command(
            "listEvents", "Lists events, the newest first.", _ALL, lists.list_events,
            (
                _ID, Parameter("type", "string", "of this type"), Parameter("level", "string", "INFO, WARN or ERROR"),
                _STATE, Parameter("resourceid", "uuid", "about this object"),
                Parameter("listall", "boolean", "everybody's, as far as the caller may see"),
            ),
            object="event",
        )
    ),
    _list(
        Command(
            "listAlerts", "Lists alerts, the newest first.", _RA, lists.list_alerts,
            (_ID, Parameter("type", "integer", "of this kind"), _NAME), object="alert",
        )
    ),
)  # fmt: skip


def _empty(name: str, what: str, roles: frozenset[AccountRole] = _ALL, answer: str = "") -> Command:
    return _list(
        Command(name, f"Lists {what}: there are none here.", roles, lists.nothing(what), answer=answer)
    )


# CloudStack's own page asks for these before it shows anything; most of what they list does not exist here.
_PAGE: tuple[Command, ...] = (
    _empty("listProjects", "projects"),
    _empty("listNetworkServiceProviders", "network service providers", _RA),
    _empty("listLdapConfigurations", "LDAP servers", answer="ldapconfigurationresponse"),
    _empty("listGuiThemes", "themes"),
    _empty("listIdps", "identity providers"),
    _empty("listOauthProvider", "OAuth providers"),
    _empty("listPods", "pods", _RA),
    _empty("listClusters", "clusters", _RA),
    _empty("listVirtualMachines", "machines"),
    _empty("listAnnotations", "comments"),
    Command(
        "listInfrastructure", "Counts zones, hosts, VMs and alerts.", _R, lists.count_infrastructure, since="4.9.3",
        object="infrastructure",
    ),
    Command(
        "cloudianIsEnabled", "Tells whether Cloudian is connected.", _ALL, lists.no_cloudian,
        answer="cloudianisenabledresponse",
    ),
)  # fmt: skip


def table(commands: Iterable[Command] = (*_VMS, *_NETWORKS, *_SERVER, *_PAGE)) -> dict[str, Command]:
    """Return the commands by name."""
    return {command.name: command for command in commands}
