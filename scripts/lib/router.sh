# shellcheck shell=bash
# A router that no vendor made: Debian's kernel and busybox with tests/openwrt/root, the part of OpenWrt's user
# land that this project wrote for its tests. Sourced, after packages.sh, sysroot.sh, vm.sh and parcel.sh, in the top
# folder.
# shellcheck disable=SC2034 # machine.sh reads DISK and INITRD

# What the arm64 router has from Debian's packages, beside the kernel; for amd64 this machine's own are taken.
ROUTER_PACKAGES=(
    busybox-static iproute2 nftables libnftables1 libnftnl11 libmnl0 libxtables12 libjansson4 libgmp10
    libedit2 libbsd0 libmd0 libtinfo6 libbpf1 libelf1 zlib1g libcap2 libselinux1 libpcre2-8-0 libc6
)
ROUTER_DISK=192M

# router_build ARCH FOLDER: sets KERNEL, INITRD and DISK, a file in FOLDER that the router may write to.
router_build() {
    local arch=$1 folder=$2 cache=$PWD/target/vm
    mkdir -p "$cache"
    case $arch in
        x86_64) vm_kernel "$cache" && router_userland_here "$folder/root" ;;
        aarch64) router_from_packages "$cache" && cp -a "$KERNEL/root" "$folder/root" ;;
        *) die "there is no router for $arch" ;;
    esac || return
    router_files "$folder/root" "$arch" \
        && router_initrd "$folder/initrd" \
        && mke2fs -q -t ext4 -m 0 -L rootfs -d "$folder/root" "$folder/disk" "$ROUTER_DISK" > /dev/null || return
    rm -rf "$folder/root"
    INITRD=$folder/initrd
    DISK=$folder/disk
}

# The programs of this machine, which is of the router's architecture.
router_userland_here() {
    local root=$1 program
    mkdir -p "$root"/{bin,sbin,usr/sbin}
    vm_program "$root" "$(command -v busybox)" /bin/busybox || return
    for program in ip tc nft; do
        vm_program "$root" "$(command -v $program)" /usr/sbin/$program || return
    done
}

# router_from_packages CACHE: kernel and programs for arm64 from the packages of Debian's release that this machine
# has, unpacked below CACHE, once. Sets KERNEL, RELEASE.
router_from_packages() {
    local cache=$1 new uri package kept SYSROOT_SUITE SYSROOT_PACKAGES=(linux-image-arm64 "${ROUTER_PACKAGES[@]}")
    # shellcheck source=/dev/null
    SYSROOT_SUITE=$(. /etc/os-release && echo "$VERSION_CODENAME")
    for kept in "$cache"/linux-image-*-arm64; do
        RELEASE=${kept##*/linux-image-}
        KERNEL=$kept
        [ "$(cat "$KERNEL/packages" 2> /dev/null)" != "${SYSROOT_PACKAGES[*]}" ] || return 0
    done
    new=$(mktemp -d "$cache/new.XXXXXX") || return
    echo "downloading $SYSROOT_SUITE's linux-image-arm64 and programs"
    while read -r uri; do
        fetch_packages "$new" arm64 "$uri" > "$new/log" 2>&1 || continue
        package=$(dpkg-deb -f "$new"/deb/linux-image-arm64_*.deb Depends | grep -o '^linux-image-[^ ]*')
        RELEASE=${package#linux-image-}
        KERNEL=$cache/$package
        (cd "$new/deb" && rm linux-image-arm64_*.deb \
            && timeout 300 apt-get -c "$new/apt.conf" -qq download "$package") || break
        if ! { mkdir -p "$new/done/root" && unpack_kernel "$new"/deb/linux-image-*.deb "$new/done" \
            && rm "$new"/deb/linux-image-*.deb && router_unpack "$new"; }; then
            break
        fi
        echo "${SYSROOT_PACKAGES[*]}" > "$new/done/packages"
        rm -rf "$cache"/linux-image-*-arm64
        mv "$new/done" "$KERNEL" && rm -rf "$new"
        return
    done < <(apt_mirrors)
    cat "$new/log" >&2
    rm -rf "$new"
    die "no kernel and programs for arm64: apt cannot download them"
}

# router_unpack FOLDER: the programs and libraries of FOLDER/deb as FOLDER/done/root. Where they are in Debian, and
# without links between the folders of the root and those of /usr, which OpenWrt has not either.
router_unpack() {
    local folder=$1 root=$1/done/root deb each
    for deb in "$folder"/deb/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" \
            | tar -x -C "$root" --wildcards --no-wildcards-match-slash './bin/*' './sbin/*' './usr/sbin/*' \
                './lib/*.so*' './lib/*/*.so*' './usr/lib/*/*.so*' 2> "$folder/log" \
            || ! grep -v 'Not found in archive\|Exiting with failure' "$folder/log" || return
    done
    mkdir -p "$root/usr/sbin"
    for each in "$root"/{bin,sbin}/{ip,tc,nft}; do
        # Some are links from one folder to another.
        if [ -L "$each" ]; then
            rm "$each"
        elif [ -e "$each" ]; then
            mv "$each" "$root/usr/sbin/"
        fi
    done
    for each in usr/sbin/nft usr/sbin/ip bin/busybox; do
        [ -x "$root/$each" ] || { echo "there is no $each in its package" > "$folder/log"; return 1; }
    done
}

# What an image of OpenWrt has and this router can do as well: the packages that others may depend on.
ROUTER_PROVIDES=(
    ca-bundle firewall4 rpcd kmod-nft-core kmod-nft-netdev kmod-nft-bridge kmod-nft-nat kmod-nft-offload
    kmod-sched-core kmod-sched kmod-sched-cake kmod-sched-prio kmod-ifb
)

# router_files ROOT ARCH: what is the same for all architectures, and how the packages are told apart.
router_files() {
    local root=$1 arch=$2 applet
    mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,lib/modules,dev,proc,sys,tmp,root,mnt,rom,overlay}
    [ -e "$root/var" ] || ln -s tmp "$root/var"
    # As the busybox of this machine names them, for it is of the same release.
    for applet in $(busybox --list-full); do
        case ${applet##*/} in
            # OpenWrt has none of them, and its own programs of the name of some others.
            busybox | dpkg | dpkg-deb | rpm | rpm2cpio | ifup | ifdown) continue ;;
            ip | tc | nft) continue ;;
        esac
        mkdir -p "$root/${applet%/*}"
        [ -e "$root/$applet" ] || [ -L "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
    done
    for applet in ip tc; do
        ln -s ../usr/sbin/$applet "$root/sbin/$applet"
    done
    cp -a "$KERNEL/lib/modules/." "$root/lib/modules/"
    # Without following the links of busybox.
    cp -a --remove-destination tests/openwrt/root/. "$root/" || return
    mkdir -p "$root/usr/lib/opkg/info" "$root/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" || return
    arch=$(package_architecture "$arch")
    for applet in "${ROUTER_PROVIDES[@]}"; do
        printf 'Package: %s\nVersion: 1\nStatus: install ok installed\nArchitecture: %s\n\n' "$applet" "$arch"
    done > "$root/usr/lib/opkg/status"
    printf 'dest root /\narch all 1\narch noarch 1\narch %s 10\n' "$arch" > "$root/etc/opkg.conf"
    cat > "$root/etc/openwrt_release" << END
DISTRIB_ID='qod-agent-test'
DISTRIB_ARCH='$arch'
DISTRIB_DESCRIPTION='the router of scripts/lib/router.sh, which is not OpenWrt'
END
    chown -R 0:0 "$root"
}

# router_initrd FILE: finds the disk, and goes on from there.
router_initrd() {
    local file=$1 root modules=$KERNEL/lib/modules/$RELEASE module name
    root=$file.root
    mkdir -p "$root"/{bin,dev,proc,sys,disk,modules}
    if [ -e "$KERNEL/root/bin/busybox" ]; then
        cp "$KERNEL/root/bin/busybox" "$root/bin/"
    else
        vm_program "$root" "$(command -v busybox)" /bin/busybox
    fi
    install -m 755 scripts/lib/router-init "$root/init"
    # In the order in which they must be loaded.
    for name in virtio_pci virtio_blk ext4; do
        router_module_and_needs "$modules" $name
    done | awk '!seen[$0]++' > "$root/modules/list"
    while read -r module; do
        cp "$modules/$module" "$root/modules/"
    done < "$root/modules/list"
    (cd "$root" && find . | busybox cpio -o -H newc 2> /dev/null) > "$file"
    rm -rf "$root"
}

# router_module_and_needs MODULES NAME: the file of a module after those that it needs, as modules.dep has them.
router_module_and_needs() {
    sed -n "s|^\(kernel/.*/$2\.ko\): *\(.*\)|\2 \1|p" "$1/modules.dep" \
        | awk '{ for (i = NF - 1; i > 0; i--) print $i; print $NF }'
    # Ext4 asks for a checksum by name, which modules.dep does not tell.
    if [ "$2" = ext4 ]; then
        router_module_and_needs "$1" crc32c_generic
    fi
}
