# shellcheck shell=dash disable=SC2154 # Variables are set by their names.
# A boot of the machine without a machine: rc.d, network and firewall, in a network namespace.
# shellcheck source=tests/openwrt/cases/check.sh
. /cases/check.sh
/sbin/ip link add eth0 type veth peer name home
/sbin/ip link add eth1 type veth peer name internet
/etc/init.d/rcS S boot > /boot.log 2>&1
# shellcheck source=tests/openwrt/root/lib/functions.sh
. /lib/functions.sh
# shellcheck source=tests/openwrt/root/lib/functions/network.sh
. /lib/functions/network.sh
addresses() { /sbin/ip -o addr show dev "$1" scope global | sed 's/.* inet6* \([^ ]*\) .*/\1/' | sort | xargs; }
rules() { /usr/sbin/nft list ruleset; }
tables() { /usr/sbin/nft list tables | xargs; }

check 'the name' OpenWrt "$(hostname)"
check 'the bridge' '192.168.1.1/24 fd00:1::1/64' "$(addresses br-lan)"
check 'its port' br-lan "$(basename "$(readlink /sys/class/net/eth0/master)")"
check 'the other side' '2001:db8::2/64 203.0.113.2/24' "$(addresses eth1)"
check 'it routes' '1 1' "$(cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding | xargs)"
network_get_device device lan
check 'network_get_device' br-lan "$device"
network_get_subnet net lan
check 'network_get_subnet' 192.168.1.1/24 "$net"
network_is_up wan
check 'network_is_up' 0 $?
network_get_device device nobody
check 'no such interface' '1 ' "$? $device"
/sbin/ifdown wan
network_is_up wan
check 'down' 1 $?
/sbin/ifup wan
check 'up again' '2001:db8::2/64 203.0.113.2/24' "$(addresses eth1)"
uci delete network.lan.ipaddr
uci set network.lan.ipaddr=10.1.1.1
uci set network.lan.netmask=255.255.0.0
uci commit
/etc/init.d/network reload
check 'another address' '10.1.1.1/16 fd00:1::1/64' "$(addresses br-lan)"
check 'ubus' 10.1.1.1 "$(ubus call network.interface.lan status | jsonfilter -e "@['ipv4-address'][0].address")"
/etc/init.d/network stop
check 'a stop takes the bridge' no "$([ -e /sys/class/net/br-lan ] && echo there || echo no)"
/etc/init.d/network start
check 'a start makes it' 'br-lan 10.1.1.1/16 fd00:1::1/64' \
    "$(basename "$(readlink /sys/class/net/eth0/master)") $(addresses br-lan)"

check 'the table' 'table inet fw4' "$(tables)"
check 'masquerade' 1 "$(rules | grep -c 'meta nfproto ipv4 masquerade')"
check 'no flowtable' 0 "$(rules | grep -c 'flow add')"
/usr/sbin/nft add table netdev mine
uci set firewall.@defaults[0].flow_offloading=1
uci commit
# Not every kernel that runs this has flowtables: what the machine's makes of it, the machine's tests show.
check 'a flowtable' 'flowtable ft { hook ingress priority 0; devices = { br-lan, eth1 }; counter; }' \
    "$(fw4 print | sed -n '/flowtable ft/,/}$/p' | xargs)"
check 'it is the first of forward' 'meta l4proto { tcp, udp } flow add @ft' \
    "$(fw4 print | sed -n '/hook forward priority filter/{n;s/^[	 ]*//p}')"
uci set firewall.@defaults[0].flow_offloading=0
uci commit
/etc/init.d/firewall reload
check 'a reload touches no other table' 'table inet fw4 table netdev mine' "$(tables)"
mkdir -p /etc/nftables.d
echo 'chain user { counter; }' > /etc/nftables.d/10-user.nft
/etc/init.d/firewall reload
check 'a chain of the user' 1 "$(rules | grep -c 'chain user')"
rm /etc/nftables.d/10-user.nft
/etc/init.d/firewall stop
check 'a stop takes all of them' '' "$(tables)"
/etc/init.d/firewall start
check 'a start' 'table inet fw4' "$(tables)"

cat > /etc/init.d/late << 'END'
#!/bin/sh /etc/rc.common
START=60
STOP=10
stop() { echo stopped > /late; }
END
chmod 755 /etc/init.d/late
/etc/init.d/late enable
/etc/init.d/rcS K shutdown > /dev/null 2>&1
check 'the end of the machine stops services' stopped "$(cat /late)"
check 'what the boot said' '' "$(cat /boot.log)"
conclude
