"""Names of the results of health checks in this release, by the status that a check ends with."""

WORDS = {0: "SUCCESS", 1: "FAILED", 2: "WARNING", 3: "UNKNOWN"}
GOOD = WORDS[0]
