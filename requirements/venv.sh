#!/usr/bin/env bash
# Makes or brings up to date the virtual environment FOLDER from LOCK: requirements/venv.sh FOLDER LOCK [pip's options]
set -euo pipefail
folder=$1 lock=$2 options=("${@:3}")
python=${PYTHON:-python3}

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

command -v "$python" >/dev/null || fail "$python is missing: install Python 3.11 or newer (on Debian: apt-get install python3 python3-venv), or name one with make setup PYTHON=..."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is version $version, but 3.11 or newer is needed: name a newer one with make setup PYTHON=python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$python -m venv is missing its parts: install the system package python$version-venv (on Debian and Ubuntu: apt-get install python$version-venv), then run make setup again"

# A folder whose interpreter no longer starts (a moved checkout, a removed Python) is made anew.
"$folder/bin/python" -m pip --version >/dev/null 2>&1 || { echo "making $folder with Python $version"; "$python" -m venv --clear "$folder"; }
packages=$(grep -c '==' "$lock")
echo "installing $packages packages of $lock into $folder"
"$folder/bin/python" -m pip install --no-compile --progress-bar off --disable-pip-version-check --require-hashes "${options[@]}" -r "$lock" 2>&1 |
  awk -v of="$packages" '/^ *ERROR/ { failed = 1 } failed { print; next }
    /^Collecting/ && ++n % 20 == 0 { print "  fetched " n " of " of; fflush() }
    /^ *Downloading .*\([0-9][0-9]+(\.[0-9]+)? MB\)/ { print "  fetching " $2 " " $3 " " $4; fflush() }
    /^Installing collected/ { print "  unpacking"; fflush() }'
