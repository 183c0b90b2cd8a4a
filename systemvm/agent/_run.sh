#!/bin/bash
# Starts the agent in the foreground; cloud.service runs this. The words of the command line are handed over, for
# agent.properties of a VM first booted by an old release may lack them.
set -Eeuo pipefail
cd "${0%/*}"

words=()
if [[ -s /var/cache/cloud/cmdline ]]; then
    read -ra words </var/cache/cloud/cmdline
fi
# No byte code: the folder holds what the bundle brought and nothing else.
exec /usr/bin/python3 -EB -m cloudagent "${words[@]}"
