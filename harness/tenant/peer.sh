#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# The web page that tells who asks: the address that a request comes from is what a router made of it.
printf 'Content-Type: text/plain\n\n%s\n' "$REMOTE_ADDR"
