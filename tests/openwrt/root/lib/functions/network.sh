# shellcheck shell=dash
# A subset of OpenWrt's `network.sh` for this project's tests: what logical interfaces are on this machine.
# Sourced. An interface is known if /etc/config/network has it, and up if its device has an address or is up.

_network_device() { # INTERFACE: its device
    case $1 in
        *[!A-Za-z0-9_]*) return 1 ;;
    esac
    [ "$(/sbin/uci -q get "network.$1")" = interface ] || return 1
    /sbin/uci -q get "network.$1.device"
}

_network_ready() { # INTERFACE: its device in _network_dev, if it is up
    _network_dev=$(_network_device "$1") && [ -n "$_network_dev" ] && [ -e "/sys/class/net/$_network_dev" ] \
        && [ ! -e "/var/run/network-subset/$1.down" ]
}

network_is_up() { # INTERFACE
    local _network_dev _network_flags
    _network_ready "$1" || return 1
    read -r _network_flags < "/sys/class/net/$_network_dev/flags"
    [ $((_network_flags & 1)) = 1 ]
}

# As with netifd, an interface that is down has no layer 3 device.
network_get_device() { # VARIABLE INTERFACE
    local _network_dev=''
    network_is_up "$2" || { eval "$1="; return 1; }
    _network_ready "$2"
    eval "$1=\$_network_dev"
}

network_get_physdev() { # VARIABLE INTERFACE
    local _network_dev=''
    _network_dev=$(_network_device "$2") || { eval "$1="; return 1; }
    eval "$1=\$_network_dev"
}

_network_address() { # VARIABLE INTERFACE FAMILY KEEP-PREFIX
    local _network_dev='' _network_found=''
    if _network_ready "$2"; then
        _network_found=$(/sbin/ip -o "-$3" addr show dev "$_network_dev" scope global 2> /dev/null \
            | sed -n "s/.* inet6* \\([^ ]*\\) .*/\\1/p" | head -n 1)
    fi
    [ "$4" = 1 ] || _network_found=${_network_found%/*}
    eval "$1=\$_network_found"
    [ -n "$_network_found" ]
}

network_get_ipaddr() { _network_address "$1" "$2" 4 0; }
network_get_ipaddr6() { _network_address "$1" "$2" 6 0; }
network_get_subnet() { _network_address "$1" "$2" 4 1; }
network_get_subnet6() { _network_address "$1" "$2" 6 1; }

_network_wan() { # VARIABLE FAMILY: the interface of the default route
    local _network_route _network_each
    _network_route=$(/sbin/ip "-$2" route show default 2> /dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    eval "$1="
    [ -n "$_network_route" ] || return 1
    for _network_each in $(/sbin/uci -q show network | sed -n 's/^network\.\([a-z0-9_]*\)=interface$/\1/p'); do
        if [ "$(_network_device "$_network_each")" = "$_network_route" ]; then
            eval "$1=\$_network_each"
            return 0
        fi
    done
    return 1
}

network_find_wan() { _network_wan "$1" 4; }
network_find_wan6() { _network_wan "$1" 6; }

# Nothing is remembered here.
network_flush_cache() { return 0; }
