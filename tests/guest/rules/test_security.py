"""What a tenant sends stays the tenant's own: no other machine's password, no place of another one at a server."""

import json
import subprocess

import pytest

from tests.guest.rules.test_traffic import VM1
from tests.guest.rules.testbed import eventually

SECOND = "02:00:26:c3:00:03"


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x1c", "\x85"])
def test_security_a_password_row_sets_no_password_but_its_own(lab, get, end):
    vm, other = lab.vm(VM1, "10.1.1.50"), lab.vm(SECOND, "10.1.1.60")
    rows = [["password", "vm-password", f"mine{end}10.1.1.60=stolen"]]
    done = lab.send("vmdata", check=False, vm_ip_address="10.1.1.50", vm_metadata=rows)
    assert done.status == 1
    assert "vmdata: vm_metadata: [0] not one line of text" in done.stderr
    lab.send("vmdata", vm_ip_address="10.1.1.50", vm_metadata=[["password", "vm-password", "min=e ü"]])
    ask = ("http://10.1.1.1:8080/", "-H", "DomU_Request: send_my_password")
    assert get(other, *ask) == "saved_password"
    assert get(vm, *ask) == "min=e ü"
    assert "min=e" not in json.dumps(lab.bag("vmdata"))


def test_security_a_machine_with_many_connections_keeps_nobody_from_a_password(lab, get):
    greedy, other = lab.vm(VM1, "10.1.1.50"), lab.vm(SECOND, "10.1.1.60")
    lab.send("vmpassword", ip_address="10.1.1.60", password="s3cret")
    program = "import socket; held = [socket.create_connection(('10.1.1.1', 8080)) for _ in range(300)];"
    program += "print('ready', flush=True); import time; time.sleep(30)"
    with greedy.background("python3", "-c", program, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == "ready\n"
        threads = "ls /proc/$(pgrep -f passwd_server_ip.py | head -1)/task | wc -l"
        assert int(lab.router.sh(threads).stdout) <= 10
        assert get(other, "http://10.1.1.1:8080/", "-H", "DomU_Request: send_my_password") == "s3cret"
    assert eventually(
        lambda: get(greedy, "http://10.1.1.1:8080/", "-H", "DomU_Request: other") == "bad_request"
    )
