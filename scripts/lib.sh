# Shell functions shared by scripts/quickstart, scripts/test and .ci/run. Source it; it runs nothing by itself.
#
# Everything here is idempotent and says what it does. It needs apt and a root shell (or sudo) only when something
# is missing; where there is no apt it names what to install and goes on if it is there under another name.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${PORTSIDE_VENV:-$ROOT/.venv}
export PORTSIDE_SERVERS=${PORTSIDE_SERVERS:-$VENV/servers}
export PORTSIDE_TEST_SERVERS=$PORTSIDE_SERVERS
export DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "== $*"; }
die() { printf '%s\n' "$(basename "$0"): $*" >&2; exit 1; }

# timed WHAT COMMAND…: run it and say how long it took.
timed() {
    local what=$1 started=$SECONDS code=0
    shift
    "$@" || code=$?
    if [ "$code" = 0 ]; then say "$what: done in $((SECONDS - started)) s"
    else say "$what: FAILED (exit $code) after $((SECONDS - started)) s"; fi
    return "$code"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo --preserve-env=DEBIAN_FRONTEND "$@"
    else die "this needs root: $*. Run as root, or install sudo."; fi
}

_missing_packages() {
    local package
    for package; do
        case $(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null) in ii*) ;; *) echo "$package" ;; esac
    done
}

_apt_updated=
_apt_update() {
    [ -n "$_apt_updated" ] && return
    as_root apt-get -qq update || die "apt-get update failed; check the network and /etc/apt"
    _apt_updated=yes
}

# No package that we install may start a service: Debian asks policy-rc.d first (101: not allowed).
_without_services() {
    local policy=/usr/sbin/policy-rc.d code=0
    if [ -e $policy ]; then "$@"; return; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    "$@" || code=$?
    as_root rm -f $policy
    return $code
}

# apt_need PACKAGE…: install what is missing.
apt_need() {
    command -v apt-get >/dev/null || { say "no apt-get here; you need what Debian calls: $*"; return; }
    local missing
    missing=$(_missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] && return
    say "installing with apt: $missing"
    _apt_update
    # shellcheck disable=SC2086
    _without_services as_root apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install $missing >"$(_log apt)" 2>&1 ||
        { tail -30 "$(_log apt)" >&2; die "apt-get could not install: $missing"; }
}

_log() { mkdir -p "$VENV/log" && echo "$VENV/log/$1.log"; }

_suits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The interpreter for the virtual environment, in $PYTHON: a suitable one that is there already, else Debian's.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        [ -n "$candidate" ] && candidate=$(command -v "$candidate") || continue
        case $candidate in "$VENV"/*) continue ;; esac
        if _suits "$candidate"; then
            PYTHON=$candidate
            return
        fi
    done
    apt_need python3 python3-venv
    _suits /usr/bin/python3 || die "Python 3.11 or later with venv is needed; set PYTHON to one"
    PYTHON=/usr/bin/python3
}

# What it takes to build pyfuse3, which has no binary wheels, and to mount.
need_fuse() {
    apt_need fuse3 libfuse3-dev pkg-config gcc libc6-dev ca-certificates
    find_python
    "$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        apt_need python3-dev
}

# make_venv EXTRA: the checkout installed in $VENV with that extra. Quick if nothing changed since the last time.
make_venv() {
    local extra=$1 stamp made wanted
    find_python
    stamp=$VENV/.portside-$extra
    wanted=$(cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt" <(echo "$VENV $PYTHON $("$PYTHON" -V)") | sha256sum)
    # the extra "test" has all the others in it
    for made in "$stamp" "$VENV/.portside-test"; do
        if [ -x "$VENV/bin/portside" ] && [ "$(cat "$made" 2>/dev/null)" = "$wanted" ]; then return; fi
    done
    say "installing portside[$extra] into $VENV (pyfuse3 is compiled; a minute or two the first time)"
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$VENV"/{bin,lib,lib64,include,pyvenv.cfg}
        "$PYTHON" -m venv --prompt portside "$VENV" || die "could not make a virtual environment with $PYTHON"
    fi
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off \
        -c "$ROOT/constraints.txt" -e "$ROOT[$extra]" >"$(_log pip)" 2>&1 ||
        { tail -40 "$(_log pip)" >&2; die "pip could not install portside[$extra]"; }
    echo "$wanted" >"$stamp"
}

# unpack_server PACKAGE: a server that cannot be installed beside the others, unpacked into $PORTSIDE_SERVERS.
# Its libraries come from apt; the server itself is never "installed", so no conflict and no service.
unpack_server() {
    local package=$1 folder stamp=$PORTSIDE_SERVERS/.$1
    command -v apt-get >/dev/null || { say "no apt-get here: not unpacking $package"; return; }
    if [ ! -e "$stamp" ]; then
        _apt_update
        folder=$(mktemp -d)
        (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$package" >/dev/null) ||
            die "could not download $package"
        mkdir -p "$PORTSIDE_SERVERS"
        dpkg -x "$folder"/*.deb "$PORTSIDE_SERVERS"
        dpkg-deb -f "$folder"/*.deb Depends | tr ',' '\n' | sed 's/^ *//; s/[ (|:].*//' |
            { grep -E '^(lib|zlib|netbase)' || true; } | sort -u >"$stamp.new"
        mv "$stamp.new" "$stamp"
        rm -rf "$folder"
        say "unpacked $package into $PORTSIDE_SERVERS"
    fi
    # shellcheck disable=SC2046
    [ ! -s "$stamp" ] || apt_need $(cat "$stamp")
}

# Azure's emulator: npm has it and Debian has not. Its version stands here: npm has no constraints file.
AZURITE=3.37.0
need_azurite() {
    local folder=$PORTSIDE_SERVERS/npm
    grep -qs "\"version\": \"$AZURITE\"" "$folder/node_modules/azurite/package.json" && return
    command -v node >/dev/null && command -v npm >/dev/null || apt_need nodejs npm
    command -v npm >/dev/null || { say "no npm here: not installing azurite"; return; }
    say "installing azurite $AZURITE with npm"
    mkdir -p "$folder"
    (cd "$folder" && npm install --silent --no-audit --no-fund --no-save --no-package-lock "azurite@$AZURITE") \
        >"$(_log npm)" 2>&1 || { tail -20 "$(_log npm)" >&2; die "npm could not install azurite"; }
}

# The real Lektor, whose deployments ours must go on from; apart, as it needs older libraries than we do.
need_lektor() {
    [ -x "$VENV/lektor/bin/lektor" ] && return
    say "installing Lektor into $VENV/lektor"
    "$PYTHON" -m venv "$VENV/lektor"
    "$VENV/lektor/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off \
        'lektor>=3.3.12' 'setuptools<81' >"$(_log lektor)" 2>&1 ||
        { tail -20 "$(_log lektor)" >&2; die "pip could not install Lektor"; }
}

# Programs that tests talk to, and the servers of tests/servers/install.py.
need_servers() {
    local package packages
    apt_need lftp ncftp tnftp wget curl sqlite3 openssl procps psmisc systemd mount attr rsync git make fio stress-ng
    apt_need openssh-server openssh-client strace iproute2 iptables faketime
    apt_need apache2-bin nginx-light samba python3-swift
    packages=$(cd "$ROOT" && "$VENV/bin/python" -c 'from tests.servers.install import PACKAGES; print(*PACKAGES)')
    for package in $packages; do unpack_server "$package"; done
    need_lektor
    need_azurite
}
