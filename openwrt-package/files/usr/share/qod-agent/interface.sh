# shellcheck shell=dash
# Which Linux device is meant by the name of an interface. Sourced, after /lib/functions/network.sh.

# qod_device NAME: prints the device; fails if there is no interface and no device of that name.
qod_device() {
	local device
	network_flush_cache
	# The layer 3 device, that of a bridge or of PPPoE.
	if network_get_device device "$1" && [ -n "$device" ]; then
		echo "$device"
	elif [ "$(uci -q get "network.$1")" = interface ]; then
		_qod_device_to_be "$1" 4
	elif _qod_is_device "$1"; then
		echo "$1"
	else
		return 1
	fi
}

# What the interface's device will be called, once netifd has set it up.
_qod_device_to_be() { # NAME DEPTH
	local proto device
	proto=$(uci -q get "network.$1.proto")
	case $proto in
		ppp | pppoe | pppoa | pptp | l2tp | 3g | 6in4 | 6to4 | 6rd)
			echo "$proto-$1"
			return
			;;
	esac
	device=$(uci -q get "network.$1.device" || uci -q get "network.$1.ifname")
	if [ "$(uci -q get "network.$1.type")" = bridge ]; then
		device=br-$1
	fi
	case $device in
		# Another interface's.
		@*) [ "$2" -gt 0 ] && _qod_device_to_be "${device#@}" $(($2 - 1)) ;;
		# None is named, or a modem's serial line, or several: the device has the interface's name, as WireGuard's
		# does, or the news that the interface is up brings the right one.
		'' | */* | *' '*) echo "$1" ;;
		*) echo "$device" ;;
	esac
}

# Whether there is such a device, or the configuration says that there will be.
_qod_is_device() {
	case $1 in
		'' | . | .. | */*) return 1 ;;
	esac
	[ ! -e "/sys/class/net/$1" ] || return 0
	{ uci -q show network; uci -q show wireless; } \
		| sed -n -e "s/^[^=]*\.name='\(.*\)'$/\1/p" -e "s/^[^=]*\.ifname='\(.*\)'$/\1/p" | grep -qxF -e "$1"
}
