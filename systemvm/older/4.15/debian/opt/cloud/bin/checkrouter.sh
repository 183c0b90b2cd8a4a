#!/bin/bash
# Prints the role of this router of a redundant pair: "Status: MASTER", "Status: BACKUP" or, when keepalived does not run,
# "Status: FAULT". Servers from 4.16 on say PRIMARY for the first.
set -Eeuo pipefail

if ! systemctl is-active --quiet keepalived.service; then
    echo 'Status: FAULT'
elif [[ -e /run/cloud/primary ]]; then
    echo 'Status: MASTER'
else
    echo 'Status: BACKUP'
fi
