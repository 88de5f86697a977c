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

# router_install FOLDER: installs the packages that are in it, by the package manager that the router has; fails if none
# is of its kind. /tmp, with the parcel in it, does not outlive a restart of the router.
router_install() {
    cat << END
[ -d /tmp/parcel ] || tar -xf /dev/vdb -C /tmp
if command -v apk > /dev/null; then
    apk add --allow-untrusted $1/*.apk
else
    opkg install $1/*.ipk
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

# Whether the router has rpcd, which OpenWrt has with LuCI.
router_has_rpcd() {
    console '[ -x /etc/init.d/rpcd ]'
}

# What the agent could leave behind: tables, queues, files, links, orders for cron, objects on ubus. On a router
# without tc, the devices say which queue they have; their numbers are others after each restart of the network.
router_state() {
    console "{ if command -v nft > /dev/null; then nft list tables; fi
        if [ -x /sbin/tc ]; then /sbin/tc qdisc show
        else ip link | sed -n 's/^[0-9]*: \([^:]*\):.* \(qdisc [a-z_]*\).*/\2 of \1/p'; fi
        find / -xdev ! -path '/tmp/*' ! -path '/overlay/*' ! -type d
        find / -xdev -path '*qod*' -type d
        find /tmp /var/run/ -path '*qod*' ! -path '/tmp/parcel*'
        cat /etc/crontabs/* 2> /dev/null
        ubus list; } | sort -u"
}

# A new bootstrap token of the operator's, valid for so many seconds, where the router is told to look for it. The
# token is BOOTSTRAP.
bootstrap_token_is_given() { # SECONDS
    BOOTSTRAP=$(TOKEN=$ADMIN api POST "/admin/v1/agents/$AGENT/bootstrap" -d "{\"expiresIn\": $1}" \
        | jq -re .bootstrapToken) || die "no bootstrap token"
    console "(umask 077 && mkdir -p /etc/qod-agent && echo '$BOOTSTRAP' > /etc/qod-agent/bootstrap-token)"
}
