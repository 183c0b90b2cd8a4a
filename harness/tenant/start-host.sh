#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# Starts a host of this guest, "start-host NAME DEVICE": moves the NIC into a network namespace of the host's own.
unshare -n -m sh /bin/host "$1" "$2" </dev/null >/dev/console 2>&1 &
echo $! >"/run/hosts/$1"
# The first attempts may come before the new namespace: they move the NIC to where it is.
while [ -e "/sys/class/net/$2" ]; do
    ip link set "$2" netns $!
    usleep 10000
done
until [ -e "/run/hosts/$1.up" ]; do usleep 10000; done
