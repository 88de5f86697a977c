#!/usr/bin/env bash
# All tests in one command: formatting, lints, unit tests, the API, and tests/ against the real kernel in network
# namespaces, here and on an older kernel. Installs what is missing. What cannot run here is said, and is never
# counted as passed.
#
# Tests against the kernel wait more than they work, and some of them measure delays. They have the foreground; what
# else there is to do takes the time that they leave.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/build.sh
. scripts/lib/build.sh
# shellcheck source=scripts/lib/tests.sh
. scripts/lib/tests.sh
# shellcheck source=scripts/lib/steps.sh
. scripts/lib/steps.sh

NOT_RUN=()
trap end_steps EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# All packages now: what runs beside each other could not install any.
NEEDED+=("${NEEDED_FOR_API[@]}")
if has apt-get && [ "$(dpkg --print-architecture)" = amd64 ]; then
    NEEDED+=("${NEEDED_FOR_VM[@]}" "${NEEDED_FOR_ROUTER[@]}" "${NEEDED_FOR_STATIC[@]}" "${NEEDED_FOR_SYSROOT[@]}"
        "${NEEDED_FOR_IPK[@]}" "${NEEDED_FOR_PACKAGE_TEST[@]}" aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu)
    EMULATION=true
else
    EMULATION=false
    NOT_RUN+=("tests on an older kernel: scripts/vm-test.sh needs Debian's for amd64")
    NOT_RUN+=("the package for OpenWrt, and on a router: scripts/build-static.sh and qemu-test.sh need Debian's packages")
fi
install_packages
need_rust

step 'cargo fmt' cargo fmt --all --check
step 'shellcheck' shellcheck --external-sources scripts/*.sh scripts/lib/*.sh scripts/qemu/*.sh scripts/lib/{vm,router}-init \
    .ci/run
step 'shellcheck of the OpenWrt package' shellcheck --external-sources --check-sourced \
    openwrt-package/control/* openwrt-package/files/etc/{init.d,uci-defaults}/* \
    openwrt-package/files/usr/libexec/qod-agent-enrol openwrt-package/files/usr/libexec/rpcd/*
mapfile -t subset < <(grep -rlE '^#!/bin/sh|^# shellcheck shell=' tests/openwrt/root)
step "shellcheck of the subset of OpenWrt" shellcheck --external-sources \
    tests/openwrt/*.sh tests/openwrt/cases/*.sh "${subset[@]}"
export QOD_TESTS=$STEPS/tests
step 'build' build_tests "$QOD_TESTS" || { report_steps; exit 1; }
build_programs || die "the build failed"
for each in /usr/lib/postgresql/*/bin; do
    [ ! -x "$each/initdb" ] || export QOD_POSTGRES_BIN=$each
done
[ -n "${QOD_POSTGRES_BIN:-}" ] \
    || NOT_RUN+=("the backend on PostgreSQL: its server programs are not installed (package postgresql)")

# What depends on time is ahead of all else.
tests_ahead() {
    local NICENESS=-10
    run_tests "$QOD_TESTS" "$@"
}
LABORATORY='tests/lab_works\.rs'
# Whose limits are how soon the agent acts, which a kernel that others keep busy does not let it.
PROMPT='tests/(adoption|foreign)\.rs'
# Tests against the kernel that wait for minutes, and measure no delays.
WAITING='tests/(answers|churn|devices|idle)\.rs'
waiting() {
    # In each of these most tests sleep.
    step 'tests against the kernel that wait' tests_ahead "$WAITING" '' --test-threads 4
}

emulation() {
    # It builds the program that the router gets too. All machines are run, whatever the caller's variables say.
    step 'the package for OpenWrt' scripts/package-test.sh
    step 'the package on a router' as_root env -u ARCH -u IMAGE -u KMODS -u PACKAGE "PATH=$PATH" scripts/qemu-test.sh
    step "tests on the distribution's kernel" scripts/vm-test.sh
}

backend() {
    step 'the backend' run_tests "$QOD_TESTS" 'backend/tests/.*' ''
    [ -z "${QOD_POSTGRES_BIN:-}" ] \
        || step 'the backend on PostgreSQL' run_tests "$QOD_TESTS" 'backend/tests/.*' '' --ignored postgresql
    step 'the API against its descriptions' scripts/api-test.sh
}

lints() {
    step 'cargo clippy' cargo clippy --locked --workspace --all-targets -- -D warnings
    step 'examples in the documentation' cargo test --locked --workspace --doc
    # Each program by itself: the workspace would lend it the features that another needs.
    # Where the package is built, that is the agent by itself.
    [ "$EMULATION" = true ] || step 'the agent alone' cargo check --locked --bin qod-agent
    step 'the backend alone' cargo check --locked -p qod-backend
}

if reason=$(can_make_namespaces 2>&1); then
    NAMESPACES=true
    # Alone: its flood fills the queues of packets that all namespaces share.
    step 'the laboratory' tests_ahead "$LABORATORY" '' --test-threads 1
    step 'tests of promptness' tests_ahead "$PROMPT" ''
else
    NAMESPACES=false
fi
# The kernel's own threads, on which the tests depend, are not nice: what works hard has to be.
[ "$EMULATION" = false ] || lane 'emulation' 0 emulation
lane 'backend' 5 backend
lane 'lints' 10 lints
# Some are limits of time.
step 'unit tests' tests_ahead '.*' '(backend/)?tests/.*'
if [ "$NAMESPACES" = true ]; then
    lane 'waiting' 0 waiting
    step "the subset of OpenWrt's user land" as_root tests/openwrt/test.sh
    step 'tests against the kernel' tests_ahead 'tests/.*' "$LABORATORY|$PROMPT|$WAITING"
    # A test that needs what some kernels lack is #[ignore]d in a module needs_<what>; with a kernel
    # that has it, it runs here, else it is named below.
    kernel=$(as_root "$QOD_LAB" kernel)
    while read -r feature; do
        sources=$(grep -lsw "mod needs_$feature" tests/*.rs | paste -s -d '|')
        case $(jq -r --arg feature "$feature" '.[$feature]' <<< "$kernel") in
            true) step "tests that need $feature" tests_ahead "$sources" '' --ignored "needs_$feature::" ;;
            false) NOT_RUN+=("tests in needs_$feature: this kernel has no $feature") ;;
            # Whether it is there is not known.
            *) step "tests that need $feature (not run)" false ;;
        esac
    # Those that need a machine of their own have it in scripts/vm-test.sh.
    done < <(grep -ohE 'mod needs_[a-z0-9_]+' tests/*.rs | sed 's/^mod needs_//' | sort -u | grep -vx machine)
else
    NOT_RUN+=("tests/*.rs: ${reason:-needs root}")
    step 'tests against the kernel (not run)' false
fi
join_lanes

printf '\n'
for each in "${NOT_RUN[@]}"; do
    echo "NOT RUN: $each"
done
steps_said | awk '/^test result:/ { passed += $4; failed += $6 }
    END { printf "%d passed, %d failed\n", passed, failed }'
report_steps
