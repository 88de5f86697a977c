# shellcheck shell=dash
# UCI into the agent's own configuration. Sourced, after /lib/functions.sh, jshn.sh and network.sh.
#
# A section becomes an object of its name, but for the options of `main`, which are keys at the top; an option's name in
# camelCase is a key. Which keys there are, and which values are good, the agent alone decides.

QOD_AGENT=/usr/sbin/qod-agent
QOD_FOLDER=/var/run/qod-agent
QOD_CONFIG=$QOD_FOLDER/config.json
# What the agent does not take is kept too, so that `check` can say why.
QOD_REJECTED=$QOD_FOLDER/rejected.json

# In JSON these are no texts.
_qod_numbers=' poll_wait_seconds report_interval_seconds max_sessions upstream_kbps downstream_kbps '
_qod_booleans=' allow_plain_http '

# To whoever calls, and to the log.
qod_log() { # PRIORITY TEXT
	logger -s -t qod-agent -p "daemon.$1" -- "$2"
}

_qod_complain() { # OPTION TEXT
	qod_log err "$1: $2"
	qod_is_good=
}

# Makes the agent's configuration; fails if nothing may be started. Then there are
#   qod_enabled     1: the agent is to run
#   qod_interfaces  the names in `lan` and `wan`
#   qod_token_file, qod_bootstrap_token_file, qod_client_cert_file, qod_client_key_file, qod_ca_file
#                   where set, or the default of the first
qod_make_config() {
	local new=$QOD_FOLDER/new.json wrong
	qod_is_good=1 qod_enabled=1 qod_interfaces=
	qod_token_file='' qod_bootstrap_token_file='' qod_client_cert_file='' qod_client_key_file='' qod_ca_file=''

	if ! wrong=$(uci export qod-agent 2>&1 > /dev/null); then
		qod_log err "/etc/config/qod-agent cannot be read: ${wrong:-it is not there}"
		return 1
	fi
	if ! mkdir -p "$QOD_FOLDER" || ! chmod 0700 "$QOD_FOLDER"; then
		qod_log err "$QOD_FOLDER cannot be made"
		return 1
	fi
	_qod_convert
	[ "$qod_enabled" = 1 ] || [ "$qod_enabled" = 0 ] || _qod_complain qod-agent.main.enabled 'is neither 0 nor 1'
	if ! (umask 077 && rm -f "$new" && json_dump > "$new" && [ -s "$new" ]); then
		rm -f "$new"
		qod_log err "$new cannot be written: is the memory full?"
		return 1
	fi
	json_cleanup
	wrong=$("$QOD_AGENT" check --config-only --config "$new" 2>&1 > /dev/null) || _qod_explain "$wrong" "$new"
	if [ -z "$qod_is_good" ]; then
		mv "$new" "$QOD_REJECTED"
		# Nothing is to be started then.
		[ "$qod_enabled" = 0 ]
		return
	fi
	rm -f "$QOD_REJECTED"
	mv "$new" "$QOD_CONFIG"
}

_qod_convert() {
	_qod_section='' _qod_list='' _qod_sections=' backend link status ' _qod_lan='' _qod_wan='' _qod_has_id='' _qod_has_token=''
	# shellcheck disable=SC2317 # config_load calls them
	config_cb() { _qod_begin_section "$@"; }
	# shellcheck disable=SC2317
	option_cb() { _qod_option "$@"; }
	# shellcheck disable=SC2317
	list_cb() { _qod_item "$@"; }
	json_init
	config_load qod-agent
	_qod_end_section
	reset_cb

	[ -n "$_qod_has_id" ] || ! _qod_id=$(qod_agent_id) || json_add_string agentId "$_qod_id"
	_qod_add_interfaces
}

_qod_begin_section() { # TYPE NAME; without them, all has been read
	_qod_end_section
	[ -n "${2:-}" ] || return 0
	case $2 in
		# So uci calls one that has no name.
		cfg[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]*)
			_qod_complain "qod-agent.@$1" "the section has no name: write config $1 '$1'"
			_qod_section=-
			return 0
			;;
	esac
	_qod_section=$2
	[ "$2" != main ] || return 0
	_qod_sections="$_qod_sections$2 "
	_qod_camel "$2"
	json_add_object "$_qod_camel"
}

_qod_end_section() {
	_qod_end_list
	case $_qod_section in
		'' | main | -) ;;
		backend)
			# What certificates alone let in needs no token. All others have one, and its place outlives a restart.
			if [ -z "$_qod_has_token$qod_token_file" ] \
				&& { [ -n "$qod_bootstrap_token_file" ] || [ -z "$qod_client_cert_file" ]; }; then
				qod_token_file=/etc/qod-agent/token
				json_add_string tokenFile "$qod_token_file"
			fi
			json_close_object
			;;
		*) json_close_object ;;
	esac
	_qod_section=
}

_qod_end_list() {
	[ -z "$_qod_list" ] || json_close_array
	_qod_list=
}

_qod_option() { # NAME VALUE
	local value=$2 bool
	_qod_end_list
	case $_qod_section.$1 in
		-.*) return 0 ;;
		main.enabled) qod_enabled=$(get_bool "$value" "$value") ; return 0 ;;
		# For interfaces, an option is as good as a list, and an empty one is none.
		main.lan) _qod_lan="$_qod_lan $value" ; return 0 ;;
		main.wan) _qod_wan=$value ; return 0 ;;
		main.agent_id) _qod_has_id=1 ;;
		backend.token) _qod_has_token=1 ;;
		backend.token_file) qod_token_file=$value ;;
		backend.bootstrap_token_file) qod_bootstrap_token_file=$value ;;
		backend.client_cert_file) qod_client_cert_file=$value ;;
		backend.client_key_file) qod_client_key_file=$value ;;
		backend.ca_file) qod_ca_file=$value ;;
	esac
	_qod_key "$1" || return 0
	case $_qod_numbers in
		*" $1 "*)
			case $value in
				# More digits are no good value, and older releases cannot write them.
				'' | *[!0-9]* | ??????????*) ;;
				*)
					while [ "${value#0}" != "$value" ] && [ -n "${value#0}" ]; do value=${value#0}; done
					json_add_int "$_qod_camel" "$value"
					return 0
					;;
			esac
			;;
	esac
	case $_qod_booleans in
		*" $1 "*)
			bool=$(get_bool "$value" neither)
			[ "$bool" = neither ] || { json_add_boolean "$_qod_camel" "$bool"; return 0; }
			;;
	esac
	# The agent says what is wrong with a number that is none.
	json_add_string "$_qod_camel" "$value"
}

_qod_item() { # NAME VALUE
	case $_qod_section.$1 in
		-.*) return 0 ;;
		main.lan) _qod_end_list; _qod_lan="$_qod_lan $2"; return 0 ;;
	esac
	if [ "$_qod_list" != "$1" ]; then
		_qod_end_list
		_qod_key "$1" || return 0
		_qod_list=$1
		json_add_array "$_qod_camel"
	fi
	json_add_string '' "$2"
}

# The option's key in _qod_camel. With a capital in it, it would name the key of another option.
_qod_key() {
	case $1 in
		*[A-Z]*)
			_qod_complain "qod-agent.$_qod_section.$1" 'options are written in small letters, as in agent_id'
			return 1
			;;
	esac
	_qod_camel "$1"
}

_qod_camel() {
	_qod_camel=$(printf "%s\n" "$1" | awk -F _ -v OFS= '{ for (i = 2; i <= NF; i++) $i = toupper(substr($i, 1, 1)) substr($i, 2) } 1')
}

_qod_snake() {
	# shellcheck disable=SC2018,SC2019 # the router's tr knows no classes
	echo "$1" | sed 's/[A-Z]/_&/g' | tr A-Z a-z
}

# The keys in a sentence, as options. What is quoted is somebody's value.
_qod_options() {
	printf "%s\n" "$1" | awk -F '"' -v OFS='"' '/`/ { print; next }
		{
			for (i = 1; i <= NF; i += 2)
				while (match($i, /[a-z][A-Z][a-z]/))
					$i = substr($i, 1, RSTART) "_" tolower(substr($i, RSTART + 1, 1)) substr($i, RSTART + 2)
			print
		}'
}

_qod_add_interfaces() {
	local name device devices=' '
	set -f
	if [ -n "${_qod_lan# }" ]; then
		json_add_array lan
		for name in $_qod_lan; do
			_qod_resolve main.lan "$name"
			case $devices in
				# Two interfaces may be on one device.
				*" $device "*) ;;
				*) json_add_string '' "$device" ;;
			esac
			devices="$devices$device "
		done
		json_close_array
	fi
	if [ -n "$_qod_wan" ]; then
		_qod_resolve main.wan "$_qod_wan"
		json_add_string wan "$device"
	fi
	set +f
}

_qod_resolve() { # OPTION NAME: its device in `device`
	qod_interfaces="$qod_interfaces $2"
	device=$(qod_device "$2") && return
	device=$2
	_qod_complain "qod-agent.$1" "there is no interface and no device '$2'"
}

# What the agent said of FILE, in the words of UCI.
_qod_explain() { # MESSAGE FILE
	local message=$1 key
	message=${message%%
*}
	message=${message#qod-agent: }
	message=${message#"$2": }
	key=${message%%: *}
	case $key in
		"$message" | *[!A-Za-z0-9._]*)
			_qod_complain qod-agent "${message:-$QOD_AGENT cannot be run}"
			return
			;;
	esac
	message=${message#*: }
	key=$(_qod_snake "$key")
	case $key in
		*.*) ;;
		*) case $_qod_sections in *" $key "*) ;; *) key=main.$key ;; esac ;;
	esac
	_qod_complain "qod-agent.$key" "$(_qod_options "$message")"
}
