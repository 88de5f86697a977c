# shellcheck shell=dash
# A subset of OpenWrt's `functions.sh` for this project's tests: UCI for shell scripts, and what packages do when
# they are installed and removed. Sourced.

# The functions that a configuration's text calls, which scripts may define anew.
reset_cb() {
    config_cb() { return 0; }
    option_cb() { return 0; }
    list_cb() { return 0; }
}
reset_cb

append() { # VARIABLE VALUE [SEPARATOR]
    eval "$1=\"\${$1:+\${$1}\${3:- }}\$2\""
}

list_contains() { # VARIABLE WORD
    local _all
    eval "_all=\" \$$1 \""
    case $_all in
        *" $2 "*) return 0 ;;
        *) return 1 ;;
    esac
}

# config_load PACKAGE: its sections are CONFIG_SECTIONS, its values CONFIG_<section>_<option>.
config_load() {
    local _text _name
    [ -z "${IPKG_INSTROOT:-}" ] || return 0
    for _name in ${_config_lists:-}; do
        unset "CONFIG_$_name" "CONFIG_${_name}_LENGTH"
    done
    for _name in ${_config_options:-}; do
        unset "CONFIG_$_name"
    done
    CONFIG_SECTIONS=
    CONFIG_SECTION=
    CONFIG_NUM_SECTIONS=0
    _config_lists=
    _config_options=
    _text=$(/sbin/uci -q -n ${UCI_CONFIG_DIR:+-c "$UCI_CONFIG_DIR"} export "$1") || return 1
    # uci has quoted every value, and given a section without a name one like cfg02493d.
    eval "$_text"
    [ -z "$CONFIG_SECTION" ] || config_cb
}

package() { return 0; }

config() { # TYPE NAME
    CONFIG_SECTION=$2
    CONFIG_NUM_SECTIONS=$((CONFIG_NUM_SECTIONS + 1))
    append CONFIG_SECTIONS "$2"
    config_set "$2" TYPE "$1"
    config_cb "$1" "$2"
}

option() { # NAME VALUE
    config_set "$CONFIG_SECTION" "$1" "$2"
    option_cb "$1" "$2"
}

list() { # NAME VALUE
    local _count
    eval "_count=\${CONFIG_${CONFIG_SECTION}_$1_LENGTH:-0}"
    _count=$((_count + 1))
    [ "$_count" -gt 1 ] || append _config_lists "${CONFIG_SECTION}_$1"
    config_set "$CONFIG_SECTION" "$1_ITEM$_count" "$2"
    eval "CONFIG_${CONFIG_SECTION}_$1_LENGTH=$_count"
    append "CONFIG_${CONFIG_SECTION}_$1" "$2"
    list_cb "$1" "$2"
}

config_set() { # SECTION OPTION VALUE
    append _config_options "$1_$2"
    eval "CONFIG_$1_$2=\$3"
}

config_unset() { config_set "$1" "$2" ''; }

config_get() { # VARIABLE SECTION OPTION [DEFAULT], or SECTION OPTION for standard output
    if [ $# -lt 3 ]; then
        eval "printf '%s\n' \"\${CONFIG_$1_$2:-}\""
    else
        case $2$3 in
            *[!A-Za-z0-9_]*) return 0 ;;
        esac
        eval "$1=\${CONFIG_$2_$3:-\${4:-}}"
    fi
}

get_bool() { # VALUE [DEFAULT]
    case $1 in
        1 | on | true | yes | enabled) printf 1 ;;
        0 | off | false | no | disabled) printf 0 ;;
        *) printf '%s' "${2:-}" ;;
    esac
}

config_get_bool() { # VARIABLE SECTION OPTION [DEFAULT]
    local _config_truth
    config_get _config_truth "$2" "$3" "${4:-}"
    _config_truth=$(get_bool "$_config_truth" "${4:-}")
    eval "$1=\$_config_truth"
}

config_foreach() { # FUNCTION [TYPE [ARGUMENT...]]
    local _config_call=$1 _config_kind=${2:-} _config_each _config_type
    shift
    [ $# = 0 ] || shift
    for _config_each in $CONFIG_SECTIONS; do
        config_get _config_type "$_config_each" TYPE
        [ -z "$_config_kind" ] || [ "$_config_type" = "$_config_kind" ] || continue
        "$_config_call" "$_config_each" "$@"
    done
}

config_list_foreach() { # SECTION OPTION FUNCTION [ARGUMENT...]
    local _list_of=$1 _list_option=$2 _list_call=$3 _list_length _list_place=1 _list_value
    shift 3
    config_get _list_length "$_list_of" "${_list_option}_LENGTH" 0
    while [ "$_list_place" -le "$_list_length" ]; do
        config_get _list_value "$_list_of" "${_list_option}_ITEM$_list_place"
        "$_list_call" "$_list_value" "$@"
        _list_place=$((_list_place + 1))
    done
}

uci_get() { # PACKAGE [SECTION [OPTION [DEFAULT]]]
    /sbin/uci -q get "$1${2:+.$2}${3:+.$3}" || { [ -n "${4:-}" ] && printf '%s\n' "$4"; }
}
uci_set() { /sbin/uci set "$1.$2.$3=$4"; }
uci_add_list() { /sbin/uci add_list "$1.$2.$3=$4"; }
uci_commit() { /sbin/uci commit "$1"; }

board_name() { cat /tmp/sysinfo/board_name 2> /dev/null || echo generic; }

user_exists() { grep -qs "^$1:" "${IPKG_INSTROOT:-}/etc/passwd"; }
group_exists() { grep -qs "^$1:" "${IPKG_INSTROOT:-}/etc/group"; }

group_add() { # NAME GID
    echo "$1:x:$2:" >> "${IPKG_INSTROOT:-}/etc/group"
}

user_add() { # NAME UID GID [DESCRIPTION [HOME [SHELL]]]
    echo "$1:x:$2:$3:${4:-$1}:${5:-/var/run/$1}:${6:-/bin/false}" >> "${IPKG_INSTROOT:-}/etc/passwd"
    echo "$1:x:0:0:99999:7:::" >> "${IPKG_INSTROOT:-}/etc/shadow"
}

# What a package's control file names in Require-User, as NAME=UID:GROUP=GID words.
add_group_and_user() { # PACKAGE
    local each name group all
    all=$(sed -n 's/^Require-User: *//p' "${IPKG_INSTROOT:-}/usr/lib/opkg/info/$1.control" 2> /dev/null)
    for each in $all; do
        name=${each%%:*}
        group=${each#*:}
        group=${group%%:*}
        [ -z "$group" ] || group_exists "${group%%=*}" || group_add "${group%%=*}" "${group#*=}"
        user_exists "${name%%=*}" || user_add "${name%%=*}" "${name#*=}" "${group#*=}"
    done
}

_package_files() { # PACKAGE FOLDER: what the package has in it
    grep -s "^$2/" "${IPKG_INSTROOT:-}/usr/lib/opkg/info/$1.list"
}

default_postinst() { # SCRIPT [ARGUMENT...]
    local root=${IPKG_INSTROOT:-} name each status=0
    name=${pkgname:-$(basename "${1%.*}")}
    add_group_and_user "$name"
    if [ -z "$root" ]; then
        if _package_files "$name" /etc/modules.d > /dev/null; then
            /sbin/kmodloader
        fi
        if _package_files "$name" /etc/uci-defaults > /dev/null; then
            mkdir -p /tmp/.uci
            for each in $(_package_files "$name" /etc/uci-defaults); do
                # What it leaves with an error stays for the next boot.
                # shellcheck source=/dev/null
                ([ -f "$each" ] && cd "$(dirname "$each")" && . "$each") && rm -f "$each"
            done
            /sbin/uci commit
        fi
    fi
    if [ -f "$root/usr/lib/opkg/info/$name.postinst-pkg" ]; then
        # shellcheck source=/dev/null
        (. "$root/usr/lib/opkg/info/$name.postinst-pkg")
        status=$?
    fi
    for each in $(_package_files "$name" /etc/init.d); do
        if [ -n "$root" ]; then
            /bin/sh "$root/etc/rc.common" "$root$each" enable
        else
            # An upgrade leaves it as the operator has set it.
            [ "${PKG_UPGRADE:-}" = 1 ] || "$each" enable
            "$each" start
        fi
    done
    return $status
}

default_prerm() { # SCRIPT [ARGUMENT...]
    local root=${IPKG_INSTROOT:-} name each status=0
    name=${pkgname:-$(basename "${1%.*}")}
    if [ -f "$root/usr/lib/opkg/info/$name.prerm-pkg" ]; then
        # shellcheck source=/dev/null
        (. "$root/usr/lib/opkg/info/$name.prerm-pkg")
        status=$?
    fi
    for each in $(_package_files "$name" /etc/init.d); do
        if [ -n "$root" ]; then
            /bin/sh "$root/etc/rc.common" "$root$each" disable
        else
            [ "${PKG_UPGRADE:-}" = 1 ] || "$each" disable
            "$each" stop
        fi
    done
    return $status
}
