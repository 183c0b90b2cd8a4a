"""The words of a failed service: what the latest run of the patch script logged."""

from harness.lab.logs import last_words, latest_run

LOG = """\
2026-11-26T23:36:11+0000 [619] restarting haproxy
an old word of haproxy
2026-11-26T23:36:15+0000 [619] rolling back
2026-11-26T23:36:32+0000 [1007] restarting haproxy
[ALERT] config : parsing [/etc/haproxy/haproxy.cfg:9]: unknown keyword 'balanc'
2026-11-26T23:36:52+0000 [1007] rolling back
""".splitlines()


def test_only_the_latest_run_speaks_with_what_its_programs_said_in_between():
    assert latest_run(LOG) == tuple(LOG[3:])


def test_a_log_without_the_scripts_own_lines_is_kept_whole():
    assert latest_run(["x", "y"]) == ("x", "y")
    assert latest_run([]) == ()


def test_a_guest_that_does_not_answer_is_said():
    from bundle.errors import InfrastructureError

    class Gone:
        name = "r-10-VM"

        def run(self, *_, **__):
            raise InfrastructureError("no SSH login")

    (line,) = last_words(Gone())
    assert "no SSH login" in line
