"""What CloudStack's own page asks a server for, in its order, with a session: see docs/api.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from bundle.errors import UsageError
from harness.management.api import app, uid
from harness.management.api.fields import FIELDS
from harness.management.api.pages import pages
from harness.management.api.serving import served
from tests.unit.harness.apiworld import World

BEFORE = ("listGuiThemes", "listIdps", "listOauthProvider", "forgotPassword")
AFTER: tuple[tuple[str, dict[str, str]], ...] = (
    ("listZones", {}),
    ("listApis", {}),
    ("listNetworks", {"restartrequired": "true", "forvpc": "false"}),
    ("listVPCs", {"restartrequired": "true"}),
    ("listNetworkServiceProviders", {}),
    ("listCapabilities", {}),
    ("listLdapConfigurations", {}),
    ("cloudianIsEnabled", {}),
    ("listProjects", {"page": "1", "pagesize": "500"}),
)


class PageOfCloudStack:
    """Sends what the page sends: to the address with the slash, with cookies and the session key."""

    def __init__(self, url: str, world: World, name: str) -> None:
        self.url, self.session = f"{url}/", requests.Session()
        password = world.service.accounts.named(name).password
        sent = {"command": "login", "username": name, "password": password, "domain": "/", "response": "json"}
        self.user = self.session.post(self.url, data=sent, timeout=10).json()["loginresponse"]

    def call(self, command: str, method: str = "get", **more: Any) -> tuple[int, Any]:
        sent = {"command": command, "response": "json", "sessionkey": self.user["sessionkey"], **more}
        kind = "params" if method == "get" else "data"
        answer = self.session.request(method, self.url, timeout=10, **{kind: sent})
        return answer.status_code, next(iter(answer.json().values()))


def test_it_survives_what_it_asks_before_anybody_signs_in(url: str) -> None:
    for command in BEFORE:
        answer = requests.get(f"{url}/", params={"command": command, "response": "json"}, timeout=10)
        assert answer.status_code == 401
        assert "errortext" in next(iter(answer.json().values()))


def test_a_logout_before_a_login_takes_nothing_of_that_login_away(world: World, url: str) -> None:
    """The page sends both at once; a browser may get the answer to the logout last."""
    early = requests.post(f"{url}/", data={"command": "logout", "response": "json"}, timeout=10)
    assert "set-cookie" not in early.headers
    page = PageOfCloudStack(url, world, "admin")
    assert page.call("listZones")[0] == 200
    late = page.session.post(f"{url}/", data={"command": "logout", "response": "json"}, timeout=10)
    assert late.headers["set-cookie"].count("Max-Age=0") == 2
    assert page.call("listZones")[0] == 401


def test_root_signs_in_opens_a_storage_vm_and_patches_it(world: World, url: str) -> None:
    page = PageOfCloudStack(url, world, "admin")
    for command, more in AFTER:
        assert page.call(command, **more)[0] == 200, command
    status, users = page.call("listUsers", id=page.user["userid"], showicon="true")
    assert status == 200
    assert {"roletype", "rolename", "account", "domainid"} <= set(users["user"][0])
    # Its menu has no system VMs for whom may not ask for this.
    assert "listInfrastructure" in {api["name"] for api in page.call("listApis")[1]["api"]}
    counts = page.call("listInfrastructure")[1]["infrastructure"]
    assert (counts["systemvms"], counts["routers"], counts["ilbvms"]) == (2, 4, 1)
    assert set(counts) == set(FIELDS["infrastructure"])
    rows = page.call("listSystemVms", page="1", pagesize="20")[1]["systemvm"]
    (vm,) = (row for row in rows if row["name"] == "s-2-VM")
    job = page.call("patchSystemVm", "post", id=vm["id"])[1]["jobid"]
    result = page.call("queryAsyncJobResult", jobId=job)[1]
    while result["jobstatus"] == 0:
        result = page.call("queryAsyncJobResult", jobId=job)[1]
    assert result["jobstatus"] == 1
    assert page.call("listSystemVms", id=vm["id"])[1]["systemvm"][0]["version"] == "4.22.0.0"


def test_a_user_restarts_his_network_with_the_switch(world: World, url: str) -> None:
    page = PageOfCloudStack(url, world, "user")
    menu = {api["name"] for api in page.call("listApis")[1]["api"]}
    assert menu & {"patchSystemVm", "listInfrastructure"} == set()
    status, job = page.call("restartNetwork", "post", id=uid("network", "web"), livepatch="true")
    assert status == 200
    assert world.service.jobs.find(job["jobid"]) is not None
    assert page.call("listHosts")[0] == 432
    assert page.call("listZones")[0] == 200  # a refusal does not end the session


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<title>a built page</title>")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_built_page_is_served_beside_the_api(world: World, built: Path) -> None:
    made = app.app(world.service, ["127.0.0.1"], pages("4.22.0.0", built))
    with served(made, world.limits) as url:
        assert "a built page" in requests.get(f"{url}/client/", timeout=10).text
        assert requests.get(f"{url}/client/config.json", timeout=10).json() == {}
        assert requests.get(f"{url}/client/../../etc/passwd", timeout=10).status_code == 404
        assert requests.get(f"{url}/client/api", timeout=10).status_code == 401
        assert requests.get(f"{url}/client/api/", timeout=10).status_code == 401


def test_a_folder_without_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no index\.html in it"):
        pages("4.22.0.0", tmp_path)
