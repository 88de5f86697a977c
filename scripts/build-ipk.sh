#!/usr/bin/env bash
# The package for OpenWrt, and the index of a feed with it:
#
#   scripts/build-ipk.sh ARCH [BINARY] [--sign KEY] [--sign-apk KEY]
#
# ARCH is OpenWrt's name of a package architecture, as `opkg print-architecture` or `apk --print-arch` says on the
# router. BINARY is the static agent; without it, scripts/build-static.sh makes it, where Debian's packages can.
# The result is in target/openwrt/ARCH/: an .ipk for OpenWrt up to 24.10, an .apk for 25.12 and later if there is
# an apk (apk-tools 3) to make it, and what scripts/build-feed.sh makes of them, which has the keys explained.
#
# What is in the package is said by openwrt-package/. The same source and BINARY make the same bytes everywhere:
# the time in them is SOURCE_DATE_EPOCH, else that of the last commit.
set -euo pipefail
FROM=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/elf.sh
. scripts/lib/elf.sh
# shellcheck source=scripts/lib/ipk.sh
. scripts/lib/ipk.sh
# shellcheck source=scripts/lib/apk.sh
. scripts/lib/apk.sh

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "scripts/${0##*/}" >&2
    exit 2
}

# absolute PATH: of what the caller named in the folder where it is.
absolute() {
    case $1 in
        /*) printf '%s' "$1" ;;
        *) printf '%s' "$FROM/$1" ;;
    esac
}

WORDS=()
SIGNING=()
while [ $# -gt 0 ]; do
    case $1 in
        --sign | --sign-apk)
            [ -n "${2:-}" ] || usage
            SIGNING+=("$1" "$(absolute "$2")")
            shift 2
            ;;
        -*) usage ;;
        *) WORDS+=("$1") && shift ;;
    esac
done
[ ${#WORDS[@]} = 1 ] || [ ${#WORDS[@]} = 2 ] || usage
ARCH=${WORDS[0]}
BINARY=${WORDS[1]:+$(absolute "${WORDS[1]}")}
elf_of_arch "$ARCH" > /dev/null || die "$ARCH is none of OpenWrt's package architectures with a processor"

NEEDED=("${NEEDED_FOR_IPK[@]}")
install_packages

if [ -z "$BINARY" ]; then
    NAME=$(static_name "$ARCH") || die "for $ARCH, build the agent first, with OpenWrt's SDK for it:
  scripts/build-static.sh --target $(rust_triple "$ARCH") --sysroot SDK/staging_dir/target-* --linker SDK/staging_dir/toolchain-*/bin/*-gcc
and give this script target/static/$(rust_triple "$ARCH")/qod-agent"
    scripts/build-static.sh "$NAME"
    BINARY=target/static/$NAME/qod-agent
fi
check_static "$ARCH" "$BINARY"

EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || true)}
[[ $EPOCH =~ ^[0-9]+$ ]] || die "no time for the package: git has no commit here, so set SOURCE_DATE_EPOCH"
# What apk makes takes it from here.
export SOURCE_DATE_EPOCH=$EPOCH
# Neither the builder's umask nor language changes the package.
umask 022
export LC_ALL=C

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
OUT=target/openwrt/$ARCH
mkdir -p "$OUT" "$WORK/staged/bin" "$WORK/root" "$WORK/control"
install -m0755 "$BINARY" "$WORK/staged/bin/qod-agent"
# Make knows no names with spaces in them.
plain_copy "$WORK/source" Cargo.toml openwrt-package scripts/lib/sdk
make --no-print-directory -s -C "$WORK/source/openwrt-package" \
    TOPDIR="$WORK/source/sdk" INCLUDE_DIR="$WORK/source/sdk" \
    STAGED="$WORK/staged" ROOT="$WORK/root" CONTROL="$WORK/control" ARCH="$ARCH" EPOCH="$EPOCH" \
    || die "openwrt-package/Makefile does not say what is in the package"

make_ipk "$WORK" "$WORK/new.ipk"
IPK=$OUT/$(field Package "$WORK/control/control")_$(field Version "$WORK/control/control")_$ARCH.ipk
mv "$WORK/new.ipk" "$IPK"
if has apk; then
    APK=$OUT/$(field Package "$WORK/control/control")-$(field Version "$WORK/control/control").apk
    make_apk "$WORK" "$WORK/new.apk"
    mv "$WORK/new.apk" "$APK"
else
    echo "no .apk was made: there is no apk (apk-tools 3) here, as in OpenWrt's SDK (staging_dir/host/bin)" >&2
fi
scripts/build-feed.sh "$OUT" "${SIGNING[@]}"
echo "$IPK: $(stat -c %s "$IPK") bytes, the program alone $(stat -c %s "$BINARY")"
[ -z "${APK:-}" ] || echo "$APK: $(stat -c %s "$APK") bytes"
