#!/usr/bin/env bash
# All tests in one command: formatting, lints, unit tests, and tests/ against the real kernel in network
# namespaces. Installs what is missing. What cannot run here is said, and is never counted as passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/build.sh
. scripts/lib/build.sh

install_packages
need_rust

FAILED=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || FAILED+=("$name")
}

tests() {
    cargo test --locked --no-fail-fast "$@" 2>&1 | tee -a "$log"
    return "${PIPESTATUS[0]}"
}

step 'cargo fmt' cargo fmt --all --check
step 'cargo clippy' cargo clippy --locked --workspace --all-targets -- -D warnings
step 'shellcheck' shellcheck --external-sources scripts/*.sh scripts/lib/*.sh scripts/qemu/*.sh scripts/lib/vm-init scripts/lib/router-init .ci/run
step 'shellcheck of the OpenWrt package' shellcheck --external-sources --check-sourced \
    openwrt-package/control/* openwrt-package/files/etc/{init.d,uci-defaults}/* \
    openwrt-package/files/usr/libexec/qod-agent-enrol openwrt-package/files/usr/libexec/rpcd/*
mapfile -t subset < <(grep -rlE '^#!/bin/sh|^# shellcheck shell=' tests/openwrt/root)
step "shellcheck of the subset of OpenWrt" shellcheck --external-sources \
    tests/openwrt/*.sh tests/openwrt/cases/*.sh "${subset[@]}"
step 'build' build_programs

step 'the API against its descriptions' scripts/api-test.sh

NOT_RUN=()
if reason=$(can_make_namespaces 2>&1); then
    step "the subset of OpenWrt's user land" as_root tests/openwrt/test.sh
    if [ "$(id -u)" != 0 ]; then
        # The tests need root, the build does not.
        triple=$(rustc --print host-tuple | tr 'a-z-' 'A-Z_')
        export "CARGO_TARGET_${triple}_RUNNER=sudo -n -E"
    fi
    step 'tests' tests --workspace
    # A test that needs what some kernels lack is #[ignore]d in a module needs_<what>; with a kernel
    # that has it, it runs here, else it is named below.
    while read -r feature there; do
        grep -rqs "mod needs_$feature" tests || continue
        if [ "$there" = true ]; then
            step "tests that need $feature" tests --test '*' -- --ignored "needs_$feature::"
        else
            NOT_RUN+=("tests in needs_$feature: this kernel has no $feature")
        fi
    done < <(as_root "$QOD_LAB" kernel | jq -r 'to_entries[] | "\(.key) \(.value)"')
    for each in /usr/lib/postgresql/*/bin; do
        [ ! -x "$each/initdb" ] || export QOD_POSTGRES_BIN=$each
    done
    if [ -n "${QOD_POSTGRES_BIN:-}" ]; then
        step 'the backend on PostgreSQL' tests -p qod-backend --test '*' -- --ignored postgresql
    else
        NOT_RUN+=("the backend on PostgreSQL: its server programs are not installed (package postgresql)")
    fi
else
    NOT_RUN+=("tests/*.rs: ${reason:-needs root}")
    step 'unit tests' tests --workspace --lib --bins
    FAILED+=('tests against the kernel (not run)')
fi
if has apt-get; then
    step 'the package for OpenWrt' scripts/package-test.sh
else
    NOT_RUN+=("the package for OpenWrt: scripts/build-static.sh needs Debian's packages")
fi
if has apt-get && [ "$(dpkg --print-architecture)" = amd64 ]; then
    step "tests on the distribution's kernel" scripts/vm-test.sh
    if [ "$(id -u)" = 0 ]; then
        step 'the package on a router' scripts/qemu-test.sh
    else
        step 'the package on a router' sudo -n -E env "PATH=$PATH" scripts/qemu-test.sh
    fi
else
    NOT_RUN+=("the package on a router: scripts/qemu-test.sh needs Debian's kernel for amd64")
    NOT_RUN+=("tests on an older kernel: scripts/vm-test.sh needs Debian's for amd64")
fi

printf '\n'
for each in "${NOT_RUN[@]}"; do
    echo "NOT RUN: $each"
done
for each in "${FAILED[@]}"; do
    echo "FAILED: $each"
done
awk '/^test result:/ { passed += $4; failed += $6 }
     END { printf "%d passed, %d failed\n", passed, failed }' "$log"
[ ${#FAILED[@]} = 0 ]
