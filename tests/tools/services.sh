#!/bin/sh
# Runs a command with services of its own: `services.sh COMMAND…`. A private PostgreSQL and a private RabbitMQ on free
# ports of the loopback interface, in a temporary folder; stopped and removed at the end, also after a failure. URLs that
# are set already (CHIFFON_TEST_POSTGRES_URL; CHIFFON_TEST_AMQP_URL with CHIFFON_TEST_AMQP_MANAGEMENT_URL) are taken
# instead. What a test starts in CHIFFON_TEST_SERVICES, to do it harm, is stopped at the end as well.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
case ${CHIFFON_TEST_AMQP_URL:+url}${CHIFFON_TEST_AMQP_MANAGEMENT_URL:+management} in
url | management)
    echo "services: CHIFFON_TEST_AMQP_URL and CHIFFON_TEST_AMQP_MANAGEMENT_URL: set both, or neither" >&2
    exit 2
    ;;
esac
folder=$(mktemp -d "${TMPDIR:-/tmp}/chiffon-services.XXXXXX")
chmod 755 "$folder"

child=
stop() {
    status=$?
    trap '' EXIT INT TERM HUP
    if [ -n "$child" ] && alive "$child"; then
        kill -s TERM -- "-$child"
        (gone "$child" /dev/null) || kill -s KILL -- "-$child"
    fi
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
# Not `exec`: the services are to be stopped afterwards. In the background, so that a signal is heard at once; a group of its
# own, so that it is passed on to all of it. What is in the background would ignore a Ctrl-C otherwise.
exec 3<&0
setsid env --default-signal=INT,QUIT "$@" <&3 3<&- &
child=$!
wait "$child"
