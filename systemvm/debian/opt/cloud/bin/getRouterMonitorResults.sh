#!/bin/bash
# Prints the results of the health checks: getRouterMonitorResults.sh true runs them first. The form is what management
# parses: the failing checks of both kinds between two headings, then one JSON object, whose lines it joins.
set -Eeuo pipefail

# A file system that lost its disk is read-only; every other result is old then.
if ! probe=$(mktemp -p /var/cache/cloud probe.XXXXXX 2>&1); then
    printf '%s\n' "$probe"
    exit 1
fi
rm -f "$probe"

if [[ ${1:-false} == true ]]; then
    /root/monitorServices.py >/dev/null
fi
echo 'FAILING CHECKS:'
for kind in basic advanced; do
    if [[ -s /root/${kind}_failing_health_checks ]]; then
        printf '%s\n' "$(</root/"${kind}"_failing_health_checks)"
    fi
done
echo 'MONITOR RESULTS:'
separator='{'
for kind in basic advanced; do
    printf '%s"%s":' "$separator" "$kind"
    if [[ -s /root/${kind}_monitor_results.json ]]; then
        cat "/root/${kind}_monitor_results.json"
    else
        echo '{}'
    fi
    separator=','
done
echo '}'
