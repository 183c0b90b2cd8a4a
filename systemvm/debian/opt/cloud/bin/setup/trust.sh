#!/bin/bash
# May this boot install the uploaded bundle? What a live patch would refuse for its signature, its digests, its
# architecture or the age of the template is refused here, too. Sourced after common.sh.

readonly TRUST_KEY=/etc/cloudstack/livepatch-trust.pem
readonly TRUST_STORE=/etc/cloudstack/livepatch-trust
readonly LIVEPATCH_STATE=/var/lib/cloud-livepatch
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

# Sets TRUSTED to the keys that this VM trusts: one file, and those of a folder.
read_trusted() {
    local key
    TRUSTED=()
    [[ ! -e $TRUST_KEY && ! -L $TRUST_KEY ]] || TRUSTED+=("$TRUST_KEY")
    for key in "$TRUST_STORE"/*.pem "$TRUST_STORE"/*.pub; do
        [[ ! -e $key ]] || TRUSTED+=("$key")
    done
}

# True when the manifest was signed with a key that this VM trusts, and that counts.
manifest_signed() {
    local data key id named
    data=$(script_payload payload_signature) || return 1
    [[ -n $data ]] || return 1
    base64 -d <<<"$data" >"/run/cloud/manifest.sig" || return 1
    read_trusted
    for key in "${TRUSTED[@]}"; do
        openssl dgst -sha384 -verify "$key" -signature /run/cloud/manifest.sig <<<"$MANIFEST" >/dev/null 2>&1 || continue
        id=$(openssl pkey -pubin -in "$key" -outform DER | sha256sum) || return 1
        named=$(manifest_header "$MANIFEST" key)
        [[ ${named:-${id%% *}} == "${id%% *}" ]] && key_counts "${id%% *}"
        return
    done
    return 1
}

# True when no list of the folder speaks against a key: $1 its SHA-256. A line that cannot be read speaks against all.
key_counts() {
    local list line words today
    today=$(date -u +%F) || return 1
    for list in revoked expires; do
        [[ -e $TRUST_STORE/$list || -L $TRUST_STORE/$list ]] || continue
        [[ -f $TRUST_STORE/$list && -r $TRUST_STORE/$list ]] || return 1
        while read -r line || [[ -n $line ]]; do
            read -ra words <<<"${line%%#*}"
            ((${#words[@]})) || continue
            [[ $list/${words[*]} =~ ^(revoked/[0-9a-f]{64}|expires/[0-9a-f]{64}\ [0-9]{4}-[0-9]{2}-[0-9]{2})$ ]] || return 1
            [[ ${words[0]} != "$1" || ($list == expires && ! $today > ${words[1]}) ]] || return 1
        done <"$TRUST_STORE/$list"
    done
}

# True when the archive of the scripts brings nothing that a patch refuses: above all, who is trusted is not its to say.
members_owned() {
    local names name
    names=$(tar -tzf "$BUNDLE_FILE") || return 1
    while read -r name; do
        name=${name#./}
        case $name in
            etc/cloudstack/livepatch-trust* | etc/passwd | etc/shadow | etc/group | etc/gshadow | etc/fstab | etc/machine-id) return 1 ;;
            var/lib/cloud-livepatch* | var/lib/dpkg/?* | root/.ssh | root/.ssh/?* | var/cache/cloud/?* | usr/local/cloud*) return 1 ;;
            '' | usr/ | etc/* | opt/* | root/* | usr/local/* | var/*) ;;
            *) return 1 ;;
        esac
    done <<<"$names"
}

# Prints the value of a header of a manifest: $1 the text, $2 the header. Prints nothing where there is none.
manifest_header() {
    local value=$'\n'$1
    [[ $value == *$'\n'"$2"$'\t'* ]] || return 0
    value=${value#*$'\n'"$2"$'\t'}
    printf '%s' "${value%%$'\n'*}"
}

# True when the bundle is for this machine and this template.
bundle_fits() {
    local template=''
    case $(manifest_header "$MANIFEST" architecture)/$HOSTTYPE in
        all/* | amd64/x86_64 | arm64/aarch64) ;;
        *) return 1 ;;
    esac
    [[ ! -r /etc/cloudstack-release ]] || read -r _ _ template _ </etc/cloudstack-release || true
    [[ -z $template ]] || printf '%s\n' "$(manifest_header "$MANIFEST" minimum_template)" "$template" | sort -V -C
}

# True when the installed release is not newer: its manifest is known while its signature is the one that is installed.
bundle_is_no_older() {
    local was='' now='' installed old
    [[ -r $LIVEPATCH_STATE/installed.manifest && -r $LIVEPATCH_STATE/installed.signature ]] || return 0
    read -r was <"$LIVEPATCH_STATE/installed.signature" || true
    [[ ! -r $SIGNATURE_FILE ]] || read -r now <"$SIGNATURE_FILE" || true
    [[ -n $was && $was == "$now" ]] || return 0
    installed=$(<"$LIVEPATCH_STATE/installed.manifest")
    for old in "$installed" "$MANIFEST"; do
        # A build without a number is older than all that have one.
        printf '%s~%020d\n' "$(manifest_header "$old" release)" "$((10#0$(manifest_header "$old" build)))"
    done | sort -V -C
}

# True when the uploaded bundle may be installed. Where no key is installed, an upload without a script of ours, or beside
# one of an earlier upload, is taken as CloudStack takes it.
bundle_trusted() {
    if [[ ! -e $TRUST_KEY && ! -L $TRUST_KEY && ! -e $TRUST_STORE && ! -L $TRUST_STORE ]]; then
        ! archives_match || bundle_fits
        return
    fi
    wait_until "$SCRIPT_WAIT" archives_match || {
        log "the archives are not those of a signed patch-sysvms.sh, but $TRUST_KEY or $TRUST_STORE asks for one"
        return 1
    }
    manifest_signed || {
        log "the bundle is not signed with a key that $TRUST_KEY or $TRUST_STORE trusts"
        return 1
    }
    members_owned || {
        log 'the bundle brings files that are not a bundle'\''s to bring'
        return 1
    }
    bundle_is_no_older || {
        log 'the bundle is older than the installed one'
        return 1
    }
    bundle_fits
}

# Takes a bundle that may not be installed out of the landing folder, so that no later boot meets it.
put_bundle_aside() {
    rm -f "$AGENT_ZIP" "$BUNDLE_FILE"
}
