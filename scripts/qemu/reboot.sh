# shellcheck shell=bash
# The router is told to reboot while a session is in force and the phone sends: what it keeps, how long until the first
# mark, and that the session ends when it would have. Sourced by scripts/qemu-test.sh.

section "$ARCH: reboot"
# What must be the same afterwards; the token itself is shown to nobody.
kept() {
    console "uci show qod-agent; /etc/init.d/qod-agent enabled && echo enabled; sha256sum /etc/qod-agent/token
        ls -ln /etc/qod-agent/token /var/run/qod-agent/config.json | awk '{ print \$1, \$3, \$4, \$NF }'"
}
kept > "$WORK/kept-before"
run_before=$(agent_status .bootId)
expires=$(api GET "/qod/v0/sessions/$SESSION" | jq -r .expiresAt)
capture_start reboot internet ip and udp and src port "$PHONE_PORT" and dst port "$SERVER_PORT"
capture=$CHILD
child reboot-flow.log phone "$QOD_LAB" rtt --from "$PHONE4:$PHONE_PORT" --to "$SERVER4:$SERVER_PORT" \
    --interval-ms 50 --count $((BOOT_LIMIT * 20))
flow=$CHILD
machine_reboot || die "no shell on the console after the reboot: $(tail -n 5 "$WORK/console.log")"
asked=$EPOCHREALTIME
uptime=$(console cut -d "' '" -f 1 /proc/uptime)
kernel=$(compute "$asked - $uptime")
first_since_boot() {
    capture_read reboot | awk -v since="$kernel" -v dscp="${1:-}" \
        '$1 > since && (dscp == "" || $2 == dscp) { print $1; exit }'
}
booted_and_marked() {
    FIRST_MARK=$(first_since_boot "$EF")
    [ -n "$FIRST_MARK" ]
}
within "$BOOT_LIMIT" booted_and_marked
took=$([ -n "$FIRST_MARK" ] && compute "$FIRST_MARK - $kernel")
promise "first mark after the kernel's start" "${took:-never} s" "within $BOOT_LIMIT s" [ -n "$FIRST_MARK" ]
routed=$(first_since_boot)
# Seconds beside a boot that is all emulation: what the agent adds to it.
delay=$([ -n "$FIRST_MARK" ] && compute "$FIRST_MARK - $routed")
promise "and after the phone's first packet was routed" "${delay:-never} s" "at most 30 s" at_most "$delay" 30
end "$flow" KILL
end "$capture"
note "unmarked between them: $(capture_read reboot | awk -v from="$routed" -v to="$FIRST_MARK" \
    '$1 >= from && $1 < to' | wc -l) packets of 20 a second"

kept > "$WORK/kept-after"
changed=$(diff "$WORK/kept-before" "$WORK/kept-after")
promise "configuration, token, rights, enabled as before" "$(grep -c '^[<>]' <<< "$changed") differ" "0 differ" \
    equal "$changed" ""
[ -z "$changed" ] || note "$changed"
rights=$(grep -c '^-rw------- 0 0 ' "$WORK/kept-after")
promise "token and configuration are root's alone" "$rights of 2" "2 of 2" equal "$rights" 2
said=$(agent_status "if .bootId == \"$run_before\" then \"the run of before\" else .agentId end")
promise "another run of the same agent" "${said:-no answer}" "$AGENT" equal "$said" "$AGENT"
# Until then the operator goes by what the run of before said.
within 20 reported_since "$kernel"
promise "the operator has a report of it" "$(reported_since "$kernel" && echo yes || echo no)" "yes within 20 s" \
    reported_since "$kernel"
within 20 session_is_available "$SESSION"
promise "GET /qod/v0/sessions/{id}" "$(session_status "$SESSION")" "AVAILABLE within 20 s" \
    session_is_available "$SESSION"
asked=$EPOCHREALTIME
left=$(agent_status ".sessions[] | select(.sessionId == \"$SESSION\") | .expiresIn")
# The console may take its time to answer.
most=$(compute "$expires - $asked + 2")
least=$(compute "$expires - $EPOCHREALTIME - 2")
as_at_the_operator() {
    at_least "$left" "$least" && at_most "$left" "$most"
}
promise "seconds left, of 3600 when it was ordered" "${left:-none}" "as at the operator: $least to $most" as_at_the_operator
