#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# What the kernel calls when it misses a module, "load-module WORD...": the template's disk has all of them.
exec chroot /template /sbin/modprobe "$@"
