#!/usr/bin/env bash
# Tests of the subset of OpenWrt's user land that the test machine has, without a machine: each of cases/ in a root
# file system of its own, by busybox alone. `tests/openwrt/test.sh [CASE...]`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/vm.sh
. scripts/lib/vm.sh

NEEDED+=(busybox:busybox-static strip:binutils)
install_packages
here=tests/openwrt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CASES=(uci functions procd opkg ubus network)
[ $# = 0 ] || CASES=("$@")

# package FILE VERSION ARCHITECTURE DEPENDS INSTALLED-SIZE: a package `hello`, as OpenWrt's build makes them.
package() {
    local file=$1 version=$2 kind
    local tree=$work/tree tar=(tar --format=gnu --numeric-owner --owner=0 --group=0 --sort=name -cz)
    rm -rf "$tree"
    mkdir -p "$tree"/data/{etc/{config,init.d,uci-defaults},usr/{bin,share/hello}} "$tree/control"
    printf 'config hello main\n\toption version %s\n' "${version%%.0-*}" > "$tree/data/etc/config/hello"
    [ "$version" = 0.1.0-r1 ] || echo '# new' >> "$tree/data/etc/config/hello"
    [ "$version" != 0.1.0-r1 ] || echo 1 > "$tree/data/usr/share/hello/only-in-1"
    printf '#!/bin/sh\necho %s\n' "${version:2:1}" > "$tree/data/usr/bin/hello"
    cat > "$tree/data/etc/init.d/hello" << 'END'
#!/bin/sh /etc/rc.common
START=50
start() { echo init start >> /tmp/scripts; }
stop() { echo init stop >> /tmp/scripts; }
case $action in enable | disable) echo "init $action" >> /tmp/scripts ;; esac
END
    if [ "${file##*/}" != plain.ipk ]; then
        printf 'uci set hello.main.id=set\n' > "$tree/data/etc/uci-defaults/hello"
    fi
    chmod 755 "$tree/data/usr/bin/hello" "$tree/data/etc/init.d/hello"
    echo /etc/config/hello > "$tree/control/conffiles"
    cat > "$tree/control/control" << END
Package: hello
Version: $version
Depends: $4
Source: tests
Architecture: $3
Installed-Size: $5
Description: A package
 of the tests
END
    for kind in preinst postrm; do
        # shellcheck disable=SC2016 # The script expands them.
        printf '#!/bin/sh\necho "%s $*|$PKG_UPGRADE" >> /tmp/scripts\n' "$kind" > "$tree/control/$kind"
    done
    for kind in postinst prerm; do
        cat > "$tree/control/$kind" << END
#!/bin/sh
echo "$kind \$*|\$PKG_UPGRADE" >> /tmp/scripts
[ "\${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s \${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. \${IPKG_INSTROOT}/lib/functions.sh
default_$kind \$0 \$@
END
    done
    chmod 755 "$tree"/control/p*
    (cd "$tree/data" && "${tar[@]}" . > ../data.tar.gz)
    (cd "$tree/control" && "${tar[@]}" . > ../control.tar.gz)
    echo 2.0 > "$tree/debian-binary"
    (cd "$tree" && "${tar[@]}" ./debian-binary ./data.tar.gz ./control.tar.gz) > "$file"
}

# In its root there are the machine's programs, and the packages.
root_of() {
    local root=$1 program
    $here/chroot.sh "$root" /bin/busybox true || die "the root file system cannot be made"
    cp -r $here/cases "$root/cases"
    mkdir -p "$root/packages" "$root/usr/sbin"
    for program in ip nft; do
        vm_program "$root" "$(command -v $program)" /usr/sbin/$program
    done
    ln -s ../usr/sbin/ip "$root/sbin/ip"
    $here/base-packages.sh "$root" x86_64 2> /dev/null
}

mkdir "$work/packages"
package "$work/packages/hello_1.ipk" 0.1.0-r1 x86_64 libc 2000
package "$work/packages/hello_2.ipk" 0.2.0-r1 x86_64 'libc (>= 1), busybox' 2000
package "$work/packages/foreign.ipk" 0.1.0-r1 mipsel_24kc libc 2000
package "$work/packages/needy.ipk" 0.1.0-r1 x86_64 'libc, kmod-none' 2000
package "$work/packages/huge.ipk" 0.1.0-r1 all libc 9000000000000
package "$work/packages/plain.ipk" 0.1.0-r1 all libc 2000

passed=0
failed=0
for each in "${CASES[@]}"; do
    root_of "$work/$each"
    cp "$work/packages"/* "$work/$each/packages/"
    timeout -k 5 120 $here/chroot.sh "$work/$each" /bin/sh "/cases/$each.sh" > "$work/$each.said" 2>&1 &
done
wait
for each in "${CASES[@]}"; do
    good='' bad=''
    read -r good bad < <(sed -n 's/^@@ //p' "$work/$each.said")
    # A case that did not come to its end has failed.
    [ -n "${good:-}" ] || { good=0 bad=1; }
    [ "$bad" = 0 ] || grep -v "^@@" "$work/$each.said"
    printf '  %-4s  %-12s %d checks\n' "$([ "$bad" = 0 ] && echo ok || echo FAIL)" "$each" $((good + bad))
    passed=$((passed + good))
    failed=$((failed + bad))
    # What jshn wrote is JSON for others too.
    if [ "$each" = functions ]; then
        if jq -e '.["a\"b"] == "x \"q\" \\ y\n\tz\u0001é€" and .n == -5 and .t == true
            and .o == { "k k": "v", "l": [ "1", {}, 2 ] } and .e == ""' "$work/$each/tmp/dump" > /dev/null; then
            passed=$((passed + 1))
        else
            echo '  FAIL  jq does not read what jshn wrote'
            failed=$((failed + 1))
        fi
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
