#!/bin/bash
# Runs the cloud-init user data that management hands over for the system VM itself (parameter userdata=).
set -Eeuo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. /opt/cloud/bin/setup/common.sh

run_user_data() {
    [[ -n ${CMDLINE[userdata]:-} ]] || return 0
    if ! command -v cloud-init >/dev/null; then
        log 'userdata= was given, but cloud-init is not installed'
        return 0
    fi
    mkdir -p /var/lib/cloud/seed/nocloud
    base64 -d <<<"${CMDLINE[userdata]}" >/var/lib/cloud/seed/nocloud/user-data
    printf 'instance-id: %s\n' "${CMDLINE[name]}" >/var/lib/cloud/seed/nocloud/meta-data
    rm -f /etc/cloud/cloud-init.disabled
    cloud-init init && cloud-init modules --mode config && cloud-init modules --mode final
}

parse_cmdline || die "no complete command line in $CMDLINE_FILE"
run_user_data
