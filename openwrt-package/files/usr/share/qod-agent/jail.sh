# shellcheck shell=dash
# The agent's jail (procd's ujail): a root file system with what the agent reads, and of capabilities the one that it
# needs. The agent confines itself further, with or without it. Sourced, after config.sh.

_qod_capabilities=/etc/capabilities/qod-agent.json

# Adds the jail to the instance that is open, where there can be one.
#
# Not with procd's `seccomp`: that is a library that is loaded into the program, and does nothing to a static one.
# The agent has a filter of its own.
qod_jail() {
	local mounts
	mounts=$(qod_mounts)
	qod_can_jail "$mounts" || return 0
	procd_add_jail qod-agent procfs sysfs ronly
	# shellcheck disable=SC2086 # they have no spaces
	procd_add_jail_mount $mounts
	procd_set_param capabilities "$_qod_capabilities"
	procd_set_param no_new_privs 1
	# A file that is mounted stays the one that it was, and this one is replaced when name servers change.
	procd_append_param file /etc/resolv.conf
}

# Whether it works here. A ujail before OpenWrt 23.05 cannot start a static program, and one on a kernel without
# namespaces can start none; so it is tried, with what the agent does first.
qod_can_jail() { # MOUNTS
	local each arguments=
	[ -x /sbin/ujail ] && [ -e "$_qod_capabilities" ] && [ -e /proc/self/ns/mnt ] && [ -e /proc/self/ns/pid ] || return 1
	case $1 in
		*' '*) return 1 ;;
	esac
	for each in $1; do
		arguments="$arguments -r $each"
	done
	# shellcheck disable=SC2086
	/sbin/ujail -n qod-agent-try -C "$_qod_capabilities" -c -p -s -o $arguments -- \
		"$QOD_AGENT" check --config-only --config "$QOD_CONFIG" > /dev/null 2>&1 && return
	qod_log notice 'ujail does not work here: the agent runs without a jail'
	return 1
}

# What the agent reads, one a line. Credentials are replaced by new files of the same name, so their folders are meant.
qod_mounts() {
	local file
	{
		printf '%s\n' "$QOD_CONFIG" /etc/hosts /etc/os-release
		for file in "$qod_token_file" "$qod_client_cert_file" "$qod_client_key_file" \
			"${qod_ca_file:-/etc/ssl/certs/ca-certificates.crt}"; do
			[ -n "$file" ] || continue
			_qod_folder "$file"
			# A link leads into another folder.
			[ ! -L "$file" ] || _qod_folder "$(readlink -f "$file")"
		done
	} | sort -u
}

# Of a folder that has much else in it, the file alone.
_qod_folder() {
	case ${1%/*} in
		'' | /etc | /tmp | /var | /var/run | /root) echo "$1" ;;
		*) echo "${1%/*}" ;;
	esac
}
