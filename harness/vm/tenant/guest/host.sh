#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# First process of a host, in its own network and mount namespaces: "host NAME DEVICE". What it is stands in its line of
# /hosts: name, device, address with netmask or "dhcp", gateway or "-", the same two by IPv6 or "-", ports that echo,
# further addresses.
until ip link show dev "$2" >/dev/null 2>&1; do usleep 10000; done
ip link set dev "$2" name eth0
ip link set dev lo up
ip link set dev eth0 up
for folder in /etc /tmp; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /tmp/www/cgi-bin
echo "tenant $1" >/tmp/www/index.html
ln -s /bin/peer /tmp/www/cgi-bin/peer
while read -r name _ address gateway address6 gateway6 ports more; do
    [ "$name" = "$1" ] || continue
    [ "$address" = dhcp ] || ip address add "$address" dev eth0
    [ "$gateway" = - ] || ip route add default via "$gateway"
    [ "$address6" = - ] || ip address add "$address6" dev eth0
    [ "$gateway6" = - ] || ip -6 route add default via "$gateway6" dev eth0
    for extra in $more; do ip address add "$extra" dev lo; done
    for port in $(echo "$ports" | tr , ' '); do
        nc -ll -p "$port" -e cat &
    done
done </hosts
httpd -p 80 -h /tmp/www
: >"/run/hosts/$1.up"
exec sleep 2147483647
