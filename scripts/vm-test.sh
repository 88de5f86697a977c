#!/usr/bin/env bash
# Tests of tests/*.rs on the distribution's own kernel, in a machine that QEMU emulates:
# `scripts/vm-test.sh [TEST[::FUNCTION]...]`. What depends on the kernel's version is so shown on another than this
# machine's. Debian 12's is 6.1: there an element in force cannot be given another end, nor replaced in one
# transaction without losing marks.
#
# Nothing but the emulator is installed; the kernel is kept below target/. Good is what ran and passed: a test
# that did not run is a failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/build.sh
. scripts/lib/build.sh
# shellcheck source=scripts/lib/tests.sh
. scripts/lib/tests.sh
# shellcheck source=scripts/lib/vm.sh
. scripts/lib/vm.sh

# What depends most on the kernel, in less than six minutes; others pass too, but for those below. `lack` takes
# modules and clock away, which nobody may do to a machine of others.
TESTS=(lack nft adoption marking queue rates doctor::needs_flowtable::software_offload_is_named)
[ $# = 0 ] || TESTS=("$@")
# test, its function : why not here
LEFT_OUT=(
    'queue a_call_overtakes_an_upload_that_waits: its upload must be queued faster than 2 Mbit/s take it away'
    'interfaces a_port_that_is_renamed_goes_on: this kernel renames only devices that are down'
    'rates what_exceeds_the_rate_keeps_the_mark_and_loses_the_queue: its stream must be many times that rate'
)
# Seconds for one of them, for the machine with all of them, and how much longer than on a real machine a test
# may wait for something.
LIMIT=300
LIMIT_OF_ALL=900
PATIENCE=5

NEEDED+=("${NEEDED_FOR_VM[@]}")
install_packages
need_rust
[ "$(dpkg --print-architecture 2> /dev/null)" = amd64 ] || die "needs Debian's kernel for amd64"
build_programs || die "the build failed"

work=$(mktemp -d)
VM=
finish() {
    local status=$?
    trap - EXIT
    # Whoever ends a group of processes says so twice.
    trap '' INT TERM
    [ -z "$VM" ] || { kill "$VM" && wait "$VM"; } 2> /dev/null
    if [ "$status" != 0 ] && [ -s "$work/console.log" ]; then
        find "$work" -mindepth 1 ! -name console.log -delete
        echo "what the machine said is kept in $work/console.log" >&2
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

selected=()
for each in "${TESTS[@]}"; do
    name=${each%%::*}
    [ -f "tests/$name.rs" ] || die "there is no tests/$name.rs"
    selected+=(--test "$name")
done
# QOD_TESTS is a list of those that are built already.
if [ -z "${QOD_TESTS:-}" ]; then
    QOD_TESTS=$work/tests
    build_tests "$QOD_TESTS" "${selected[@]}" || die "the build failed"
fi
target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
mkdir -p "$target/vm"
vm_kernel "$target/vm"

root=$work/root
vm_root "$root" || die "the machine's files could not be gathered"
install -m 755 scripts/lib/vm-init "$root/init"
vm_program "$root" "$QOD_AGENT_BIN" /tests/qod-agent
vm_program "$root" "$QOD_BACKEND_BIN" /tests/qod-backend
cat > "$root/tests/environment" << END
export QOD_AGENT_BIN=/tests/qod-agent QOD_BACKEND_BIN=/tests/qod-backend QOD_LAB_MACHINE=1
export QOD_LAB_PATIENCE=${QOD_LAB_PATIENCE:-$PATIENCE} RUST_LOG=${RUST_LOG:-debug}
END

declare -A EXPECTED
for each in "${TESTS[@]}"; do
    name=${each%%::*}
    program=$(awk -F '\t' -v source="tests/$name.rs" '$1 == source { print $2 }' "$QOD_TESTS")
    vm_program "$root" "$program" "/tests/$name" || die "there is no program of tests/$name.rs"
    arguments=(--include-ignored --exact)
    if [ "$each" = "$name" ]; then
        for left_out in "${LEFT_OUT[@]}"; do
            read -r test function <<< "${left_out%%:*}"
            if [ "$test" = "$name" ]; then
                arguments+=(--skip "$function")
                echo "left out of $name: $function:${left_out#*:}"
            fi
        done
    else
        arguments+=("${each#*::}")
    fi
    # Counted here, outside of the machine.
    EXPECTED[$each]=$("$program" --list --format terse "${arguments[@]}" | grep -c ': test$')
    echo "$each $name $LIMIT ${arguments[*]}" >> "$root/tests/list"
done

started=$SECONDS
vm_run "$root" "$work/console.log" "$LIMIT_OF_ALL"
tr -d '\r' < "$work/console.log" > "$work/log"
echo "kernel $(sed -n 's/^@@ kernel //p' "$work/log")"

failed=0
for each in "${TESTS[@]}"; do
    sed -n "/^@@ begin $each\$/,/^@@ end $each /p" "$work/log" > "$work/part"
    read -r passed seconds < <(sed -n \
        's/^test result: ok\. \([0-9]*\) passed; 0 failed; .* finished in \([0-9]*\).*/\1 \2/p' "$work/part")
    if [ "${EXPECTED[$each]}" -gt 0 ] && [ "${passed:-}" = "${EXPECTED[$each]}" ] \
        && grep -q "^@@ end $each 0\$" "$work/part"; then
        printf '  %-4s  %-12s %3d tests, %d s\n' ok "$each" "$passed" "$seconds"
    else
        failed=$((failed + 1))
        printf '  %-4s  %-12s %3d of %d tests passed\n' FAIL "$each" \
            "$(grep -c '^test .* \.\.\. ok$' "$work/part")" "${EXPECTED[$each]}"
        sed 's/^/        /' "$work/part"
    fi
done
if ! grep -q '^@@ off$' "$work/log"; then
    failed=$((failed + 1))
    echo "the machine did not end by itself:"
    cat "$root.qemu"
    tail -n 20 "$work/log"
fi
echo "took $((SECONDS - started)) s in the machine"
[ "$failed" = 0 ]
