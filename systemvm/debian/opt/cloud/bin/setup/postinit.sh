#!/bin/bash
# Last step of the boot (cloud-postinit.service): apply the rules of the command line, start the services that this type
# offers, and say that the boot is done.
set -Eeuo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. /opt/cloud/bin/setup/common.sh

# Prints the units of a service list that are here: Debian masks nfs-common, and a slim template lacks some. An alias
# (portmap) is printed by its real name, for systemctl refuses to enable an alias.
present_units() {
    local word folder path target
    for word in $(<"$1"); do
        for folder in /etc/systemd/system /lib/systemd/system; do
            path=$folder/$word.service
            target=$path
            if [[ -L $path ]]; then
                target=$(readlink "$path")
            elif [[ ! -e $path ]]; then
                continue
            fi
            [[ $target == /dev/null ]] || echo "${target##*/}"
            break
        done
    done
}

# Starts what is enabled and waits for it; the agent is started without waiting, for its unit is ordered after this one.
start_services() {
    local enabled=() waited=() unit
    mapfile -t enabled < <(present_units "$CLOUD_DIR/enabled_svcs")
    enable_units "${enabled[@]}"
    for unit in "${enabled[@]}"; do
        if [[ $unit == cloud.service ]]; then
            systemctl start --no-block cloud.service
        else
            waited+=("$unit")
        fi
    done
    ((${#waited[@]} == 0)) || systemctl start "${waited[@]}"
}

stop_services() {
    local disabled=()
    mapfile -t disabled < <(present_units "$CLOUD_DIR/disabled_svcs")
    disable_units "${disabled[@]}"
    ((${#disabled[@]} == 0)) || systemctl stop "${disabled[@]}"
}

main() {
    local failed=0
    parse_cmdline || die "no complete command line in $CMDLINE_FILE"
    # First, for the rules start conntrackd on a redundant router, although its word is in the list of the disabled ones.
    stop_services || failed=1
    case ${CMDLINE[type]} in
        secstorage | consoleproxy) load_base_firewall || failed=1 ;;
        *) /opt/cloud/bin/update_config.py cmd_line.json >>"$LOG_FILE" 2>&1 || failed=1 ;;
    esac
    ((failed == 0)) || log 'the rules of the command line could not be applied'
    start_services || failed=1
    if [[ -e $SETUP_DIR/userdata.sh ]]; then
        "$SETUP_DIR/userdata.sh" || failed=1
    fi
    printf '%(%a %b %e %T %Z %Y)T\n' -1 | write_file "$CLOUD_DIR/boot_up_done" 0644
    ((failed == 0)) || die 'the boot ended with the errors above'
    log 'boot done'
}

main
