#!/usr/bin/env bash
# Runs a command in the subset of OpenWrt's user land without a machine:
# `tests/openwrt/chroot.sh FOLDER [COMMAND...]`. The root file system is made in FOLDER if it is not there, with
# busybox (of BUSYBOX, or the one that is installed); what runs in it is alone with its processes, mounts, network
# and shared memory, and ends with the command.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$1
shift
[ $# -gt 0 ] || set -- /bin/sh
if [ ! -e "$root/bin/busybox" ]; then
    mkdir -p "$root"/{bin,dev,proc,sys,etc,tmp/run,tmp/log,tmp/lock}
    cp -a "$here/root/." "$root/"
    install -m 755 "${BUSYBOX:-$(command -v busybox)}" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    mkdir -p "$root/usr/lib/opkg/info"
    touch "$root/usr/lib/opkg/status"
fi
# shellcheck disable=SC2016 # The inner shell expands these.
exec unshare --mount --pid --net --ipc --uts --fork --kill-child -- /bin/sh -c '
    mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount -t sysfs sysfs "$1/sys" && mount -t tmpfs dev "$1/dev" || exit
    for each in null zero random urandom tty; do : > "$1/dev/$each"; mount --bind "/dev/$each" "$1/dev/$each"; done
    root=$1
    shift
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" chroot "$root" "$@"
' chroot "$root" "$@"
