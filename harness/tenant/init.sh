#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# Process 1 of a tenant: loads its drivers, takes an address by DHCP when told to, serves, and obeys its control port.
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /www
echo 2 >/proc/sys/kernel/printk
while read -r module; do
    insmod "/modules/$module" || echo "tenant: cannot load $module" >/dev/console
done </modules/order
ip link set lo up
cat /identity >/www/index.html
httpd -p 80 -h /www
nc -ll -p 7 -e cat &
nc -ll -p 22 -e cat &

# The control port: one request a line, "ID BASE64-OF-A-SHELL-SCRIPT", answered by "ID STATUS BASE64-OF-ITS-OUTPUT".
port=
for entry in /sys/class/virtio-ports/*; do
    [ "$(cat "$entry/name")" = org.sysvm.tenant ] && port=/dev/${entry##*/}
done
exec 3<>"$port"
echo "ready 0 " >&3
while :; do
    while read -r id script <&3; do
        output=$(echo "$script" | base64 -d | sh 2>&1)
        echo "$id $? $(echo -n "$output" | base64 | tr -d '\n')" >&3
    done
    # End of file means that nobody is connected at the host's end, as after a restore.
    usleep 50000
done
