# shellcheck shell=bash
# A flash that is full, and one that cannot be written: the agent runs, and no token is asked for that cannot be kept.
# Sourced by scripts/qemu-test.sh, after enrol.sh, with a session in force.
# shellcheck disable=SC2016 # the router expands them

section "$ARCH: the flash is full"
bootstrap_token_is_given 600
# fallocate where there is one; and what is left between its blocks.
console 'fallocate -l "$(df -k / | awk "END { print \$4 - 64 }")k" /fill 2> /dev/null
    for size in 65536 1024; do dd if=/dev/zero bs=$size >> /fill 2> /dev/null; done; sync
    ! echo full 2> /dev/null > /etc/qod-full; rm -f /etc/qod-full' || die "the flash is not full"
note "free: $(console "df -k / | awk 'END { print \$4 }'") KiB"
router_log_begins
console '/etc/init.d/qod-agent restart' > "$WORK/flash.log"
status=$?
within 30 router_logged ' starts; backend '
promise "restart" "status $status, $(instances)" "status 0, agent runs" equal "$status $(instances)" "0 agent runs"
within 30 agent_is_connected
# flash_marks NAME: what the agent does with a session, at its start.
flash_marks() {
    local seen
    within 30 session_is_active
    observe "$1"
    seen=$(dscps "$1-internet" "ip and src port $PHONE_PORT")
    promise "DSCP of phone, upstream" "$seen" "$EF on $PROBES" equal "$seen" "$EF on $PROBES"
    promise "the session, by qod-agent status" "$(session_state)" ACTIVE session_is_active
}
flash_marks full

router_log_begins
# Its room is taken too.
console 'rm /etc/qod-agent/token; dd if=/dev/zero bs=512 >> /fill 2> /dev/null; sync; /etc/init.d/qod-agent restart' > "$WORK/flash.log"
within 30 router_logged 'No space left on device'
promise "enrolment" "$(router_said 'No space left')" "says what it cannot write" \
    router_logged '/etc/qod-agent/token: making room for a token: No space left on device'
promise "what procd has of it" "$(instances)" "the enrolment alone, waiting" equal "$(instances)" "enrolment waits"
console 'rm /fill; /etc/init.d/qod-agent restart' > "$WORK/flash.log"
within 30 router_logged ' enrolled: its token is in /etc/qod-agent/token'
promise "room is made: the same bootstrap token" "$(router_said ' enrolled: ')" "serves" router_logged ' enrolled: its token is in /etc/qod-agent/token'
within 30 router_logged ' starts; backend '
within 30 agent_is_connected
promise "the operator sees the agent connected" "$(operator_sees connected)" true agent_is_connected

section "$ARCH: the flash cannot be written"
router_log_begins
# Where uci-defaults could not write an id down, the init script finds it at each start.
console 'uci delete qod-agent.main.agent_id; uci commit qod-agent; sync; mount -o remount,ro /' > "$WORK/flash.log" \
    || die "the flash cannot be made read-only: $(cat "$WORK/flash.log")"
console '! touch /etc/qod-full' > "$WORK/flash.log" || die "/etc can still be written"
console '/etc/init.d/qod-agent restart' > "$WORK/flash.log"
status=$?
within 30 router_logged ' starts; backend '
promise "restart" "status $status, $(instances)" "status 0, agent runs" equal "$status $(instances)" "0 agent runs"
promise "the agent's id" "$(agent_status .agentId)" "$AGENT" equal "$(agent_status .agentId)" "$AGENT"
within 30 agent_is_connected
flash_marks read-only
console 'qod-agent enrol --rotate --config /var/run/qod-agent/config.json' > "$WORK/flash.log" 2>&1
status=$?
promise "qod-agent enrol --rotate" "status $status, $(tail -n 1 "$WORK/flash.log")" "says what it cannot write" \
    grep -q 'qod-agent: /etc/qod-agent/token: making a new file beside it: Read-only file system' "$WORK/flash.log"
router_log_begins
console "mount -o remount,rw / && uci set qod-agent.main.agent_id=$AGENT && uci commit qod-agent && /etc/init.d/qod-agent reload" > "$WORK/flash.log"
status=$?
promise "it can be written again: reload" "status $status, $(instances)" "status 0, agent runs" \
    equal "$status $(instances)" "0 agent runs"
