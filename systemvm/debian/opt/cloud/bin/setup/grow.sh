#!/bin/bash
# Grows the root file system when the disk is larger than its partition. Sourced after common.sh.

# Prints the device that / is mounted from.
root_source() {
    local source target
    while read -r source target _; do
        if [[ $target == / && $source == /dev/* ]]; then
            echo "${source#/dev/}"
            return
        fi
    done </proc/mounts
}

# Grows partition and file system; does nothing (and starts nothing) when there is less than 16 MiB to gain.
grow_root() {
    local partition disk start size total number
    partition=$(root_source)
    [[ -n $partition && -e /sys/class/block/$partition/partition ]] || return 0
    disk=$(readlink -f "/sys/class/block/$partition/..")
    start=$(<"/sys/class/block/$partition/start")
    size=$(<"/sys/class/block/$partition/size")
    total=$(<"$disk/size")
    number=$(<"/sys/class/block/$partition/partition")
    ((total - start - size > 32768)) || return 0
    if ! command -v growpart >/dev/null; then
        log 'the disk is larger than the root partition, but growpart is missing'
        return 0
    fi
    # A logical partition grows inside its extended partition, so that one goes first.
    if ((number > 4)); then
        growpart "/dev/${disk##*/}" 2 >>"$LOG_FILE" 2>&1 || true
    fi
    growpart "/dev/${disk##*/}" "$number" >>"$LOG_FILE" 2>&1 || true
    resize2fs "/dev/$partition" >>"$LOG_FILE" 2>&1 || log "resize2fs failed on /dev/$partition"
}
