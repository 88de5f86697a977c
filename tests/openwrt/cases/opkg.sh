# shellcheck shell=dash
# /bin/opkg with the packages in /packages, which tests/openwrt/test.sh has made: hello 1, 2, for another
# architecture, with a dependency that is not there, and one that is too big.
# shellcheck source=tests/openwrt/cases/check.sh
. /cases/check.sh
said() { cat /tmp/said; }
run() { opkg "$@" > /tmp/said 2>&1; }

run install /packages/foreign.ipk
check 'another architecture: status' 255 $?
check 'another architecture' "Unknown package 'hello'.
Collected errors:
 * pkg_hash_fetch_best_installation_candidate: Packages for hello found, but incompatible with the architectures configured
 * opkg_install_cmd: Cannot install package hello." "$(said)"
run install /packages/needy.ipk
check 'a dependency that is not there' ' * pkg_hash_check_unresolved: cannot find dependency kmod-none for hello' \
    "$(said | sed -n 3p)"
run install /packages/huge.ipk
check 'no room' 1 "$(said | grep -c 'verify_pkg_installable: Only have [0-9]*kb available on filesystem /, pkg hello needs ')"
echo garbage > /tmp/bad.ipk
run install /tmp/bad.ipk
check 'no package' 255 $?
check 'nothing is there' '' "$(ls /etc/init.d/hello /usr/lib/opkg/info/hello* 2> /dev/null; opkg list-installed | grep hello)"

check 'architectures' 'arch all 1 arch noarch 1 arch x86_64 10' "$(opkg print-architecture | xargs)"
check 'one more' 'arch all 1 arch noarch 1 arch x86_64 10 arch mipsel_24kc 20' \
    "$(opkg print-architecture --add-arch mipsel_24kc:20 | xargs)"
run --add-arch mipsel_24kc:20 install /packages/foreign.ipk
check 'another architecture by force' 0 $?
run remove hello
rm -f /etc/config/hello
: > /tmp/scripts

run install /packages/hello_1.ipk
check 'installation' "0 Installing hello (0.1.0-r1) to root...
Configuring hello." "$? $(said)"
check 'its files' '/etc/config/hello /etc/init.d/hello /etc/uci-defaults/hello /usr/bin/hello /usr/share/hello/only-in-1' \
    "$(opkg files hello | sed 1d | while read -r each; do [ -d "$each" ] || echo "$each"; done | xargs)"
check 'its version' 'hello - 0.1.0-r1' "$(opkg list-installed | grep hello)"
check 'uci-defaults have run' set "$(uci get hello.main.id)"
check 'and are gone' 1 "$([ -e /etc/uci-defaults/hello ] || echo 1)"
check 'enabled' 1 "$([ -L /etc/rc.d/S50hello ] && echo 1)"
check 'scripts' 'preinst install|0 postinst configure|0 init enable init start' "$(xargs < /tmp/scripts)"
run install /packages/hello_1.ipk
check 'the same again' 'Package hello (0.1.0-r1) installed in root is up to date.' "$(said)"

: > /tmp/scripts
rm /etc/rc.d/S50hello
run install /packages/hello_2.ipk
check 'upgrade' "Upgrading hello on root from 0.1.0-r1 to 0.2.0-r1...
Removing obsolete file /usr/share/hello/only-in-1.
Configuring hello.
Collected errors:
 * resolve_conffiles: Existing conffile /etc/config/hello is different from the conffile in the new package. The new conffile will be placed at /etc/config/hello-opkg." "$(said)"
check 'scripts of an upgrade' \
    'prerm upgrade 0.2.0-r1|1 init stop preinst upgrade 0.1.0-r1|1 postrm upgrade 0.2.0-r1|1 postinst configure|1 init start' \
    "$(xargs < /tmp/scripts)"
check 'what was changed is kept' set "$(uci get hello.main.id)"
check 'the new one is beside it' 1 "$(grep -c new /etc/config/hello-opkg)"
check 'an obsolete file' 1 "$([ -e /usr/share/hello/only-in-1 ] || echo 1)"
check 'disabled stays disabled' 1 "$([ -e /etc/rc.d/S50hello ] || echo 1)"
check 'the program is the new one' 2 "$(hello)"
run install /packages/hello_1.ipk
check 'a downgrade' 'Not downgrading package hello on root from 0.2.0-r1 to 0.1.0-r1.' "$(said)"

: > /tmp/scripts
run remove hello
check 'removal' "Removing package hello from root...
Not deleting modified conffile /etc/config/hello." "$(said)"
check 'scripts of a removal' 'prerm remove|0 init disable init stop postrm remove|0' "$(xargs < /tmp/scripts)"
check 'what is left' '/etc/config/hello /etc/config/hello-opkg' "$(find / -xdev -name '*hello*' ! -path '/packages/*' ! -path '/cases/*' | sort | xargs)"
run remove hello
check 'removed twice' 'No packages removed.' "$(said)"

run install /packages/hello_2.ipk
check 'a configuration that was there' set "$(uci get hello.main.id)"
rm -f /etc/config/hello-opkg
run remove hello
rm -f /etc/config/hello
run install /packages/plain.ipk
: > /etc/config/hello-opkg
rm /etc/config/hello-opkg
run remove hello
check 'nothing is left of what nobody has changed' '' "$(find / -xdev -name '*hello*' ! -path '/packages/*' ! -path '/cases/*')"
conclude
