#!/bin/bash
# Runs the agent and starts it again whenever it ends, for use without systemd.
set -Eeuo pipefail
cd "${0%/*}"

until ./_run.sh; do
    echo "run.sh: the agent ended with status $?; starting it again" >&2
    sleep 2
done
