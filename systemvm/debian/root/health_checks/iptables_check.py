#!/usr/bin/python3 -ES
"""Compare the port forwarding in the kernel with what management sent."""

import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.append("/opt/cloud/bin")

from cloudrules import health  # noqa: E402 (byte code is switched off first)


def ports(first: str, last: str, joint: str) -> str:
    """Return a range as iptables writes it."""
    return first if first == last else first + joint + last


def check() -> health.Answer:
    """Say which forwarding is missing."""
    wanted = health.sent("portForwarding")
    saved = subprocess.check_output(["iptables-save", "-t", "nat"], universal_newlines=True).split("\n")
    missing = []
    for row in wanted:
        inside = ports(row["destPortStart"], row["destPortEnd"], "-")
        words = {
            "-d {}/32".format(row["sourceIp"]),
            "--dport {}".format(ports(row["sourcePortStart"], row["sourcePortEnd"], ":")),
            "--to-destination {}:{}".format(row["destIp"], inside),
        }
        for chain in ("PREROUTING", "OUTPUT"):
            rules = [f"{line} " for line in saved if line.startswith(f"-A {chain} ")]
            if not any(all(f"{word} " in line for word in words) for line in rules):
                missing.append(
                    "{}: no forwarding from {} to {}".format(chain, row["sourceIp"], row["destIp"])
                )
    return health.verdict(missing, f"{len(wanted)} forwardings are in the kernel")


if __name__ == "__main__":
    health.main("advanced", check)
