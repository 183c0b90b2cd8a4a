#!/bin/bash
# How the bundle reaches a VM in this release: three files, uploaded over SSH. Sourced after common.sh.

readonly BUNDLE_WAIT=120
# A VM that already runs these scripts and was started again gets the bundle within this time, or not at all.
readonly LANDING_WAIT=30

bundle_landing() {
    compgen -G "$CLOUD_DIR/agent.zip*" >/dev/null || compgen -G "$BUNDLE_FILE*" >/dev/null
}

# True when the bundle lies there whole: reading it to its end checks gzip's own checksum. A file whose size still changes
# is not worth reading.
LAST_SIZE=''
bundle_complete() {
    local size
    [[ -s $BUNDLE_FILE ]] || return 1
    size=$(stat --format=%s "$BUNDLE_FILE")
    [[ $size == "$LAST_SIZE" ]] || {
        LAST_SIZE=$size
        return 1
    }
    tar -tzf "$BUNDLE_FILE" >/dev/null 2>&1
}

# Waits for the upload as long as one can be expected; see docs/adr/0030-waiting-for-the-bundle.md.
await_bundle() {
    local kind
    kind=$(<"$BOOT_KIND_FILE")
    case $kind in
        reboot) [[ -s $BUNDLE_FILE ]] && wait_until "$BUNDLE_WAIT" bundle_complete ;;
        start)
            if installed_is_whole; then
                wait_until "$LANDING_WAIT" bundle_landing || return 1
            fi
            wait_until "$BUNDLE_WAIT" bundle_complete
            ;;
        *) wait_until "$BUNDLE_WAIT" bundle_complete ;;
    esac
}
