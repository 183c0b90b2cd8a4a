#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# First process of a transit, "transit NAME ONE OTHER": the router between two public networks. Its line of /transits: name,
# devices, its address in each network.
for device in "$2" "$3"; do
    until ip link show dev "$device" >/dev/null 2>&1; do usleep 10000; done
    ip link set dev "$device" up
done
echo 1 >/proc/sys/net/ipv4/ip_forward
while read -r name one other address further; do
    [ "$name" = "$1" ] || continue
    ip address add "$address" dev "$one"
    ip address add "$further" dev "$other"
done </transits
: >"/run/hosts/$1.up"
exec sleep 2147483647
