#!/bin/sh
# Runs a command with services of its own: `services.sh COMMAND…`. A private PostgreSQL and a private RabbitMQ on free
# ports of the loopback interface, in a temporary folder; stopped and removed at the end, also after a failure. URLs that
# are set already (CHIFFON_TEST_POSTGRES_URL; CHIFFON_TEST_AMQP_URL with CHIFFON_TEST_AMQP_MANAGEMENT_URL) are taken
# instead. What a test starts in CHIFFON_TEST_SERVICES, to do it harm, is stopped at the end as well.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
folder=$(mktemp -d "${TMPDIR:-/tmp}/chiffon-services.XXXXXX")
chmod 755 "$folder"

stop() {
    status=$?
    trap '' EXIT INT TERM HUP
    for service in "$folder"/*/service; do
        test -f "$service" || continue
        place=$(dirname "$service")
        sh "$here/$(cat "$service").sh" stop "$place" >>"$folder/stop.log" 2>&1 ||
            { echo "services: $place did not stop:" >&2; cat "$folder/stop.log" >&2; status=1; }
    done
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

begin() { # SERVICE: starts it, and exports where it is
    addresses=$(sh "$here/$1.sh" start "$folder/$1")
    for address in $addresses; do export "${address?}"; done
}

# A test's host is one that ssh can't reach.
command -v ssh >/dev/null || need openssh-client /usr/bin/ssh
test -n "${CHIFFON_TEST_POSTGRES_URL:-}" || begin postgres
test -n "${CHIFFON_TEST_AMQP_URL:-}" || begin rabbitmq
export CHIFFON_TEST_SERVICES="$folder"
# Not `exec`: the services are to be stopped afterwards.
"$@"
