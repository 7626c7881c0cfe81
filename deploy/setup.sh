#!/bin/sh
# The first step of compose.yaml, before the reconciler: makes the home where there is none, names the services in its
# configuration once, and makes Chiffon's place on the broker. Harmless to run again; so it also mends a wiped broker.
set -eu
home=${CHIFFON_DIR:-/var/lib/chiffon/home}
services=${CHIFFON_SERVICES:-/etc/chiffon/services.yaml}
if [ ! -e "$home/chiffon.yaml" ]; then
    chiffon init "$home" --infra "$CHIFFON_INFRA"
fi
if ! grep -q '^  bus:' "$home/chiffon.yaml"; then
    sed "s/chiffon\.lan/${CHIFFON_NAME:-chiffon.lan}/" "$services" >"$home/services.new"
    cat "$home/chiffon.yaml" "$home/services.new" >"$home/chiffon.yaml.new"
    rm "$home/services.new"
    mv "$home/chiffon.yaml.new" "$home/chiffon.yaml"
fi
chiffon --dir "$home" broker setup
