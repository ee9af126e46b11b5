#!/bin/sh
# Installs Milepost's @NAME@ from this directory, or takes it away again. Run it twice and nothing changes.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
usage: ./install.sh [--root DIR] [--dry-run]
       ./install.sh --uninstall [--root DIR] [--dry-run]

Puts the program into /usr/local/bin/@NAME@, its unit into /etc/systemd/system, an example of its settings
into /etc/milepost (only where there are none), and makes the user milepost. A service that runs is
restarted; a new one is not started: give it its settings, then
  systemctl enable --now milepost-@NAME@

  --root DIR    install below DIR, for images; no service is touched
  --uninstall   the program and its unit go; settings, spool and user stay
  --dry-run     only say what would be done
TEXT
}

die() {
    printf '✗ %s\n  do: %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}

root='' act='' uninstall=''
while [ $# -gt 0 ]; do
    case $1 in
        --root) root=${2:?--root needs a directory}; shift ;;
        --uninstall) uninstall=1 ;;
        --dry-run) act=echo ;;
        --help | -h) usage; exit 0 ;;
        *) die "unknown option '$1'" "./install.sh --help" 2 ;;
    esac
    shift
done

if [ -z "$root$act" ] && [ "$(id -u)" != 0 ]; then die "only root may install" "sudo $0"; fi
live=''
if [ -z "$root" ] && [ -d /run/systemd/system ]; then live=1; fi

if [ -n "$uninstall" ]; then
    if [ -n "$live" ]; then $act systemctl disable --now milepost-@NAME@.service || true; fi
    $act rm -f "$root/usr/local/bin/@NAME@" "$root/etc/systemd/system/milepost-@NAME@.service"
    if [ -n "$live" ]; then $act systemctl daemon-reload; fi
    echo "✓ removed; /etc/milepost and /var/lib/milepost stay"
    exit 0
fi

sha256sum --check --quiet SHA256SUMS || die "a file here is not as it was packed" "fetch and unpack the archive again"
if [ -z "$root" ] && ! ./@NAME@ version >/dev/null; then
    die "the program does not run on this machine ($(uname -m))" "take the archive for it"
fi

if ! grep -q '^milepost:' "$root/etc/passwd"; then
    $act useradd ${root:+--prefix "$root"} --system --user-group --no-create-home \
        --home-dir /var/lib/milepost --shell /usr/sbin/nologin milepost
fi
$act mkdir -p "$root/usr/local/bin" "$root/etc/systemd/system" "$root/etc/milepost"
# Renamed into place: a program that runs cannot be written to, and half a program must not be started.
$act cp ./@NAME@ "$root/usr/local/bin/@NAME@.new"
$act chmod 0755 "$root/usr/local/bin/@NAME@.new"
$act mv "$root/usr/local/bin/@NAME@.new" "$root/usr/local/bin/@NAME@"
$act cp milepost-@NAME@.service "$root/etc/systemd/system/"
if [ ! -e "$root/etc/milepost/@NAME@.toml" ]; then
    $act cp @NAME@.toml "$root/etc/milepost/"
    # Settings may hold a password.
    group=$(sed -n 's/^milepost:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")
    if [ "$(id -u)" = 0 ]; then $act chgrp "${group:-milepost}" "$root/etc/milepost" "$root/etc/milepost/@NAME@.toml"; fi
    $act chmod 0750 "$root/etc/milepost"
    $act chmod 0640 "$root/etc/milepost/@NAME@.toml"
fi
if [ -n "$live" ]; then
    $act systemctl daemon-reload
    $act systemctl try-restart milepost-@NAME@.service
fi
echo "✓ installed $root/usr/local/bin/@NAME@"
echo "next: settings in /etc/milepost/@NAME@.toml, then systemctl enable --now milepost-@NAME@"
