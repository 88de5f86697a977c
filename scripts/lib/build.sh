# shellcheck shell=bash
# The programs that the scripts run. Sourced, after packages.sh, in the top folder.

# Builds what QOD_AGENT_BIN, QOD_BACKEND_BIN and QOD_LAB do not name already, and sets them.
build_programs() {
    local target
    target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/debug
    [ -n "${QOD_AGENT_BIN:-}" ] || cargo build --locked --bin qod-agent
    [ -n "${QOD_BACKEND_BIN:-}" ] || cargo build --locked -p qod-backend
    [ -n "${QOD_LAB:-}" ] || cargo build --locked --example qod-lab
    QOD_AGENT_BIN=${QOD_AGENT_BIN:-$target/qod-agent}
    QOD_BACKEND_BIN=${QOD_BACKEND_BIN:-$target/qod-backend}
    QOD_LAB=${QOD_LAB:-$target/examples/qod-lab}
    export QOD_AGENT_BIN QOD_BACKEND_BIN QOD_LAB
}

# The same for the backend alone.
build_backend() {
    local target
    target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/debug
    [ -n "${QOD_BACKEND_BIN:-}" ] || cargo build --locked -p qod-backend
    QOD_BACKEND_BIN=${QOD_BACKEND_BIN:-$target/qod-backend}
    export QOD_BACKEND_BIN
}

# The same for the backend and the lab.
build_lab_and_backend() {
    local target
    target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/debug
    build_backend || return
    [ -n "${QOD_LAB:-}" ] || cargo build --locked --example qod-lab || return
    QOD_LAB=${QOD_LAB:-$target/examples/qod-lab}
    export QOD_LAB
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
