#!/bin/bash
# May this boot install the uploaded bundle? What a live patch would refuse for its signature, its digests, its
# architecture or the age of the template is refused here, too. Sourced after common.sh.

readonly TRUST_KEY=/etc/cloudstack/livepatch-trust.pem
readonly PATCH_SCRIPT=$CLOUD_DIR/patch-sysvms.sh
# The script is uploaded last; until then, the one of an earlier upload lies there.
readonly SCRIPT_WAIT=30

# Prints what a function of the uploaded script holds, base64: $1 its name. Fails where the script is not one of ours.
script_payload() {
    local text
    [[ -f $PATCH_SCRIPT && ! -L $PATCH_SCRIPT ]] || return 1
    text=$(<"$PATCH_SCRIPT")
    [[ $text == *$'\n'"$1() { printf '%s' '"* ]] || return 1
    text=${text#*$'\n'"$1() { printf '%s' '"}
    printf '%s' "${text%%\'*}"
}

# Sets MANIFEST to the list of what the script was made for.
read_bundle_manifest() {
    local data
    data=$(script_payload payload_manifest) || return 1
    MANIFEST=$(base64 -d <<<"$data" | gzip -dc) || return 1
    [[ $MANIFEST == $'format\t1\n'* ]]
}

# True when both archives are those that the manifest names.
archives_match() {
    local kind name digest sum
    read_bundle_manifest || return 1
    while IFS=$'\t' read -r kind name _ digest; do
        [[ $kind == archive ]] || continue
        sum=$(sha512sum "$CLOUD_DIR/$name") || return 1
        [[ ${sum%% *} == "$digest" ]] || return 1
    done <<<"$MANIFEST"
}

# True when the manifest was signed with the key that this VM trusts.
manifest_signed() {
    local data
    data=$(script_payload payload_signature) || return 1
    [[ -n $data ]] || return 1
    base64 -d <<<"$data" >"/run/cloud/manifest.sig" || return 1
    openssl dgst -sha384 -verify "$TRUST_KEY" -signature /run/cloud/manifest.sig <<<"$MANIFEST" >/dev/null 2>&1
}

# True when the bundle is for this machine and this template.
bundle_fits() {
    local architecture template='' minimum
    architecture=${MANIFEST#*$'\narchitecture\t'}
    architecture=${architecture%%$'\n'*}
    case $architecture/$HOSTTYPE in
        all/* | amd64/x86_64 | arm64/aarch64) ;;
        *) return 1 ;;
    esac
    minimum=${MANIFEST#*$'\nminimum_template\t'}
    minimum=${minimum%%$'\n'*}
    [[ ! -r /etc/cloudstack-release ]] || read -r _ _ template _ </etc/cloudstack-release || true
    [[ -z $template ]] || printf '%s\n' "$minimum" "$template" | sort -V -C
}

# True when the uploaded bundle may be installed. Where no key is installed, an upload without a script of ours, or beside
# one of an earlier upload, is taken as CloudStack takes it.
bundle_trusted() {
    if [[ ! -e $TRUST_KEY && ! -L $TRUST_KEY ]]; then
        ! archives_match || bundle_fits
        return
    fi
    wait_until "$SCRIPT_WAIT" archives_match || {
        log "the archives are not those of a signed patch-sysvms.sh, but $TRUST_KEY asks for one"
        return 1
    }
    manifest_signed || {
        log "the bundle is not signed with the key in $TRUST_KEY"
        return 1
    }
    bundle_fits
}

# Takes a bundle that may not be installed out of the landing folder, so that no later boot meets it.
put_bundle_aside() {
    rm -f "$AGENT_ZIP" "$BUNDLE_FILE"
}
