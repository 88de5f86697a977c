# shellcheck shell=dash
# How a case checks, in the subset's own root file system. Sourced; the last line of a case is `conclude`.
PASSED=0
FAILED=0

check() { # WHAT EXPECTED ACTUAL
    if [ "$2" = "$3" ]; then
        PASSED=$((PASSED + 1))
    else
        FAILED=$((FAILED + 1))
        printf '  FAIL  %s\n        expected: %s\n        is:       %s\n' "$1" "$2" "$3"
    fi
}

# within SECONDS COMMAND...: until it succeeds
within() {
    local tries=$(($1 * 20))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        usleep 50000
    done
}

conclude() {
    echo "@@ $PASSED $FAILED"
    [ $FAILED = 0 ]
}
