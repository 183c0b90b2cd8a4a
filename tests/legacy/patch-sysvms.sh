#!/bin/bash
# The rival in comparisons: a script of our own that does what the patch script of CloudStack 4.22 is known to do, step
# by step and with its known defects (docs/livepatch.md names them). It is never shipped. Unchecked commands, the
# missing lock and the backup that is never restored are there on purpose.

cache=/var/cache/cloud
backup=$cache/bkpup_live_patch
agent=/usr/local/cloud/systemvm
log=/var/log/livepatchsystemvm.log
services=$cache/enabled_svcs
type=$(grep -oE 'type=[a-z]+' "$cache/cmdline" 2>/dev/null | head -n 1 | cut -d = -f 2)
restored=0
failed=0

save_old() {
    mkdir -p "$backup/conf"
    cp -a "$agent"/conf/* "$backup/conf/" 2>/dev/null
    (cd "$agent" 2>/dev/null && zip -q -r "$backup/agent.zip" ./*)
    cp "$cache/cloud-scripts-signature" "$backup/"
    tar -zcf "$backup/cloud-scripts.tgz" /etc /var /opt /root 2>>"$log"
}

replace_agent() {
    rm -rf "$agent"
    mkdir -p "$agent"
    echo All | unzip -q "$cache/agent.zip" -d "$agent" >>"$log" 2>&1
    find "$agent" -name '*.sh' -exec chmod 555 {} +
}

replace_scripts() {
    tar -xf "$cache/cloud-scripts.tgz" -C / >>"$log" 2>&1
}

keep_conf() {
    if [ -f "$backup/conf/cloud.jks" ]; then
        cp -a "$backup"/conf/* "$agent/conf/"
    fi
}

write_signature() {
    sha512sum "$cache/cloud-scripts.tgz" 2>/dev/null | cut -d ' ' -f 1 >"$cache/cloud-scripts-signature"
}

# The archive that is read here has another name than the one that was written.
restore_old() {
    tar -xf "$backup/cloud-scripts.tar" -C / >>"$log" 2>&1
    if [ -f "$backup/agent.zip" ]; then
        unzip -q "$backup/agent.zip" -d "$agent" >>"$log" 2>&1
        cp -a "$backup"/conf/* "$agent/conf/" 2>/dev/null
    fi
    restored=1
    restart_services
    cp "$backup/cloud-scripts-signature" "$cache/"
}

restart_services() {
    systemctl daemon-reload
    while read -r line; do
        for service in $line; do
            systemctl is-active --quiet "$service" || continue
            systemctl restart "$service"
            if ! systemctl is-active --quiet "$service"; then
                echo "$service did not come back" >>"$log"
                failed=1
                [ "$restored" = 1 ] || restore_old
                return
            fi
        done
    done <"$services"
    if [ "$type" = consoleproxy ]; then
        port=8080
        [ ! -f /root/vncport ] || port=$(cat /root/vncport)
        iptables -A INPUT -i eth2 -p tcp -m tcp --dport "$port" -m state --state NEW -j ACCEPT
    fi
}

clean_up() {
    rm -rf "$backup"
    mv "$cache/cloud-scripts.tgz" /usr/share/cloud/
    rm -f "$cache/agent.zip" "$cache/patch-sysvms.sh"
    case $type in consoleproxy | secstorage) ;; *) rm -rf "$agent" ;; esac
}

save_old
replace_agent
replace_scripts
keep_conf
write_signature
case $type in consoleproxy | secstorage | *router) restart_services ;; esac
clean_up
[ "$failed" != 0 ] || echo "version:$(cat "$cache/cloud-scripts-signature") "
exit "$failed"
