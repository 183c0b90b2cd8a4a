#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# What udhcpc calls: applies the lease, and keeps what the server said for questions asked later.
# shellcheck disable=SC2154 # udhcpc sets interface, ip, mask, router, dns and domain
case "$1" in
    bound | renew)
        ip address replace "$ip/$mask" dev "$interface"
        [ -z "$router" ] || ip route replace default via "${router%% *}"
        : >/etc/resolv.conf
        for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
        [ -z "$domain" ] || echo "search $domain" >>/etc/resolv.conf
        set >/tmp/lease
        ;;
    deconfig)
        ip link set "$interface" up
        ;;
esac
