#!/bin/bash
# Makes the virtual environment .venv with cronexec and everything that its tests need. Run from the root of the checkout.
# PYTHON names the interpreter to use (python3 if unset).
set -eu

. "$(dirname "$0")/debian.sh"

python=${PYTHON:-python3}

command -v "$python" >/dev/null ||
    give_up "$python is missing: install Python 3.11 or later, or name one: make PYTHON=/path/to/python3 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    give_up "$("$python" -V) is too old: cronexec needs 3.11 or later; name one: make PYTHON=/path/to/python3 ..."

# Debian's python3 comes without the module that puts pip into a virtual environment.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    can_apt || give_up "$python cannot make virtual environments: install python3-venv (as root: apt-get install python3-venv)."
    apt_install python3-venv || give_up "apt-get could not install python3-venv, it said: $last_apt_output"
fi

say "making .venv"
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
