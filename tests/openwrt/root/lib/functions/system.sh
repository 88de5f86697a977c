# shellcheck shell=dash
# A subset of OpenWrt's `system.sh` for this project's tests: MAC addresses. Sourced.

# The device's own address: of its label where the board says so, which this machine does not.
get_mac_label() {
    get_mac_binary_of lan
}

# get_mac_binary_of INTERFACE: the address of the device that a logical interface has.
get_mac_binary_of() {
    local device
    device=$(/sbin/uci -q get "network.$1.device") || return 1
    cat "/sys/class/net/$device/address" 2> /dev/null
}

macaddr_canonicalize() { # MAC, with or without separators
    local digits
    digits=$(printf '%s' "$1" | sed 's/[:-]//g' | tr A-F a-f)
    case $digits in
        *[!0-9a-f]*) return 1 ;;
    esac
    [ ${#digits} = 12 ] || return 1
    printf '%s\n' "$digits" | sed 's/../&:/g;s/:$//'
}

macaddr_add() { # MAC NUMBER
    local start=${1%:*:*:*} end=${1#*:*:*:}
    end=$(printf '%06x' $(((0x$(echo "$end" | sed 's/://g') + $2) & 0xffffff)))
    printf '%s:%s\n' "$start" "$(echo "$end" | sed 's/../&:/g;s/:$//')"
}
