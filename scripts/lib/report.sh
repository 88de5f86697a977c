# shellcheck shell=bash
# A report of promises: one line each, held or not. Sourced.

FAILED=0
CHECKED=0

section() {
    printf '\n%s\n' "$*"
}

note() {
    printf '        %s\n' "$*"
}

# promise WHAT MEASURED PROMISED COMMAND...: the line is ok if the command succeeds.
promise() {
    local what=$1 measured=$2 promised=$3 verdict=ok
    shift 3
    CHECKED=$((CHECKED + 1))
    if ! "$@"; then
        verdict=FAIL
        FAILED=$((FAILED + 1))
    fi
    printf '  %-4s  %-50s %-26s promised: %s\n' "$verdict" "$what" "$measured" "$promised"
}

# Decimal numbers.
at_most() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 <= b + 0) }'; }
at_least() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 >= b + 0) }'; }
equal() { [ "$1" = "$2" ]; }
compute() { awk "BEGIN { printf \"%.3f\", $1 }"; }

conclude() {
    section "$CHECKED promises, $((CHECKED - FAILED)) held, $FAILED not"
    [ "$FAILED" = 0 ]
}
