# shellcheck shell=dash disable=SC2119,SC2120
# A subset of OpenWrt's `procd.sh` for this project's tests: what an init script says of its instances and
# triggers. Sourced by rc.common.
#
# It is written as files to a new folder, which /sbin/procd-subset takes over: script, triggers (one a line), and
# for each instance a folder with one file for each parameter. Lists and tables are words that the shell can read.

# shellcheck source=/dev/null
. "${IPKG_INSTROOT:-}/usr/share/libubox/jshn.sh"

PROCD_RELOAD_DELAY=1000

_procd_quoted() { # WORD...
    local word out
    for word; do
        out=
        while :; do
            case $word in
                *\'*) out="$out${word%%\'*}'\\''"; word=${word#*\'} ;;
                *) break ;;
            esac
        done
        printf "'%s' " "$out$word"
    done
}

procd_open_service() { # NAME [SCRIPT]
    _procd_service=$1
    _procd_count=0
    mkdir -p /var/run/procd-subset/new
    _procd_new=$(mktemp -d "/var/run/procd-subset/new/$1.XXXXXX") || return 1
    mkdir "$_procd_new/instances"
    echo "${2:-}" > "$_procd_new/script"
    : > "$_procd_new/triggers"
}

procd_close_service() { # set or add
    service_triggers
    /sbin/procd-subset "${1:-set}" "$_procd_service" "$_procd_new"
}

procd_open_instance() { # [NAME]
    _procd_count=$((_procd_count + 1))
    _procd_instance=$_procd_new/instances/${1:-instance$_procd_count}
    mkdir -p "$_procd_instance"
}

procd_set_param() { # TYPE [VALUE...]
    local type=$1
    shift
    case $type in
        command | netdev | file | respawn | watch | error | env | data | limits)
            _procd_quoted "$@" > "$_procd_instance/$type" ;;
        reload_signal)
            kill -l "$1" > "$_procd_instance/$type" ;;
        nice | term_timeout | pidfile | user | group | seccomp | capabilities | facility)
            printf '%s\n' "$1" > "$_procd_instance/$type" ;;
        stdout | stderr | no_new_privs)
            case $1 in
                1 | true) echo 1 > "$_procd_instance/$type" ;;
                *) rm -f "$_procd_instance/$type" ;;
            esac ;;
    esac
}

procd_append_param() { # TYPE VALUE...
    local type=$1
    shift
    case $type in
        command | netdev | file | respawn | watch | error | env | data | limits)
            _procd_quoted "$@" >> "$_procd_instance/$type" ;;
        *) procd_set_param "$type" "$@" ;;
    esac
}

# There is no ujail here, and without it procd does not read these two either: what the instance does then is
# what it does on a router without procd-ujail.
procd_add_jail() { _procd_quoted "$@" > "$_procd_instance/jail"; }
procd_add_jail_mount() { [ ! -e "$_procd_instance/jail" ] || _procd_quoted "$@" >> "$_procd_instance/jail_mount"; }
procd_add_jail_mount_rw() {
    [ ! -e "$_procd_instance/jail" ] || _procd_quoted "$@" >> "$_procd_instance/jail_mount_rw"
}

procd_close_instance() {
    # "procd_set_param respawn" alone: the usual values.
    if [ -e "$_procd_instance/respawn" ] && [ ! -s "$_procd_instance/respawn" ]; then
        _procd_quoted "$(uci_get system '@service[0]' respawn_threshold 3600)" \
            "$(uci_get system '@service[0]' respawn_timeout 5)" \
            "$(uci_get system '@service[0]' respawn_retry 5)" > "$_procd_instance/respawn"
    fi
}

procd_add_instance() { # COMMAND...
    procd_open_instance
    procd_set_param command "$@"
    procd_close_instance
}

# A trigger: EVENT KEY VALUE DELAY COMMAND..., as quoted words. The event may end with *.
_procd_trigger() {
    _procd_quoted "$@" >> "$_procd_new/triggers"
    echo >> "$_procd_new/triggers"
}

procd_open_trigger() { return 0; }
procd_close_trigger() { return 0; }
procd_open_validate() { return 0; }
procd_close_validate() { return 0; }
procd_add_validation() { return 0; }
procd_open_data() { return 0; }
procd_close_data() { return 0; }

procd_add_config_trigger() { # EVENT PACKAGE COMMAND...
    local event=$1 name=$2
    shift 2
    _procd_trigger "$event" package "$name" "$PROCD_RELOAD_DELAY" "$@"
}

procd_add_reload_trigger() { # PACKAGE...
    local name
    for name; do
        procd_add_config_trigger config.change "$name" "/etc/init.d/$_procd_service" reload
    done
}

procd_add_interface_trigger() { # EVENT INTERFACE COMMAND...
    local event=$1 name=$2
    shift 2
    _procd_trigger "$event" interface "$name" "$PROCD_RELOAD_DELAY" "$@"
}

procd_add_reload_interface_trigger() { # INTERFACE
    procd_add_interface_trigger 'interface.*' "$1" "/etc/init.d/$_procd_service" reload
}

procd_add_raw_trigger() { # EVENT DELAY COMMAND...
    local event=$1 delay=$2
    shift 2
    _procd_trigger "$event" '' '' "$delay" "$@"
}

procd_running() { # SERVICE [INSTANCE]
    /sbin/procd-subset running "$@"
}

procd_kill() { # SERVICE [INSTANCE]
    /sbin/procd-subset delete "$1" "${2:-}"
}

procd_send_signal() { # SERVICE [INSTANCE [SIGNAL]]
    /sbin/procd-subset signal "$1" "${2:-*}" "${3:-HUP}"
}

_procd_status() { # SERVICE
    /sbin/procd-subset status "$@"
}
