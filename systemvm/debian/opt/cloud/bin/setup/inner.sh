#!/bin/bash
# Routes into the networks of the cloud's operator: management and storage. Networks are compared as networks, of any
# prefix length. Sourced by network.sh, after common.sh.

# Sets REPLY to an IPv4 address as a number; fails for anything else.
ip_number() {
    local octets octet
    [[ $1 =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ ]] || return 1
    IFS=. read -ra octets <<<"$1"
    REPLY=0
    for octet in "${octets[@]}"; do
        ((10#$octet < 256)) || return 1
        ((REPLY = REPLY << 8 | 10#$octet)) || true
    done
}

# Prints the number of bits of a dotted netmask.
mask_bits() {
    local REPLY bits=0
    ip_number "$1" || return 1
    while ((REPLY)); do
        ((bits += REPLY & 1, REPLY >>= 1)) || true
    done
    echo "$bits"
}

# Sets NET_FIRST and NET_BITS to the network that an address with an optional prefix length belongs to; fails for what is
# none.
parse_network() {
    local REPLY bits=32
    [[ $1 != */* ]] || bits=${1#*/}
    [[ $bits =~ ^[0-9]{1,2}$ ]] && ((10#$bits <= 32)) && ip_number "${1%%/*}" || return 1
    NET_BITS=$((10#$bits))
    NET_FIRST=$((REPLY & (0xffffffff << (32 - NET_BITS) & 0xffffffff)))
}

# Prints the network that parse_network found.
print_network() {
    printf '%d.%d.%d.%d/%d\n' $((NET_FIRST >> 24)) $((NET_FIRST >> 16 & 255)) $((NET_FIRST >> 8 & 255)) \
        $((NET_FIRST & 255)) "$NET_BITS"
}

# Prints the interface whose own network holds the given address or network as a whole; fails when none does.
connected_device() {
    local NET_FIRST NET_BITS first bits number address mask
    parse_network "$1" || return 1
    first=$NET_FIRST bits=$NET_BITS
    for number in {0..15}; do
        address=${CMDLINE[eth${number}ip]:-} mask=${CMDLINE[eth${number}mask]:-}
        [[ -n $address && $address != 0.0.0.0 && -n $mask ]] || continue
        parse_network "$address/$(mask_bits "$mask")" || continue
        ((NET_BITS <= bits && (first & (0xffffffff << (32 - NET_BITS) & 0xffffffff)) == NET_FIRST)) || continue
        echo "eth$number"
        return
    done
    return 1
}

# Prints the command that leads to an address or network through a gateway: nothing when it is reached directly, for a
# route through a gateway would replace the connected one. $1 destination, $2 gateway.
route_through() {
    local NET_FIRST NET_BITS device
    if ! parse_network "$1"; then
        log "no route to '$1': it is no IPv4 address or network"
        return 0
    fi
    if ((NET_BITS == 0)); then
        log "no route to $1: it would take the place of the default route"
        return 0
    fi
    if connected_device "$1" >/dev/null; then
        return 0
    fi
    if ! device=$(connected_device "$2"); then
        log "no route to $1: its gateway '$2' is in none of the networks of this VM"
        return 0
    fi
    echo "route replace $(print_network) via $2 dev $device"
}

# Prints the commands of the routes that must not leave by the default route, which is the public one: the management
# networks, on agent VMs the servers and resolvers that management names, and the storage servers.
inner_routes() {
    local gateway=${CMDLINE[localgw]:-} storage=${CMDLINE[storagegateway]:-} inner=() servers=() word
    IFS=, read -ra inner <<<"${CMDLINE[mgmtcidr]:-}"
    IFS=,@ read -ra servers <<<"${CMDLINE[host]:-}"
    case ${CMDLINE[type]} in
        secstorage | consoleproxy)
            # A server given by name has no route of its own: it is found in the management networks.
            for word in "${servers[@]}" ${CMDLINE[internaldns1]:-} ${CMDLINE[internaldns2]:-}; do
                ! parse_network "$word" || inner+=("$word")
            done
            ;;
    esac
    if [[ -n $gateway ]]; then
        for word in "${inner[@]}"; do
            route_through "$word" "$gateway"
        done
    fi
    [[ -n ${storage:-$gateway} ]] || return 0
    IFS=, read -ra servers <<<"${CMDLINE[secondaryStorageServerAddress]:-}"
    for word in "${servers[@]}"; do
        ! parse_network "$word" || route_through "$word" "${storage:-$gateway}"
    done
}
