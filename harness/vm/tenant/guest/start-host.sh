#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# Starts a host of this guest, "start-host NAME PROGRAM DEVICE...": moves the NICs into a network namespace of the host's own.
name=$1 program=$2
shift 2
unshare -n -m sh "/bin/$program" "$name" "$@" </dev/null >/dev/console 2>&1 &
echo $! >"/run/hosts/$name"
for device in "$@"; do
    # The first attempts may come before the new namespace: they move the NIC to where it is.
    while [ -e "/sys/class/net/$device" ]; do
        ip link set "$device" netns $!
        usleep 10000
    done
done
until [ -e "/run/hosts/$name.up" ]; do usleep 10000; done
