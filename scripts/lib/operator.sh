# shellcheck shell=bash
# The operator and the application: the real backend on the internet host, over TLS. Sourced, after lab.sh
# and traffic.sh.

# What the operator knows of the home: its agent's id, and its line.
AGENT=home-0001
# shellcheck disable=SC2034 # the scripts read it
UPSTREAM_KBPS=20000
# An address of the internet host.
BACKEND_HOST=198.51.100.20
BACKEND=$BACKEND_HOST:8443

# Files in WORK: ca.pem, and admin-token. The token is ADMIN, and TOKEN until an application has its own.
operator_start() {
    "$QOD_LAB" certificates --folder "$WORK" --name "$BACKEND_HOST"
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$WORK/admin-token")
    ADMIN=$(cat "$WORK/admin-token")
    TOKEN=$ADMIN
    jq -n --arg listen "$BACKEND" --arg work "$WORK" '{
        listen: $listen, database: "sqlite://\($work)/store.db",
        tls: { cert: "\($work)/server.pem", key: "\($work)/server.key" },
        adminTokenFile: "\($work)/admin-token" }' > "$WORK/backend.json"
    operator_serves
}

operator_serves() {
    child backend.log internet "$QOD_BACKEND_BIN" serve --config "$WORK/backend.json"
    OPERATOR=$CHILD
    within 10 operator_is_ready || die "the backend does not get ready: $(tail -n 5 "$WORK/backend.log")"
}

# Ends every connection, as an update of the backend does.
operator_restart() {
    end "$OPERATOR"
    operator_serves
}

operator_is_ready() {
    at internet curl -sf --max-time 5 --cacert "$WORK/ca.pem" "https://$BACKEND/readyz" > /dev/null
}

# A home with one agent, whose token is in WORK/agent-token.json, and an application, whose secret is in
# WORK/consumer.json. The addresses are those of traffic.sh.
operator_provision() {
    TOKEN=$ADMIN
    api PUT "/admin/v1/homes/$AGENT" -d "{
        \"agentIds\": [\"$AGENT\"], \"prefixes\": [\"$WAN4/32\", \"2001:db8:1::/64\"],
        \"link\": {\"upstreamKbps\": $UPSTREAM_KBPS, \"downstreamKbps\": 200000}, \"consumers\": \"all\"}" > "$WORK/home.json"
    (umask 077 && api POST "/admin/v1/agents/$AGENT/token" -d '{}' > "$WORK/agent-token.json")
    (umask 077 && api PUT /admin/v1/consumers/video-calls \
        -d '{"scopes": ["qod-sessions-write", "qod-sessions-read", "qod-sessions-delete"]}' > "$WORK/consumer.json")
    jq -e .token "$WORK/agent-token.json" > /dev/null || die "no agent token: $(cat "$WORK/agent-token.json")"
    jq -e .clientSecret "$WORK/consumer.json" > /dev/null || die "no client secret: $(cat "$WORK/consumer.json")"
}

# api METHOD PATH [CURL'S ARGUMENTS]: with TOKEN.
api() {
    local method=$1 path=$2
    shift 2
    at internet curl -sS --cacert "$WORK/ca.pem" --max-time 20 -X "$method" \
        -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
        "https://$BACKEND$path" "$@"
}

# operator_sees FIELD: what the operator's administration says of the agent.
operator_sees() {
    TOKEN=$ADMIN api GET "/admin/v1/agents/$AGENT" | jq -r ".$1"
}

agent_is_connected() {
    [ "$(operator_sees connected)" = true ]
}

# The application's view from here on: TOKEN by OAuth client credentials.
application_token() {
    TOKEN=$(at internet curl -sS --max-time 20 --cacert "$WORK/ca.pem" \
        -u "video-calls:$(jq -r .clientSecret "$WORK/consumer.json")" \
        -d grant_type=client_credentials \
        --data-urlencode 'scope=qod-sessions-write qod-sessions-read qod-sessions-delete' \
        "https://$BACKEND/oauth2/token" | jq -r .access_token)
}

# application_orders JSON: prints the answer's code; the answer is WORK/created.json.
application_orders() {
    api POST /qod/v0/sessions -o "$WORK/created.json" -w '%{http_code}' -d "$1"
}

session_status() {
    api GET "/qod/v0/sessions/$1" | jq -r .qosStatus
}

session_is_available() {
    [ "$(session_status "$1")" = AVAILABLE ]
}
