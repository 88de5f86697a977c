# shellcheck shell=bash
# What the machine is given to install, as a tar file that is its second disk. Sourced, after packages.sh.

# OpenWrt's name of the packages' architecture.
package_architecture() {
    case $1 in
        aarch64) echo aarch64_generic ;;
        *) echo "$1" ;;
    esac
}

# package_build ARCH: the package for ARCH, in the folder that package_folder says.
package_build() {
    local architecture
    architecture=$(package_architecture "$1")
    scripts/build-static.sh "$1" && scripts/build-ipk.sh "$architecture" "target/static/$1/qod-agent"
}

package_folder() {
    echo "target/openwrt/$(package_architecture "$1")"
}

# The package for ARCH: PACKAGE, or by name the last of those that were built.
package_of() {
    [ -z "${PACKAGE:-}" ] || { echo "$PACKAGE"; return; }
    find "$(package_folder "$1")" -name '*.ipk' | sort | tail -n 1
}

# parcel_make: sets PARCEL. On the machine, `tar -xf /dev/vdb -C /tmp` makes /tmp/parcel of it: the package, the
# kernel modules' packages in kmods/, the backend's ca.pem, and the agent's token.
parcel_make() {
    local folder=$WORK/parcel each
    PARCEL=$WORK/parcel.tar
    mkdir -p "$folder/kmods" || return
    if [ -n "${PACKAGE:-}" ]; then
        cp "$PACKAGE" "$folder/" || return
    else
        for each in "$(package_folder "$ARCH")"/*.{ipk,apk}; do
            [ ! -e "$each" ] || cp "$each" "$folder/"
        done
    fi
    if [ -n "${KMODS:-}" ]; then
        find "$KMODS" -maxdepth 1 \( -name '*.ipk' -o -name '*.apk' \) -exec cp {} "$folder/kmods/" ';'
    fi
    cp "$WORK/ca.pem" "$folder/" \
        && (umask 077 && jq -j .token "$WORK/agent-token.json" > "$folder/token") \
        && tar -c --owner=0 --group=0 -f "$PARCEL" -C "$WORK" parcel
}
