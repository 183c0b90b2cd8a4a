#!/bin/bash
# How the bundle reaches a VM in this release: on systemvm.iso in the CD drive. Sourced after common.sh.

# Copies the bundle from the CD, when one is in the drive.
await_bundle() {
    local mount_point=/run/cloud/cdrom name
    [[ -b /dev/sr0 ]] || return 1
    mkdir -p "$mount_point"
    mount -t iso9660 -o ro /dev/sr0 "$mount_point" 2>/dev/null || return 1
    for name in agent.zip cloud-scripts.tgz; do
        [[ ! -e $mount_point/$name ]] || cp "$mount_point/$name" "$CLOUD_DIR/$name"
    done
    umount "$mount_point"
    tar -tzf "$BUNDLE_FILE" >/dev/null 2>&1
}
