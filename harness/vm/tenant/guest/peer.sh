#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# The web page that tells who answers, and who asked: the address that a request comes from is what a router made of it.
seen=${REMOTE_ADDR#\[}
seen=${seen#::ffff:}
printf 'Content-Type: text/plain\n\n%s\n%s\n' "$(cat /tmp/www/index.html)" "${seen%]}"
