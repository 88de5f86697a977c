# shellcheck shell=bash
# Traffic of the phone and the laptop, and what of it is marked, captured outside of the router. Sourced, after
# report.sh and lab.sh.

# shellcheck disable=SC2034 # the scripts read it
EF=46
PHONE4=192.168.1.23 PHONE6=2001:db8:1::23
LAPTOP4=192.168.1.24 LAPTOP6=2001:db8:1::24
WAN4=203.0.113.2
# The application's server, another address of the internet host than the backend's.
SERVER4=198.51.100.1 SERVER6=2001:db8:2::1 SERVER_PORT=33001
# Both inside the session's range of ports: what tells them apart is the device.
PHONE_PORT=5010 LAPTOP_PORT=5011
# The phone's own other traffic, outside of the range.
OTHER_PORT=5999
PROBES=20

# What an application orders for the phone.
# shellcheck disable=SC2034 # the scripts read it
ORDER="{
    \"device\": {\"ipv4Address\": {\"publicAddress\": \"$WAN4\", \"privateAddress\": \"$PHONE4\"}, \"ipv6Address\": \"$PHONE6\"},
    \"applicationServer\": {\"ipv4Address\": \"198.51.100.0/28\", \"ipv6Address\": \"2001:db8:2::/64\"},
    \"devicePorts\": {\"ranges\": [{\"from\": 5010, \"to\": 5020}]},
    \"applicationServerPorts\": {\"ports\": [$SERVER_PORT]},
    \"qosProfile\": \"QOS_E\", \"duration\": 3600}"

# The application's server answers.
echo_start() {
    child echo4.log internet "${PROMPT[@]}" "$QOD_LAB" echo --at "$SERVER4:$SERVER_PORT"
    child echo6.log internet "${PROMPT[@]}" "$QOD_LAB" echo --at "[$SERVER6]:$SERVER_PORT"
}

flow() {
    rtt "$1" "$2" "$3" $PROBES > /dev/null &
    FLOWS+=($!)
}

# Short flows of the phone and of the laptop, both families, while all three hosts are captured.
observe() {
    local name=$1 captures=() FLOWS=()
    for host in internet phone laptop; do
        capture_start "$name-$host" $host udp port $SERVER_PORT
        captures+=("$CHILD")
    done
    flow phone $PHONE4:$PHONE_PORT $SERVER4:$SERVER_PORT
    flow phone $PHONE4:$OTHER_PORT $SERVER4:$SERVER_PORT
    flow laptop $LAPTOP4:$LAPTOP_PORT $SERVER4:$SERVER_PORT
    flow phone "[$PHONE6]:$PHONE_PORT" "[$SERVER6]:$SERVER_PORT"
    flow laptop "[$LAPTOP6]:$LAPTOP_PORT" "[$SERVER6]:$SERVER_PORT"
    wait "${FLOWS[@]}"
    # What a host has received its tcpdump need not have read yet.
    within 3 captured_all "$name-internet" 5 && within 3 captured_all "$name-phone" 3 \
        && within 3 captured_all "$name-laptop" 2
    for capture in "${captures[@]}"; do
        end "$capture"
    done
}

# captured_all NAME FLOWS: whether every packet of so many flows is in the file.
captured_all() {
    [ "$(tcpdump -n -r "$WORK/$1.pcap" 2> /dev/null | wc -l)" -ge $(($2 * PROBES)) ]
}

# expect_dscps NAME DSCP-OF-THE-SESSION'S-FLOW
expect_dscps() {
    local name=$1 session=$2 row host filter what dscp seen
    for row in \
        "internet|ip and src port $PHONE_PORT|phone, upstream, IPv4|$session" \
        "phone|ip and dst port $PHONE_PORT|phone, downstream, IPv4|$session" \
        "internet|ip6 and src port $PHONE_PORT|phone, upstream, IPv6|$session" \
        "phone|ip6 and dst port $PHONE_PORT|phone, downstream, IPv6|$session" \
        "internet|src port $OTHER_PORT|phone, another port, upstream|0" \
        "phone|dst port $OTHER_PORT|phone, another port, downstream|0" \
        "internet|ip and src port $LAPTOP_PORT|laptop, upstream, IPv4|0" \
        "laptop|ip and dst port $LAPTOP_PORT|laptop, downstream, IPv4|0" \
        "internet|ip6 and src port $LAPTOP_PORT|laptop, upstream, IPv6|0" \
        "laptop|ip6 and dst port $LAPTOP_PORT|laptop, downstream, IPv6|0"; do
        IFS='|' read -r host filter what dscp <<< "$row"
        seen=$(dscps "$name-$host" "$filter")
        promise "DSCP of $what" "${seen:-none seen} packets" "$dscp on $PROBES" \
            equal "$seen" "$dscp on $PROBES"
    done
    note "the first of them on the internet host, by tcpdump:"
    for filter in ip ip6; do
        note "$(capture_read "$name-internet" "$filter and src port $PHONE_PORT" | head -n 1 | cut -d ' ' -f 4-)"
    done
}
