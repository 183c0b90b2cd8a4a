#!/bin/bash
# Installation of the agent on the types that have one. Sourced after common.sh.

# Sets what the command line says in agent.properties, one line per parameter; a key given before is replaced.
write_agent_properties() {
    local file=$1 line key
    {
        while IFS= read -r line || [[ -n $line ]]; do
            key=${line%%=*}
            [[ $line == *=* && -n ${CMDLINE[$key]+set} ]] || printf '%s\n' "$line"
        done <"$file"
        for key in "${!CMDLINE[@]}"; do
            printf '%s=%s\n' "$key" "${CMDLINE[$key]}"
        done
    } | write_file "$file" 0600
}

# Unpacks agent.zip beside the installed agent and swaps the folders by rename. A keystore made before stays, and with it
# the identity (agent.properties).
install_agent() {
    local new=$AGENT_DIR.new name
    if [[ ! -s $AGENT_ZIP ]]; then
        [[ -x $AGENT_DIR/_run.sh ]] || log "no agent in $AGENT_DIR and none was uploaded"
        return 0
    fi
    unzip -tqq "$AGENT_ZIP" >/dev/null || die "$AGENT_ZIP is damaged: the agent was left as it is"
    rm -rf "$new"
    mkdir -p "$new"
    unzip -qo "$AGENT_ZIP" -d "$new"
    chmod 0755 "$new"/*.sh "$new"/scripts/util/*
    if [[ -s $AGENT_DIR/conf/cloud.jks ]]; then
        for name in agent.properties cloud.jks cloud.csr cloud.crt cloud.ca.crt cloud.key; do
            [[ ! -e $AGENT_DIR/conf/$name ]] || cp -a "$AGENT_DIR/conf/$name" "$new/conf/$name"
        done
    fi
    write_agent_properties "$new/conf/agent.properties"
    rm -rf "$AGENT_DIR.old"
    [[ ! -d $AGENT_DIR ]] || mv "$AGENT_DIR" "$AGENT_DIR.old"
    mv "$new" "$AGENT_DIR"
    rm -rf "$AGENT_DIR.old"
    log 'agent installed'
}
