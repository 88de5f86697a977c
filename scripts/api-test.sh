#!/usr/bin/env bash
# The QoD API against its descriptions, by schemathesis: first against the one that is served, where every finding is
# a defect; then against CAMARA's released one, where those of backend/tests/specs/differences.json are expected.
# A real backend over SQLite answers. Needs a package index that pip can reach, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/packages.sh
. scripts/lib/packages.sh
# shellcheck source=scripts/lib/build.sh
. scripts/lib/build.sh

NEEDED+=("${NEEDED_FOR_API[@]}")
install_packages
need_rust
build_programs

TOP=$PWD
VENV=$TOP/target/api-test
SPECS=$TOP/backend/tests/specs
WORK=$(mktemp -d)
SERVER=
finish() {
    [ -z "$SERVER" ] || kill "$SERVER" 2> /dev/null || true
    rm -rf "$WORK"
}
trap finish EXIT

install_schemathesis() {
    # An environment does not work any more where it was moved to.
    if cmp -s scripts/api/requirements.txt "$VENV/requirements.txt" \
        && "$VENV/bin/schemathesis" --version > /dev/null 2>&1; then
        return 0
    fi
    rm -rf "$VENV"
    mkdir -p "${VENV%/*}"
    python3 -m venv "$VENV" || die "could not make a Python environment in $VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check -r scripts/api/requirements.txt \
        || die "could not install schemathesis: does pip reach its package index? Nothing was checked"
    cp scripts/api/requirements.txt "$VENV/requirements.txt"
}

# admin METHOD PATH BODY
admin() {
    curl --silent --show-error --fail-with-body --max-time 10 -X "$1" -H @"$WORK/admin.header" \
        -H 'Content-Type: application/json' -d "$3" "http://$ADDRESS/admin/v1$2"
}

start_backend() {
    local secret
    umask 077
    head -c 32 /dev/urandom | base64 | tr -d '+/=\n' > "$WORK/admin"
    echo "Authorization: Bearer $(< "$WORK/admin")" > "$WORK/admin.header"
    jq -n --arg work "$WORK" '{listen: "127.0.0.1:0", database: "sqlite:\($work)/store.sqlite",
        adminTokenFile: "\($work)/admin"}' > "$WORK/config.json"
    # It is read before the backend, on a busy machine, has come to open it.
    : > "$WORK/log"
    RUST_LOG=warn,qod_backend::backend=info "$QOD_BACKEND_BIN" serve --config "$WORK/config.json" 2> "$WORK/log" &
    SERVER=$!
    for _ in {1..100}; do
        ADDRESS=$(sed -n 's/.* listening .*address=\([0-9.:]*\).*/\1/p' "$WORK/log")
        [ -z "$ADDRESS" ] || break
        kill -0 "$SERVER" 2> /dev/null || die "the backend did not start: $(< "$WORK/log")"
        sleep 0.1
    done
    [ -n "$ADDRESS" ] || die "the backend does not listen: $(< "$WORK/log")"
    # The home of the description's examples.
    API_TEST_HOME=$(jq -nc '{phoneNumber: "+4912345678923", networkAccessIdentifier: "123456789@domain.example",
        publicAddress: "203.0.113.7", ipv6Prefix: "2001:db8:85a3::"}')
    admin PUT /homes/home-1 "$(jq -c '("02:00:00:00:00:17") as $mac | {agentIds: ["agent-1"], consumers: "all",
        phoneNumbers: [{number: .phoneNumber, mac: $mac}],
        networkAccessIdentifiers: [{nai: .networkAccessIdentifier, mac: $mac}],
        prefixes: ["\(.publicAddress)/32", "\(.ipv6Prefix)/48"]}' <<< "$API_TEST_HOME")" > "$WORK/answer" \
        || die "the home was not provisioned: $(< "$WORK/answer")"
    admin PUT /consumers/app '{"scopes": ["qod-sessions-write", "qod-sessions-read", "qod-sessions-delete"]}' \
        > "$WORK/answer" || die "the consumer was not provisioned: $(< "$WORK/answer")"
    secret=$(jq -r .clientSecret "$WORK/answer")
    API_TEST_TOKEN=$(curl --silent --show-error --fail-with-body --max-time 10 "http://$ADDRESS/oauth2/token" \
        -d @- <<< "grant_type=client_credentials&client_id=app&client_secret=$secret" | jq -r .access_token)
    export API_TEST_HOME API_TEST_TOKEN
}

# run NAME SCHEMATHESIS-OPTION…: shows its words only if there is something to say.
run() {
    local name=$1 status=0
    shift
    (
        # What it writes where it runs goes with the rest.
        cd "$WORK"
        PYTHONPATH=$TOP/scripts/api PYTHONDONTWRITEBYTECODE=1 timeout --foreground 240 "$VENV/bin/schemathesis" \
            --config-file "$TOP/scripts/api/schemathesis.toml" run --no-color \
            --report json --report-json-path "$WORK/$name.json" "$@"
    ) > "$WORK/$name.log" 2>&1 || status=$?
    if [ "$status" != 0 ]; then
        cat "$WORK/$name.log"
        FAILED+=("the $name description (exit status $status)")
    fi
    [ ! -s "$WORK/$name.json" ] || jq -r --arg name "$name" '"the \($name) description: \(.test_cases.generated)" +
        " requests to \(.operations.tested) of \(.operations.total) operations in \(.running_time | floor) s, " +
        "\(.test_cases.unique_failures) findings" +
        (if .filtered > 0 then ", \(.filtered) answers as expected" else "" end)' "$WORK/$name.json"
}

FAILED=()
install_schemathesis
start_backend
curl --silent --show-error --fail --max-time 10 "http://$ADDRESS/qod/v0/openapi.yaml" > "$WORK/served.yaml" \
    || die "the description is not served"
run served "http://$ADDRESS/qod/v0/openapi.yaml"

RELEASED=$SPECS/qod-api-0.9.0.yaml
export API_TEST_DIFFERENCES=$SPECS/differences.json API_TEST_SEEN=$WORK/seen
: > "$API_TEST_SEEN"
# It describes no links.
run released "$RELEASED" --url "http://$ADDRESS/qod/v0" --phases examples,coverage,fuzzing
compare() {
    PYTHONDONTWRITEBYTECODE=1 "$VENV/bin/python" scripts/api/compare.py "$RELEASED" "$WORK/served.yaml" \
        "$API_TEST_DIFFERENCES" "$@"
}
compare || FAILED+=("the two descriptions differ from their list of differences")
compare "$API_TEST_SEEN" || FAILED+=("the listed findings")
if grep -E ' ERROR |panicked' "$WORK/log"; then
    FAILED+=("the backend logged an error")
fi
for each in "${FAILED[@]}"; do
    echo "FAILED: $each"
done
[ ${#FAILED[@]} = 0 ]
