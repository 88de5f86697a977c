# shellcheck shell=bash
# What a firewall does to everybody's tables, and a network to its devices, while the phone's flow runs. Sourced by
# scripts/qemu-test.sh, after scripts/qemu/session.sh.

section "$ARCH: firewall and network are restarted under the flow"

# A table of somebody else's, and what of it tells whether it was touched: made anew, it has other handles.
foreign_make() {
    console 'nft add table inet foreign && nft add chain inet foreign forward "{ type filter hook forward priority 5; }" \
        && nft add rule inet foreign forward meta mark 0x1 accept' || die "no table of somebody else's"
    FOREIGN=$(foreign_state)
}
foreign_state() {
    console nft -a list table inet foreign
}
tables() {
    console nft list tables | sort | xargs
}
fw4_rules() {
    console nft -s list table inet fw4
}
warnings() {
    agent_status '[.warnings[].code] | sort | join(" ")'
}

# under_flow WHAT SECONDS COMMAND: types it, and gives its effects so long to end. They are between the times BEGAN
# and ENDED.
under_flow() {
    local status
    BEGAN=$EPOCHREALTIME
    console "$3" > "$WORK/firewall.log" 2>&1
    status=$?
    promise "$1" "status $status" "status 0" equal "$status" 0
    [ "$status" = 0 ] || note "$(tail -n 5 "$WORK/firewall.log")"
    sleep "$2"
    ENDED=$EPOCHREALTIME
}

# all_marked WAY...: of what was captured meanwhile.
all_marked() {
    local way seen
    for way in "$@"; do
        seen=$(stream_unmarked firewall "$way" "$BEGAN" "$ENDED")
        promise "  without mark, $way" "$seen" "0 of some" matches "$seen" '^0 of [1-9]'
    done
}
matches() { [[ $1 =~ $2 ]]; }
not() { ! "$@"; }

# unmarked_within SECONDS WAY...: anything is without mark so long at most, and nothing in the last half second.
unmarked_within() {
    local seconds=$1 way seen
    shift
    for way in "$@"; do
        seen=$(stream_unmarked firewall "$way" "$BEGAN" "$ENDED")
        promise "  without mark, $way" "$seen" "at most $seconds s, then none" marks_are_back "$seen" "$seconds" "$way"
    done
}
marks_are_back() {
    local span=${1#*, }
    at_most "${span% s}" "$2" \
        && matches "$(stream_unmarked firewall "$3" "$(compute "$ENDED - 0.5")" "$ENDED")" '^0 of [1-9]'
}

foreign_make
agent=$(console pidof qod-agent)
warned=$(warnings)
rules=$(fw4_rules)
stream_start firewall 15000 20
within 20 stream_has_captured 100 || die "no flow through the router"

under_flow "fw4 reload, four times" 0.5 'for i in 1 2 3 4; do fw4 reload || exit; done'
all_marked "up 4" "down 4" "up 6" "down 6"
now=$(foreign_state)
promise "the table of somebody else" "$(grep -c . <<< "$now") lines" "as before" equal "$now" "$FOREIGN"

under_flow "/etc/init.d/firewall stop" 1.5 '/etc/init.d/firewall stop'
# Without NAT there is no answer over IPv4.
unmarked_within 1 "up 4" "up 6" "down 6"
own=$(tables)
promise "the tables" "$own" "the agent's alone" matches "$own" '^(table netdev qod[^ ]* ?)+$'

under_flow "nft flush ruleset" 1.5 'nft flush ruleset'
unmarked_within 1 "up 4" "up 6" "down 6"
now=$(tables)
promise "the tables" "$now" "the agent's alone" equal "$now" "$own"

under_flow "/etc/init.d/firewall start" 0.5 '/etc/init.d/firewall start'
all_marked "up 4" "down 4" "up 6" "down 6"
now=$(fw4_rules)
promise "fw4's table" "$(grep -c . <<< "$now") lines" "as before the stop" equal "$now" "$rules"

foreign_make
bridge=$(console cat /sys/class/net/br-lan/ifindex)
under_flow "/etc/init.d/network restart" 0 '/etc/init.d/network restart'
restarted=$ENDED
flows_again() {
    local way
    for way in "up 4" "down 4" "up 6" "down 6"; do
        matches "$(stream_unmarked firewall "$way" "$restarted")" ' of [1-9][0-9]' || return
    done
}
within 30 flows_again
# Whatever the restart has the agent do is done by then.
sleep 1.5
ENDED=$EPOCHREALTIME
now=$(console cat /sys/class/net/br-lan/ifindex)
promise "the bridge" "device $now" "another than $bridge" not equal "$now" "$bridge"
unmarked_within 1 "up 4" "down 4" "up 6" "down 6"
note "longest time without a packet: $(stream_way firewall "up 4" \
    | awk -v from="$BEGAN" '$1 > from && last && $1 - last > gap { gap = $1 - last } { last = $1 } END { printf "%.3f s", gap }')"
now=$(foreign_state)
promise "the table of somebody else" "$(grep -c . <<< "$now") lines" "as before" equal "$now" "$FOREIGN"
stream_end

now=$(console pidof qod-agent)
promise "the agent's process" "$now" "the same as before all this" equal "$now" "$agent"
# NAT has forgotten the connection by which the agent waits for orders.
other=${ORDER/5010/5030}
asked=$EPOCHREALTIME
code=$(application_orders "${other/5020/5040}")
promise "an order after the restart" "$code" 201 equal "$code" 201
another=$(jq -r .sessionId "$WORK/created.json")
within 60 session_is_available "$another"
answered=$(compute "$EPOCHREALTIME - $asked")
promise "  AVAILABLE" "$(session_is_available "$another" && echo "after $answered s")" "within 10 s" at_most "$answered" 10
api DELETE "/qod/v0/sessions/$another" > "$WORK/deleted.json"

warnings_are() {
    equal "$(warnings)" "$1"
}
within 10 warnings_are "$warned"
now=$(warnings)
promise "warnings of the status" "${now:-none}" "${warned:-none}, as before" equal "$now" "$warned"
console nft delete table inet foreign
