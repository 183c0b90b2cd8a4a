#!/bin/busybox sh
# shellcheck shell=dash # busybox ash: dash is the nearest that the checker knows
# Process 1 of a tenant guest: loads its drivers, starts its hosts, each with a network of its own, and obeys its control
# port.
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /run/hosts
echo 1 >/run/hosts/guest
echo 2 >/proc/sys/kernel/printk
while read -r module; do
    insmod "/modules/$module" || echo "tenant: cannot load $module" >/dev/console
done </modules/order
template=$(cat /template-device)
if [ -n "$template" ]; then
    mkdir /template
    mount -t ext4 -o ro,noload "$template" /template || echo "tenant: cannot mount $template" >/dev/console
    echo /bin/load-module >/proc/sys/kernel/modprobe
    load-module overlay
fi
while read -r name device _; do
    start-host "$name" host "$device"
done </hosts
while read -r name near far _; do
    start-host "$name" uplink "$near" "$far"
done </uplinks
while read -r name one other _; do
    start-host "$name" transit "$one" "$other"
done </transits

# The control port: one request a line, "ID HOST BASE64-OF-A-SHELL-SCRIPT", answered by "ID STATUS BASE64-OF-ITS-OUTPUT".
# A script may write lines of its own to descriptor 3. Each line is one write, so lines of several writers stay whole.
port=
for entry in /sys/class/virtio-ports/*; do
    [ "$(cat "$entry/name")" = org.sysvm.tenant ] && port=/dev/${entry##*/}
done
exec 3<>"$port"
echo "ready 0 " >&3
obey() {
    while :; do
        while read -r id host script <&3; do
            # A child of a child: nobody waits for it but process 1.
            (
                {
                    output=$(echo "$script" | base64 -d | nsenter -t "$(cat "/run/hosts/$host")" -n -m sh 2>&1)
                    echo "$id $? $(echo -n "$output" | base64 | tr -d '\n')" >&3
                } &
            )
        done
        # End of file means that nobody is connected at the host's end, as after a restore.
        usleep 50000
    done
}
obey &
# Process 1 inherits what others leave behind. A shell reaps all of it while it waits for a child, and the full path makes
# it start one; without that, some hundred requests later the guest has no process left to give.
while :; do
    /bin/sleep 1
done
