#!/bin/bash
# Prints what the template is and which scripts are installed: "<release line>&<signature>". Waits until the boot is done;
# a VM whose boot does not end gives no answer, for neither part is to be trusted then.
set -Eeuo pipefail
# shellcheck source-path=SCRIPTDIR source=setup/common.sh
. /opt/cloud/bin/setup/common.sh

readonly BOOT_WAIT=240

boot_done() {
    [[ -e $CLOUD_DIR/boot_up_done ]]
}

wait_until "$BOOT_WAIT" boot_done || die "the boot did not end within $BOOT_WAIT s"
[[ -s $SIGNATURE_FILE ]] || die "$SIGNATURE_FILE is missing or empty: a patch was interrupted"
printf '%s&%s\n' "$(</etc/cloudstack-release)" "$(<"$SIGNATURE_FILE")"
