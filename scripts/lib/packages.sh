# shellcheck shell=bash
# What the scripts need on a machine that has a Rust toolchain and nothing else. Sourced.

# command, file or Python module that shows a package is there : Debian package
NEEDED=(
    cc:gcc
    /usr/include/stdlib.h:libc6-dev
    pkg-config:pkg-config
    /usr/include/libnftnl/common.h:libnftnl-dev
    /usr/include/libmnl/libmnl.h:libmnl-dev
    /etc/ssl/certs/ca-certificates.crt:ca-certificates
    nft:nftables
    ip:iproute2
    tcpdump:tcpdump
    jq:jq
    curl:curl
    chrt:util-linux
    busybox:busybox-static
    shellcheck:shellcheck
)
# The same for the machine of scripts/vm-test.sh.
# shellcheck disable=SC2034 # vm-test.sh reads it
NEEDED_FOR_VM=(
    qemu-system-x86_64:qemu-system-x86
    strip:binutils
)
# What scripts/qemu-test.sh needs besides.
# shellcheck disable=SC2034 # qemu-test.sh reads it
NEEDED_FOR_ROUTER=(
    qemu-system-aarch64:qemu-system-arm
    mke2fs:e2fsprogs
    setpriv:util-linux
    pkill:procps
)

# All that scripts/build-static.sh needs, besides a compiler for the architecture.
# shellcheck disable=SC2034 # build-static.sh reads it
NEEDED_FOR_STATIC=(
    cc:gcc
    /usr/include/stdlib.h:libc6-dev
    readelf:binutils
    pkg-config:pkg-config
    /etc/ssl/certs/ca-certificates.crt:ca-certificates
    timeout:coreutils
)
# The same where the C libraries come from Debian's packages.
# shellcheck disable=SC2034 # build-static.sh reads it
NEEDED_FOR_SYSROOT=(
    dpkg-deb:dpkg
    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
)

# The same for scripts/api-test.sh.
# shellcheck disable=SC2034 # api-test.sh reads it
NEEDED_FOR_API=(
    python:ensurepip:python3-venv
)

# All that scripts/build-ipk.sh needs, but for a program that is built before.
# shellcheck disable=SC2034 # build-ipk.sh reads it
NEEDED_FOR_IPK=(
    make:make
    readelf:binutils
    advdef:advancecomp
    git:git
)
# What scripts/package-test.sh needs besides. The compiler makes programs that are refused.
# shellcheck disable=SC2034 # package-test.sh reads it
NEEDED_FOR_PACKAGE_TEST=(
    busybox:busybox-static
    signify-openbsd:signify-openbsd
    openssl:openssl
    x86_64-linux-gnu-gcc:gcc-x86-64-linux-gnu
)

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n -E "$@"
    fi
}

has() {
    case $1 in
        /*) [ -e "$1" ] ;;
        python:*) python3 -c "import ${1#*:}" 2> /dev/null ;;
        *) command -v "$1" > /dev/null ;;
    esac
}

missing_packages() {
    local pair
    for pair in "${NEEDED[@]}"; do
        has "${pair%:*}" || printf '%s\n' "${pair##*:}"
    done
}

install_packages() {
    # ip, nft and tcpdump are in sbin, which is not in every user's path.
    PATH=$PATH:/usr/sbin:/sbin
    local missing attempt
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    has apt-get || die "please install: ${missing[*]}"
    as_root true 2> /dev/null || die "needs root to install: ${missing[*]}"
    echo "installing: ${missing[*]}"
    for attempt in 1 2 3; do
        if as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update > /dev/null \
            && as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get -qq install --no-install-recommends -y "${missing[@]}" > /dev/null; then
            mapfile -t missing < <(missing_packages)
            [ ${#missing[@]} -eq 0 ] || die "still missing after the installation: ${missing[*]}"
            return 0
        fi
        echo "attempt $attempt failed" >&2
        sleep $((attempt * 5))
    done
    die "could not install: ${missing[*]}"
}

need_rust() {
    # rustup's folder is in the path of login shells only.
    PATH=$PATH:$HOME/.cargo/bin
    if ! has cargo || ! has rustc; then
        die "no Rust toolchain: cargo and rustc are not in the path (https://rustup.rs)"
    fi
    rustc --version > /dev/null 2>&1 || die "rustc does not run: $(rustc --version 2>&1 | head -n 1)"
}

# Whether network namespaces with nftables can be made here. Says why not.
can_make_namespaces() {
    local name=qod$$.probe.0 answer
    if ! answer=$(as_root ip netns add "$name" 2>&1); then
        echo "no network namespaces: $answer"
        return 1
    fi
    answer=$(as_root ip netns exec "$name" nft 'add table inet probe' 2>&1) \
        || { answer="no nftables: $answer"; }
    as_root ip netns delete "$name"
    [ -z "$answer" ] || { echo "$answer"; return 1; }
}
