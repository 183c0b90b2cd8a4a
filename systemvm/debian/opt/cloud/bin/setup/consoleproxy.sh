#!/bin/bash
# Services of a console proxy. Sourced by bootstrap.sh, after common.sh.

set_rp_filter 0
printf '%s\n' "${CMDLINE[vncport]:-8080}" | write_file /root/vncport 0644
write_services 'cloud' 'haproxy dnsmasq apache2 nfs-common portmap'
