#!/bin/bash
# Third step of the boot, run from the freshly installed bundle: unpack the agent where the type has one, set the kernel up
# and let setup/<type>.sh say which services this VM offers.
set -Eeuo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. /opt/cloud/bin/setup/common.sh
# shellcheck source-path=SCRIPTDIR source=digest.sh
. /opt/cloud/bin/setup/digest.sh
# shellcheck source-path=SCRIPTDIR source=agent.sh
. /opt/cloud/bin/setup/agent.sh

set_cache_pressure() {
    local kilobytes
    read -r _ kilobytes _ </proc/meminfo
    if ((kilobytes < 409600)); then
        set_kernel vm/vfs_cache_pressure 200
    else
        set_kernel vm/vfs_cache_pressure 100
    fi
}

# A template of an older release may have signed the bundle with another digest: the signature is always of this release.
renew_signature() {
    local digest
    [[ -e $CLOUD_DIR/patch.required && -s $BUNDLE_FILE ]] || return 0
    digest=$(bundle_digest "$BUNDLE_FILE")
    [[ $(<"$SIGNATURE_FILE") == "$digest" ]] || printf '%s\n' "$digest" | write_file "$SIGNATURE_FILE" 0644
}

main() {
    local type
    parse_cmdline || die "no complete command line in $CMDLINE_FILE"
    type=$(vm_type)
    rm -f "$CLOUD_DIR/enabled_svcs" "$CLOUD_DIR/disabled_svcs"
    set_cache_pressure
    case $type in
        secstorage | consoleproxy) install_agent ;;
    esac
    renew_signature
    rm -f "$CLOUD_DIR/patch.required"
    # shellcheck source-path=SCRIPTDIR source=/dev/null
    . "$SETUP_DIR/$type.sh"
    log "bootstrap of $type done"
}

main
