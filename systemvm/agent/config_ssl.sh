#!/bin/bash
# Gives the web server of a storage VM its certificate; management's agent calls it:
#
#   config_ssl.sh -i PUBLIC_ADDRESS -h NAME [-c] [-k KEY -p CERTIFICATE [-t CHAIN]] [-u ROOT_CA]
#
# Without -k and -p the pair that the boot made is looked after. Exit status: 0 the certificate is what port 443 shows, 1
# wrong call, 2 key, 3 certificate, 4 chain, 5 root CA, 6 the web server does not show it (the former pair is back then).
set -Eeuo pipefail

readonly KEY=/etc/ssl/private/cert_apache.key
readonly CERTIFICATE=/etc/ssl/certs/cert_apache.crt
readonly ROOT_CA=${0%/*}/certs/root-ca.crt
readonly FORCE_SECONDS=20

fail() {
    echo "config_ssl.sh: $2" >&2
    exit "$1"
}

address='' name='' custom=false key='' certificate='' chain='' root=''
while getopts ':i:h:k:p:t:u:c' option; do
    case $option in
        i) address=$OPTARG ;;
        h) name=$OPTARG ;;
        k) key=$OPTARG ;;
        p) certificate=$OPTARG ;;
        t) chain=$OPTARG ;;
        u) root=$OPTARG ;;
        c) custom=true ;;
        *) fail 1 'usage: config_ssl.sh -i ADDRESS -h NAME [-c] [-k KEY -p CERTIFICATE [-t CHAIN]] [-u ROOT_CA]' ;;
    esac
done
shift $((OPTIND - 1))
(($# == 0)) || fail 1 "what is '$1'?"
[[ $address =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ ]] || fail 1 "-i '$address' is no address"
[[ -n $name ]] || fail 1 '-h is missing'
[[ (-n $key && -n $certificate) || $key$certificate == '' ]] || fail 1 '-k and -p belong together'
[[ $custom == false || -n $key ]] || fail 1 '-c needs -k and -p'

# Prints what identifies the certificate that port 443 shows.
shown() {
    openssl s_client -connect "$address:443" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 2>/dev/null
}

# Makes the web server take the pair that lies there, and waits until it shows it.
in_force() {
    local wanted deadline=$((SECONDS + FORCE_SECONDS))
    wanted=$(openssl x509 -in "$CERTIFICATE" -noout -fingerprint -sha256)
    if systemctl is-active --quiet apache2.service; then
        systemctl reload apache2.service
    else
        systemctl start apache2.service
    fi || return 1
    until [[ $(shown) == "$wanted" ]]; do
        ((SECONDS < deadline)) || return 1
        sleep 0.3
    done
}

# Puts files in their places by rename: $1 mode, $2 target, the rest is joined.
install_file() {
    local mode=$1 target=$2
    shift 2
    rm -f "$target.new"
    (umask 077 && cat -- "$@" >"$target.new")
    chmod "$mode" "$target.new"
    mv -f "$target.new" "$target"
}

if [[ -n $root ]]; then
    openssl x509 -in "$root" -noout 2>/dev/null || fail 5 "the root CA $root cannot be read"
    mkdir -p "${ROOT_CA%/*}"
    install_file 0644 "$ROOT_CA" "$root"
fi
if [[ -n $key ]]; then
    own=$(openssl pkey -in "$key" -pubout 2>/dev/null) || fail 2 "the key $key cannot be read"
    public=$(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null) || fail 3 "the certificate $certificate cannot be read"
    [[ $own == "$public" ]] || fail 3 'the certificate belongs to another key'
    if [[ -n $chain ]]; then
        openssl x509 -in "$chain" -noout 2>/dev/null || fail 4 "the chain $chain cannot be read"
    fi
    [[ ! -e $KEY ]] || cp -p "$KEY" "$KEY.old"
    [[ ! -e $CERTIFICATE ]] || cp -p "$CERTIFICATE" "$CERTIFICATE.old"
    install_file 0600 "$KEY" "$key"
    # The web server takes the chain from behind the certificate.
    install_file 0644 "$CERTIFICATE" "$certificate" ${chain:+"$chain"}
fi
[[ -s $KEY ]] || fail 2 "there is no key in $KEY"
[[ -s $CERTIFICATE ]] || fail 3 "there is no certificate in $CERTIFICATE"
if ! in_force; then
    if [[ -n $key && -e $KEY.old && -e $CERTIFICATE.old ]]; then
        mv -f "$KEY.old" "$KEY"
        mv -f "$CERTIFICATE.old" "$CERTIFICATE"
        in_force || true
    fi
    fail 6 "port 443 of $address does not show the certificate"
fi
rm -f "$KEY.old" "$CERTIFICATE.old"
