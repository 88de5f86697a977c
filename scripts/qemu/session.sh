# shellcheck shell=bash
# An application orders a session: marks, captured outside of the router, and what the router says of them. Sourced by
# scripts/qemu-test.sh.

section "$ARCH: a session"
application_token
code=$(application_orders "$ORDER")
promise "POST /qod/v0/sessions" "$code" 201 equal "$code" 201
[ "$code" = 201 ] || note "$(cat "$WORK/created.json")"
SESSION=$(jq -r .sessionId "$WORK/created.json")
within 20 session_is_available "$SESSION"
promise "GET /qod/v0/sessions/{id}" "$(session_status "$SESSION")" "AVAILABLE within 20 s" \
    session_is_available "$SESSION"
observe during
expect_dscps during "$EF"

# Twenty for each of the two families.
asked=('qod-agent status --json')
if router_has_rpcd; then
    asked+=('ubus call qod-agent status')
else
    note "this image has no rpcd, without which ubus knows no agent"
fi
for from in "${asked[@]}"; do
    said=$(agent_says "$from" '"\(.state), \(.upstream.packets) up, \(.downstream.packets) down"')
    promise "$from" "${said:-no answer}" "ACTIVE, as captured" \
        equal "$said" "ACTIVE, $((2 * PROBES)) up, $((2 * PROBES)) down"
done
note "the agent with a session: $(agent_memory)"
memory=$(console "cat /proc/\$(pidof qod-agent)/status" | awk '$1 == "VmRSS:" { print $2 }')
promise "resident memory of the agent" "${memory:-none} KiB" "at most 8192 KiB" at_most "$memory" 8192
