# shellcheck shell=bash
# The power fails right after the agent's token was replaced, and the router boots with its clock at 1970, as one
# without a battery does; the time comes later. Then the clock is set back while sessions are in force. Sourced by
# scripts/qemu-test.sh.

# sends HOST ADDRESS PORT: to the application's server, 20 packets a second, until it is ended. Its pid is CHILD.
sends() {
    child "clock-$1.log" "$1" "$QOD_LAB" rtt --from "$2:$3" --to "$SERVER4:$SERVER_PORT" --interval-ms 50 --count 20000
}

# How often the agent has begun to connect to the backend, as the backend's host sees it.
tries() {
    tcpdump -n -r "$WORK/clock.pcap" tcp 2> /dev/null | wc -l
}
has_tried() {
    [ "$(tries)" -ge "$1" ]
}

# marked_since TIME PORT: sets MARKED, when the first packet of that flow came with its mark after TIME.
marked_since() {
    MARKED=$(capture_read clock "udp and src port $2" \
        | awk -v since="$1" -v dscp="$EF" '$1 > since && $2 == dscp { print $1; exit }')
    [ -n "$MARKED" ]
}

# Sets the clock right, as NTP would: how long until the operator hears of the router is RECOVERED, and SET is when.
clock_set_right() {
    SET=$EPOCHREALTIME
    console date -u -s "@${SET%.*}" > /dev/null || die "the clock cannot be set"
    RECOVERED=
    if within 60 reported_since "$SET"; then
        RECOVERED=$(compute "$EPOCHREALTIME - $SET")
    fi
    promise "the clock is set: a report at the operator" "${RECOVERED:-none} s later" "at most 15 s" \
        at_most "$RECOVERED" 15
}

# The agent waits for the time: since AGENT_PID was first seen, and until now.
expect_patience() {
    local now logged
    now=$(console pidof qod-agent)
    promise "the agent's process" "${now:-none}" "${AGENT_PID:-one}, as before" [ -n "$now" -a "$now" = "$AGENT_PID" ]
    logged=$(console "logread | grep -c \"not valid yet; is this router's clock set?\"")
    promise "lines in the log that ask for the clock" "${logged:-none} after $(tries) tries" "$1" \
        equal "$logged" "$1"
}

section "$ARCH: the power fails after a token's rotation"
console 'qod-agent enrol --rotate --config /var/run/qod-agent/config.json > /dev/null && sha256sum /etc/qod-agent/token
    echo lost > /etc/qod-agent/lost' > "$WORK/rotated"
machine_cut
promise "rotate" "$(cut -c 1-12 "$WORK/rotated")" "a token" [ "$(wc -w < "$WORK/rotated")" = 2 ]
capture_start clock internet "(udp and dst port $SERVER_PORT) or
    (dst port ${BACKEND#*:} and src host $WAN4 and tcp[tcpflags] == tcp-syn)"
capture=$CHILD
sends phone "$PHONE4" "$PHONE_PORT"
flows=("$CHILD")
QEMU_MORE=(-rtc "base=1970-01-01T00:00:10")
machine_start "$ARCH"
# shellcheck disable=SC2034 # machine.sh reads it
QEMU_MORE=()
machine_ready > /dev/null || die "no shell on the console after the power cut: $(tail -n 5 "$WORK/console.log")"
shown=$(console date -u +%Y)
promise "the router's clock shows the year" "${shown:-none}" 1970 equal "$shown" 1970
kept=$(console sha256sum /etc/qod-agent/token)
promise "the token is the new one, whole" "$(cut -c 1-12 <<< "$kept")" "$(cut -c 1-12 "$WORK/rotated")" \
    equal "$kept" "$(cat "$WORK/rotated")"
mode=$(console stat -c %a /etc/qod-agent/token)
promise "its mode" "${mode:-none}" 600 equal "$mode" 600
# So it was a power cut, and not a quick end.
note "what was written right after it, and not synced, is $(console '[ -e /etc/qod-agent/lost ] && echo there || echo lost')"
console rm -f /etc/qod-agent/lost

section "$ARCH: a clock at 1970"
within 60 has_warning CLOCK ''
AGENT_PID=$(console pidof qod-agent)
said=$(agent_status '[.warnings[].code] | join(" ")')
promise "qod-agent status, warnings" "${said:-none}" "CLOCK among them" grep -qw CLOCK <<< "$said"
said=$(console ubus call qod-agent status | jq -r '[.warnings[].code] | join(" ")')
promise "ubus call qod-agent status, warnings" "${said:-none}" "CLOCK among them" grep -qw CLOCK <<< "$said"
said=$(console ubus call qod-agent check | jq -r '.lines[] | select(.name == "clock") | "\(.verdict): \(.text)"')
promise "ubus call qod-agent check, clock" "${said:0:26}" "fail: shows a time before 2026" \
    grep -q '^fail: shows a time before 2026' <<< "$said"
within 60 has_tried 4
expect_patience 1
tables=$(console 'nft list tables | grep -c qod')
promise "tables of the agent" "${tables:-none}" 0 equal "$tables" 0
seen=$(dscps clock "udp and src port $PHONE_PORT")
promise "DSCP of the phone" "${seen:-none seen}" "0 on all" grep -qx '0 on [0-9]*' <<< "$seen"
clock_set_right
within 20 marked_since "$SET" "$PHONE_PORT"
took=$([ -n "$MARKED" ] && compute "$MARKED - $SET")
promise "and the first mark" "${took:-never} s later" "at most 15 s" at_most "$took" 15
expect_patience 1

section "$ARCH: the clock is set back"
sends laptop "$LAPTOP4" "$LAPTOP_PORT"
flows+=("$CHILD")
code=$(application_orders "$(jq -c --arg v4 "$LAPTOP4" --arg v6 "$LAPTOP6" '.duration = 20
    | .device.ipv4Address.privateAddress = $v4 | .device.ipv6Address = $v6' <<< "$ORDER")")
promise "POST /qod/v0/sessions, of 20 s, for the laptop" "$code" 201 equal "$code" 201
short=$(jq -r .sessionId "$WORK/created.json")
within 20 session_is_available "$short"
ends=$(api GET "/qod/v0/sessions/$short" | jq -r .expiresAt)
back=$EPOCHREALTIME
# Linux sets no time that is before its own start.
console date -u -s @1000 > /dev/null
shown=$(console date -u +%Y)
promise "the router's clock shows the year" "${shown:-none}" 1970 equal "$shown" 1970
# A connection that stands goes on: certificates are looked at when one is made.
operator_restart
within 20 has_warning CLOCK ''
left=$(compute "$ends - $EPOCHREALTIME")
said=$(agent_status '[.warnings[].code] | join(" ")')
promise "the backend starts anew: qod-agent status" "${said:-no answer}" "CLOCK among them" grep -qw CLOCK <<< "$said"
promise "and the short session has yet to end" "in $left s" "in 2 s or more" at_least "$left" 2
# Some seconds past the end.
sent_past_the_end() {
    [ -n "$(capture_read clock "udp and src port $LAPTOP_PORT" | awk -v end="$ends" '$1 > end + 4 { print; exit }')" ]
}
within 60 sent_past_the_end
last=$(capture_read clock "udp and src port $LAPTOP_PORT" | awk -v dscp="$EF" '$2 == dscp { last = $1 } END { print last }')
off=$(compute "${last:-0} - $ends")
promise "the laptop's last mark, after its session's end" "$off s" "2 s at most, either way" \
    at_most "$(compute "sqrt(($off) ^ 2)")" 2
unmarked=$(capture_read clock "udp and src port $PHONE_PORT" \
    | awk -v since="$back" -v dscp="$EF" '$1 > since { n++; other += $2 != dscp } END { printf "%d of %d", other, n }')
promise "the phone's packets meanwhile, without mark" "$unmarked" "0 of some" grep -q '^0 of [1-9]' <<< "$unmarked"
expect_patience 2
clock_set_right
without_trouble() {
    said=$(agent_status '"says \([.warnings[].code] | join(" "))"')
    case $said in
        '' | *CLOCK* | *BACKEND_UNREACHABLE*) return 1 ;;
    esac
}
within 10 without_trouble
promise "qod-agent status, warnings" "${said#says }" "no CLOCK" without_trouble
end "$capture"
for each in "${flows[@]}"; do
    end "$each" KILL
done
observe set-right
expect_dscps set-right "$EF"
