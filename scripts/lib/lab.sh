# shellcheck shell=bash
# The home of tests/lab from a script: namespaces, children that end with the script, captures. Sourced.

CHILDREN=()

# lab_up [FLAGS of qod-lab up]: makes the home GROUP, and WORK, a folder for files.
lab_up() {
    GROUP=qod$$.0
    WORK=$(mktemp -d)
    trap lab_down EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "$QOD_LAB" up --group "$GROUP" "$@"
}

lab_down() {
    local status=$? child
    trap - EXIT
    for child in "${CHILDREN[@]}"; do
        kill -KILL "$child" 2> /dev/null
        wait "$child" 2> /dev/null
    done
    "$QOD_LAB" down --group "$GROUP"
    if [ "$status" = 0 ]; then
        rm -rf "$WORK"
    else
        echo "logs and captures are kept in $WORK" >&2
    fi
    exit "$status"
}

# at ROLE COMMAND...: runs in a namespace of the home.
at() {
    local role=$1
    shift
    ip netns exec "$GROUP.$role" "$@"
}

# child LOG ROLE COMMAND...: starts in the background; its pid is CHILD. `ip` replaces itself by the
# command, so that the pid is the command's.
child() {
    local log=$1 role=$2
    shift 2
    ip netns exec "$GROUP.$role" "$@" > "$WORK/$log" 2>&1 &
    CHILD=$!
    CHILDREN+=("$CHILD")
}

# end PID [SIGNAL]
end() {
    local left=() each
    kill -"${2:-TERM}" "$1" 2> /dev/null
    wait "$1" 2> /dev/null
    for each in "${CHILDREN[@]}"; do
        [ "$each" = "$1" ] || left+=("$each")
    done
    CHILDREN=("${left[@]}")
}

# within SECONDS COMMAND...: until it succeeds; fails when the time is over.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.05
    done
}

# The echo and the probe may not wait for a processor behind the load that they measure beside.
if chrt -f 10 true 2> /dev/null; then
    PROMPT=(chrt -f 10)
else
    PROMPT=()
fi

# capture_start NAME ROLE FILTER...: tcpdump on eth0, outside of the router; its pid is CHILD.
capture_start() {
    local name=$1 role=$2
    shift 2
    # The kernel's buffer has places of the largest size that is asked for: few, if nothing is said, and a tcpdump that
    # waits for a processor loses packets.
    child "$name.tcpdump" "$role" tcpdump -Z root -n -i eth0 -Q in --immediate-mode -U -s 192 -B 8192 \
        -w "$WORK/$name.pcap" "$@"
    within 5 grep -qs '^tcpdump: listening\|^listening' "$WORK/$name.tcpdump" \
        || die "tcpdump does not start: $(cat "$WORK/$name.tcpdump")"
}

# capture_read NAME [FILTER...]: one packet a line: time, DSCP, and tcpdump's words.
capture_read() {
    local name=$1
    shift
    # With -v a packet has two lines for IPv4 and one for IPv6; a class of zero is not printed for IPv6.
    tcpdump -n -tt -v -r "$WORK/$name.pcap" "$@" 2> /dev/null | awk '
        function number(hex,  i, n) {
            for (i = 3; i <= length(hex); i++) n = n * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
            return n
        }
        function show() {
            # A virtual cable leaves the transport checksum to hardware that is not there.
            gsub(/\[(bad )?udp (cksum|sum)[^]]*\] ?/, "", line)
            if (line != "") print time, int(number(class) / 4), line
        }
        /^[0-9]/ {
            show()
            time = $1; line = $0; class = "0x0"
            if (match($0, /(tos|class) 0x[0-9a-f]+/)) {
                split(substr($0, RSTART, RLENGTH), part, " "); class = part[2]
            }
            next
        }
        { line = line $0 }
        END { show() }'
}

# dscps NAME FILTER: "46 on 20" for twenty packets with DSCP 46; "46 on 19, 0 on 1" where they differ.
dscps() {
    capture_read "$@" | awk '{ n[$2]++ } END { for (d in n) printf "%s%s on %d", s++ ? ", " : "", d, n[d] }'
}

# rtt ROLE FROM TO COUNT: round-trip times of qod-lab as JSON.
rtt() {
    at "$1" "${PROMPT[@]}" "$QOD_LAB" rtt --from "$2" --to "$3" --count "$4"
}
