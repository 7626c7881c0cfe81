# What the scripts of the services share; read by them, never run. `$here` is the folder of the script.

need() { # PACKAGE PROGRAM: has the program, or installs Debian's package of it
    test -x "$2" && return
    if [ "$(id -u)" != 0 ]; then
        echo "services: $2 is missing; type: sudo apt-get install -y --no-install-recommends $1" >&2
        exit 1
    fi
    echo "services: installing $1" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt=$(mktemp)
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1"; } >"$apt" 2>&1 || { tail -5 "$apt" >&2; exit 1; }
    rm "$apt"
}

as() { # USER COMMAND…: as a user that the service accepts
    user=$1
    shift
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u "$user" -- "$@"); else (cd / && "$@"); fi
}

own() { # USER FOLDER: a folder for that user
    mkdir -p "$2"
    chmod 755 "$2"
    if [ "$(id -u)" = 0 ]; then chown "$1" "$2"; fi
}

own_key() { # USER FOLDER: the key of its certificate, where there is one: servers take none that others can read
    test -f "$2/key.pem" || return 0
    chmod 600 "$2/key.pem"
    if [ "$(id -u)" = 0 ]; then chown "$1" "$2/key.pem"; fi
}

port() { # FILE: a free port, the same one as long as the file is there
    test -s "$1" || python3 "$here/free-port.py" >"$1"
    cat "$1"
}

alive() { # PID: it runs; one that has ended and that nobody has waited for does not
    case $(sed 's/.*) //' "/proc/$1/stat" 2>&-) in '' | Z*) return 1 ;; esac
}

gone() { # PID LOG: waits until it does not run; fails with the log where that takes too long
    looks=0
    while alive "$1"; do
        looks=$((looks + 1))
        test "$looks" -lt 2400 || given_up "process $1 does not end" "$2"
        sleep 0.05
    done
}

until_serves() { # PID LOG COMMAND…: waits until the command succeeds; fails with the log where the process is gone or slow
    pid=$1
    log=$2
    shift 2
    looks=0
    until "$@"; do
        alive "$pid" || given_up "it ended before it served" "$log"
        looks=$((looks + 1))
        test "$looks" -lt 600 || given_up "it did not serve for long" "$log"
        sleep 0.2
    done
}

given_up() { # WORDS LOG
    echo "services: $1:" >&2
    tail -n 15 "$2" >&2
    exit 1
}
