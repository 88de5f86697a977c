# shellcheck shell=bash
# The phone's flow of the session, both families, for as long as it takes, captured outside of the router on both its
# ends. Sourced, after lab.sh and traffic.sh.

# The four ways of a packet: what it is called, where it is captured, and by which filter.
STREAM_WAYS=(
    "up 4|internet|ip and src port $PHONE_PORT"
    "down 4|phone|ip and dst port $PHONE_PORT"
    "up 6|internet|ip6 and src port $PHONE_PORT"
    "down 6|phone|ip6 and dst port $PHONE_PORT"
)

# stream_start NAME PACKETS MILLISECONDS: so many packets of each family, one in each such time; each is answered.
stream_start() {
    STREAM=$1 STREAM_PACKETS=$2 STREAM_CAPTURES=() STREAM_FLOWS=()
    local host from to
    for host in internet phone; do
        capture_start "$STREAM-$host" $host udp port "$SERVER_PORT" and port "$PHONE_PORT"
        STREAM_CAPTURES+=("$CHILD")
    done
    for from in "$PHONE4" "[$PHONE6]"; do
        to=$SERVER4
        [ "$from" = "$PHONE4" ] || to="[$SERVER6]"
        child "$STREAM-flow${#STREAM_FLOWS[@]}.json" phone "${PROMPT[@]}" "$QOD_LAB" rtt --from "$from:$PHONE_PORT" \
            --to "$to:$SERVER_PORT" --count "$2" --interval-ms "$3"
        STREAM_FLOWS+=("$CHILD")
    done
}

# How many packets are captured so far.
stream_captured() {
    local host
    for host in internet phone; do
        tcpdump -n -r "$WORK/$STREAM-$host.pcap" 2> /dev/null
    done | wc -l
}

stream_has_captured() {
    [ "$(stream_captured)" -ge "$1" ]
}

# Waits for the flows' own end, and for what tcpdump has not read yet.
stream_wait() {
    wait "${STREAM_FLOWS[@]}"
    within 3 stream_has_captured $((4 * STREAM_PACKETS))
    stream_close
}

# Ends it before its time.
stream_end() {
    local each
    for each in "${STREAM_FLOWS[@]}"; do
        end "$each" KILL
    done
    # What was sent may still be answered.
    sleep 0.5
    stream_close
}

stream_close() {
    local each
    for each in "${STREAM_CAPTURES[@]}"; do
        end "$each"
    done
}

# stream_way NAME WAY: what was captured of it, one line a packet: time and DSCP.
stream_way() {
    local row way host filter
    for row in "${STREAM_WAYS[@]}"; do
        IFS='|' read -r way host filter <<< "$row"
        [ "$way" != "$2" ] || capture_read "$1-$host" "$filter" | cut -d ' ' -f 1,2
    done
}

# stream_unmarked NAME WAY [FROM TO]: how many are without the session's mark of how many, and how long from the first
# of them to the last, in seconds; of those captured between two times.
stream_unmarked() {
    stream_way "$1" "$2" | awk -v dscp="$EF" -v from="${3:-0}" -v to="${4:-9999999999}" '
        $1 < from || $1 > to { next }
        { n++ }
        $2 != dscp { if (!u++) first = $1; last = $1 }
        END { printf "%d of %d, %.3f s", u, n, last - first }'
}
