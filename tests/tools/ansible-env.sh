#!/bin/sh
# Makes a private Python environment with one pinned ansible-core: ansible-env.sh 2.19 FOLDER
# Nothing outside FOLDER changes, except that root gets Debian's python3-venv where Python lacks it.
set -eu
series=$1
folder=$2
case "$series" in
    2.19) version=2.19.14 ;;
    2.14) version=2.14.18 ;;
    *) echo "no ansible-core is pinned for $series" >&2; exit 1 ;;
esac

if ! command -v cc >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null
    else
        echo "a C compiler is missing; type: sudo apt-get install gcc libc6-dev" >&2; exit 1
    fi
fi
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "Python's venv is missing; type: sudo apt-get install python3-venv" >&2; exit 1
    fi
fi
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
echo "making $folder with ansible-core $version" >&2
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check "ansible-core==$version"
# The first start compiles Ansible's modules to byte code; later ones are as quick as they will be.
"$folder/bin/ansible-playbook" --version >/dev/null
touch "$folder/.ready"
