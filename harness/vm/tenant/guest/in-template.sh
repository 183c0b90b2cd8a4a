#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# Runs a program of the template on this host, "in-template PROGRAM WORD...". Each host has a copy of the template's files
# of its own, whose changes lie in memory; /copy is what is in front of it.
root=/copy/root
if ! [ -e "$root/proc/1" ]; then
    mkdir -p /copy
    mount -t tmpfs tmpfs /copy
    mkdir -p /copy/changed /copy/work "$root"
    mount -t overlay -o lowerdir=/template,upperdir=/copy/changed,workdir=/copy/work overlay "$root" || exit 1
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t devtmpfs dev "$root/dev"
    mkdir -p "$root/dev/pts"
    mount -t devpts devpts "$root/dev/pts"
    mount -t tmpfs tmpfs "$root/run"
fi
exec chroot "$root" "$@"
