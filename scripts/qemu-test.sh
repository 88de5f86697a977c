#!/usr/bin/env bash
# The package on a router, from boot to removal: `scripts/qemu-test.sh [SCENARIO...]`.
#
# QEMU runs the router between namespaces that are the phone, the laptop and the internet host with the real backend.
# What is done on the router is typed on its serial console; what is claimed is captured outside of it. Each
# scenario is a file of scripts/qemu/, and goes on where the one before it has ended.
#
#   IMAGE=openwrt-….img[.gz]  boots this image of OpenWrt for x86/64 (a copy; combined, for BIOS) instead of
#                             the router that scripts/lib/router.sh builds from Debian's packages
#   KMODS=FOLDER              with packages (.ipk or .apk) of kernel modules that the image lacks; installed first
#   ARCH=x86_64|aarch64       this architecture alone
#   PACKAGE=FILE              the package to install, for ARCH or IMAGE, instead of one that is built from here
#
# Without IMAGE and ARCH both architectures are tested, at the same time.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/build.sh
. scripts/lib/build.sh
# shellcheck source=scripts/lib/sysroot.sh
. scripts/lib/sysroot.sh
# shellcheck source=scripts/lib/report.sh
. scripts/lib/report.sh
# shellcheck source=scripts/lib/lab.sh
. scripts/lib/lab.sh
# shellcheck source=scripts/lib/vm.sh
. scripts/lib/vm.sh
# shellcheck source=scripts/lib/machine.sh
. scripts/lib/machine.sh
# shellcheck source=scripts/lib/traffic.sh
. scripts/lib/traffic.sh
# shellcheck source=scripts/lib/stream.sh
. scripts/lib/stream.sh
# shellcheck source=scripts/lib/operator.sh
. scripts/lib/operator.sh
# shellcheck source=scripts/lib/owner.sh
. scripts/lib/owner.sh
# shellcheck source=scripts/lib/parcel.sh
. scripts/lib/parcel.sh
# shellcheck source=scripts/lib/versions.sh
. scripts/lib/versions.sh
# shellcheck source=scripts/lib/router.sh
. scripts/lib/router.sh

# The scenarios in their order: the first boots the router and installs the package, the last removes it.
scenarios_of() {
    case $1 in
        x86_64) echo install session queues offload firewall upgrade reboot clock lacking enrol wrong flash remove ;;
        # What an image must be able to show too.
        image) echo install session offload firewall reboot remove ;;
        # That it boots and marks.
        aarch64) echo install session ;;
        *) die "there is no machine for $1" ;;
    esac
}

[ "$(id -u)" = 0 ] || die "needs root, for network namespaces"
if [ -n "${IMAGE:-}" ]; then
    [ "${ARCH:=x86_64}" = x86_64 ] || die "IMAGE must be for x86_64: no other machine has the firmware for it here"
    [ -r "$IMAGE" ] || die "there is no $IMAGE"
fi
NEEDED+=("${NEEDED_FOR_VM[@]}" "${NEEDED_FOR_ROUTER[@]}")
install_packages
need_rust
reason=$(can_make_namespaces) || die "$reason"
build_programs || die "the build failed"

if [ -z "${ARCH:-}" ]; then
    [ -z "${PACKAGE:-}" ] || die "PACKAGE is for one architecture: which one, ARCH must say"
    # One after the other: cargo builds one thing at a time anyway.
    for each in x86_64 aarch64; do
        package_build $each || die "no package for $each"
    done
    package_of() {
        find "$(package_folder "$1")" -name '*.ipk' | sort | tail -n 1
    }
    other=$(mktemp)
    PACKAGE=$(package_of aarch64) ARCH=aarch64 "$0" > "$other" 2>&1 &
    beside=$!
    # Whoever ends this ends that too.
    trap 'kill $beside 2> /dev/null; wait $beside; rm -f "$other"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    PACKAGE=$(package_of x86_64) ARCH=x86_64 "$0" "$@"
    here=$?
    wait $beside
    there=$?
    printf '\n== aarch64, at the same time\n'
    cat "$other"
    beside=
    trap 'rm -f "$other"' EXIT
    [ $here = 0 ] && [ $there = 0 ]
    exit
fi

SCENARIOS=("$@")
if [ $# = 0 ]; then
    kind=$ARCH
    [ -z "${IMAGE:-}" ] || kind=image
    read -ra SCENARIOS <<< "$(scenarios_of "$kind")"
fi
for each in "${SCENARIOS[@]}"; do
    [ -f "scripts/qemu/$each.sh" ] || die "there is no scripts/qemu/$each.sh"
done
if [ -n "${PACKAGE:-}" ]; then
    [ -r "$PACKAGE" ] || die "there is no $PACKAGE"
else
    package_build "$ARCH" || die "no package for $ARCH"
fi

started=$SECONDS
lab_up --machine yes --modem no
finish() {
    local status=$?
    [ "$status" = 0 ] || machine_diagnosis
    (exit "$status")
    lab_down
}
trap finish EXIT
echo_start
operator_start
operator_provision
case " ${SCENARIOS[*]} " in
    *' upgrade '*) versions_make "$WORK/parcel/versions" || die "there are no other versions to install" ;;
esac
parcel_make || die "the package cannot be given to the machine"
if [ -n "${IMAGE:-}" ]; then
    KERNEL=
    DISK=$WORK/disk
    case $IMAGE in
        # OpenWrt appends what gzip does not know, and warns of.
        *.gz) gzip -dc "$IMAGE" > "$DISK" 2> /dev/null || [ $? = 2 ] || die "$IMAGE cannot be unpacked" ;;
        *) cp --sparse=always "$IMAGE" "$DISK" || die "$IMAGE cannot be copied" ;;
    esac
else
    router_build "$ARCH" "$WORK" || die "the router cannot be built"
fi

for each in "${SCENARIOS[@]}"; do
    # shellcheck source=/dev/null
    . "scripts/qemu/$each.sh"
    machine_runs || die "the machine is off: $(cat "$WORK/qemu.log")"
done

note ""
note "took $((SECONDS - started)) s after the build"
conclude
