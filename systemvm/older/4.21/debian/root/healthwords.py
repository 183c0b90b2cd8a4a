"""Names of the results of health checks in this release, by the status that a check ends with."""

WORDS = {0: "true", 1: "false", 2: "false", 3: "false"}
GOOD = WORDS[0]
