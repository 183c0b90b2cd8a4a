#!/bin/bash
# Addresses, routes and names from the command line. Uses ip(8) directly: ifupdown may be missing, and one batch is one
# process. Sourced after common.sh.
# shellcheck source-path=SCRIPTDIR source=inner.sh
. "$SETUP_DIR/inner.sh"

# Prints the interfaces that the command line describes, in order.
described_devices() {
    local number
    for number in {0..15}; do
        if [[ -n ${CMDLINE[eth${number}ip]:-} || -n ${CMDLINE[eth${number}ip6]:-} ]]; then
            echo "eth$number"
        fi
    done
}

device_present() {
    [[ -e /sys/class/net/$1 ]]
}

# Prints the interface of the default route: the public one where there is one, else the one that the type serves.
gateway_device() {
    local device=${CMDLINE[public.network.device]:-}
    if [[ -z $device ]]; then
        device=eth0
        [[ -z ${CMDLINE[eth2ip]:-} ]] || device=eth2
        [[ ${CMDLINE[type]} != elbvm ]] || device=eth1
    fi
    echo "$device"
}

# Prints the largest frame of an interface, when the command line sets one. That of a storage VM (mtu=) is its storage
# network's alone: jumbo frames would not leave by the public one.
device_mtu() {
    local kind=privateMtu
    if [[ ${CMDLINE[type]} == secstorage ]]; then
        [[ ${CMDLINE[${1}ip]:-} != "${CMDLINE[storageip]:-none}" ]] || echo "${CMDLINE[mtu]:-}"
        return 0
    fi
    [[ $1 != "$(gateway_device)" || ${CMDLINE[type]} == dhcpsrvr ]] || kind=publicMtu
    if [[ $1 == "$(control_device)" ]]; then
        return 0
    fi
    echo "${CMDLINE[$kind]:-}"
}

# Prints the ip(8) commands of one interface.
device_commands() {
    local device=$1 address=${CMDLINE[${1}ip]:-} mask=${CMDLINE[${1}mask]:-} mtu
    mtu=$(device_mtu "$device")
    [[ -z $mtu ]] || echo "link set dev $device mtu $mtu"
    # Both routers of a redundant pair have the same public address; the primary gets it from the rules.
    if [[ -n ${CMDLINE[redundant_router]:-} && $device == "$(gateway_device)" ]]; then
        return 0
    fi
    if [[ -n $address && $address != 0.0.0.0 ]]; then
        echo "address replace $address/$(mask_bits "$mask") broadcast + dev $device"
    fi
    if [[ -n ${CMDLINE[${device}ip6]:-} ]]; then
        echo "-6 address replace ${CMDLINE[${device}ip6]}/${CMDLINE[${device}ip6prelen]:-64} dev $device"
    fi
    echo "link set dev $device up"
}

# Prints the ip(8) commands of the routes. A redundant router gets its default route when it becomes primary.
route_commands() {
    if [[ -n ${CMDLINE[gateway]:-} && -z ${CMDLINE[redundant_router]:-} ]]; then
        echo "route replace default via ${CMDLINE[gateway]} dev $(gateway_device)"
    fi
    inner_routes
}

write_interfaces_file() {
    local device
    {
        # Without "auto": ifup can be used by hand, and networking.service does not set the same addresses again.
        printf 'auto lo\niface lo inet loopback\n'
        for device in "$@"; do
            printf '\niface %s inet static\n    address %s\n    netmask %s\n' \
                "$device" "${CMDLINE[${device}ip]:-0.0.0.0}" "${CMDLINE[${device}mask]:-255.255.255.255}"
            if [[ -n ${CMDLINE[gateway]:-} && $device == "$(gateway_device)" ]]; then
                printf '    gateway %s\n' "${CMDLINE[gateway]}"
            fi
        done
    } | write_file /etc/network/interfaces 0644
}

write_names() {
    local key name=${CMDLINE[name]:-systemvm}
    printf '%s\n' "$name" >/proc/sys/kernel/hostname
    printf '%s\n' "$name" >/etc/hostname
    printf '127.0.0.1 localhost %s\n::1 localhost ip6-localhost ip6-loopback\n' "$name" | write_file /etc/hosts 0644
    {
        [[ -z ${CMDLINE[domain]:-} ]] || printf 'search %s\n' "${CMDLINE[domain]}"
        for key in internaldns1 internaldns2 dns1 dns2; do
            [[ -z ${CMDLINE[$key]:-} ]] || printf 'nameserver %s\n' "${CMDLINE[$key]}"
        done
    } | write_file /etc/resolv.conf 0644
}

# Configures every described interface with one call of ip(8).
configure_network() {
    local device devices=()
    mapfile -t devices < <(described_devices)
    for device in "${devices[@]}"; do
        wait_until 10 device_present "$device" || die "interface $device of the command line is missing"
    done
    {
        echo 'link set dev lo up'
        for device in "${devices[@]}"; do
            device_commands "$device"
        done
        route_commands
    } | ip -force -batch - || log 'some addresses or routes could not be set (see the lines above)'
    mkdir -p /etc/network
    write_interfaces_file "${devices[@]}"
    write_names
}
