# shellcheck shell=bash
# Flows leave the usual path in a flowtable as fw4 makes it: every packet still has its mark, and its queue. The
# flowtable stays for the scenarios that follow. Sourced by scripts/qemu-test.sh, after scripts/qemu/session.sh.

section "$ARCH: the software flowtable"
TCP_PORT=5012 TCP_BYTES=1000000
# A table of somebody else's, that sees what is forwarded in the usual way; before the flowtable sees it.
console "nft -f - << END
table inet observer {
    counter forwarded { }
    counter forwarded_tcp { }
    chain forward {
        type filter hook forward priority -1
        udp sport $PHONE_PORT counter name forwarded
        udp dport $PHONE_PORT counter name forwarded
        tcp sport $TCP_PORT counter name forwarded_tcp
        tcp dport $TCP_PORT counter name forwarded_tcp
    }
}
END" || die "no table for the observer"

# forwarded COUNTER
forwarded() {
    console "nft list counter inet observer $1" | sed -n 's/.*packets \([0-9]*\).*/\1/p'
}

# From the status as agent_says wrote it last.
latency_packets() {
    jq '[.queues[] | select(.owner == "qod-agent") | .classes[] | select(.queue == "latency").packets] | add // 0' \
        "$WORK/status.json"
}

stream_start usual 20 20
stream_wait
seen=$(forwarded forwarded)
promise "without it: forwarded in the usual way" "$seen of 80" "80 of 80" equal "$seen" 80

console 'uci set firewall.@defaults[0].flow_offloading=1 && uci commit firewall && fw4 reload' > "$WORK/offload.log" 2>&1
devices=$(console 'nft list flowtable inet fw4 ft' | sed -n 's/.*devices = //p' | tr -d '"')
promise "fw4's flowtable" "${devices:-none}" "{ br-lan, eth1 }" equal "$devices" "{ br-lan, eth1 }"
[ -n "$devices" ] || note "$(tail -n 5 "$WORK/offload.log")"

before=$(agent_says 'qod-agent status --json' '"\(.upstream.packets) \(.downstream.packets)"')
queued=$(latency_packets)
seen=$(forwarded forwarded)
stream_start offload 400 15
within 20 stream_has_captured 400
offloaded=$(console "grep 'port=$PHONE_PORT .*\[OFFLOAD\]' /proc/net/nf_conntrack" | cut -d ' ' -f 1 | sort | xargs)
stream_wait
promise "flows in the flowtable, by conntrack" "${offloaded:-none}" "ipv4 ipv6" equal "$offloaded" "ipv4 ipv6"
seen=$(($(forwarded forwarded) - seen))
# Those that are on their way until a flow has its first answer: more of them where the router waits for a processor.
promise "forwarded in the usual way" "$seen of 1600" "at most 80" at_most "$seen" 80
for way in "up 4" "down 4" "up 6" "down 6"; do
    dscps=$(stream_way offload "$way" | cut -d ' ' -f 2 | sort | uniq -c | awk '{ printf "%s%s on %d", s++ ? ", " : "", $2, $1 }')
    promise "DSCP of phone, ${way}" "${dscps:-none seen} packets" "$EF on 400" equal "$dscps" "$EF on 400"
done
after=$(agent_says 'qod-agent status --json' '"\(.upstream.packets) \(.downstream.packets)"')
read -r up down <<< "$(awk '{ print $3 - $1, $4 - $2 }' <<< "$before $after")"
promise "qod-agent status" "$up up, $down down" "800 up, 800 down" equal "$up $down" "800 800"
queued=$(($(latency_packets) - queued))
promise "in the queue for low latency, towards the internet" "$queued" "800" equal "$queued" 800

child sink4.log internet "$QOD_LAB" sink --at "$SERVER4:$SERVER_PORT"
child sink6.log internet "$QOD_LAB" sink --at "[$SERVER6]:$SERVER_PORT"
captures=()
for host in internet phone; do
    capture_start "tcp-$host" $host tcp port $TCP_PORT
    captures+=("$CHILD")
done
seen=$(forwarded forwarded_tcp)
# What is sent is with the kernel when the sender has ended.
tcp_is_delivered() {
    [ -z "$(at phone ss -Htn state fin-wait-1 sport = :$TCP_PORT)" ]
}
for row in "$PHONE4 $SERVER4" "[$PHONE6] [$SERVER6]"; do
    read -r from to <<< "$row"
    at phone "$QOD_LAB" send --proto tcp --from "$from:$TCP_PORT" --to "$to:$SERVER_PORT" --length $TCP_BYTES \
        && within 30 tcp_is_delivered
    status=$?
    promise "a megabyte over TCP to $to" "status $status" "status 0" equal "$status" 0
done
seen=$(($(forwarded forwarded_tcp) - seen))
for capture in "${captures[@]}"; do
    end "$capture"
done
total=0
for row in "up|internet|src" "down|phone|dst"; do
    IFS='|' read -r way host end <<< "$row"
    dscps=$(dscps "tcp-$host" "$end port $TCP_PORT")
    count=$(capture_read "tcp-$host" "$end port $TCP_PORT" | wc -l)
    total=$((total + count))
    promise "DSCP of TCP, $way" "${dscps:-none seen} packets" "$EF on all" equal "$dscps" "$EF on $count"
done
# The start and the end of a connection are: whatever is sent again beside the end, too.
promise "TCP, forwarded in the usual way" "$seen of $total" "at most a quarter" at_most "$seen" $((total / 4))
