#!/bin/bash
# Services of an elastic load balancer. Sourced by bootstrap.sh, after common.sh.

set_kernel net/ipv4/ip_forward 0
write_services 'haproxy' 'cloud dnsmasq conntrackd keepalived apache2 nfs-common portmap'
