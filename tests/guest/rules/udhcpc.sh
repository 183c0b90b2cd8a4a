#!/bin/sh
# Called by udhcpc: prints what the server gave.
# shellcheck disable=SC2154 # the variables are set by udhcpc
echo "$1 ip=$ip mask=$subnet router=$router dns=$dns domain=$domain mtu=$mtu hostname=$hostname"
