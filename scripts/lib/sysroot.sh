# shellcheck shell=bash
# Static C libraries for an architecture, from Debian's packages. Sourced, after packages.sh, in the top folder.

# The first release of Debian with a libmnl.a.
SYSROOT_SUITE=trixie
SYSROOT_PACKAGES=(libc6-dev linux-libc-dev libmnl-dev libnftnl-dev)
# Whatever the machine trusts for its own packages: these must be Debian's.
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
# Seconds for the package lists, and for the packages.
SYSROOT_LIMIT=300

# debian_sysroot x86_64|aarch64|armv7: unpacks the packages below target/sysroot/, once, and sets SYSROOT.
# SYSROOT/packages.txt says which versions they are; what was there is taken again until the folder is removed.
debian_sysroot() {
    local arch=$1 architecture new uri answer=
    case $arch in
        x86_64) architecture=amd64 ;;
        aarch64) architecture=arm64 ;;
        armv7) architecture=armhf ;;
        *) die "no Debian packages are known for $arch" ;;
    esac
    SYSROOT=$PWD/target/sysroot/$arch
    if [ "$(cut -d ' ' -f 1 "$SYSROOT/packages.txt" 2> /dev/null)" = "$(printf '%s\n' "${SYSROOT_PACKAGES[@]}")" ]; then
        return 0
    fi
    has apt-get || die "the C libraries come from Debian's packages, and there is no apt-get: use --sysroot"
    [ -s "$DEBIAN_KEYRING" ] || die "no $DEBIAN_KEYRING: please install debian-archive-keyring"
    mkdir -p target/sysroot
    new=$(mktemp -d "$PWD/target/sysroot/new.XXXXXX") || die "no folder for the sysroot"
    echo "downloading $SYSROOT_SUITE's C libraries for $arch"
    while read -r uri; do
        if fetch_packages "$new" "$architecture" "$uri" > "$new/log" 2>&1; then
            unpack_sysroot "$new" || { rm -rf "$new"; die "the packages for $arch could not be unpacked"; }
            rm -rf "$SYSROOT"
            mv "$new/root" "$SYSROOT" || die "no folder for the sysroot"
            rm -rf "$new"
            return 0
        fi
        answer+=$(sed 's/^/  /' "$new/log")$'\n'
    done < <(apt_mirrors)
    rm -rf "$new"
    die "no mirror of this machine's apt gives $SYSROOT_SUITE's packages:"$'\n'"${answer:-  it has none}"
}

# The repositories that apt uses here, Debian's own first; one that is not Debian's is asked too, and its
# signature refused.
apt_mirrors() {
    local codename
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # What an update would ask for: known before the first one, too.
    apt-get update --print-uris 2> /dev/null \
        | sed -n "s#^'\(.*\)/dists/\(.*\)/InRelease'.*#\1 \2#p" \
        | awk -v own="$codename" -v suite="$SYSROOT_SUITE" '
            $2 ~ /-(security|updates|backports)|\// || $1 ~ /^cdrom:/ { next }
            $2 == own || $2 == suite { if (!seen[$1]++) print $1; next }
            { others[++n] = $1 }
            END { for (i = 1; i <= n; i++) if (!seen[others[i]]++) print others[i] }'
}

# fetch_packages FOLDER ARCHITECTURE URI: the packages as FOLDER/deb/*.deb, by an apt that has the machine's
# proxies, certificates and passwords, and nothing else of it: neither its package lists nor what is installed.
# Apt verifies the chain from the signature to each package.
fetch_packages() {
    local folder=$1 architecture=$2 uri=$3
    rm -rf "$folder"/{state,cache,deb}
    mkdir -p "$folder"/state/lists/partial "$folder"/cache/archives/partial "$folder/deb" || return
    : > "$folder/status"
    cat > "$folder/sources.list" << END || return
deb [arch=$architecture signed-by=$DEBIAN_KEYRING target=Packages lang=none] $uri $SYSROOT_SUITE main
END
    cat > "$folder/apt.conf" << END || return
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Check-Valid-Until "true";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::State "$folder/state";
Dir::State::lists "$folder/state/lists";
Dir::State::status "$folder/status";
Dir::State::extended_states "$folder/state/extended_states";
Dir::Cache "$folder/cache";
Dir::Cache::archives "$folder/cache/archives";
Dir::Etc::sourcelist "$folder/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
END
    timeout "$SYSROOT_LIMIT" apt-get -c "$folder/apt.conf" -qq update \
        && (cd "$folder/deb" \
            && timeout "$SYSROOT_LIMIT" apt-get -c "$folder/apt.conf" -qq download "${SYSROOT_PACKAGES[@]}")
}

# unpack_sysroot FOLDER: FOLDER/deb/*.deb to FOLDER/root, and root/packages.txt: name, version, SHA256.
unpack_sysroot() {
    local folder=$1 package deb
    for package in "${SYSROOT_PACKAGES[@]}"; do
        deb=$(echo "$folder/deb/${package}"_*.deb)
        dpkg-deb -x "$deb" "$folder/root" \
            && echo "$package $(dpkg-deb -f "$deb" Version) $(sha256sum < "$deb" | cut -d ' ' -f 1)" \
                >> "$folder/packages.txt" || return
    done
    # The libraries' files name each other from the root, as if /lib were a link to /usr/lib.
    [ -e "$folder/root/lib" ] || ln -s usr/lib "$folder/root/lib"
    mv "$folder/packages.txt" "$folder/root/"
}
