#!/bin/sh
# A private RabbitMQ in a folder, on free ports of the loopback interface: `rabbitmq.sh COMMAND FOLDER [ARGUMENT…]`.
#   start  starts it, with FOLDER/more.conf and FOLDER/advanced.config where they are there, waits until it serves, and
#          prints its addresses; where FOLDER/cert.pem and FOLDER/key.pem are there, those with TLS as well
#   stop   asks it to stop, and waits; its name service goes with it
#   kill   SIGKILL, and waits
#   wipe   removes all that it has stored; it has to be stopped
#   ctl    rabbitmqctl with these arguments
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
command=$1
folder=$2
shift 2
bin=/usr/lib/rabbitmq/bin

# The server and its tools see this environment alone.
rabbit() { # PROGRAM ARGUMENT…
    as rabbitmq env -i PATH="$PATH" HOME="$folder" LANG=C.UTF-8 \
        RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_PID_FILE="$folder/pid" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$folder/plugins" RABBITMQ_CONFIG_FILE="$folder/rabbitmq" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$folder/advanced.config" RABBITMQ_CONF_ENV_FILE="$folder/env.conf" \
        RABBITMQ_NODENAME="chiffon-$(port "$folder/port")@localhost" \
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$(port "$folder/port")" \
        RABBITMQ_DIST_PORT="$(port "$folder/dist-port")" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$(port "$folder/epmd-port")" "$@"
}

behind() { # LOG PROGRAM ARGUMENT…: in the background, with nothing open that its caller waits for
    log=$1
    shift
    (
        exec </dev/null >"$log" 2>&1
        rabbit "$@"
    ) &
}

# Erlang's name service, started here so that its process is known and none of it is left behind.
name_service() {
    test ! -f "$folder/epmd-pid" || ! alive "$(cat "$folder/epmd-pid")" || return 0
    behind "$folder/epmd.log" sh -c 'echo $$ >"$HOME/epmd-pid"; exec epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT"'
    # A server that finds none starts one of its own, which nobody would end.
    until_serves $! "$folder/epmd.log" rabbit sh -c 'epmd -names >/dev/null 2>&1'
}

configuration() {
    # Here and not where they are first used: that is in the background.
    for name in port dist-port epmd-port management-port tls-port management-tls-port; do port "$folder/$name" >"$folder/chosen"; done
    echo '[rabbitmq_management].' >"$folder/plugins"
    test -f "$folder/advanced.config" || echo '[].' >"$folder/advanced.config"
    {
        echo management.tcp.ip = 127.0.0.1
        echo management.tcp.port = "$(port "$folder/management-port")"
        if [ -f "$folder/cert.pem" ]; then
            echo listeners.ssl.default = "127.0.0.1:$(port "$folder/tls-port")"
            echo ssl_options.certfile = "$folder/cert.pem"
            echo ssl_options.keyfile = "$folder/key.pem"
            echo management.ssl.ip = 127.0.0.1
            echo management.ssl.port = "$(port "$folder/management-tls-port")"
            echo management.ssl.certfile = "$folder/cert.pem"
            echo management.ssl.keyfile = "$folder/key.pem"
        fi
        if [ -f "$folder/more.conf" ]; then cat "$folder/more.conf"; fi
    } >"$folder/rabbitmq.conf"
    chmod a+r "$folder/plugins" "$folder"/*.conf*
}

end() { # SIGNAL FILE LOG: ends the process whose number is in the file, and waits
    if [ -f "$folder/$2" ]; then
        process=$(cat "$folder/$2")
        rm -f "$folder/$2"
        if alive "$process"; then kill "-$1" "$process"; fi
        # Early in its start the server lets a TERM pass, and would go on.
        looks=0
        while alive "$process" && [ "$looks" -lt 300 ]; do looks=$((looks + 1)) && sleep 0.1; done
        if alive "$process"; then kill -KILL "$process" && gone "$process" "$folder/$3"; fi
    fi
}

# Versions of RabbitMQ (3.10.8 is one) forget now and then to elect the leader of a queue on the only node, when they start
# again after a crash: rabbitmq-server #10070. Who uses such a queue waits for ever.
elect() {
    rabbit "$bin/rabbitmqctl" -q eval '[ra:trigger_election({Name, node()}) || Q <- rabbit_amqqueue:list(),
        {Name, _} <- [amqqueue:get_pid(Q)], ra_leaderboard:lookup_leader(Name) =:= undefined].' >"$folder/elect.log"
}

case $command in
start)
    need rabbitmq-server "$bin/rabbitmq-server"
    own rabbitmq "$folder"
    own_key rabbitmq "$folder"
    echo rabbitmq >"$folder/service"
    configuration
    test -d "$folder/mnesia" && again=yes || again=
    name_service
    # Each virtual host holds files open, and short of them the broker stands still without a word: `runuser` has put the
    # limit back to 1024.
    #
    # Under systemd the script becomes the server itself: so the number that is written first is that of the server, and ends
    # it however far its start has come. `+B i`, a Ctrl-C is not for the server, is what the script leaves out then.
    behind "$folder/server.log" sh -c 'echo $$ >"$HOME/pid"; ulimit -n 65536 2>&- || ulimit -n "$(ulimit -H -n)"
        RUNNING_UNDER_SYSTEMD=true RABBITMQ_SERVER_START_ARGS="+B i" exec "$0"' "$bin/rabbitmq-server"
    # Both ports accept before they serve; the management's answers come last.
    until_serves $! "$folder/server.log" python3 "$here/serves.py" "$(cat "$folder/port")" "$(cat "$folder/management-port")"
    test -z "$again" || elect
    echo "CHIFFON_TEST_AMQP_URL=amqp://guest:guest@127.0.0.1:$(cat "$folder/port")"
    echo "CHIFFON_TEST_AMQP_MANAGEMENT_URL=http://guest:guest@127.0.0.1:$(cat "$folder/management-port")"
    if [ -f "$folder/cert.pem" ]; then
        echo "CHIFFON_TEST_AMQPS_URL=amqps://guest:guest@127.0.0.1:$(cat "$folder/tls-port")"
        echo "CHIFFON_TEST_AMQPS_MANAGEMENT_URL=https://guest:guest@127.0.0.1:$(cat "$folder/management-tls-port")"
    fi
    ;;
stop)
    end TERM pid server.log
    end TERM epmd-pid epmd.log
    ;;
kill) end KILL pid server.log ;;
wipe) rm -rf "$folder/mnesia" ;;
ctl) rabbit "$bin/rabbitmqctl" -q "$@" ;;
*)
    echo "rabbitmq.sh: $command is no command" >&2
    exit 2
    ;;
esac
