#!/bin/bash
# The digest that serves as the signature of cloud-scripts.tgz in this release.

# Prints the digest of a file in lower-case hexadecimal.
bundle_digest() {
    local sum
    sum=$(md5sum "$1")
    printf '%s\n' "${sum%% *}"
}
