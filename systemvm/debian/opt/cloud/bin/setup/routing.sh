#!/bin/bash
# What router and vpcrouter have in common. Sourced by them, after common.sh.

# Turns the VM into a router and writes its service lists.
setup_routing() {
    local third='dnsmasq' off='keepalived conntrackd' first='haproxy apache2'
    set_kernel net/ipv4/ip_forward 1
    set_kernel net/ipv4/ip_nonlocal_bind 1
    set_kernel net/netfilter/nf_conntrack_acct 1
    if [[ ${CMDLINE[disable_rp_filter]:-} == true ]]; then
        set_rp_filter 0
    else
        set_rp_filter 1
    fi
    if [[ -n ${CMDLINE[redundant_router]:-} ]]; then
        third='keepalived' off='dnsmasq conntrackd'
    fi
    if [[ -e /lib/systemd/system/frr.service ]]; then
        first+=' frr'
    fi
    write_services "$first"$'\n'"$third" "cloud nfs-common portmap"$'\n'"$off"
    clear_web_defaults
}

# Debian's default site listens on every address, where the load balancer wants port 80.
clear_web_defaults() {
    rm -f /etc/apache2/sites-enabled/000-default.conf /etc/apache2/sites-enabled/default-ssl.conf
}
