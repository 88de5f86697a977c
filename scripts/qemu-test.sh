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
# Without any of these, and without SCENARIO, three machines run at the same time, one of them for aarch64.
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
# shellcheck source=scripts/lib/agent.sh
. scripts/lib/agent.sh
# shellcheck source=scripts/lib/parcel.sh
. scripts/lib/parcel.sh
# shellcheck source=scripts/lib/versions.sh
. scripts/lib/versions.sh
# shellcheck source=scripts/lib/router.sh
. scripts/lib/router.sh

# The machines of a whole run, beside each other: architecture, and scenarios in their order. The first scenario boots
# the router and installs the package.
MACHINES=(
    'x86_64 install session queues offload firewall upgrade reboot clock remove'
    'x86_64 install session lacking enrol wrong flash'
    # That it boots and marks.
    'aarch64 install session'
)
# What an image must be able to show too.
OF_IMAGES='install session offload firewall reboot remove'

[ "$(id -u)" = 0 ] || die "needs root, for network namespaces"
if [ -n "${IMAGE:-}" ]; then
    [ "${ARCH:=x86_64}" = x86_64 ] || die "IMAGE must be for x86_64: no other machine has the firmware for it here"
    [ -r "$IMAGE" ] || die "there is no $IMAGE"
fi
SCENARIOS=("$@")
[ $# = 0 ] || ARCH=${ARCH:-x86_64}
if [ $# = 0 ] && [ -n "${ARCH:-}" ]; then
    scenarios=$OF_IMAGES
    # An architecture alone has all of its scenarios one after the other.
    [ -n "${IMAGE:-}" ] || scenarios=$(printf '%s\n' "${MACHINES[@]}" | sed -n "s/^$ARCH //p" | tr ' ' '\n' \
        | awk '!seen[$0]++' | awk '$0 == "remove" { last = $0; next } { print } END { print last }')
    read -ra SCENARIOS -d '' <<< "$scenarios"
    [ ${#SCENARIOS[@]} -gt 0 ] || die "there is no machine for $ARCH"
fi
NEEDED+=("${NEEDED_FOR_VM[@]}" "${NEEDED_FOR_ROUTER[@]}")
install_packages
need_rust
reason=$(can_make_namespaces) || die "$reason"

# A whole run: each machine is this script again, with a folder for what it says.
beside=()
end_all() {
    local status=$? each
    trap - EXIT
    trap '' INT TERM
    # All are told before one is waited for: whoever ends this script has little patience.
    for each in "${beside[@]}"; do
        kill -- "-$each" 2> /dev/null
    done
    [ ${#beside[@]} = 0 ] || wait "${beside[@]}" 2> /dev/null
    rm -rf "$SAID"
    exit "$status"
}
# start NAME COMMAND…: in the background, as a group of processes, so that all of it can be ended. A machine ends with
# this script, also where that is killed.
start() {
    local name=$1
    shift
    set -m
    "$@" < /dev/null > "$SAID/$name" 2>&1 &
    set +m
    beside+=($!)
}
# All that machines share: none of them may find another one making it.
build_packages() {
    mkdir -p target/vm
    (vm_kernel "$PWD/target/vm" && router_from_packages "$PWD/target/vm") \
        && package_build x86_64 && package_build aarch64
}
if [ -z "${ARCH:-}" ]; then
    [ -z "${PACKAGE:-}" ] || die "PACKAGE is for one architecture: which one, ARCH must say"
    SAID=$(mktemp -d)
    trap end_all EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Release and debug builds do not wait for each other.
    start packages build_packages
    build_programs || die "the build failed"
    wait "${beside[0]}" || { cat "$SAID/packages" >&2; die "there are no packages"; }
    tail -n 1 "$SAID/packages"
    beside=()
    for each in "${!MACHINES[@]}"; do
        read -ra words <<< "${MACHINES[each]}"
        start "$each" setpriv --pdeathsig TERM env ARCH="${words[0]}" PACKAGE="$(package_of "${words[0]}")" "$0" "${words[@]:1}"
    done
    failed=0
    for each in "${!MACHINES[@]}"; do
        printf '\n== machine %d of %d: %s\n' $((each + 1)) ${#MACHINES[@]} "${MACHINES[each]}"
        tail -n +1 -f --pid="${beside[each]}" "$SAID/$each"
        wait "${beside[each]}" || failed=$((failed + 1))
    done
    beside=()
    printf '\n%d machines, %d good\n' ${#MACHINES[@]} $((${#MACHINES[@]} - failed))
    [ "$failed" = 0 ]
    exit
fi
build_programs || die "the build failed"

for each in "${SCENARIOS[@]}"; do
    [ -f "scripts/qemu/$each.sh" ] || die "there is no scripts/qemu/$each.sh"
    bash -n "scripts/qemu/$each.sh" || die "scripts/qemu/$each.sh is not bash"
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
    # Who interrupts it does not wait for a console, which may have hung.
    case $status in 0 | 130 | 143) ;; *) machine_diagnosis ;; esac
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
