#!/bin/sh
# Makes the passwords, certificates and keys that compose.yaml hands out: `sudo sh prepare.sh NAME…`, with every name
# and address by which other machines reach this one. What is there already stays, so it is harmless to run again.
#
# It runs as root, so that each file belongs to the one user that reads it. They go to FOLDER, else to `secrets`.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
folder=${FOLDER:-$here/secrets}
# The users inside the containers.
chiffon=10001
postgres=999
rabbitmq=999

if [ "$(id -u)" != 0 ]; then
    echo "prepare.sh: run it as root: the files belong to the users of the containers" >&2
    exit 1
fi

place() { # FOLDER: each user gets to its own files, and nobody lists them
    mkdir -p "$folder/$1"
    chmod 711 "$folder" "$folder/$1"
}

give() { # USER FILE TEXT: a secret of its own
    test -e "$folder/$2" || printf '%s' "$3" >"$folder/$2"
    chown "$1" "$folder/$2"
    chmod 600 "$folder/$2"
}

key() { # FILE ARGUMENT…: a private key and what is asked of it
    pem=$1
    shift
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$pem" "$@" 2>"$folder/openssl.log" ||
        { cat "$folder/openssl.log" >&2; exit 1; }
}

authority() {
    test -s "$folder/ca.pem" || key "$folder/ca-key.pem" -x509 -days 3650 -subj "/CN=Chiffon's own authority" \
        -addext keyUsage=critical,keyCertSign,cRLSign -out "$folder/ca.pem"
    chmod 644 "$folder/ca.pem"
}

alternatives() { # NAME…
    for name in "$@"; do
        case $name in
        *:*) echo "IP:$name" ;;
        *[!0-9.]*) echo "DNS:$name" ;;
        *) echo "IP:$name" ;;
        esac
    done | paste -sd, -
}

certificate() { # USER FOLDER NAME…: for 825 days; see docs/operations.md
    user=$1
    at=$folder/$2
    shift 2
    place "${at##*/}"
    if [ ! -s "$at/cert.pem" ]; then
        key "$at/key.pem" -subj "/CN=$1" -out "$folder/ask.pem"
        echo "subjectAltName=$(alternatives "$@")" >"$folder/ask.conf"
        openssl x509 -req -in "$folder/ask.pem" -CA "$folder/ca.pem" -CAkey "$folder/ca-key.pem" -CAcreateserial \
            -days 825 -extfile "$folder/ask.conf" -out "$at/cert.pem" 2>"$folder/openssl.log" ||
            { cat "$folder/openssl.log" >&2; exit 1; }
        rm "$folder/ask.pem" "$folder/ask.conf"
    fi
    chown "$user" "$at/cert.pem" "$at/key.pem"
    chmod 600 "$at/key.pem"
}

passwords() {
    database=$(cat "$folder/chiffon/db-password" 2>/dev/null || openssl rand -hex 32)
    give "$chiffon" chiffon/db-password "$database"
    give "$postgres" postgres/password "$database"
    admin=$(cat "$folder/chiffon/management-password" 2>/dev/null || openssl rand -hex 32)
    give "$chiffon" chiffon/management-password "$admin"
    give "$rabbitmq" rabbitmq/admin.conf "default_user = admin
default_pass = $admin
"
}

doors() { # The host key of the git service, and who may come in.
    place git
    test -s "$folder/git/host-key" || ssh-keygen -q -t ed25519 -N '' -C chiffon -f "$folder/git/host-key"
    chown "$chiffon" "$folder/git/host-key"
    give "$chiffon" git/authorized_keys "# One public key a line: a person's as it is, an agent's as README.md says.
"
}

mkdir -p "$folder"
authority
certificate "$chiffon" chiffon chiffon localhost "$@"
certificate "$postgres" postgres postgres
certificate "$rabbitmq" rabbitmq rabbitmq localhost "$@"
passwords
doors
rm -f "$folder/openssl.log"
echo "made $folder: keep ca-key.pem away from every other machine, and give ca.pem to each agent"
