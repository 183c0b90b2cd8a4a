#!/bin/bash
# Services of a DHCP server: addresses, names and user data of a shared network. Sourced by bootstrap.sh, after common.sh.
# shellcheck source-path=SCRIPTDIR source=routing.sh
. "$SETUP_DIR/routing.sh"

set_kernel net/ipv4/ip_forward 0
clear_web_defaults
write_services 'dnsmasq apache2' 'cloud nfs-common conntrackd keepalived haproxy portmap'
