#!/usr/bin/env bash
# The package for OpenWrt, without a router: `scripts/package-test.sh [BINARY]`, BINARY a static agent for x86_64.
# Format, contents, rights and scripts of the .ipk, that it is the same wherever it is made, the index and its
# signature, and what is refused. That a router takes it is shown by scripts/qemu-test.sh.
set -uo pipefail
FROM=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/report.sh
. scripts/lib/report.sh
# shellcheck source=scripts/lib/ipk.sh
. scripts/lib/ipk.sh
# shellcheck source=scripts/lib/elf.sh
. scripts/lib/elf.sh

NEEDED=("${NEEDED_FOR_IPK[@]}" "${NEEDED_FOR_PACKAGE_TEST[@]}")
install_packages
BINARY=${1:-}
[[ -z $BINARY || $BINARY = /* ]] || BINARY=$FROM/$BINARY
if [ -z "$BINARY" ]; then
    scripts/build-static.sh x86_64 || die "the static build failed"
    BINARY=$PWD/target/static/x86_64/qod-agent
fi
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
EPOCH=1700000000
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-r$(sed -n 's/^PKG_RELEASE *:= *//p' \
    openwrt-package/Makefile)

# copy NAME UMASK: the source of the package, as it is on the disk of somebody with that umask.
copy() {
    (umask "$2" && mkdir -p "$WORK/$1" && cp -R Cargo.toml openwrt-package scripts "$WORK/$1/")
}

# build NAME WORDS...: build-ipk.sh in a copy. What it says is in WORK/log.
build() {
    (cd "$WORK/$1" && shift && scripts/build-ipk.sh "$@") > "$WORK/log" 2>&1
}

# refused WHAT WORDS: the last command failed, with STATUS, and said WORDS.
refused() {
    promise "$1" "$([ "$STATUS" = 0 ] && echo accepted || echo refused)" "$2" failed_with "$2"
    failed_with "$2" || note "$(cat "$WORK/log")"
}
failed_with() { [ "$STATUS" != 0 ] && grep -qF -- "$1" "$WORK/log"; }
none() { [ -z "$(find "$@" 2> /dev/null)" ]; }

copy one 022
copy 'another folder' 077
find "$WORK/another folder" -exec touch -h -d 2001-02-03 {} +
git -C "$WORK/another folder" init -q
git -C "$WORK/another folder" add .
GIT_COMMITTER_DATE="@$EPOCH +0900" git -C "$WORK/another folder" -c user.name=test -c user.email=test@test.invalid \
    commit -qm test
SOURCE_DATE_EPOCH=$EPOCH build one x86_64 "$BINARY" || die "the package was not made: $(cat "$WORK/log")"
OUT=$WORK/one/target/openwrt/x86_64
IPK=$OUT/qod-agent_${VERSION}_x86_64.ipk
[ -f "$IPK" ] || die "there is no $IPK"

section "Format"
# members FILE: names of a tar in a gzip.
members() { tar -tzf "$1" | paste -sd ' '; }
mkdir -p "$WORK"/{outer,control,root}
tar -xzf "$IPK" -C "$WORK/outer"
tar -xzf "$WORK/outer/control.tar.gz" -C "$WORK/control"
tar -xzpf "$WORK/outer/data.tar.gz" -C "$WORK/root"
promise 'members of the package, in this order' "$(members "$IPK" | wc -w) members" \
    './debian-binary ./data.tar.gz ./control.tar.gz' \
    equal "$(members "$IPK")" './debian-binary ./data.tar.gz ./control.tar.gz'
promise 'debian-binary' "$(cat "$WORK/outer/debian-binary")" '2.0' equal "$(cat "$WORK/outer/debian-binary")" 2.0
for each in "$IPK" "$WORK/outer"/{control,data}.tar.gz; do
    header=$(od -An -tx1 -N10 "$each" | tr -d ' ')
    promise "compression of ${each##*.*/}" "$header" 'gzip without name or time' \
        grep -qE '^1f8b080000000000' <<< "$header"
    magic=$(gzip -dc "$each" | od -An -tc -j257 -N8 | tr -d ' ')
    promise "archive of ${each##*/}" "$magic" 'GNU tar' equal "$magic" 'ustar\0'
    owners=$(tar --numeric-owner --utc --full-time -tvzf "$each" \
        | awk '{ print $2, $4, $5 }' | sort -u)
    promise "owner and time of all in ${each##*/}" "$owners" "root, the given time" \
        equal "$owners" "0/0 $(date -u -d "@$EPOCH" '+%F %T')"
done
mkdir -p "$WORK/busybox"/{outer,root}
busybox tar -xzf "$IPK" -C "$WORK/busybox/outer" \
    && busybox tar -xzpf "$WORK/busybox/outer/data.tar.gz" -C "$WORK/busybox/root"
promise "busybox unpacks the same" '' 'no difference' diff -r --no-dereference "$WORK/root" "$WORK/busybox/root"
promise 'the package' "$(stat -c %s "$IPK") bytes" 'at most 1.8 MB' at_most "$(stat -c %s "$IPK")" 1800000
promise 'the program' "$(stat -c %s "$BINARY") bytes" 'at most 3.9 MB' at_most "$(stat -c %s "$BINARY")" 3900000

section "Control"
fields=$(sed -n 's/^\([A-Za-z-]*\):.*/\1/p' "$WORK/control/control" | paste -sd ' ')
promise 'fields, in the order of OpenWrt' "$(wc -w <<< "$fields") fields" 'these, and no person invented' \
    equal "$fields" \
    'Package Version Depends SourceName License LicenseFiles Section SourceDateEpoch Architecture Installed-Size'\
' Description'
while read -r name value; do
    promise "$name" "$(field "$name" "$WORK/control/control")" "$value" \
        equal "$(field "$name" "$WORK/control/control")" "$value"
done << END
Package qod-agent
Version $VERSION
SourceName qod-agent
License Apache-2.0 AND GPL-3.0-or-later
Section net
SourceDateEpoch $EPOCH
Architecture x86_64
Installed-Size $(gzip -dc "$WORK/outer/data.tar.gz" | wc -c)
END
depends=$(field Depends "$WORK/control/control")
promise 'Depends' "$depends" 'package names alone' grep -qE '^([a-z0-9-]+)(, [a-z0-9-]+)*$' <<< "$depends"
promise 'Depends has what marks need' 'kmod-nft-core' 'kmod-nft-core' grep -qw kmod-nft-core <<< "$depends"
promise 'Description' "$(sed -n '/^Description:/,$p' "$WORK/control/control" | wc -l) lines" \
    'text, and each further line begins with a space' \
    awk '/^Description:  [^ ]/ { on = 1; next } on && !/^ / { bad = 1 } END { exit bad || !on }' \
    "$WORK/control/control"
promise 'conffiles' "$(paste -sd ' ' "$WORK/control/conffiles")" '/etc/config/qod-agent alone' \
    equal "$(cat "$WORK/control/conffiles")" /etc/config/qod-agent

section "Files"
# rights PATH: type and mode that a path of the package has.
rights() {
    local type=f mode=644
    if [ -L "openwrt-package/files/$1" ]; then
        type=l mode=777
    elif [ -d "openwrt-package/files/$1" ] || [ "$1" = ./usr/sbin ]; then
        type=d mode=755
    fi
    case $type$1 in
        d./etc/qod-agent) mode=700 ;;
        f./etc/config/*) mode=600 ;;
        f./etc/init.d/* | f./etc/uci-defaults/* | f./usr/sbin/* | f./usr/libexec/*) mode=755 ;;
    esac
    echo "$type $mode"
}
{
    (cd openwrt-package/files && find .)
    printf '%s\n' ./usr/sbin ./usr/sbin/qod-agent
} | sort -u | while read -r path; do
    echo "$path $(rights "$path")"
done > "$WORK/expected"
(cd "$WORK/root" && find . -printf '%p %y %m\n' | sort) > "$WORK/found"
difference=$(diff "$WORK/expected" "$WORK/found" | grep '^[<>]')
[ -z "$difference" ] || note "$difference"
promise 'the tree' "$(wc -l < "$WORK/found") paths" 'these, with their rights, no other' equal "$difference" ''
promise 'the program' "$(sha256sum < "$WORK/root/usr/sbin/qod-agent" | cut -c 1-12)" 'the given one' \
    cmp -s "$BINARY" "$WORK/root/usr/sbin/qod-agent"

section "Scripts"
promise 'of the package' "$(cd "$WORK/control" && find . -perm -u+x -type f -printf '%f\n' | sort | paste -sd ' ')" \
    'postinst, prerm and its own, all 0755' \
    none "$WORK/control" -type f ! -name control ! -name conffiles ! -perm 0755
while read -r script; do
    promise "${script#"$WORK"/}" "$(head -c 30 "$script" | head -n 1)" 'sh that busybox reads' \
        busybox ash -n "$script"
done < <(grep -rlE '^#!/bin/sh|^# shellcheck shell=' "$WORK/control" "$WORK/root" | sort)
# OpenWrt's busybox is a smaller one than any here: its tr knows no classes, and it has none of these applets.
ABSENT='base64|comm|diff|expand|fold|getopt|install|link|lsof|nl|nohup|nproc|od|paste|patch|pkill|printenv|realpath'
ABSENT+='|sha1sum|shuf|split|stat|stty|tac|timeout|tty|unlink|usleep|watch|wget|who|whoami|xxd'
absent() {
    grep -rnIE -e '^[^#]*\btr\b[^|]*\[[:=]' \
        -e "^([^#]*([|;&(]|\b(then|do|else|exec|if|until|while|!)))?[[:space:]]*($ABSENT)([[:space:]]|\$)" "$@"
}
printf '%s\n' 'echo A | tr -d x | tr "[:upper:]" a' 'true; stat -c %s file' 'true && timeout 3 true' > "$WORK/absent"
promise 'what a router has not' "$(absent "$WORK/absent" | wc -l) of 3 lines" 'would be seen' \
    equal "$(absent "$WORK/absent" | wc -l)" 3
used=$(absent "$WORK/control" "$WORK/root")
[ -z "$used" ] || note "$used"
promise 'the scripts' "$(grep -c . <<< "$used") lines" 'none of that in them' equal "$used" ''
# What they do on a router is said by its /lib/functions.sh.
mkdir -p "$WORK/router/lib" "$WORK/no-router"
echo 'default_postinst() { echo "postinst $*"; }; default_prerm() { echo "prerm $*"; return 3; }' \
    > "$WORK/router/lib/functions.sh"
run() {
    local router=$1 script=$2
    shift 2
    (cd "$WORK/control" && env "$@" IPKG_INSTROOT="$WORK/$router" busybox ash "./$script" word; echo "status $?") \
        | paste -sd ' '
}
promise 'postinst' "$(run router postinst)" 'hands on to the router' \
    equal "$(run router postinst)" 'postinst ./postinst word status 0'
promise 'postinst with IPKG_NO_SCRIPT' "$(run router postinst IPKG_NO_SCRIPT=1)" 'nothing' \
    equal "$(run router postinst IPKG_NO_SCRIPT=1)" 'status 0'
promise 'prerm' "$(run router prerm)" "hands on to the router, and its status back" \
    equal "$(run router prerm)" 'prerm ./prerm word status 3'
for each in postinst prerm; do
    promise "$each where there is no OpenWrt" "$(run no-router $each)" 'nothing' \
        equal "$(run no-router $each)" 'status 0'
done

section "The same wherever and whenever it is made"
sleep 1
(
    unset SOURCE_DATE_EPOCH
    export TZ=Asia/Tokyo LC_ALL=C.UTF-8
    umask 027
    build "another folder" x86_64 "$BINARY"
)
for each in "${IPK##*/}" Packages Packages.gz; do
    promise "$each" "$(sha256sum < "$OUT/$each" | cut -c 1-12)" 'the same in a checkout with that commit time' \
        cmp -s "$OUT/$each" "$WORK/another folder/target/openwrt/x86_64/$each"
done
rm -rf "$WORK/another folder"
(unset SOURCE_DATE_EPOCH && build one x86_64 "$BINARY")
STATUS=$?
refused 'no time' 'set SOURCE_DATE_EPOCH'

section "The index"
sed -i 's/^PKG_RELEASE *:=.*/PKG_RELEASE:=99/' "$WORK/one/openwrt-package/Makefile"
SOURCE_DATE_EPOCH=$EPOCH build one x86_64 "$BINARY"
promise 'two versions in one folder' "$(grep -c '^Package: ' "$OUT/Packages") stanzas" '2' \
    equal "$(sed -n 's/^Version: //p' "$OUT/Packages" | paste -sd ' ')" "$VERSION ${VERSION%-r*}-r99"
while read -r name size sum; do
    promise "$name" "$size bytes, ${sum:0:12}" 'as it is' \
        equal "$size $sum" "$(stat -c %s "$OUT/$name") $(sha256sum < "$OUT/$name" | cut -d ' ' -f 1)"
done < <(awk '/^Filename:/ { name = $2 } /^Size:/ { size = $2 } /^SHA256sum:/ { print name, size, $2 }' "$OUT/Packages")
promise 'Packages without what the index adds' '' "the package's own control file" \
    equal "$(sed '/^$/,$d;/^Filename:/d;/^Size:/d;/^SHA256sum:/d' "$OUT/Packages")" "$(cat "$WORK/control/control")"
promise 'Packages.gz' "$(stat -c %s "$OUT/Packages.gz") bytes" 'Packages' \
    equal "$(gzip -dc "$OUT/Packages.gz")" "$(cat "$OUT/Packages")"

section "Its signature"
(umask 077 && cd "$WORK" && signify-openbsd -G -n -p feed.pub -s feed.sec -c feed)
feed() {
    (cd "$WORK/one" && scripts/build-feed.sh "$@") > "$WORK/log" 2>&1
    STATUS=$?
}
is_signed() { signify-openbsd -q -V -p "$WORK/feed.pub" -m "$1" -x "$OUT/Packages.sig" 2> /dev/null; }
feed "$OUT" --sign "$WORK/feed.sec"
promise 'Packages.sig' "$(wc -c < "$OUT/Packages.sig") bytes" 'signify says that it is right' is_signed "$OUT/Packages"
# A router's usign takes Ed, the key's number and the key or the signature out of the second line.
sed -n 2p "$WORK/feed.pub" | base64 -d > "$WORK/pub"
sed -n 2p "$OUT/Packages.sig" | base64 -d > "$WORK/sig"
{ printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00' && tail -c 32 "$WORK/pub"; } > "$WORK/pub.der"
tail -c 64 "$WORK/sig" > "$WORK/raw"
promise 'algorithm and number of the key' "$(head -c 10 "$WORK/sig" | od -An -tx1)" 'Ed, and the same number' \
    equal "$(head -c 10 "$WORK/sig" | base64)" "$( (printf Ed && head -c 10 "$WORK/pub" | tail -c 8) | base64)"
promise 'Ed25519 of the plain index, as usign checks it' "$(stat -c %s "$WORK/raw") bytes" \
    'openssl says that it is right' openssl pkeyutl -verify -pubin -keyform DER -inkey "$WORK/pub.der" -rawin \
    -in "$OUT/Packages" -sigfile "$WORK/raw" -out "$WORK/log.openssl"
number=$(head -c 10 "$WORK/pub" | tail -c 8 | od -An -tx1 | tr -d ' \n')
promise 'name of the key on a router' "/etc/opkg/keys/$number" 'the number of the key, and is said' \
    grep -q "/etc/opkg/keys/$number " "$WORK/log"
is_not_signed() { ! is_signed "$1"; }
promise 'a changed index' 'refused' 'is not right' is_not_signed "$WORK/changed"
(cd "$WORK/one/target" && ../scripts/build-feed.sh openwrt/x86_64 --sign ../../feed.sec > "$WORK/log" 2>&1)
promise 'names relative to where one is' '' 'are understood' is_signed "$OUT/Packages"
feed "$OUT" --sign "$WORK/nothing/feed.sec"
refused 'a key that is not there' 'there is no key'
feed "$OUT" --sign
refused 'no key' 'scripts/build-feed.sh FOLDER'
cp "$WORK/feed.sec" "$WORK/one/openwrt-package/feed.sec"
feed "$OUT" --sign "$WORK/one/openwrt-package/feed.sec"
refused 'a key in the repository' 'is in the repository'
chmod 640 "$WORK/feed.sec"
feed "$OUT" --sign "$WORK/feed.sec"
refused 'a key that others can read' 'is open to others'
feed "$OUT"
promise 'an index that is not signed' '' 'leaves no signature of an older one' none "$OUT/Packages.sig"
echo 'no package' > "$OUT/broken.ipk"
before=$(sha256sum "$OUT/Packages")
feed "$OUT"
refused 'a broken package' 'broken.ipk is no package'
promise 'the index after that' '' 'as it was' equal "$before" "$(sha256sum "$OUT/Packages")"

section "For apk"
# There is no apk-tools 3 in Debian: what apk would make is not tested, but what it is told is.
mkdir -p "$WORK/bin"
cat > "$WORK/bin/apk" << 'END'
#!/bin/sh
# Keeps what it is told, and the folder and the scripts that it is pointed to.
here=${0%/*}/..
printf '%s\n' "$@" > "$here/apk.$1"
while [ $# -gt 0 ]; do
    case $1 in
        --files) cp -a "$2" "$here/apk.root" ;;
        --script) cp "${2#*:}" "$here/apk.${2%%:*}" ;;
        --output) echo apk > "$2" ;;
    esac
    shift
done
END
chmod +x "$WORK/bin/apk"
rm -rf "$WORK/one/target"
openssl ecparam -name prime256v1 -genkey -noout -out "$WORK/apk.pem" && chmod 600 "$WORK/apk.pem"
(PATH=$WORK/bin:$PATH SOURCE_DATE_EPOCH=$EPOCH build one x86_64 "$BINARY" --sign-apk "$WORK/apk.pem")
promise 'the package' "$(cd "$OUT" 2> /dev/null && echo ./*.apk)" 'named as its index expects' \
    [ -f "$OUT/qod-agent-${VERSION%-r*}-r99.apk" ]
while read -r said; do
    promise "$said" '' 'is told to apk mkpkg' grep -qxF -- "$said" "$WORK/apk.mkpkg"
done << END
name:qod-agent
version:${VERSION%-r*}-r99
arch:x86_64
license:$(field License "$WORK/control/control")
origin:qod-agent
depends:${depends//,/}
description:$(sed -n '/^Description:/,$p' "$WORK/control/control" | sed 's/^Description://' | tr -s ' \n' ' ' | sed 's/^ //;s/ $//')
END
told=$(grep -v '/packages.adb$' "$WORK/apk.mkndx" | paste -sd ' ')
promise 'apk mkndx' "$(wc -w <<< "$told") words" 'is told the key and the package' equal "$told" \
    "mkndx --allow-untrusted --sign-key $WORK/apk.pem --output ./qod-agent-${VERSION%-r*}-r99.apk"
promise 'packages.adb' '' 'is there' [ -f "$OUT/packages.adb" ]
for each in post-install post-upgrade pre-deinstall; do
    promise "$each" "$(wc -l < "$WORK/apk.$each") lines" 'sh that busybox reads' busybox ash -n "$WORK/apk.$each"
done
promise 'files' '' 'those of the .ipk, and what OpenWrt keeps of packages' \
    equal "$(diff -rq --no-dereference "$WORK/root" "$WORK/apk.root")" "Only in $WORK/apk.root/lib: apk"
promise 'their list' '' 'all of them' equal \
    "$(cat "$WORK/apk.root/lib/apk/packages/qod-agent.list")" \
    "$(cd "$WORK/root" && find . ! -type d -printf '/%P\n' | LC_ALL=C sort)"
promise 'configuration files' '' 'with their sums' equal \
    "$(cat "$WORK/apk.root/lib/apk/packages/qod-agent.conffiles_static")" \
    "/etc/config/qod-agent $(sha256sum < "$WORK/root/etc/config/qod-agent" | cut -d ' ' -f 1)"

section "Refused"
echo 'int main(void) { return 0; }' > "$WORK/main.c"
x86_64-linux-gnu-gcc -o "$WORK/dynamic" "$WORK/main.c"
x86_64-linux-gnu-gcc -shared -nostdlib -o "$WORK/library" "$WORK/main.c"
x86_64-linux-gnu-gcc -c -o "$WORK/object" "$WORK/main.c"
: > "$WORK/empty"
# what : words of build-ipk.sh : what it says
while IFS=: read -r what words said; do
    rm -rf "$WORK/one/target"
    # shellcheck disable=SC2086 # several words
    (export SOURCE_DATE_EPOCH=$EPOCH && build one $words)
    STATUS=$?
    refused "$what" "$said"
    promise "  and no package" '' 'none is there' none "$WORK/one/target" -name '*.ipk'
done << END
the program of another processor:aarch64_cortex-a53 $BINARY:it is ELF64 little X86-64, and aarch64_cortex-a53 is ELF64 little AArch64
the same in the other byte order:mips_24kc $BINARY:mips_24kc is ELF32 big MIPS
a dynamic program:x86_64 $WORK/dynamic:is not static: it needs /lib64/ld-linux-x86-64.so.2, libc.so.6
a library:x86_64 $WORK/library:is a library, not a program
an object file:x86_64 $WORK/object:is no program that can be started
an empty file:x86_64 $WORK/empty:is no program (ELF)
a program that is not there:x86_64 $WORK/nothing:there is no
an architecture that is not OpenWrt's:amd64 $BINARY:amd64 is none of OpenWrt's package architectures
one without a processor:all $BINARY:all is none of OpenWrt's package architectures
no program for a processor that Debian has none for:mipsel_24kc:--target mipsel-unknown-linux-musl
END

section "Processors"
# header CLASS ORDER MACHINE: the beginning of a static program, from the numbers of the ELF standard.
header() {
    local low high
    printf -v low '\\x%02x' $(($3 % 256))
    printf -v high '\\x%02x' $(($3 / 256))
    if [ "$2" = little ]; then
        printf '%b' "\x7fELF\\x0$1\x01\x01\0\0\0\0\0\0\0\0\0\x02\0$low$high\x01\0\0\0"
    else
        printf '%b' "\x7fELF\\x0$1\x02\x01\0\0\0\0\0\0\0\0\0\0\x02$high$low\0\0\0\x01"
    fi
    head -c 40 /dev/zero
}
ARCHES='x86_64 2 little 62
i386_pentium4 1 little 3
aarch64_cortex-a53 2 little 183
aarch64_be_generic 2 big 183
arm_cortex-a7_neon-vfpv4 1 little 40
armeb_xscale 1 big 40
mips_24kc 1 big 8
mipsel_24kc 1 little 8
mips64_octeonplus 2 big 8
mips64el_mips64r2 2 little 8
powerpc_8548 1 big 20
powerpc64_e5500 2 big 21
riscv64_generic 2 little 243
loongarch64_generic 2 little 258'
while read -r arch numbers; do
    # shellcheck disable=SC2086 # three words
    header $numbers > "$WORK/header.$arch"
done <<< "$ARCHES"
while read -r arch _; do
    taken=$(while read -r other _; do
        (check_static "$arch" "$WORK/header.$other") 2> /dev/null && echo "$other"
    done <<< "$ARCHES" | paste -sd ' ')
    promise "$arch" "$taken" 'takes its own, of all these' equal "$taken" "$arch"
done <<< "$ARCHES"

conclude
