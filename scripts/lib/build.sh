# shellcheck shell=bash
# The programs that the scripts run. Sourced, after packages.sh, in the top folder.

# What makes a later build shorter makes the first one longer by a quarter. Where nobody has built by hand, it is left.
[ -n "$(ls -A "${CARGO_TARGET_DIR:-target}/debug/incremental" 2> /dev/null)" ] || export CARGO_INCREMENTAL=0

# Builds what QOD_AGENT_BIN, QOD_BACKEND_BIN and QOD_LAB do not name already, and sets them.
build_programs() {
    local target
    target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/debug
    if [ -z "${QOD_AGENT_BIN:-}" ] || [ -z "${QOD_BACKEND_BIN:-}" ] || [ -z "${QOD_LAB:-}" ]; then
        # At once, as the tests are: each by itself would have the libraries with other features, and build them again.
        cargo build --locked --workspace --bins --example qod-lab || return
    fi
    QOD_AGENT_BIN=${QOD_AGENT_BIN:-$target/qod-agent}
    QOD_BACKEND_BIN=${QOD_BACKEND_BIN:-$target/qod-backend}
    QOD_LAB=${QOD_LAB:-$target/examples/qod-lab}
    export QOD_AGENT_BIN QOD_BACKEND_BIN QOD_LAB
}

# The same as release binaries, for measurements, with QOD_BENCH, what measures.
build_bench() {
    local target
    target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/release
    # One by one: built together, they would share the features of all.
    [ -n "${QOD_AGENT_BIN:-}" ] || cargo build --locked --release --bin qod-agent || return
    [ -n "${QOD_BACKEND_BIN:-}" ] || cargo build --locked --release -p qod-backend || return
    [ -n "${QOD_BENCH:-}" ] || cargo build --locked --release --example bench || return
    QOD_AGENT_BIN=${QOD_AGENT_BIN:-$target/qod-agent}
    QOD_BACKEND_BIN=${QOD_BACKEND_BIN:-$target/qod-backend}
    QOD_BENCH=${QOD_BENCH:-$target/examples/bench}
    export QOD_AGENT_BIN QOD_BACKEND_BIN QOD_BENCH
}
