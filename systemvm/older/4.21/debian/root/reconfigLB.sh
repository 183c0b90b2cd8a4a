#!/bin/bash
# Takes the candidate /etc/haproxy/haproxy.cfg.new over if haproxy accepts it.
set -Eeuo pipefail

readonly CANDIDATE=/etc/haproxy/haproxy.cfg.new

[[ -s $CANDIDATE ]] || {
    echo "reconfigLB.sh: $CANDIDATE is missing or empty" >&2
    exit 1
}
haproxy -c -q -f /etc/haproxy/conf.d -f "$CANDIDATE"
mv -f "$CANDIDATE" /etc/haproxy/haproxy.cfg
systemctl reload haproxy
