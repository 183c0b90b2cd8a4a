#!/usr/bin/python3 -ES
# kind: advanced
"""Compare the load balancer's configuration with the databag that management sent."""

import json
import sys
from pathlib import Path

BAG = Path("/etc/cloudstack/loadbalancer.json")
CONFIG = Path("/etc/haproxy/haproxy.cfg")


def main():
    """Say which lines are missing."""
    if not BAG.exists():
        print("there are no load-balancer rules")
        return
    present = set(CONFIG.read_text(encoding="utf-8").splitlines())
    rules = json.loads(BAG.read_text(encoding="utf-8")).get("config", [])
    missing = [
        line for rule in rules for line in rule["configuration"] if line.strip() and line not in present
    ]
    if missing:
        sys.exit(f"{len(missing)} lines are missing, the first is {missing[0]!r}")
    print("the configuration is the one that management sent")


if __name__ == "__main__":
    main()
