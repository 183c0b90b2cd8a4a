#!/bin/bash
# Prints the results of the health checks: getRouterMonitorResults.sh true runs them first.
set -Eeuo pipefail

for kind in basic advanced; do
    if [[ ${1:-false} == true ]]; then
        /root/monitorServices.py "$kind"
    fi
    echo "$kind"
    if [[ -s /root/${kind}_monitor_results.json ]]; then
        cat "/root/${kind}_monitor_results.json"
    else
        echo '{}'
    fi
done
