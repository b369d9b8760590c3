#!/bin/bash
# Gets the RabbitMQ versions that `make test-brokers` needs and the machine has not. Run from the root of the checkout, as root.
#
# Each comes as a small Debian system in .servers/rabbitmq-VERSION: no released Debian has more than one, but the mirrors that the
# machine's own apt sources name carry them all. Nothing is installed on the machine itself, except debootstrap where it is missing.
set -eu

. "$(dirname "$0")/debian.sh"

folder=$PWD/.servers
releases="3.10=bookworm 4.0=trixie 4.3=sid"
export DPKG_FORCE=unsafe-io # a folder that is half there after a power cut is fetched again

# full_version ROOT: of the RabbitMQ in there, such as 4.0.5; nothing if there is none
full_version() { ls "$1/usr/lib/rabbitmq/lib" 2>/dev/null | sed -n 's/^rabbitmq_server-//p' | head -n 1; }

# has ROOT VERSION: whether the RabbitMQ in there is of that version
has() { case $(full_version "$1"). in "$2".*) true ;; *) false ;; esac; }

# mirror: "URI KEYRING" of the first source of apt that has Debian's releases (KEYRING - if it names none)
mirror() {
    "${PYTHON:-python3}" deploy/setup/bullseye.py | sed -n 's/ bullseye main$//p' | head -n 1 |
        sed -n -e 's/^deb \[signed-by=\(.*\)\] \(.*\)$/\2 \1/p' -e 's/^deb \([^[].*\)$/\1 -/p'
}

# get VERSION RELEASE: into a folder beside the final one, whose name thus says that it is complete
get() {
    root=$folder/rabbitmq-$1
    work=$root.part
    log=$folder/rabbitmq-$1.log
    rm -rf "$work"
    script=
    [ -e "/usr/share/debootstrap/scripts/$2" ] || script=/usr/share/debootstrap/scripts/sid # newer than this debootstrap
    # shellcheck disable=SC2086  no keyring and no script are no words
    debootstrap --variant=minbase --include=rabbitmq-server $keyring_option "$2" "$work" "$uri" $script >"$log" 2>&1 ||
        give_up "RabbitMQ $1 could not be fetched from Debian's $2; the reason is at the end of $log."
    has "$work" "$1" || give_up "Debian's $2 has RabbitMQ $(full_version "$work") now, and not $1."
    echo "127.0.0.1 localhost" >"$work/etc/hosts"
    rm -rf "$work"/var/cache/apt/archives/*.deb "$log"
    mv "$work" "$root"
    say "RabbitMQ $(full_version "$root") is in .servers/rabbitmq-$1"
}

missing=
for each in $releases; do
    version=${each%=*}
    has / "$version" || has "$folder/rabbitmq-$version" "$version" || missing="$missing $each"
done
[ -n "$missing" ] || exit 0

can_apt || give_up "RabbitMQ $(echo $missing | sed 's/=[a-z]*//g; s/ / and /g') cannot be fetched: that takes Debian's apt-get and debootstrap, as root."
command -v debootstrap >/dev/null || apt_install debootstrap || give_up "apt-get could not install debootstrap, it said: ${last_apt_output:-}"
read -r uri keyring < <(mirror) || give_up "apt's sources name no mirror of Debian, so RabbitMQ cannot be fetched."
keyring_option=--no-check-gpg # the sources trust the mirror by other means
[ "$keyring" != - ] || keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ ! -e "$keyring" ] || keyring_option=--keyring=$keyring

mkdir -p "$folder"
pids=
for each in $missing; do
    say "fetching RabbitMQ ${each%=*} into .servers (Debian ${each#*=})"
    get "${each%=*}" "${each#*=}" &
    pids="$pids $!"
done
failed=
for pid in $pids; do wait "$pid" || failed=yes; done
[ -z "$failed" ]
