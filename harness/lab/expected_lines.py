"""Lines of journal and console that a scenario causes on purpose: whole kinds of lines, not words that are in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Of a disk that was made to fail, or to be read only: the kernel's own lines, in the journal or on the console.
FAILING_DISK = (
    r"^(kernel: |\[ *\d+\.\d+\] )(.*I/O error|EXT4-fs|JBD2|Aborting journal|Emergency Remount|sd |vd)",
)


def of_failing_service(word: str) -> tuple[str, ...]:
    """Return patterns of what systemd and a service itself say when it does not start, or dies.

    Args:
        word: the service's, as ``enabled_svcs`` has it.
    """
    unit = re.escape(word)
    # apachectl speaks for apache2.
    program = re.escape(word.rstrip("0123456789"))
    return (
        rf"^systemd: {unit}\.service: (Main process exited|Control process exited|Failed with result|Failed to |"
        r"Start request repeated|Scheduled restart job|Unit process \d+|Killing process|State '.*' timed out|"
        r"start operation timed out|Service hold-off)",
        rf"^(systemd: |\[FAILED\] )(Failed to (start|reload)|Reload failed for|Dependency failed for) .*{program}",
        rf"^\([^)]*\): {unit}\.service: Failed (at step|to) ",
        rf"^({unit}|{program}(2?ctl|-dhcp|-script|_vrrp|_healthcheckers)?): ",
    )


def of_broken_off_start(words: Iterable[str]) -> tuple[str, ...]:
    """Return patterns of what systemd says of a service whose start, or reload, is ended with its run.

    Args:
        words: the services', as ``enabled_svcs`` has them.
    """
    units = "|".join(map(re.escape, words))
    said = "Control process exited, code=killed, status=15/TERM|Failed with result 'signal'"
    return (rf"^systemd: ({units})\.service: ({said})",) if units else ()
