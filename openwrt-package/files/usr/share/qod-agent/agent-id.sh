# shellcheck shell=dash
# An id for an agent that has none. Sourced.

# Prints ap- and a MAC address, always the same on one router; fails if no device has one that lasts.
qod_agent_id() {
	local mac device
	# In a shell of its own: these files define functions that others are in the middle of using.
	# shellcheck source=/dev/null
	mac=$([ ! -r /lib/functions/system.sh ] || { . /lib/functions/system.sh && get_mac_label; } 2> /dev/null)
	_qod_is_mac "$mac" && { _qod_id "$mac"; return; }
	# eth0 comes before br-lan: it is there before the network is set up, so the answer does not change later.
	for device in /sys/class/net/eth0 /sys/class/net/br-lan /sys/class/net/*/device; do
		device=${device%/device}
		# 1: the kernel made it up, and will make up another.
		[ "$(cat "$device/addr_assign_type" 2> /dev/null)" != 1 ] || continue
		mac=$(cat "$device/address" 2> /dev/null)
		_qod_is_mac "$mac" && { _qod_id "$mac"; return; }
	done
	return 1
}

_qod_id() {
	# The router's tr knows no classes: to it '[:upper:]' are those eight characters.
	# shellcheck disable=SC2018,SC2019
	printf 'ap-%s\n' "$1" | tr -d : | tr A-Z a-z
}

# Whether it is the address of one device.
_qod_is_mac() {
	case $1 in
		00:00:00:00:00:00 | ?[13579bdfBDF]:*) return 1 ;;
	esac
	echo "$1" | grep -qxiE '([0-9a-f]{2}:){5}[0-9a-f]{2}'
}
