# Shared by the setup scripts; sourced, not run. Fetches packages of Debian and leaves the rest of the machine as it was.

say() { printf 'setup: %s\n' "$*" >&2; }

# give_up SENTENCE: what is missing and how to get it
give_up() {
    say "$*"
    exit 1
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: without recommended packages, and without starting or enabling any service on the way.
apt_install() {
    say "installing $* (apt-get)"
    before=$(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' 2>/dev/null | awk '$2 == "ii" {print $1}')
    policy=/usr/sbin/policy-rc.d # package scripts ask it before they start a service; 101 means no
    own_policy=
    if [ ! -e "$policy" ]; then
        own_policy=yes
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    installed=yes
    apt_quietly install "$@" || { apt_quietly update && apt_quietly install "$@"; } || installed=
    if [ -n "$own_policy" ]; then
        rm -f "$policy"
        trap - EXIT INT TERM
    fi
    disable_new_services "$before"
    [ -n "$installed" ]
}

# apt_quietly ACTION [PACKAGE...]: prints apt's output only when it fails
apt_quietly() {
    action=$1
    shift
    if ! output=$(DEBIAN_FRONTEND=noninteractive apt-get "$action" -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=60 "$@" 2>&1); then
        [ "$action" = update ] && printf '%s\n' "$output" >&2
        last_apt_output=$output
        return 1
    fi
}

# disable_new_services PACKAGES_BEFORE: what was installed just now must not start at the next boot either
disable_new_services() {
    for package in rabbitmq-server erlang-base; do
        printf '%s\n' "$1" | grep -qx "$package" && continue
        dpkg-query -L "$package" 2>/dev/null | sed -n 's#.*/systemd/system/\([^/@]*\.\(service\|socket\)\)$#\1#p' |
            while read -r unit; do
                DPKG_MAINTSCRIPT_PACKAGE=$package deb-systemd-helper disable "$unit" >/dev/null 2>&1 || true
            done
        [ ! -e "/etc/init.d/$package" ] || update-rc.d "$package" disable >/dev/null 2>&1 || true
    done
}
