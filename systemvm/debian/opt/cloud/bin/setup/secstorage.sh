#!/bin/bash
# Services of a secondary-storage VM. Sourced by bootstrap.sh, after common.sh.
# shellcheck source-path=SCRIPTDIR source=routing.sh
. "$SETUP_DIR/routing.sh"

readonly SITE_KEY=/etc/ssl/private/cert_apache.key
readonly SITE_CERTIFICATE=/etc/ssl/certs/cert_apache.crt

# A certificate that nobody knows, so that port 443 is there before management sends the cloud's own (config_ssl.sh).
ensure_site_certificate() {
    [[ ! -s $SITE_KEY || ! -s $SITE_CERTIFICATE ]] || return 0
    mkdir -p "${SITE_KEY%/*}" "${SITE_CERTIFICATE%/*}"
    (umask 077 && openssl ecparam -name prime256v1 -genkey -noout -out "$SITE_KEY.new")
    openssl req -x509 -new -sha256 -key "$SITE_KEY.new" -days 3650 -subj "/CN=$1" -out "$SITE_CERTIFICATE.new"
    mv -f "$SITE_KEY.new" "$SITE_KEY"
    mv -f "$SITE_CERTIFICATE.new" "$SITE_CERTIFICATE"
}

# Downloads are links below /var/www/html/userdata, uploads go through the proxy to the agent; both only on the public
# address, and uploads only over TLS unless management says otherwise.
write_upload_site() {
    local device address text define='# Uploads come over TLS alone.'
    device=${CMDLINE[public.network.device]:-eth2}
    address=${CMDLINE[${device}ip]:-}
    [[ $address =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ ]] || die "no public address: parameter ${device}ip= is missing"
    ensure_site_certificate "$address"
    mkdir -p /var/www/html/userdata /etc/apache2/sites-enabled
    [[ ${CMDLINE[useHttpsToUpload]:-true} != false ]] || define='Define upload_plain'
    text=$(</etc/apache2/upload.template)
    text=${text//@ADDRESS@/$address}
    printf '%s\n' "${text/@DEFINE@/$define}" | write_file /etc/apache2/sites-enabled/upload.conf 0644
}

clear_web_defaults
write_upload_site
write_services 'cloud apache2 nfs-common portmap' 'conntrackd keepalived haproxy dnsmasq'
