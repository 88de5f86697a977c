# shellcheck shell=bash
# What the router's owner types on its console, the same on OpenWrt and on the router of the tests. Sourced, after
# machine.sh and traffic.sh.

# Static addresses where an ISP would give them. The home's IPv4 address is OpenWrt's default.
router_network() {
    cat << END
uci set network.lan.ipaddr=192.168.1.1
uci set network.lan.netmask=255.255.255.0
uci set network.lan.ip6addr=2001:db8:1::1/64
uci set network.wan=interface
uci set network.wan.device=eth1
uci set network.wan.proto=static
uci set network.wan.ipaddr=$WAN4
uci set network.wan.netmask=255.255.255.0
uci set network.wan.gateway=203.0.113.1
uci set network.wan.ip6addr=2001:db8:f::2/64
uci set network.wan.ip6gw=2001:db8:f::1
uci commit network
/etc/init.d/network restart
END
}

# Both families, there and back.
router_routes() {
    local each
    for each in "$PHONE4:6000 $SERVER4:$SERVER_PORT" "[$PHONE6]:6000 [$SERVER6]:$SERVER_PORT"; do
        # shellcheck disable=SC2086 # two words
        [ "$(rtt phone $each 3 | jq -r .lost)" = 0 ] || return
    done
}

# router_install FOLDER: installs the packages that are in it, by the package manager that the router has. /tmp, with the
# parcel in it, does not outlive a restart of the router.
router_install() {
    cat << END
[ -d /tmp/parcel ] || tar -xf /dev/vdb -C /tmp
if command -v apk > /dev/null; then
    set -- $1/*.apk
    [ ! -e "\$1" ] || apk add --allow-untrusted "\$@"
else
    set -- $1/*.ipk
    [ ! -e "\$1" ] || opkg install "\$@"
fi
END
}

# As the ISP would: identity and settings, from what is in /tmp/parcel.
router_configure() {
    cat << END
mkdir -p /etc/qod-agent && cp /tmp/parcel/ca.pem /tmp/parcel/token /etc/qod-agent/
chmod 600 /etc/qod-agent/token && rm /tmp/parcel/token
uci set qod-agent.main.enabled=1
uci set qod-agent.main.agent_id=$AGENT
uci set qod-agent.main.report_interval_seconds=2
uci set qod-agent.backend.url=https://$BACKEND
uci set qod-agent.backend.token_file=/etc/qod-agent/token
uci set qod-agent.backend.ca_file=/etc/qod-agent/ca.pem
uci commit qod-agent
/etc/init.d/qod-agent enable && /etc/init.d/qod-agent restart
END
}

router_remove() {
    echo 'if command -v apk > /dev/null; then apk del qod-agent; else opkg remove qod-agent; fi'
}

# What the agent could leave behind: tables, queues, files, links, orders for cron, objects on ubus. On a router
# without tc, the devices say which queue they have.
router_state() {
    console "{ if command -v nft > /dev/null; then nft list tables; fi
        if [ -x /sbin/tc ]; then /sbin/tc qdisc show; else ip link | grep -o '^[0-9]*: [^:]*\|qdisc [a-z_]*'; fi
        find / -xdev ! -path '/tmp/*' ! -path '/overlay/*' ! -type d
        find / -xdev -path '*qod*' -type d
        find /tmp /var/run/ -path '*qod*' ! -path '/tmp/parcel*'
        cat /etc/crontabs/* 2> /dev/null
        ubus list; } | sort -u"
}

# The router's log of the agent's package from here on is what router_log prints.
router_log_begins() {
    LOG_FROM="qod-agent-test-$EPOCHREALTIME"
    console "logger -t test $LOG_FROM"
}

# Without times and names.
router_log() {
    # A shell's own logread may be another one.
    console '/sbin/logread -e qod-agent' | sed "1,/$LOG_FROM/d" | sed 's/^.* \(daemon\|user\)\.[a-z]* [^:]*: //'
}

# The last line with these words.
router_said() { # WORDS
    router_log | grep -F -- "$1" | tail -n 1
}

router_logged() { # WORDS
    router_log | grep -qF -- "$1"
}

# The instances that procd has, and whether they run: "agent runs".
instances() {
    console "ubus call service list '{ \"name\": \"qod-agent\" }'" | jq -r '."qod-agent".instances // {} | to_entries
        | map("\(.key) \(if .value.running then "runs" else "waits" end)") | join(", ")'
}

# agent_status EXPRESSION: of what the router says of its agent.
agent_status() {
    # What is no JSON says why there is none, on the console's log.
    console qod-agent status --json | jq -r "$1" 2> /dev/null
}

session_state() {
    agent_status ".sessions[] | select(.sessionId == \"$SESSION\") | .state"
}

session_is_active() {
    [ "$(session_state)" = ACTIVE ]
}

warning() { # CODE: its message
    agent_status ".warnings[] | select(.code == \"$1\") | .message"
}

has_warning() { # CODE WORDS
    warning "$1" 2> /dev/null | grep -qF -- "$2"
}

# A new bootstrap token of the operator's, valid for so many seconds, where the router is told to look for it. The
# token is BOOTSTRAP.
bootstrap_token_is_given() { # SECONDS
    BOOTSTRAP=$(TOKEN=$ADMIN api POST "/admin/v1/agents/$AGENT/bootstrap" -d "{\"expiresIn\": $1}" \
        | jq -re .bootstrapToken) || die "no bootstrap token"
    console "(umask 077 && mkdir -p /etc/qod-agent && echo '$BOOTSTRAP' > /etc/qod-agent/bootstrap-token)"
}

# agent_warns CODE
agent_warns() {
    [ "$(agent_status "[.warnings[].code] | index(\"$1\") != null")" = true ]
}

# What the agent takes of the router's memory: all that is resident, and of it what is no file's.
agent_memory() {
    console "cat /proc/\$(pidof qod-agent)/status" \
        | awk '$1 == "VmRSS:" || $1 == "RssAnon:" { printf "%s%s %s KiB", s++ ? ", " : "", substr($1, 1, length($1) - 1), $2 }'
}
