#!/bin/bash
# Sets the one user that may fetch templates for copies; management's agent calls it:
#
#   config_auth.sh USER PASSWORD
#
# It is in force with the next request, for the web server reads both files each time.
set -Eeuo pipefail

readonly PASSWORDS=/etc/apache2/.htpasswd
readonly FOLDER=/var/www/html/copy/template

fail() {
    echo "config_auth.sh: $1" >&2
    exit 2
}

(($# == 2)) || fail 'usage: config_auth.sh USER PASSWORD'
[[ $1 =~ ^[A-Za-z0-9._@-]{1,64}$ ]] || fail 'the name of the user has characters that are not taken'
[[ -n $2 && $2 != *[[:cntrl:]]* ]] || fail 'the password is empty or has control characters'
hash=$(openssl passwd -apr1 -stdin <<<"$2")
(umask 077 && printf '%s:%s\n' "$1" "$hash" >"$PASSWORDS.new")
chgrp www-data "$PASSWORDS.new"
chmod 0640 "$PASSWORDS.new"
mv -f "$PASSWORDS.new" "$PASSWORDS"
mkdir -p "$FOLDER"
# Both must hold: the address, which ipfirewall.sh lets in, and the password.
cat >"$FOLDER/.htaccess.new" <<EOF
AuthType Basic
AuthName "Templates"
AuthUserFile $PASSWORDS
AuthMerging And
Require valid-user
EOF
mv -f "$FOLDER/.htaccess.new" "$FOLDER/.htaccess"
