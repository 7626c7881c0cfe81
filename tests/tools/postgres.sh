#!/bin/sh
# A private PostgreSQL in a folder, on a free port of the loopback interface: `postgres.sh COMMAND FOLDER`.
#   start      makes the database where there is none, waits until it serves, and prints its address for tests; with
#              TLS where FOLDER/cert.pem and FOLDER/key.pem are there
#   stop       stops at once, and waits
#   immediate  the same: as if the power had gone
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
command=$1
folder=$2

bin() {
    for found in /usr/lib/postgresql/*/bin; do :; done
    echo "$found"
}

case $command in
start)
    need postgresql "$(bin)/initdb"
    own postgres "$folder"
    own_key postgres "$folder"
    echo postgres >"$folder/service"
    port=$(port "$folder/port")
    test -d "$folder/data" ||
        as postgres "$(bin)/initdb" -A trust -E UTF8 --locale=C -U chiffon -D "$folder/data" >"$folder/initdb.log"
    tls=
    test ! -f "$folder/cert.pem" || tls="-c ssl=on -c ssl_cert_file='$folder/cert.pem' -c ssl_key_file='$folder/key.pem'"
    as postgres "$(bin)/pg_ctl" -s -w -D "$folder/data" -l "$folder/data/log" -o "-c listen_addresses=127.0.0.1 -c port=$port \
        -c unix_socket_directories='$folder' -c max_connections=500 $tls" start </dev/null >&2
    echo "CHIFFON_TEST_POSTGRES_URL=postgres://chiffon@127.0.0.1:$port/postgres"
    ;;
stop | immediate)
    if [ -f "$folder/data/postmaster.pid" ]; then
        as postgres "$(bin)/pg_ctl" -s -w -m immediate -D "$folder/data" stop
    fi
    ;;
*)
    echo "postgres.sh: $command is no command" >&2
    exit 2
    ;;
esac
