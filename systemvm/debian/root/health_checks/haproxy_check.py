#!/usr/bin/python3 -ES
"""Compare the load balancer's configuration with the rules that management knows."""

import sys
from pathlib import Path
from typing import Dict, List, Tuple

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)

CONFIG = Path("/etc/haproxy/haproxy.cfg")
SECTIONS = ("global", "defaults", "listen", "frontend", "backend")


def sections(text: str) -> Dict[str, List[str]]:
    """Return the lines of every section, by its first line."""
    found, name = {}, ""
    for line in text.split("\n"):
        words = " ".join(line.split())
        if words.split(" ")[0] in SECTIONS:
            name = words
        if words:
            found.setdefault(name, []).append(words)
    return found


def expected(row: health.Record) -> Tuple[str, List[str]]:
    """Return the name of a rule's section and what its lines begin with."""
    address, port = row["sourceIp"], row["sourcePortStart"]
    name = "{}-{}".format(address.replace(".", "_"), port)
    starts = [f"bind {address}:{port}", "balance {}".format(row["algorithm"])]
    for number, machine in enumerate(row.get("vmIps", "").split()):
        starts.append("server {}_{} {}:{}".format(name, number, machine, row["destPortStart"]))
    http = (
        row.get("protocol", "") in ("http", "ssl")
        or row.get("sslcert")
        or row.get("stickiness", "None") != "None"
    )
    if http or (port == "80" and row.get("keepAliveEnabled") != "true"):
        starts.append("mode http")
    return f"listen {name}", starts


def check() -> health.Answer:
    """Say what is missing."""
    found = sections(health.text(CONFIG))
    rules = health.sent("haproxyData")
    wrong = []
    for row in rules:
        if row.get("maxconn") and "maxconn {}".format(row["maxconn"]) not in found.get("global", []):
            wrong.append("maxconn is not {}".format(row["maxconn"]))
        name, starts = expected(row)
        lines = found.get(name)
        if lines is None:
            wrong.append(f"no section {name!r}")
            continue
        wrong += [
            f"{name}: no line {start!r}"
            for start in starts
            if not any(line == start or line.startswith(start + " ") for line in lines)
        ]
    return health.verdict(list(dict.fromkeys(wrong)), f"{len(rules)} rules are in the configuration")


if __name__ == "__main__":
    health.main("advanced", check)
