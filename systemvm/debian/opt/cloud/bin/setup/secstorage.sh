#!/bin/bash
# Services of a secondary-storage VM. Sourced by bootstrap.sh, after common.sh.
# shellcheck source-path=SCRIPTDIR source=routing.sh
. "$SETUP_DIR/routing.sh"

# Downloads are links below this folder, uploads go through the proxy to the agent; both only on the public address.
write_upload_site() {
    local device address
    device=${CMDLINE[public.network.device]:-eth2}
    address=${CMDLINE[${device}ip]:-}
    [[ -n $address ]] || die "no public address: parameter ${device}ip= is missing"
    mkdir -p /var/www/html/userdata /etc/apache2/sites-enabled
    sed "s/@ADDRESS@/$address/g" /etc/apache2/upload.template | write_file /etc/apache2/sites-enabled/upload.conf 0644
}

clear_web_defaults
write_upload_site
write_services 'cloud apache2 nfs-common portmap' 'conntrackd keepalived haproxy dnsmasq'
