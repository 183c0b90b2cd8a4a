#!/bin/bash
# Management asks with this whether files of the bundle are there: fails as long as one of them is not.
set -Eeuo pipefail
ls -lrt -- "$@"
