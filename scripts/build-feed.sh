#!/usr/bin/env bash
# The index of a feed, from all packages of a folder, of any version and architecture:
#
#   scripts/build-feed.sh FOLDER [--sign KEY] [--sign-apk KEY]
#
# Packages and Packages.gz for opkg, packages.adb for apk where there is an apk to make it. The name of an .apk does
# not say its architecture: for apk, each has its own folder.
#
# --sign KEY signs for opkg: with usign if it is here, else with signify-openbsd, which writes the same format.
# A key without a password is made by
#     signify-openbsd -G -n -p feed.pub -s feed.sec        or        usign -G -p feed.pub -s feed.sec
# and feed.pub goes to the routers as /etc/opkg/keys/NAME: this script says which NAME.
# --sign-apk KEY signs for apk. A key is made by
#     openssl ecparam -name prime256v1 -genkey -noout -out feed.pem
#     openssl ec -in feed.pem -pubout > feed.pub.pem
# and feed.pub.pem goes to the routers as /etc/apk/keys/ANY.pem.
# Neither secret key may be in the repository, nor readable to others.
set -euo pipefail
FROM=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "scripts/${0##*/}" >&2
    exit 2
}

FOLDER=
KEY=
APK_KEY=
while [ $# -gt 0 ]; do
    [ -n "${1#--sign*}" ] || [ -n "${2:-}" ] || usage
    case $1 in
        --sign) KEY=$2 && shift 2 ;;
        --sign-apk) APK_KEY=$2 && shift 2 ;;
        -*) usage ;;
        *)
            [ -z "$FOLDER" ] || usage
            FOLDER=$1 && shift
            ;;
    esac
done
[ -n "$FOLDER" ] || usage
# What the caller names is where the caller is.
[[ $FOLDER = /* ]] || FOLDER=$FROM/$FOLDER
[[ -z $KEY || $KEY = /* ]] || KEY=$FROM/$KEY
[[ -z $APK_KEY || $APK_KEY = /* ]] || APK_KEY=$FROM/$APK_KEY
[ -d "$FOLDER" ] || die "there is no folder $FOLDER"

# check_key KEY: ends the script if the key is not kept as a secret.
check_key() {
    [ -f "$1" ] || die "there is no key $1"
    [[ $(realpath "$1") != "$(pwd -P)"/* ]] || die "the key $1 is in the repository: keep it elsewhere"
    [ $((0$(stat -L -c %a "$1") & 077)) = 0 ] || die "the key $1 is open to others: chmod 600"
}

# stanza IPK: its control fields and where it is, as opkg reads them.
stanza() {
    local control
    control=$( (tar -xzOf "$1" ./control.tar.gz | tar -xzO ./control) 2> /dev/null) || die "$1 is no package"
    awk -v name="${1##*/}" -v size="$(stat -c %s "$1")" -v sum="$(sha256sum < "$1" | cut -d ' ' -f 1)" '
        /^Description:/ { printf "Filename: %s\nSize: %s\nSHA256sum: %s\n", name, size, sum }
        { print }
        END { print "" }' <<< "$control"
}

# key_name SIGNATURE: under which name the router looks for the public key.
key_name() {
    sed -n 2p "$1" | base64 -d | od -An -tx1 -j2 -N8 | tr -d ' \n'
}

[ -z "$KEY" ] || check_key "$KEY"
[ -z "$APK_KEY" ] || check_key "$APK_KEY"
if [ -n "$KEY" ] && ! has usign; then
    NEEDED=(signify-openbsd:signify-openbsd)
    install_packages
fi
umask 022
export LC_ALL=C

NEW=$(mktemp -d "$FOLDER/.new.XXXXXX")
trap 'rm -rf "$NEW"' EXIT
IPKS=("$FOLDER"/*.ipk)
APKS=("$FOLDER"/*.apk)
for each in "${IPKS[@]}"; do
    [ ! -e "$each" ] || stanza "$each"
done > "$NEW/Packages"
gzip -n -9 < "$NEW/Packages" > "$NEW/Packages.gz"
if [ -n "$KEY" ]; then
    if has usign; then
        usign -S -m "$NEW/Packages" -s "$KEY" -x "$NEW/Packages.sig"
    else
        signify-openbsd -S -m "$NEW/Packages" -s "$KEY" -x "$NEW/Packages.sig"
    fi
fi
if has apk && [ -e "${APKS[0]}" ]; then
    (cd "$FOLDER" && apk mkndx --allow-untrusted ${APK_KEY:+--sign-key "$APK_KEY"} \
        --output "$NEW/packages.adb" ./*.apk)
elif [ -n "$APK_KEY" ]; then
    die "nothing was signed for apk: it needs an .apk in $FOLDER, and apk (apk-tools 3)"
fi
# A signature of another index is worse than none: opkg refuses the feed.
rm -f "$FOLDER/Packages.sig"
mv "$NEW"/* "$FOLDER/"
[ -z "$KEY" ] || echo "signed for opkg: the public key is /etc/opkg/keys/$(key_name "$FOLDER/Packages.sig") on routers"
