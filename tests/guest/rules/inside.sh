#!/bin/bash
# Makes the namespaces of a test look like a system VM: own /etc, /var, /opt, /root and /usr over those of the machine, the
# payload unpacked on top, the stand-in for systemctl in front of the path. $1 is the payload, $2 the folder of this file.
set -Eeuo pipefail

payload=$1
here=$2

mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
for folder in etc var opt root usr; do
    mkdir -p "/mnt/$folder/upper" "/mnt/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work" "/$folder"
done
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
mkdir -p /run/stand-in /run/cloud /run/lock
cp "$here/systemctl" "$here/apache2.conf" /run/stand-in/
# The template has a ping of its own; this machine may have none.
command -v ping >/dev/null || ln -s "$(command -v busybox)" /run/stand-in/ping
: >/run/stand-in/asked
cp -a "$payload/." /
chmod 0755 /opt/cloud/bin/*.py /opt/cloud/bin/*.sh /root/*.py /root/health_checks/*
rm -rf /etc/cloudstack /var/cache/cloud /var/lib/misc/dnsmasq.leases
mkdir -p /etc/cloudstack /var/cache/cloud/processed /var/lib/misc /etc/apache2/sites-enabled
ip link set lo up
echo ready
# bash stays the first process, because it reaps what daemons leave behind.
sleep infinity &
wait
