#!/bin/sh
# Makes a private Python environment: python-env.sh FOLDER MODULES PACKAGE…
# MODULES, with commas between them, must be there afterwards. Nothing outside FOLDER changes, except that root gets Debian's
# python3-venv where Python lacks it.
set -eu
folder=$1
modules=$2
shift 2
if ! python3 -c "import ensurepip, venv" 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "Python's venv is missing; type: sudo apt-get install python3-venv" >&2; exit 1
    fi
fi
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
echo "making $folder with $*" >&2
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
"$folder/bin/python" -c "import $modules"
touch "$folder/.ready"
