#!/bin/bash
# Applies the aggregate file that management uploaded: vr_cfg.sh -c FILE. The status is that of the rules: any failure is
# a failure here, the words name what is not in force, and the other databags are.
set -Eeuo pipefail

usage() {
    echo 'usage: vr_cfg.sh -c FILE' >&2
    exit 2
}

file=
while getopts c: option; do
    case $option in
        c) file=$OPTARG ;;
        *) usage ;;
    esac
done
[[ -n $file ]] || usage
exec /opt/cloud/bin/vr_cfg.py "$file"
