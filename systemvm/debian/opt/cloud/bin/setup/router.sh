#!/bin/bash
# Services of a router. Sourced by bootstrap.sh, after common.sh.
# shellcheck source-path=SCRIPTDIR source=routing.sh
. "$SETUP_DIR/routing.sh"

setup_routing
