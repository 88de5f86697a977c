# shellcheck shell=bash
# A machine with the distribution's own kernel, in QEMU. Sourced, after packages.sh, in the top folder.

# vm_kernel FOLDER: the kernel that `linux-image-amd64` stands for, from the mirrors that this machine uses
# anyway, unpacked below FOLDER, once; nothing is installed. Sets KERNEL, the folder, and RELEASE.
vm_kernel() {
    local cache=$1 package attempt new
    for attempt in 1 2 3; do
        package=$(apt-cache depends linux-image-amd64 2> /dev/null \
            | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*-amd64\)$/\1/p' | head -n 1)
        RELEASE=${package#linux-image-}
        KERNEL=$cache/$package
        [ -z "$package" ] || ! has_kernel || return 0
        if [ -n "$package" ]; then
            echo "downloading $package"
            new=$(mktemp -d "$cache/new.XXXXXX")
            if (cd "$new" && apt-get -qq -o APT::Sandbox::User=root download "$package") \
                && unpack_kernel "$new"/*.deb "$new"; then
                rm -f "$new"/*.deb
                rm -rf "$KERNEL"
                mv "$new" "$KERNEL" && return 0
            fi
            rm -rf "$new"
        fi
        echo "attempt $attempt to get a kernel failed" >&2
        # The package lists are missing, or name what the mirror no longer has.
        as_root apt-get -qq update > /dev/null
        sleep $((attempt * 5))
    done
    die "no kernel: apt cannot download linux-image-amd64"
}

# What a script of before did not unpack is taken again.
has_kernel() {
    [ -e "$KERNEL/vmlinuz" ] && [ -e "$KERNEL/lib/modules/$RELEASE/kernel/drivers/block/virtio_blk.ko" ]
}

# unpack_kernel PACKAGE FOLDER: the kernel of RELEASE as FOLDER/vmlinuz, and of its modules those for networks and
# for what a machine of QEMU has.
unpack_kernel() {
    local package=$1 folder=$2 modules=./lib/modules/$RELEASE crypto=arm64
    case $RELEASE in *-amd64) crypto=x86 ;; esac
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder" "./boot/vmlinuz-$RELEASE" \
        "$modules"/modules.{builtin,builtin.modinfo,order} \
        "$modules"/kernel/{net,lib,crypto,"arch/$crypto/crypto",drivers/virtio,fs/ext4,fs/jbd2} \
        "$modules"/kernel/drivers/net/{veth,ifb,dummy,macvlan,tun,virtio_net,net_failover}.ko \
        "$modules"/kernel/{drivers/block/virtio_blk,fs/mbcache}.ko \
        && busybox depmod -b "$folder" "$RELEASE" \
        && mv "$folder/boot/vmlinuz-$RELEASE" "$folder/vmlinuz" \
        && rmdir "$folder/boot"
}

# vm_root FOLDER: a root file system with the modules, a shell and the programs that the laboratory calls.
vm_root() {
    local root=$1 applet
    mkdir -p "$root"/{bin,dev,etc,lib,proc,run,sys,tmp,tests,var}
    ln -s /run "$root/var/run"
    ln -s bin "$root/sbin"
    # /usr too: a machine with merged folders has its libraries there.
    ln -s . "$root/usr"
    # A namespace's own files are laid over these.
    : > "$root/etc/resolv.conf"
    echo '127.0.0.1 localhost' > "$root/etc/hosts"
    echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
    echo 'root:x:0:0::/:/bin/sh' > "$root/etc/passwd"
    cp -r "$KERNEL/lib/modules" "$root/lib/"
    vm_program "$root" "$(command -v busybox)" /bin/busybox
    for applet in cat env ls mkdir modprobe mount poweroff rm sleep timeout umount; do
        ln -s busybox "$root/bin/$applet"
    done
    # The same programs as here, where busybox has its own of that name: the tests know these.
    for applet in sh ip tc ss nft bridge chrt nsenter setpriv unshare; do
        vm_program "$root" "$(command -v "$applet")" "/bin/$applet"
    done
}

# vm_program ROOT PROGRAM PLACE: copies a program without its debug information, and its libraries.
vm_program() {
    local root=$1 program=$2 place=$3 library
    program=$(readlink -f "$program") || return
    strip --strip-unneeded -o "$root$place" "$program" || return
    # A static program has none, and ldd says so by failing.
    { ldd "$program" 2> /dev/null || true; } | sed -n 's/^.*\s\(\/[^ ]*\) (0x.*$/\1/p;s/^\s*\(\/[^ ]*\) (0x.*$/\1/p' \
        | sort -u | while read -r library; do
        [ -e "$root$library" ] || install -D "$library" "$root$library"
    done
}

# vm_accelerator ARCH: how QEMU runs a machine of this architecture here.
vm_accelerator() {
    # That there is a /dev/kvm says little inside a virtual machine: the processor's word counts.
    if [ "$1" = x86_64 ] && [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
        echo kvm
    else
        echo tcg
    fi
}

# vm_run ROOT LOG SECONDS: starts the machine, and waits until it is off. What its console shows is in LOG.
# The machine's pid is VM while it runs.
vm_run() {
    local root=$1 log=$2 limit=$3 status
    (cd "$root" && find . | busybox cpio -o -H newc 2> /dev/null) > "$root.cpio" || return
    timeout -k 5 "$limit" qemu-system-x86_64 -accel "$(vm_accelerator x86_64)" -cpu max -smp 2 -m 2048 \
        -nodefaults -no-user-config -no-reboot -display none -nic none -serial "file:$log" \
        -kernel "$KERNEL/vmlinuz" -initrd "$root.cpio" \
        -append 'console=ttyS0 loglevel=4 panic=-1 mitigations=off' < /dev/null 2> "$root.qemu" &
    VM=$!
    wait "$VM"
    status=$?
    VM=
    [ "$status" != 124 ] || echo "the machine was still running after $limit s" >> "$root.qemu"
    return "$status"
}
