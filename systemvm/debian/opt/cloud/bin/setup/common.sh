#!/bin/bash
# Shared by the boot scripts. Sourced, never run; starting a process costs 20 to 50 ms on an emulated CPU, so everything
# that bash can do by itself is done by bash.
# The names below are used by the scripts that source this file.
# shellcheck disable=SC2034

readonly CLOUD_DIR=/var/cache/cloud
readonly CMDLINE_FILE=$CLOUD_DIR/cmdline
readonly SIGNATURE_FILE=$CLOUD_DIR/cloud-scripts-signature
readonly BUNDLE_FILE=$CLOUD_DIR/cloud-scripts.tgz
readonly KEPT_BUNDLE_FILE=/usr/share/cloud/cloud-scripts.tgz
readonly AGENT_ZIP=$CLOUD_DIR/agent.zip
readonly AGENT_DIR=/usr/local/cloud/systemvm
readonly BOOT_KIND_FILE=/run/cloud/boot-kind
readonly SETUP_DIR=/opt/cloud/bin/setup
readonly LOG_FILE=${CLOUD_LOG_FILE:-/var/log/cloud.log}
readonly VM_TYPES='router vpcrouter dhcpsrvr ilbvm elbvm secstorage consoleproxy'

# Parameters of the command line that management delivered; filled by parse_cmdline.
declare -gA CMDLINE=()

# A pipe that never carries data: reading from it with a time-out pauses without starting a process.
exec {TICK_FD}<> <(:)

log() {
    printf '%(%F %T)T %s: %s\n' -1 "${0##*/}" "$*" >>"$LOG_FILE"
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
    log "$*"
    exit 1
}

# Pauses for the given seconds (a fraction is allowed).
tick() {
    read -rt "$1" -u "$TICK_FD" || true
}

# Runs a test command every 0.1 s until it succeeds or the given number of seconds has passed.
wait_until() {
    local seconds=$1
    shift
    local deadline=$((SECONDS + seconds))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        tick 0.1
    done
}

# Writes standard input to a file that is complete or not there: $1 path, $2 mode (0644 or 0600).
write_file() {
    local path=$1 text
    IFS= read -rd '' text || true
    # A file that a killed boot left behind would keep its mode.
    [[ ! -e $path.new ]] || rm -f "$path.new"
    [[ $2 != 0600 ]] || umask 077
    printf '%s' "$text" >"$path.new"
    umask 022
    mv -f "$path.new" "$path"
}

# Lets units start at the next boot; those that do already cost nothing. Nothing is reloaded: every unit that is asked for
# is on the disk since before systemd first looked, or daemon-reload was called when the bundle brought it.
enable_units() {
    local unit missing=()
    for unit in "$@"; do
        compgen -G "/etc/systemd/system/*.wants/$unit" >/dev/null || missing+=("$unit")
    done
    ((${#missing[@]} == 0)) || SYSTEMCTL_SKIP_SYSV=1 systemctl enable --no-reload "${missing[@]}"
}

# Undoes what enable_units does.
disable_units() {
    local unit present=()
    for unit in "$@"; do
        ! compgen -G "/etc/systemd/system/*.wants/$unit" >/dev/null || present+=("$unit")
    done
    ((${#present[@]} == 0)) || SYSTEMCTL_SKIP_SYSV=1 systemctl disable --no-reload "${present[@]}"
}

# True when the command line has arrived whole: its writer ends it with a newline.
cmdline_complete() {
    [[ -s $CMDLINE_FILE ]] && read -r <"$CMDLINE_FILE"
}

# Reads the command line into CMDLINE. The value is all that follows the first "=", so that base64 padding survives; the
# word "null" is how management spells an absent value.
parse_cmdline() {
    local words=() word
    cmdline_complete || return 1
    read -ra words <"$CMDLINE_FILE"
    CMDLINE=()
    for word in "${words[@]}"; do
        [[ $word == ?*=* && ${word#*=} != null ]] || continue
        CMDLINE[${word%%=*}]=${word#*=}
    done
}

# Prints the VM type, or fails when the command line names none that is known.
vm_type() {
    local type=${CMDLINE[type]:-}
    [[ -n $type && " $VM_TYPES " == *" $type "* ]] || {
        log "unknown VM type '$type' in $CMDLINE_FILE (known: $VM_TYPES)"
        return 1
    }
    printf '%s\n' "$type"
}

# Prints the interface on the control network, where sshd listens: the one with a link-local address (the order differs
# between the types, and elbvm is not even consistent), else the one that the type names.
control_device() {
    local number
    if [[ ${CMDLINE[sshonguest]:-} == true ]]; then
        echo eth0
        return
    fi
    for number in 0 1 2; do
        if [[ ${CMDLINE[eth${number}ip]:-} == 169.254.* ]]; then
            echo "eth$number"
            return
        fi
    done
    case ${CMDLINE[type]} in
        vpcrouter | secstorage | consoleproxy) echo eth0 ;;
        *) echo eth1 ;;
    esac
}

# Escapes a string for use inside JSON quotes.
json_escape() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    printf '%s' "$text"
}

# Writes the command line as the databag that update_config.py merges.
write_cmdline_json() {
    local key separator=''
    {
        printf '{"type": "cmdline", "cmd_line": {'
        for key in "${!CMDLINE[@]}"; do
            printf '%s"%s": "%s"' "$separator" "$(json_escape "$key")" "$(json_escape "${CMDLINE[$key]}")"
            separator=', '
        done
        printf '}}\n'
    } | write_file "$CLOUD_DIR/cmd_line.json" 0600
}

# Makes sshd listen on the control address only; the shipped file carries the directive as a comment.
bind_sshd() {
    local file=/etc/ssh/sshd_config device address text
    device=$(control_device)
    address=${CMDLINE[${device}ip]:-}
    [[ -n $address ]] || return 0
    text=$(<"$file")
    [[ $'\n'$text$'\n' != *$'\n'"ListenAddress $address"$'\n'* ]] || return 0
    if [[ $'\n'$text =~ $'\n'('#'?ListenAddress[^$'\n']*) ]]; then
        text=${text/"${BASH_REMATCH[1]}"/"ListenAddress $address"}
    else
        text+=$'\n'"ListenAddress $address"
    fi
    printf '%s\n' "$text" | write_file "$file" 0644
}

# Installations that have been upgraded for years still have an RSA key, and a client that signs with SHA-1. Only an sshd
# that no longer takes this by itself knows the directive.
accept_rsa_key() {
    local directive='PubkeyAcceptedAlgorithms=+ssh-rsa'
    if [[ $(</etc/ssh/sshd_config) != *"$directive"* ]] && ssh -Q PubkeyAcceptedAlgorithms >/dev/null 2>&1; then
        printf '%s\n' "$directive" >>/etc/ssh/sshd_config
    fi
}

# Brings the shipped configuration of sshd to what this VM needs.
configure_sshd() {
    bind_sshd
    accept_rsa_key
}

# Puts the packet filter of the VM type into the kernel: closed except for what the type needs from its first second on.
load_base_firewall() {
    local type=${CMDLINE[type]} device text source
    source=/etc/iptables/iptables-$type
    [[ $type != dhcpsrvr ]] || source=/etc/iptables/iptables-router
    device=$(control_device)
    text=$(<"$source")
    text=${text//"-i eth0 -p tcp -m tcp --dport 3922 "/"-i $device -p tcp -m tcp --dport 3922 "}
    text=${text//"-i eth1 -p tcp -m tcp --dport 3922 "/"-i $device -p tcp -m tcp --dport 3922 "}
    if [[ $type == consoleproxy ]]; then
        text=${text//"--dport 8080 "/"--dport ${CMDLINE[vncport]:-8080} "}
    fi
    printf '%s\n' "$text" | write_file /etc/iptables/rules.v4 0644
    iptables-restore </etc/iptables/rules.v4
}

# Writes the two service lists: $1 the enabled words (lines), $2 the disabled ones.
write_services() {
    printf '%s\n' "$1" | write_file "$CLOUD_DIR/enabled_svcs" 0644
    printf '%s\n' "$2" | write_file "$CLOUD_DIR/disabled_svcs" 0644
}

# Sets a kernel parameter: $1 the path below /proc/sys, $2 the value. A kernel without it is no error.
set_kernel() {
    [[ ! -w /proc/sys/$1 ]] || printf '%s\n' "$2" >"/proc/sys/$1"
}

# Turns the reverse path filter on or off for every interface, present and future.
set_rp_filter() {
    local path
    for path in /proc/sys/net/ipv4/conf/*/rp_filter; do
        printf '%s\n' "$1" >"$path"
    done
}
