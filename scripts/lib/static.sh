# shellcheck shell=bash
# The static build of the agent. Sourced, after packages.sh, in the top folder.

# static_flags TRIPLE [lld]: everything that rustc and the linker are told beyond the profile of Cargo.toml, one
# flag a line. Cargo gives them to what is built for the target alone, never to a build script.
static_flags() {
    printf '%s\n' -Ctarget-feature=+crt-static
    # libnftnl needs libmnl, and its crate does not say so.
    printf '%s\n' -Clink-arg=-lmnl
    # It would only say that something else was built.
    printf '%s\n' -Clink-arg=-Wl,--build-id=none
    size_flags "$2"
    # What a panic says names source files: not where the builder has them.
    printf '%s\n' "--remap-path-prefix=$PWD=/build" \
        "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
        "--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc_commit)"
    case $1 in
        *-musl*)
            # Rust brings start files and a C library for a linker that has none; a linker that has its own would
            # mix them. What libmnl calls is asked for after it.
            [ -n "$CROSS" ] || printf '%s\n' -Clink-self-contained=no -Clink-arg=-lc
            ;;
    esac
}

# size_flags lld|"": what makes the program smaller and costs it nothing.
size_flags() {
    # An SDK's linker is its own; cross's is in its container.
    if [ -n "$1" ]; then
        [ ! -d "$(rust_lld)" ] || printf '%s\n' "-Clink-arg=-B$(rust_lld)"
        # Equal functions once, and the relocations of a static-pie as a bitmap. GNU ld has the latter alone, and
        # not for every processor.
        printf '%s\n' -Clink-arg=-fuse-ld=lld -Clink-arg=-Wl,--icf=all -Clink-arg=-Wl,--pack-dyn-relocs=relr \
            -Clink-arg=-Wl,-O2
    fi
    printf '%s\n' "-Clink-arg=-Wl,-T,$PWD/scripts/lib/static.ld"
}

# Where Rust has its own lld, if it has: with the same rustc it is the same linker.
rust_lld() {
    echo "$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin/gcc-ld"
}

# build_with_sysroot NAME TRIPLE SYSROOT LINKER: the agent as target/static/NAME/qod-agent.
build_with_sysroot() {
    local name=$1 triple=$2 sysroot=$3 linker=$4 under flags folder cflags='' folders
    under=${triple//[-.]/_}
    folders=$(pkgconfig_folders "$sysroot")
    PKG_CONFIG_LIBDIR=$folders pkg-config --exists libnftnl libmnl \
        || die "no libnftnl.pc and libmnl.pc in $sysroot (OpenWrt's SDK: make package/libnftnl/compile)"
    standard_library "$triple"
    if [ "$name" = "$triple" ]; then
        mapfile -t flags < <(static_flags "$triple" '')
    else
        mapfile -t flags < <(static_flags "$triple" lld)
    fi
    if [ -n "$(find "$sysroot/usr/lib" "$sysroot/lib" -maxdepth 2 -name libc.a 2> /dev/null)" ]; then
        cflags=--sysroot=$sysroot
        flags+=("-Clink-arg=$cflags")
    fi
    # The linker of an SDK has its own C library, and looks in none of these.
    for folder in "$sysroot"/{usr/lib,lib}; do
        [ ! -d "$folder" ] || flags+=("-Clink-arg=-L$folder")
    done
    mkdir -p "target/static/$name"
    case $triple in
        *-musl*)
            # Rust's standard library asks for the unwinder that comes with it; GCC's does the same.
            mkdir -p "target/static/$name/lib"
            echo 'INPUT(-lgcc_eh -lgcc)' > "target/static/$name/lib/libunwind.a"
            flags+=("-Clink-arg=-L$PWD/target/static/$name/lib")
            ;;
    esac
    # Not by the environment: that would be the linker of build scripts too where the target is this machine's, and
    # the next target would build them anew.
    flags+=("-Clinker=$linker")
    settle_environment
    export PKG_CONFIG_ALLOW_CROSS=1 "PKG_CONFIG_LIBDIR_$under=$folders" "PKG_CONFIG_SYSROOT_DIR_$under=$sysroot" \
        "CC_$under=$linker" "CFLAGS_$under=$cflags"
    CARGO_ENCODED_RUSTFLAGS=$(joined "${flags[@]}") \
        cargo "${BUILD_STD[@]}" build --locked --release --bin qod-agent --target "$triple" --target-dir target \
        || die "the build failed"
    take_binary "$name" "$triple" "$("$linker" --version | head -n 1)" "$(machine_of_linker "$linker")"
    record_libraries "$sysroot" "$linker" >> "target/static/$name/sysroot.txt"
}

# record_libraries SYSROOT LINKER: the packages of Debian's sysroot, or the files of another that are in the binary.
record_libraries() {
    local each
    cat "$1/packages.txt" 2> /dev/null && return
    for each in "$1"/{usr/lib,usr/lib/*,lib}/lib{mnl,nftnl}.a "$("$2" -print-file-name=libc.a)"; do
        [ ! -f "$each" ] || echo "${each##*/} $(sha256sum < "$each" | cut -d ' ' -f 1)"
    done
}

# build_with_cross TRIPLE: the same as target/static/TRIPLE/qod-agent.
build_with_cross() {
    local triple=$1 flags
    has cross || die "no cross: cargo install cross (https://github.com/cross-rs/cross)"
    mapfile -t flags < <(static_flags "$triple" '')
    settle_environment
    # Cross reads a Cross.toml of itself, and no other without this.
    CROSS_CONFIG=$PWD/cross.toml CARGO_ENCODED_RUSTFLAGS=$(joined "${flags[@]}") \
        cross build --locked --release --bin qod-agent --target "$triple" --target-dir target \
        || die "the build failed"
    take_binary "$triple" "$triple" "cross: $(cross --version 2> /dev/null | head -n 1)" ''
}

# Nothing of the caller's environment may change the result, nor go to what is built for this machine.
settle_environment() {
    local each
    for each in RUSTFLAGS RUSTC_WRAPPER CFLAGS CC LDFLAGS PKG_CONFIG_PATH PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR \
        PKG_CONFIG_ALL_STATIC LIBNFTNL_LIB_DIR LIBMNL_LIB_DIR CARGO_BUILD_TARGET ${!CARGO_PROFILE_@}; do
        unset "$each"
    done
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || echo 0)}
    export SOURCE_DATE_EPOCH
}

# As cargo takes flags that go before all others.
joined() {
    local IFS=$'\x1f'
    printf '%s' "$*"
}

pkgconfig_folders() {
    local each found=()
    for each in "$1"/{usr/lib,usr/lib/*,lib,usr/share}/pkgconfig; do
        [ ! -d "$each" ] || found+=("$each")
    done
    local IFS=:
    printf '%s' "${found[*]}"
}

# standard_library TRIPLE: sees to it that there is Rust's. Sets BUILD_STD, for cargo: empty, or so that it builds it,
# which SMALL asks for.
standard_library() {
    local triple=$1
    BUILD_STD=()
    [ -n "$SMALL" ] || ! has_standard_library "$triple" || return 0
    if has rustup; then
        if [ -z "$SMALL" ]; then
            echo "asking rustup for $triple"
            if timeout 600 rustup target add "$triple" > /dev/null 2>&1 && has_standard_library "$triple"; then
                return 0
            fi
        fi
        [ -e "$(library_source)" ] || timeout 600 rustup component add rust-src > /dev/null 2>&1
    fi
    rustc --print target-list | grep -qx -e "$triple" || die "rustc knows no target $triple"
    [ -e "$(library_source)" ] || die "no Rust standard library for $triple: 'rustup target add $triple' where it" \
        "is distributed; else its source, of the same version as rustc ('rustup component add rust-src', or" \
        "Debian's package rust-src), as $(library_source)"
    # Cargo builds the library on its own on a nightly version only, or when told that this is one.
    export RUSTC_BOOTSTRAP=1
    BUILD_STD=("-Zbuild-std=std,panic_abort")
    # Without the reader of debug information, of which a stripped program has none.
    [ -z "$SMALL" ] || BUILD_STD+=("-Zbuild-std-features=optimize_for_size")
}

has_standard_library() {
    compgen -G "$(rustc --print target-libdir --target "$1" 2> /dev/null)/libstd-*.rlib" > /dev/null
}

library_source() {
    echo "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock"
}

rustc_commit() {
    rustc -vV | sed -n 's/^commit-hash: //p'
}

# take_binary NAME TRIPLE LINKER MACHINE: what was built to target/static/NAME/, if it is what it should be, and
# sysroot.txt, what made it.
take_binary() {
    local name=$1 triple=$2 linker=$3 machine=$4 built=target/$2/release/qod-agent
    # No interpreter and no library: the router need not have either.
    ! readelf -lW "$built" | grep -q '^ *INTERP' || die "$built is not static: it has an interpreter"
    ! readelf -dW "$built" | grep -q '(NEEDED)' || die "$built is not static: it needs a library"
    ! readelf -SW "$built" | grep -q ' \.symtab \| \.debug_' || die "$built is not stripped"
    [ -z "$machine" ] || [ "$(machine_of "$built")" = "$machine" ] \
        || die "$built is for $(machine_of "$built"), not $machine"
    mkdir -p "target/static/$name"
    install -m 755 "$built" "target/static/$name/qod-agent" || die "target/static/$name cannot be written"
    {
        echo "target $triple"
        echo "$(rustc --version)${BUILD_STD[*]:+, ${BUILD_STD[*]}}"
        echo "linker $linker"
    } > "target/static/$name/sysroot.txt"
}

machine_of() {
    readelf -hW "$1" | sed -n 's/^ *\(Class\|Data\|Machine\): *//p' | paste -s -d ' '
}

# What a compiler makes is for the machine that it is for.
machine_of_linker() {
    local object
    object=$(mktemp)
    "$1" -x c -c /dev/null -o "$object" && machine_of "$object"
    rm -f "$object"
}
