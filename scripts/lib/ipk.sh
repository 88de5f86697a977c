# shellcheck shell=bash
# The package of opkg, for OpenWrt up to 24.10: a compressed tar of two more. Sourced, after packages.sh.
#
# In the folder WORK there are root/, what is installed, and control/, what openwrt-package/Makefile says of it:
# control, description, conffiles, and those of preinst, postinst-pkg, prerm-pkg and postrm that it has.

# field NAME FILE: of a control file.
field() {
    sed -n "s/^$1: *//p" "$2" | head -n 1
}

# plain_copy FOLDER FILE...: copies with the modes that git knows, whatever the umask of the checkout's owner. What
# else the package has is then said by its Makefile.
plain_copy() {
    local folder=$1
    shift
    mkdir -p "$folder"
    cp -R "$@" "$folder/"
    find "$folder" -type d -exec chmod 0755 {} +
    find "$folder" -type f -perm -u+x -exec chmod 0755 {} +
    find "$folder" -type f ! -perm -u+x -exec chmod 0644 {} +
}

# conffiles WORK: those that are there, as the package managers expect them.
conffiles() {
    local path
    sort -u "$1/control/conffiles" | while read -r path; do
        [ -z "$path" ] || [ ! -f "$1/root$path" ] || echo "$path"
    done
}

# packed FOLDER MEMBER...: a tar of them, the same wherever and whenever it is made.
packed() {
    local folder=$1
    shift
    tar --format=gnu --numeric-owner --owner=0 --group=0 --sort=name --mtime="@$EPOCH" -C "$folder" -cf - "$@"
}

# compressed FILE: what comes in, by gzip, then as small as its format can be: 3 % less for the agent.
compressed() {
    gzip -n -9 > "$1" && advdef -q -z3 "$1"
}

# make_ipk WORK FILE
make_ipk() {
    local work=$1 file=$2 ipk=$1/ipk
    mkdir -p "$ipk/control"
    packed "$work/root" . > "$ipk/data.tar"
    {
        sed "s/^Installed-Size: .*/Installed-Size: $(stat -c %s "$ipk/data.tar")/" "$work/control/control"
        printf 'Description: '
        sed 's/^[[:space:]]*/ /' "$work/control/description"
    } > "$ipk/control/control"
    conffiles "$work" > "$ipk/control/conffiles"
    find "$work/control" -type f ! -name control ! -name description ! -name conffiles \
        -exec install -m0755 -t "$ipk/control" {} +
    # What OpenWrt's build gives every package; the rest is done by the router's /lib/functions.sh.
    cat > "$ipk/control/postinst" << 'END'
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
END
    cat > "$ipk/control/prerm" << 'END'
#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
END
    chmod 0755 "$ipk/control"/{postinst,prerm}
    compressed "$ipk/data.tar.gz" < "$ipk/data.tar"
    packed "$ipk/control" . | compressed "$ipk/control.tar.gz"
    echo 2.0 > "$ipk/debian-binary"
    packed "$ipk" ./debian-binary ./data.tar.gz ./control.tar.gz | gzip -n -9 > "$file"
}
