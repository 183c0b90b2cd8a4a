#!/bin/bash
# First step of the boot (cloud-preinit.service): start the guest agent, wait for the command line that management delivers
# through it, close the packet filter, configure the network and open the way in for the upload.
set -Eeuo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. /opt/cloud/bin/setup/common.sh
# shellcheck source-path=SCRIPTDIR source=network.sh
. /opt/cloud/bin/setup/network.sh

readonly STAMP_FILE=$CLOUD_DIR/cmdline.stamp
readonly CMDLINE_WAIT=60
# How long a command line left by a former boot waits to be replaced, once the guest agent runs: management writes within
# a second of the agent's first answer.
readonly FRESH_WAIT=3

stamp() {
    stat --format='%i %s %y' "$CMDLINE_FILE" 2>/dev/null || true
}

# True when the command line is not the one that a former boot used.
cmdline_fresh() {
    cmdline_complete && [[ $(stamp) != "$1" ]]
}

# Waits for the command line and prints what kind of boot this is: "first", "start" (management started a known VM again,
# so it delivers everything anew) or "reboot" (the guest restarted by itself: nothing is going to be delivered).
receive_cmdline() {
    local used=''
    if [[ -s /mnt/cmdline ]]; then
        cp /mnt/cmdline "$CMDLINE_FILE"
    fi
    if [[ -e $STAMP_FILE ]]; then
        used=$(<"$STAMP_FILE")
    fi
    if [[ -z $used ]]; then
        systemctl start --no-block qemu-guest-agent || log 'the guest agent cannot be started'
        wait_until "$CMDLINE_WAIT" cmdline_complete || die "no command line in $CMDLINE_FILE after $CMDLINE_WAIT s"
        echo first
        return
    fi
    timeout 20 systemctl start qemu-guest-agent || log 'the guest agent did not start'
    if wait_until "$FRESH_WAIT" cmdline_fresh "$used"; then
        echo start
    elif cmdline_complete; then
        echo reboot
    else
        wait_until "$CMDLINE_WAIT" cmdline_complete || die "no command line in $CMDLINE_FILE after $CMDLINE_WAIT s"
        echo start
    fi
}

install_authorized_key() {
    local keys
    [[ -n ${CMDLINE[authorized_key]:-} ]] || return 0
    keys=$(base64 -d <<<"${CMDLINE[authorized_key]}") || log 'authorized_key= is not clean base64: using what could be decoded'
    [[ -d /root/.ssh ]] || mkdir -m 0700 /root/.ssh
    printf '%s\n' "$keys" | write_file /root/.ssh/authorized_keys 0600
}

set_root_password() {
    [[ -n ${CMDLINE[vmpassword]:-} ]] || return 0
    printf 'root:%s\n' "${CMDLINE[vmpassword]}" | chpasswd
}

# A template may come without host keys; RSA is left out because making one takes an emulated CPU many seconds.
ensure_host_keys() {
    local keys=(/etc/ssh/ssh_host_*_key) kind
    [[ ! -s ${keys[0]} ]] || return 0
    for kind in ed25519 ecdsa; do
        ssh-keygen -q -t "$kind" -N '' -f "/etc/ssh/ssh_host_${kind}_key"
    done
}

main() {
    local kind
    mkdir -p "$CLOUD_DIR/processed" /run/cloud /etc/cloudstack /etc/iptables
    kind=$(receive_cmdline)
    parse_cmdline
    vm_type >/dev/null
    # The guest agent writes files that everybody can read; this one holds passwords.
    chmod 0600 "$CMDLINE_FILE"
    stamp >"$STAMP_FILE"
    echo "$kind" >"$BOOT_KIND_FILE"
    log "boot kind $kind, type ${CMDLINE[type]}"
    if [[ $kind != reboot ]]; then
        rm -f /etc/cloudstack/*.json
    fi
    load_base_firewall
    configure_network
    install_authorized_key
    ensure_host_keys
    configure_sshd
    enable_units ssh.service
    systemctl start --no-block ssh.service
    set_root_password
    write_cmdline_json
}

main
