#!/usr/bin/env bash
# The agent as one file that needs nothing of the router but its kernel:
#
#   scripts/build-static.sh x86_64|aarch64|armv7
#       with Debian's static C libraries, for a router with any C library
#   scripts/build-static.sh --target TRIPLE --sysroot DIR [--linker CC]
#       with the static libmnl and libnftnl of a folder, for instance an OpenWrt SDK's staging_dir/target-*, whose
#       CC is staging_dir/toolchain-*/bin/*-openwrt-linux-*-gcc
#   scripts/build-static.sh --cross TRIPLE
#       with cross and the container that cross.toml describes
#
# With --small as the last word, the standard library is built too, for size, which needs its source (rustup component
# add rust-src): a tenth less.
#
# The binary is target/static/NAME/qod-agent, NAME the first word or the triple, and what it was made of is in
# sysroot.txt beside it: with the same of all of that, the same bytes.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/sysroot.sh
. scripts/lib/sysroot.sh
# shellcheck source=scripts/lib/static.sh
. scripts/lib/static.sh

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "scripts/${0##*/}" >&2
    exit 2
}

NAME=
TRIPLE=
SYSROOT=
LINKER=
CROSS=
SMALL=
while [ $# -gt 0 ]; do
    case $1 in
        x86_64 | aarch64 | armv7) NAME=$1 && shift ;;
        --small) SMALL=yes && shift ;;
        --target | --sysroot | --linker | --cross)
            [ -n "${2:-}" ] || usage
            case $1 in
                --target) TRIPLE=$2 ;;
                --sysroot) SYSROOT=$2 ;;
                --linker) LINKER=$2 ;;
                --cross) CROSS=$2 ;;
            esac
            shift 2
            ;;
        *) usage ;;
    esac
done
case ${NAME:+name}${CROSS:+cross}${TRIPLE:+target}${SYSROOT:+sysroot}${LINKER:+linker} in
    name | cross | targetsysroot | targetsysrootlinker) ;;
    *) usage ;;
esac
[ -z "$SMALL" ] || [ -z "$CROSS" ] || usage

NEEDED=("${NEEDED_FOR_STATIC[@]}")
case $NAME in
    x86_64) TRIPLE=x86_64-unknown-linux-gnu LINKER=x86_64-linux-gnu-gcc PACKAGE=gcc-x86-64-linux-gnu ;;
    aarch64) TRIPLE=aarch64-unknown-linux-gnu LINKER=aarch64-linux-gnu-gcc PACKAGE=gcc-aarch64-linux-gnu ;;
    armv7) TRIPLE=armv7-unknown-linux-gnueabihf LINKER=arm-linux-gnueabihf-gcc PACKAGE=gcc-arm-linux-gnueabihf ;;
esac
if [ -n "$NAME" ]; then
    # Where it is the machine's own compiler, it is in the package that has no architecture in its name.
    [ "$NAME" != "$(uname -m)" ] || PACKAGE=gcc
    NEEDED+=("${NEEDED_FOR_SYSROOT[@]}" "$LINKER:$PACKAGE")
fi
install_packages
need_rust
if [ -n "$NAME" ] && [ ! -d "$(rust_lld)" ]; then
    NEEDED+=(ld.lld:lld)
    install_packages
fi

if [ -n "$CROSS" ]; then
    NAME=$CROSS
    build_with_cross "$CROSS"
else
    if [ -n "$NAME" ]; then
        debian_sysroot "$NAME"
    else
        NAME=$TRIPLE
        LINKER=${LINKER:-cc}
        SYSROOT=$(cd "$SYSROOT" 2> /dev/null && pwd) || die "there is no such sysroot"
    fi
    has "$LINKER" || die "there is no $LINKER"
    build_with_sysroot "$NAME" "$TRIPLE" "$SYSROOT" "$LINKER"
fi
BINARY=target/static/$NAME/qod-agent
ls -l "$BINARY"
