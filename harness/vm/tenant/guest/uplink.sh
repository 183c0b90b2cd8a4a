#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# First process of an uplink, "uplink NAME NEAR FAR": carries packets between a segment (NEAR) and one single address on the
# other side (FAR), and answers ARP for each on the other one. Its line of /uplinks: name, devices, network, far address, own
# address.
sys=/proc/sys/net/ipv4
for device in "$2" "$3"; do
    until ip link show dev "$device" >/dev/null 2>&1; do usleep 10000; done
    echo 1 >"$sys/conf/$device/proxy_arp"
    echo 0 >"$sys/neigh/$device/proxy_delay"
    ip link set dev "$device" up
done
echo 1 >"$sys/ip_forward"
while read -r name near far network address own; do
    [ "$name" = "$1" ] || continue
    ip address add "$own/32" dev "$near"
    ip address add "$own/32" dev "$far"
    ip route add "$network" dev "$near"
    ip route add "$address/32" dev "$far"
done </uplinks
: >"/run/hosts/$1.up"
exec sleep 2147483647
