#!/bin/bash
# Says which addresses may fetch what lies below /copy; management's agent calls it:
#
#   ipfirewall.sh true|false ADDRESS…
#
# "true" adds to the addresses that are there, "false" replaces them; without any, nobody may. It is in force with the next
# request, for the web server reads the file each time. One wrong address, and nothing is changed.
set -Eeuo pipefail

readonly FOLDER=/var/www/html/copy
readonly FILE=$FOLDER/.htaccess

fail() {
    echo "ipfirewall.sh: $1" >&2
    exit 2
}

# True for an address or a network. Apache takes parts of addresses, too, which let more in than anybody meant.
is_address() {
    local octet length=${1#*/}
    if [[ $1 =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(/[0-9]{1,2})?$ ]]; then
        for octet in "${BASH_REMATCH[@]:1:4}"; do
            ((10#$octet < 256)) || return 1
        done
        [[ $1 != */* ]] || ((10#$length <= 32))
    elif [[ $1 =~ ^[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(/[0-9]{1,3})?$ ]]; then
        [[ $1 != */* ]] || ((10#$length <= 128))
    else
        return 1
    fi
}

[[ ${1:-} == true || ${1:-} == false ]] || fail 'usage: ipfirewall.sh true|false ADDRESS…'
lines=()
if [[ $1 == true && -e $FILE ]]; then
    mapfile -t lines < <(grep '^Require ip ' "$FILE" || true)
fi
shift
for address in "$@"; do
    is_address "$address" || fail "'$address' is no address"
    [[ " ${lines[*]/#/|} " == *" |Require ip $address "* ]] || lines+=("Require ip $address")
done
((${#lines[@]})) || lines=('Require all denied')
mkdir -p "$FOLDER"
printf '%s\n' "${lines[@]}" >"$FILE.new"
mv -f "$FILE.new" "$FILE"
