# shellcheck shell=dash
# A subset of OpenWrt's `jshn.sh` for this project's tests: JSON made and read by shell functions. Sourced.
#
# Every value has a number: __json_<namespace>_type_N, …_key_N, …_value_N for a scalar, and for a container
# …_parent_N and …_items_N, the numbers of its values in their order. Number 0 is the object that is written.

_json_space=default

_json_put() { # FIELD NUMBER VALUE
    eval "__json_${_json_space}_$1_$2=\$3"
}

_json_read() { # VARIABLE FIELD NUMBER
    eval "$1=\$__json_${_json_space}_$2_$3"
}

json_set_namespace() { # NAME [VARIABLE]: the namespace from now on; the one before goes to the variable
    [ -z "${2:-}" ] || eval "$2=\$_json_space"
    _json_space=${1:-default}
}

json_init() {
    json_cleanup
    _json_put type 0 object
    _json_put current x 0
    _json_put last x 0
}

json_cleanup() {
    local last number field
    _json_read last last x
    for number in $(seq 0 "${last:--1}"); do
        for field in type key value parent items; do
            unset "__json_${_json_space}_${field}_$number"
        done
    done
    unset "__json_${_json_space}_last_x" "__json_${_json_space}_current_x"
}

# _json_find KEY: the number of the current container's value of that name (or place, counted from 1) in
# _json_found, or nothing.
_json_find() {
    local current items number key type place=0
    _json_read current current x
    _json_read items items "$current"
    _json_read type type "$current"
    _json_found=
    for number in $items; do
        place=$((place + 1))
        _json_read key key "$number"
        [ "$type" != array ] || key=$place
        [ "$key" != "$1" ] || { _json_found=$number; return 0; }
    done
    return 1
}

_json_add() { # TYPE KEY VALUE
    local current type items number
    _json_read current current x
    _json_read type type "$current"
    if [ "$type" = object ] && _json_find "$2"; then
        number=$_json_found
        _json_put items "$number" ''
    else
        _json_read number last x
        number=$((number + 1))
        _json_put last x "$number"
        _json_read items items "$current"
        _json_put items "$current" "${items:+$items }$number"
    fi
    _json_put type "$number" "$1"
    _json_put key "$number" "$2"
    _json_put value "$number" "${3:-}"
    _json_put parent "$number" "$current"
    _json_found=$number
}

_json_open() {
    _json_add "$1" "${2:-}"
    _json_put current x "$_json_found"
}

_json_up() {
    local current parent
    _json_read current current x
    _json_read parent parent "$current"
    _json_put current x "${parent:-0}"
}

json_add_object() { _json_open object "${1:-}"; }
json_add_array() { _json_open array "${1:-}"; }
json_close_object() { _json_up; }
json_close_array() { _json_up; }
json_add_string() { _json_add string "$1" "${2:-}"; }
json_add_int() { _json_add int "$1" "$2"; }
json_add_double() { _json_add double "$1" "$2"; }
json_add_null() { _json_add null "$1" ''; }
json_add_boolean() {
    case ${2:-} in
        1 | true) _json_add boolean "$1" 1 ;;
        *) _json_add boolean "$1" 0 ;;
    esac
}

# _json_escaped TEXT: in _json_text.
_json_escaped() {
    case $1 in
        *[\"\\[:cntrl:]]*)
            _json_text=$(MODE=escape TEXT=$1 awk -f /usr/lib/subset/json.awk < /dev/null) ;;
        *) _json_text=$1 ;;
    esac
}

_json_dump() { # NUMBER: is added to _json_out
    local type items number key value first=1
    _json_read type type "$1"
    _json_read value value "$1"
    case $type in
        object | array)
            [ "$type" = object ] && _json_out="${_json_out}{ " || _json_out="${_json_out}[ "
            _json_read items items "$1"
            for number in $items; do
                [ -n "$first" ] || _json_out="$_json_out, "
                first=
                if [ "$type" = object ]; then
                    _json_read key key "$number"
                    _json_escaped "$key"
                    _json_out="$_json_out\"$_json_text\": "
                fi
                _json_dump "$number"
            done
            [ "$type" = object ] && _json_out="$_json_out }" || _json_out="$_json_out ]" ;;
        string) _json_escaped "$value"; _json_out="$_json_out\"$_json_text\"" ;;
        boolean) [ "$value" = 1 ] && _json_out="${_json_out}true" || _json_out="${_json_out}false" ;;
        null) _json_out="${_json_out}null" ;;
        int) _json_out="$_json_out$((value))" ;;
        double) _json_out="$_json_out$value" ;;
    esac
}

json_dump() {
    local _json_out='' _json_text
    _json_dump 0
    printf '%s\n' "$_json_out"
}

json_load() {
    local calls
    calls=$(printf '%s\n' "$1" | MODE=load awk -f /usr/lib/subset/json.awk) || {
        echo 'Failed to parse message data' >&2
        return 1
    }
    json_init
    eval "$calls"
    _json_put current x 0
}

json_load_file() {
    json_load "$(cat "$1")"
}

json_select() { # KEY, or .. for the container that it is in; without one, the outermost
    local type
    case ${1:-} in
        '') _json_put current x 0 ;;
        ..) _json_up ;;
        *)
            _json_find "$1" || return 1
            _json_read type type "$_json_found"
            [ "$type" = object ] || [ "$type" = array ] || {
                echo "WARNING: Variable '$1' does not exist or is not an array/object" >&2
                return 1
            }
            _json_put current x "$_json_found" ;;
    esac
}

json_get_type() { # VARIABLE KEY
    _json_find "$2" || { eval "$1="; return 1; }
    _json_read "$1" type "$_json_found"
}

json_is_a() { # KEY TYPE
    local _json_type
    json_get_type _json_type "$1" && [ "$_json_type" = "$2" ]
}

json_get_var() { # VARIABLE KEY [DEFAULT]
    _json_find "$2" || { eval "$1=\${3:-}"; [ -n "${3:-}" ]; return; }
    _json_read "$1" value "$_json_found"
}

json_get_vars() {
    for _json_each; do
        json_get_var "$_json_each" "$_json_each"
    done
}

_json_list() { # FIELD VARIABLE [KEY]
    # The names are ones that no caller's variable has: what is set must not be local here.
    local _json_of _json_items _json_each _json_value _json_place=0 _json_kind _json_all=''
    _json_read _json_of current x
    if [ -n "${3:-}" ]; then
        _json_find "$3" || { eval "$2="; return 1; }
        _json_of=$_json_found
    fi
    _json_read _json_items items "$_json_of"
    _json_read _json_kind type "$_json_of"
    for _json_each in $_json_items; do
        _json_place=$((_json_place + 1))
        _json_read _json_value "$1" "$_json_each"
        [ "$1.$_json_kind" != key.array ] || _json_value=$_json_place
        _json_all="${_json_all:+$_json_all }$_json_value"
    done
    eval "$2=\$_json_all"
}

json_get_keys() { _json_list key "$@"; }
json_get_values() { _json_list value "$@"; }

json_for_each_item() { # FUNCTION KEY [ARGUMENT...]: FUNCTION VALUE PLACE-OR-KEY [ARGUMENT...]
    local _json_call=$1 _json_of=$2 _json_type _json_keys _json_key _json_one
    shift 2
    json_get_type _json_type "$_json_of" || return 0
    case $_json_type in
        object | array)
            json_select "$_json_of"
            json_get_keys _json_keys
            for _json_key in $_json_keys; do
                json_get_var _json_one "$_json_key"
                "$_json_call" "$_json_one" "$_json_key" "$@"
            done
            json_select .. ;;
        *)
            json_get_var _json_one "$_json_of"
            "$_json_call" "$_json_one" 1 "$@" ;;
    esac
}
