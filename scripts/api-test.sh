#!/usr/bin/env bash
# The QoD API from outside: schemathesis makes requests from a description, right ones and wrong ones, sends them to
# a real backend and checks every answer. First by the description that the backend serves, where nothing may differ;
# then by the released one of CAMARA, where nothing may differ but what README.md lists.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh

RELEASED=${QOD_RELEASED_YAML:-backend/tests/specs/qod-api-0.9.0.yaml}
# The same requests in every run.
SEED=20231108
# Requests for each operation and phase. Both runs together take less than two minutes on two processors.
EXAMPLES=${QOD_API_EXAMPLES:-20}

NEEDED+=("${NEEDED_FOR_API[@]}")
install_packages
need_rust
target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
[ -n "${QOD_BACKEND_BIN:-}" ] || cargo build --locked -p qod-backend || exit 1
QOD_BACKEND_BIN=${QOD_BACKEND_BIN:-$target/debug/qod-backend}

# A folder for each list of versions, so that a new list is installed and an old one is not.
venv=$target/schemathesis-$(sha256sum scripts/lib/schemathesis.txt | cut -c1-16)
if [ ! -e "$venv/installed" ]; then
    rm -rf "$venv"
    if ! python3 -m venv "$venv" \
        || ! "$venv/bin/pip" install --quiet --no-deps --requirement scripts/lib/schemathesis.txt; then
        echo 'NOT RUN: schemathesis cannot be installed from the package index that pip is configured for' >&2
        exit 1
    fi
    touch "$venv/installed"
fi

work=$(mktemp -d)
backend=
trap '[ -z "$backend" ] || kill "$backend"; rm -rf "$work"' EXIT

# ---- A backend with a home of which the examples of both descriptions speak

printf 'an-admin-token-of-the-tests' > "$work/admin-token"
cat > "$work/profiles.json" << 'END'
{"profiles": [{"name": "QOS_E", "dscp": "EF"}, {"name": "QOS_S", "dscp": "AF41"}, {"name": "QCI_1_voice", "dscp": "EF"}]}
END
jq -n --arg work "$work" '{ listen: "127.0.0.1:0", database: "sqlite:\($work)/store.sqlite",
    adminTokenFile: "\($work)/admin-token", profilesFile: "\($work)/profiles.json" }' > "$work/config.json"

start() {
    rm -f "$work"/store.sqlite*
    RUST_LOG=info "$QOD_BACKEND_BIN" serve --config "$work/config.json" 2> "$work/backend.log" &
    backend=$!
    local waited=0 address=
    while [ -z "$address" ]; do
        kill -0 "$backend" 2> /dev/null || die "the backend ended: $(cat "$work/backend.log")"
        [ $waited -lt 100 ] || die "the backend does not listen: $(cat "$work/backend.log")"
        sleep 0.1
        waited=$((waited + 1))
        address=$(sed -n 's/.*listening address=\([^ ]*\).*/\1/p' "$work/backend.log")
    done
    url=http://$address
    admin PUT homes/home-1 '{"agentIds": ["home-0001"], "subs": ["user"], "consumers": "all",
        "phoneNumbers": [{"number": "+4912345678923", "mac": "02:00:00:00:00:17"},
            {"number": "+123456789", "mac": "02:00:00:00:00:18"}],
        "networkAccessIdentifiers": [{"nai": "123456789@domain.com", "mac": "02:00:00:00:00:18"}],
        "prefixes": ["203.0.113.7/32", "84.125.93.10/32", "2001:db8:85a3::/48"]}' > /dev/null
    local secret
    secret=$(admin PUT consumers/app '{"scopes": ["qod-sessions-write", "qod-sessions-read", "qod-sessions-delete"]}' \
        | jq -r .clientSecret)
    TOKEN=$(curl -sSf -u "app:$secret" -d grant_type=client_credentials "$url/oauth2/token" | jq -r .access_token)
    [ -n "$TOKEN" ] || die "no access token"
}

stop() {
    kill "$backend"
    wait "$backend"
    backend=
}

admin() {
    curl -sSf -X "$1" -H "Authorization: Bearer $(cat "$work/admin-token")" -d "$3" "$url/admin/v1/$2" \
        || die "$1 $2 failed"
}

# run NAME CONFIGURATION DESCRIPTION...: the exit code of schemathesis.
run() {
    local name=$1 config=$2
    shift 2
    # What depends on the order of dictionaries is the same in every run, too.
    PYTHONHASHSEED=0 timeout 300 "$venv/bin/schemathesis" --config-file "$config" run "$@" \
        --header "Authorization: Bearer $TOKEN" --seed $SEED --max-examples "$EXAMPLES" --workers 1 \
        --phases examples,coverage,fuzzing,stateful --continue-on-failure --no-color \
        --report ndjson,json --report-ndjson-path "$work/$name.ndjson" --report-json-path "$work/$name.json" \
        > "$work/$name.log" 2>&1
}

# Every check that failed: operation, code of the check, message of the answer. Each once.
failures() {
    jq -r '.ScenarioFinished.recorder | select(.checks) | . as $all | .checks | to_entries[] | .key as $case
        | .value[] | select(.status != "success") | .failure_info.failure
        | [.operation, .code, ($all.interactions[$case].response.content["$base64"] // "" | @base64d
            | (fromjson? | .message?) // .)] | @tsv' "$1" | sort -u
}

check_orders() {
    local name=$1 rates
    rates=$(jq -c '.valid_rates["POST /sessions"].examples' "$work/$name.json")
    [ "$(jq '.accepted > 0 and .rejected == 0' <<< "$rates")" = true ] \
        || { echo "the description's own orders were not all taken: $rates"; return 1; }
}

failed=0

echo '== by the description that is served'
start
run served scripts/lib/schemathesis-served.toml "$url/qod/v0/openapi.yaml"
code=$?
if [ $code != 0 ] || ! check_orders served; then
    cut -c 1-400 "$work/served.log" | tail -n 200
    failed=1
fi
sed -n '/ generated, /p' "$work/served.log"
stop
grep -iE ' ERROR |panicked' "$work/backend.log" && failed=1

echo "== by the released description, ${RELEASED##*/}"
start
run released scripts/lib/schemathesis-released.toml --url "$url/qod/v0" "$RELEASED"
code=$?
# 1: some checks failed, as they should. Anything above: it did not run.
if [ $code -gt 1 ] || ! jq -e '.complete and (.errors | length) == 0' "$work/released.json" > /dev/null; then
    cut -c 1-400 "$work/released.log" | tail -n 100
    failed=1
fi
sed -n '/ generated, /p' "$work/released.log"
stop
grep -iE ' ERROR |panicked' "$work/backend.log" && failed=1

# The table of README.md: | `operation` | code | `message`, * for anything | reason |
expected=()
# shellcheck disable=SC2016 # backticks of Markdown
while IFS= read -r row; do
    expected+=("$row")
done < <(sed -n 's/^| `\([A-Z]* [^`]*\)` | \(ST[0-9]*\) | `\([^`]*\)` |.*/\1\t\2\t\3/p' README.md)
[ ${#expected[@]} -gt 0 ] || die 'README.md lists no differences from the released description'
seen=()
while IFS= read -r difference; do
    known=
    for i in "${!expected[@]}"; do
        # shellcheck disable=SC2053 # the table's * stands for anything
        if [[ $difference == ${expected[i]} ]]; then
            known=1
            seen[i]=1
        fi
    done
    if [ -z "$known" ]; then
        echo "UNEXPECTED: $difference"
        failed=1
    fi
done < <(failures "$work/released.ndjson")
for i in "${!expected[@]}"; do
    printf '%s: %s\n' "$([ -n "${seen[i]:-}" ] && echo seen || echo 'not met in this run')" "${expected[i]}"
done
exit $failed
