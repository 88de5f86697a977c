# shellcheck shell=dash
# Whether the agent's program is for this router's processor: a package manager can be told to take one that is not.
# Sourced. It is asked before the program is run, because what the kernel does not take the shell takes for a script.

qod_program_fits() {
	[ "$(_qod_machine /usr/sbin/qod-agent)" = "$(_qod_machine /bin/busybox)" ]
}

# Word length and byte order, type of processor: what an ELF file says of them. The type is two bytes, of which a
# processor with the other byte order has the telling one second.
_qod_machine() { # FILE
	[ ! -r "$1" ] || { dd bs=1 skip=4 count=2; dd bs=1 skip=12 count=2; } < "$1" 2> /dev/null
}

qod_program_is_foreign() (
	DISTRIB_ARCH=
	# shellcheck source=/dev/null
	[ ! -r /etc/openwrt_release ] || . /etc/openwrt_release
	echo "/usr/sbin/qod-agent is not there, or for another processor: install the package for ${DISTRIB_ARCH:-this router}"
)
