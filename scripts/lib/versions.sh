# shellcheck shell=bash
# Packages beside the one to be tested: of another version, and for another architecture. Sourced, after packages.sh
# and parcel.sh, in the top folder.
#
# There is no other release yet, so the version of before is made of this one: the program with another text for its
# version, which it reports, and with another /etc/config/qod-agent. How the agent finds what an agent with another
# layout of its table has left, tests/adoption.rs shows.

# Every digit a zero: the same length, and lower than any version.
version_before() {
    tr '1-9' '0' <<< "$1"
}

# versions_make FOLDER: FOLDER/before.ipk, foreign.ipk, which is of that version too but for another processor, and
# cut.ipk, a download of the package to be tested that has ended early. Sets VERSION, of the package to be tested, and BEFORE.
versions_make() {
    local folder=$1 package tree other foreign
    package=$(package_of "$ARCH")
    # What a run leaves in WORK goes with it, however it ends.
    tree=$WORK/version
    mkdir -p "$folder" "$tree"
    VERSION=$(tar -xzOf "$package" ./control.tar.gz | tar -xzO ./control | sed -n 's/^Version: \(.*\)-r[0-9]*$/\1/p')
    BEFORE=$(version_before "$VERSION")
    case $ARCH in
        aarch64) other=x86_64 ;;
        *) other=aarch64 ;;
    esac
    foreign=target/static/$other/qod-agent
    [ -e "$foreign" ] || scripts/build-static.sh "$other" || return
    cp -R Cargo.toml openwrt-package scripts "$tree/"
    sed -i "/^\[workspace\.package\]/,/^\$/s/^version = .*/version = \"$BEFORE\"/" "$tree/Cargo.toml"
    echo '# As the version before had it.' >> "$tree/openwrt-package/files/etc/config/qod-agent"
    tar -xzOf "$package" ./data.tar.gz | tar -xzO ./usr/sbin/qod-agent > "$tree/program"
    LC_ALL=C sed -E "s/(^|[^0-9.])${VERSION//./\\.}($|[^0-9.])/\1$BEFORE\2/g" "$tree/program" > "$tree/program-before"
    # A program is no text: whatever sed does to the rest of it would show in its length.
    [ "$(stat -c %s "$tree/program")" = "$(stat -c %s "$tree/program-before")" ] \
        && ! cmp -s "$tree/program" "$tree/program-before" || return
    version_package "$tree" "$(package_architecture "$ARCH")" "$tree/program-before" "$folder/before.ipk" \
        && version_package "$tree" "$(package_architecture "$other")" "$PWD/$foreign" "$folder/foreign.ipk" \
        && head -c $(($(stat -c %s "$package") / 2)) "$package" > "$folder/cut.ipk" || return
    rm -rf "$tree"
}

# version_package TREE ARCHITECTURE PROGRAM FILE
version_package() {
    (cd "$1" && SOURCE_DATE_EPOCH=1 scripts/build-ipk.sh "$2" "$3") > "$1/log" 2>&1 \
        && cp "$1/target/openwrt/$2/qod-agent_${BEFORE}-r"*"_$2.ipk" "$4" && return
    cat "$1/log" >&2
    return 1
}
