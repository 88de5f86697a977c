# shellcheck shell=bash
# All test programs of the workspace, built once and run by the scripts. Sourced, after packages.sh.
#
# Cargo would run them one after another, and would keep its lints and its tests from being at work at the same time.

# build_tests FILE [CARGO-OPTION…]: builds them, or those that the options select, and the programs that they start;
# FILE says where they are, a line each: source, program, folder to run it in.
build_tests() {
    local file=$1 artifacts=$1.json
    shift
    cargo test --locked --workspace --no-run --message-format=json-render-diagnostics "$@" > "$artifacts" || return
    jq -r --arg top "$PWD/" 'select(.reason == "compiler-artifact" and .profile.test and .executable != null)
        | [(.target.src_path | ltrimstr($top)), .executable, (.manifest_path | rtrimstr("/Cargo.toml"))]
        | @tsv' "$artifacts" > "$file"
    [ -s "$file" ]
}

# run_tests FILE SOURCES EXCEPT ARGUMENT…: the test programs of SOURCES, a regular expression, and not of EXCEPT, another,
# each to its end. NICENESS is theirs.
run_tests() {
    local file=$1 sources=$2 except=$3 source program folder failed=0 count=0 as=as_root
    shift 3
    as_root true 2> /dev/null || as="command"
    while IFS=$'\t' read -r source program folder <&3; do
        [[ $source =~ ^($sources)$ && ! $source =~ ^($except)$ ]] || continue
        count=$((count + 1))
        printf '\n     Running %s\n' "$source"
        (cd "$folder" && "$as" nice -n "${NICENESS:-0}" env CARGO_MANIFEST_DIR="$folder" "$program" "$@") || {
            failed=1
            echo "FAILED: $source"
        }
    done 3< "$file"
    # A pattern that fits nothing must not pass.
    [ "$count" -gt 0 ] || { echo "no test program fits: $sources"; return 1; }
    [ "$failed" = 0 ]
}
