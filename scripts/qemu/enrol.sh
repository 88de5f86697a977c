# shellcheck shell=bash
# The router as an ISP sends it to a home: package, the operator's address, and a bootstrap token; the rest comes by
# itself. The agent of before is removed first. Sourced by scripts/qemu-test.sh, after install.sh.

section "$ARCH: enrolment"
COMMAND_LIMIT=120 console "$(router_remove)" > "$WORK/enrol.log" || die "no removal: $(cat "$WORK/enrol.log")"
COMMAND_LIMIT=120 console "$(router_install /tmp/parcel)" > "$WORK/enrol.log" || die "no package: $(cat "$WORK/enrol.log")"

# What is printed on the router's label, in the form that the operator provisions.
AGENT=ap-020000000001
id=$(console uci get qod-agent.main.agent_id)
promise "agent id by the MAC address" "${id:-none}" "$AGENT" equal "$id" "$AGENT"

# The same home, another agent.
TOKEN=$ADMIN api PUT /admin/v1/homes/home-0001 -d "{
    \"agentIds\": [\"$AGENT\"], \"prefixes\": [\"$WAN4/32\", \"2001:db8:1::/64\"],
    \"link\": {\"upstreamKbps\": $UPSTREAM_KBPS, \"downstreamKbps\": 200000}, \"consumers\": \"all\"}" > "$WORK/home.json"
router_log_begins
bootstrap_token_is_given 1
sleep 1.1
console "cp /tmp/parcel/ca.pem /etc/qod-agent/
    uci set qod-agent.main.report_interval_seconds=2
    uci set qod-agent.backend.url=https://$BACKEND
    uci set qod-agent.backend.ca_file=/etc/qod-agent/ca.pem
    uci set qod-agent.backend.bootstrap_token_file=/etc/qod-agent/bootstrap-token
    uci commit qod-agent && /etc/init.d/qod-agent restart" > "$WORK/enrol.log"

refused="the backend does not take this bootstrap token (401"
within 30 router_logged "$refused"
promise "a bootstrap token that has expired" "$(router_log | grep -c "$refused") line in the log" "the log says so" router_logged "$refused"
note "$(router_said "$refused")"
promise "what procd has of it" "$(instances)" "the enrolment alone, waiting" equal "$(instances)" "enrolment waits"

# Now the token is good, but the line is dead, and then nobody does anything but repair the line.
at machine ip link set wan down
bootstrap_token_is_given 600
# Whatever is started meanwhile, and what it is told.
console "touch /tmp/qod-watch && while [ -e /tmp/qod-watch ]; do
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2> /dev/null | tr '\\0' '\\n' | sort -u >> /tmp/qod-processes
    sleep 0.3 2> /dev/null || sleep 1; done > /dev/null 2>&1 &
    /etc/init.d/qod-agent restart" > "$WORK/enrol.log"
unreachable="reaching $BACKEND: "
within 60 router_logged "$unreachable"
since=$EPOCHREALTIME
promise "a line that is dead" "$(router_log | grep -c "$unreachable") line in the log" "the log says so" router_logged "$unreachable"
note "$(router_said "$unreachable")"
at machine ip link set wan up
within 60 agent_is_connected
took=$(compute "$EPOCHREALTIME - $since")
promise "the line is repaired: connected by itself" "$took s later" "at most 60 s" agent_is_connected
# Of a router that nobody has provisioned the backend hears seldom.
promise "time between two tries" "$took s at most" "no less than 20 s" at_least "$took" 20
promise "what procd has of it" "$(instances)" "the agent in its place" equal "$(instances)" "agent runs"

section "$ARCH: secrets"
console 'rm /tmp/qod-watch; cat /etc/qod-agent/token' | tr -d '\r' > "$WORK/token"
token=$(cat "$WORK/token")
promise "the token in its file" "${#token} characters" "16 at least" at_least ${#token} 16
printf '%s\n' "$BOOTSTRAP" "$token" > "$WORK/secrets"
console 'sort -u /tmp/qod-processes; rm /tmp/qod-processes' > "$WORK/processes"
promise "processes were watched" "$(wc -l < "$WORK/processes") lines" "the enrolment's among them" \
    grep -q '^enrol$' "$WORK/processes"
console '/sbin/logread; dmesg; ubus call qod-agent status; ubus call qod-agent check; ubus call service list' > "$WORK/said"
promise "the log, status and check" "$(wc -l < "$WORK/said") lines" "there" grep -q 'enrolled: its token is in' "$WORK/said"
for each in processes said; do
    promise "  secrets in it ($each)" "$(grep -cF -f "$WORK/secrets" "$WORK/$each")" 0 \
        equal "$(grep -cF -f "$WORK/secrets" "$WORK/$each")" 0
done
# Flash, and what is in memory: the two files, and no other.
found=$(console "cat /etc/qod-agent/token /etc/qod-agent/bootstrap-token > /tmp/qod-secrets
    find /etc /tmp/ /var/run/ /usr/lib/opkg /root -type f ! -name qod-secrets 2> /dev/null -exec grep -lF -f /tmp/qod-secrets {} + \
        | sort -u | while read -r each; do ls -ln \"\$each\" | cut -c 1-10 | tr '\\n' ' '; echo \"\$each\"; done
    rm /tmp/qod-secrets" | paste -sd ' ')
promise "files that have a secret" "$(wc -w <<< "$found") words" "these two, for root alone" equal "$found" \
    '-rw------- /etc/qod-agent/bootstrap-token -rw------- /etc/qod-agent/token'
equal "$found" '-rw------- /etc/qod-agent/bootstrap-token -rw------- /etc/qod-agent/token' || note "$found"
modes=$(console 'ls -ld /etc/config/qod-agent /etc/qod-agent /var/run/qod-agent /var/run/qod-agent/config.json' \
    | awk '{ print $1 }' | paste -sd ' ')
promise "modes of folders and configuration" "$modes" "for root alone" \
    equal "$modes" '-rw------- drwx------ drwx------ -rw-------'
