#!/bin/sh
# Runs a command with services of its own: `services.sh COMMAND…`. A private PostgreSQL and a private RabbitMQ on free
# ports of the loopback interface, in a temporary folder; stopped and removed at the end, also after a failure. URLs that
# are set already (CHIFFON_TEST_POSTGRES_URL; CHIFFON_TEST_AMQP_URL with CHIFFON_TEST_AMQP_MANAGEMENT_URL) are taken
# instead.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/chiffon-services.XXXXXX")
chmod 755 "$folder"
stops=

stop() {
    status=$?
    trap '' EXIT INT TERM HUP
    for service in $stops; do
        "stop_$service" >>"$folder/stop.log" 2>&1 || echo "services: $service did not stop: see $folder/stop.log" >&2
    done
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

need() { # PACKAGE PROGRAM: has the program, or installs Debian's package of it
    test -x "$2" && return
    if [ "$(id -u)" != 0 ]; then
        echo "services: $2 is missing; type: sudo apt-get install -y --no-install-recommends $1" >&2
        exit 1
    fi
    echo "services: installing $1" >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1"; } >"$folder/apt.log" 2>&1 ||
        { tail -5 "$folder/apt.log" >&2; exit 1; }
}

as() { # USER COMMAND…: as a user that the service accepts
    user=$1
    shift
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u "$user" -- "$@"); else (cd / && "$@"); fi
}

own() { # USER FOLDER: a folder for that user
    mkdir -p "$2"
    if [ "$(id -u)" = 0 ]; then chown "$1" "$2"; fi
}

port() { python3 "$here/free-port.py"; }

start_postgres() {
    need postgresql "$(postgres_folder)/initdb"
    bin=$(postgres_folder)
    own postgres "$folder/postgres"
    postgres_port=$(port)
    as postgres "$bin/initdb" -A trust -E UTF8 --locale=C -U chiffon -D "$folder/postgres/data" >"$folder/initdb.log"
    stops="postgres $stops"
    # In the foreground of this shell, so that its end is seen here.
    as postgres "$bin/postgres" -D "$folder/postgres/data" -c listen_addresses=127.0.0.1 -c port="$postgres_port" \
        -c unix_socket_directories="$folder/postgres" -c max_connections=500 >"$folder/postgres.log" 2>&1 &
    postgres_pid=$!
    until "$bin/pg_isready" -q -h 127.0.0.1 -p "$postgres_port"; do
        kill -0 "$postgres_pid" 2>/dev/null || { cat "$folder/postgres.log" >&2; exit 1; }
        sleep 0.1
    done
    export CHIFFON_TEST_POSTGRES_URL="postgres://chiffon@127.0.0.1:$postgres_port/postgres"
}

stop_postgres() {
    as postgres "$(postgres_folder)/pg_ctl" -m immediate -D "$folder/postgres/data" stop
    wait "$postgres_pid" || :
}

postgres_folder() {
    for found in /usr/lib/postgresql/*/bin; do :; done
    echo "$found"
}

start_rabbitmq() {
    need rabbitmq-server "$rabbitmq_bin/rabbitmq-server"
    own rabbitmq "$folder/rabbitmq"
    epmd_port=$(port)
    rabbitmq_port=$(port)
    management_port=$(port)
    # The name service of Erlang, so that its process is known here and none of it is left behind.
    as rabbitmq epmd -address 127.0.0.1 -port "$epmd_port" >"$folder/epmd.log" 2>&1 &
    epmd_pid=$!
    stops="epmd $stops"
    echo '[rabbitmq_management].' >"$folder/rabbitmq/plugins"
    cat >"$folder/rabbitmq/rabbitmq.conf" <<CONF
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
CONF
    chmod -R a+rX "$folder/rabbitmq"
    # Each virtual host holds files open, and short of them the broker stands still without a word: `runuser` has put the
    # limit back to 1024.
    as rabbitmq env -i PATH="$PATH" HOME="$folder/rabbitmq" LANG=C.UTF-8 \
        RABBITMQ_MNESIA_BASE="$folder/rabbitmq/mnesia" RABBITMQ_LOG_BASE="$folder/rabbitmq/log" \
        RABBITMQ_PID_FILE="$folder/rabbitmq/pid" RABBITMQ_ENABLED_PLUGINS_FILE="$folder/rabbitmq/plugins" \
        RABBITMQ_CONFIG_FILE="$folder/rabbitmq/rabbitmq" RABBITMQ_CONF_ENV_FILE="$folder/rabbitmq/env.conf" \
        RABBITMQ_NODENAME="chiffon-$rabbitmq_port@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
        RABBITMQ_NODE_PORT="$rabbitmq_port" RABBITMQ_DIST_PORT="$(port)" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$epmd_port" \
        sh -c 'ulimit -n 65536 2>&- || ulimit -n "$(ulimit -H -n)"; exec "$0"' "$rabbitmq_bin/rabbitmq-server" >"$folder/rabbitmq.log" 2>&1 &
    rabbitmq_pid=$!
    stops="rabbitmq $stops"
    # Both ports accept before they serve; the management's answers come last.
    until python3 "$here/serves.py" "$rabbitmq_port" "$management_port"; do
        kill -0 "$rabbitmq_pid" 2>/dev/null || { cat "$folder/rabbitmq.log" >&2; exit 1; }
        sleep 0.1
    done
    export CHIFFON_TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:$rabbitmq_port"
    export CHIFFON_TEST_AMQP_MANAGEMENT_URL="http://guest:guest@127.0.0.1:$management_port"
}

stop_rabbitmq() {
    kill -TERM "$(cat "$folder/rabbitmq/pid")"
    wait "$rabbitmq_pid" || :
}

stop_epmd() {
    pkill -TERM -f "^epmd -address 127.0.0.1 -port $epmd_port$" || :
    wait "$epmd_pid" || :
}

rabbitmq_bin=/usr/lib/rabbitmq/bin
# A test's host is one that ssh can't reach.
command -v ssh >/dev/null || need openssh-client /usr/bin/ssh
test -n "${CHIFFON_TEST_POSTGRES_URL:-}" || start_postgres
test -n "${CHIFFON_TEST_AMQP_URL:-}" || start_rabbitmq
# Not `exec`: the services are to be stopped afterwards.
"$@"
