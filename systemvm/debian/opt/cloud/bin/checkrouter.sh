#!/bin/bash
# Prints the role of this router of a redundant pair: "Status: PRIMARY", "Status: BACKUP" or, when keepalived does not run,
# "Status: FAULT".
set -Eeuo pipefail

if ! systemctl is-active --quiet keepalived.service; then
    echo 'Status: FAULT'
elif [[ -e /run/cloud/primary ]]; then
    echo 'Status: PRIMARY'
else
    echo 'Status: BACKUP'
fi
