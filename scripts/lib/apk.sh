# shellcheck shell=bash
# The package of apk, for OpenWrt 25.12 and later. Sourced, after ipk.sh, which says what is in WORK.

# make_apk WORK FILE
make_apk() {
    local work=$1 file=$2 apk=$1/apk root=$1/apk/root control=$1/control/control name packages path scripts
    name=$(field Package "$control")
    packages=$root/lib/apk/packages
    mkdir -p "$apk"
    cp -a "$work/root" "$root"
    mkdir -p "$packages"
    # The router's /lib/functions.sh and sysupgrade read these.
    (cd "$root" && find . -type f,l -printf '/%P\n' | sort) > "$apk/list"
    mv "$apk/list" "$packages/$name.list"
    conffiles "$work" > "$packages/$name.conffiles"
    while read -r path; do
        echo "$path $(sha256sum < "$root$path" | cut -d ' ' -f 1)"
    done < "$packages/$name.conffiles" > "$packages/$name.conffiles_static"
    chmod 0644 "$packages"/*

    apk_script post-install default_postinst postinst-pkg
    { echo '#!/bin/sh' && echo 'export PKG_UPGRADE=1' && sed 1d "$apk/post-install"; } > "$apk/post-upgrade"
    apk_script pre-deinstall default_prerm prerm-pkg
    scripts=(--script "post-install:$apk/post-install" --script "post-upgrade:$apk/post-upgrade"
        --script "pre-deinstall:$apk/pre-deinstall")
    [ ! -f "$work/control/preinst" ] || scripts+=(--script "pre-install:$work/control/preinst")
    [ ! -f "$work/control/postrm" ] || scripts+=(--script "post-deinstall:$work/control/postrm")

    # The owner in the package is that of the files.
    local as_owner=()
    if [ "$(id -u)" = 0 ]; then
        chown -R 0:0 "$root"
    else
        as_owner=(unshare --map-root-user)
    fi
    "${as_owner[@]}" apk mkpkg \
        --info "name:$name" \
        --info "version:$(field Version "$control")" \
        --info "description:$(tr -s '[:space:]' ' ' < "$work/control/description" | sed 's/^ //;s/ $//')" \
        --info "arch:$(field Architecture "$control")" \
        --info "license:$(field License "$control")" \
        --info "origin:$(field SourceName "$control")" \
        --info "depends:$(field Depends "$control" | tr -d '()' | sed 's/, */,/g;s/ //g;s/,/ /g')" \
        "${scripts[@]}" --files "$root" --output "$file"
}

# apk_script NAME FUNCTION OWN: WORK/apk/NAME calls FUNCTION of the router's /lib/functions.sh, then does what the
# package's own script says.
apk_script() {
    local own=$work/control/$3
    {
        echo '#!/bin/sh'
        # shellcheck disable=SC2016 # for the router's shell
        [ "$1" != post-install ] || echo '[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0'
        # shellcheck disable=SC2016
        printf '%s\n' '[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0' \
            '. ${IPKG_INSTROOT}/lib/functions.sh' \
            'export root="${IPKG_INSTROOT}"' \
            "export pkgname=\"$name\""
        [ "$1" != post-install ] || echo add_group_and_user
        echo "$2"
        [ ! -f "$own" ] || sed '/^[[:space:]]*#!/d' "$own"
    } > "$apk/$1"
}
