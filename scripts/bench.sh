#!/usr/bin/env bash
# The promised figures, measured, as one table: `scripts/bench.sh [NAME...]`; `scripts/bench.sh list` names
# them. Each figure stands beside its baseline of the same run. A missed figure is shown and counted, and is
# no failure; that something could not be measured is.
#
# Builds release binaries, unless QOD_AGENT_BIN and QOD_BACKEND_BIN name others. All traffic is in network
# namespaces of its own.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/build.sh
. scripts/lib/build.sh

[ "$(id -u)" = 0 ] || die "needs root, for network namespaces"
install_packages
need_rust
reason=$(can_make_namespaces) || die "$reason"
build_bench || die "the build failed"
# What the agent logs in a home, and not what a test wants to read.
export RUST_LOG=info

mapfile -t names < <("$QOD_BENCH" list)
if [ "${1:-}" = list ]; then
    printf '%s\n' "${names[@]}"
    exit
fi
[ $# = 0 ] || names=("$@")

work=$(mktemp -d)
running=
stop() {
    # Namespaces of a measurement that was killed are removed by the next one.
    [ -z "$running" ] || kill "$running" 2> /dev/null
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

NOT_MEASURED=()
started=$SECONDS
for name in "${names[@]}"; do
    since=$SECONDS
    "$QOD_BENCH" "$name" >> "$work/table" 2> "$work/errors" &
    running=$!
    wait "$running" || NOT_MEASURED+=("$name")
    running=
    printf 'measured %s in %d s\n' "$name" $((SECONDS - since)) >&2
    cat "$work/errors" >&2
done

# Columns as wide as their widest word; notes behind the table.
printf '\n'
awk -F '\t' '
    function keep(  i) {
        lines++
        for (i = 2; i <= 7; i++) {
            cell[lines, i] = $i
            if (length($i) > width[i]) width[i] = length($i)
        }
    }
    BEGIN { $0 = "row\twhat\tmeasured\tbaseline\tratio\tpromised\t"; keep() }
    $1 == "row" { keep(); promised += $7 != ""; missed += $7 == "MISSED" }
    $1 == "note" { note[++notes] = $2 }
    END {
        for (line = 1; line <= lines; line++) {
            text = ""
            for (i = 2; i <= 7; i++) text = text sprintf("%-*s  ", width[i], cell[line, i])
            sub(/ +$/, "", text)
            print text
        }
        print ""
        for (i = 1; i <= notes; i++) print "- " note[i]
        printf "\n%d promised figures, %d missed\n", promised, missed
    }' "$work/table"
echo "took $((SECONDS - started)) s after the build; $(uname -sr), $(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg)"
for name in "${NOT_MEASURED[@]}"; do
    echo "COULD NOT MEASURE: $name"
done
[ ${#NOT_MEASURED[@]} = 0 ]
