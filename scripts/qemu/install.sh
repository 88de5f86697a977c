# shellcheck shell=bash
# The router boots, has its network, gets the package, is configured as the ISP would, and reaches the backend.
# Sourced by scripts/qemu-test.sh.

section "$ARCH: a router without the agent"
machine_start "$ARCH"
machine_ready || die "no shell on the console: $(tail -n 5 "$WORK/qemu.log")"
note "shell on the console $(compute "$EPOCHREALTIME - $STARTED") s after QEMU started; $(console uname -sr), $(
    console ". /etc/openwrt_release 2> /dev/null; echo \$DISTRIB_DESCRIPTION")"
note "memory: $(console "free | awk '/^Mem/ { print \$2, \"KiB, free\", \$7 ? \$7 : \$4 }'")"
console "$(router_network)" > "$WORK/network.log" || die "the network cannot be configured: $(cat "$WORK/network.log")"
within 60 router_routes || die "nothing is routed: $(cat "$WORK/network.log")"
observe before
expect_dscps before 0
section "$ARCH: the package"
console tar -xf /dev/vdb -C /tmp || die "the parcel cannot be read"
if [ -n "${KMODS:-}" ]; then
    COMMAND_LIMIT=120 console "$(router_install /tmp/parcel/kmods)" > "$WORK/kmods.log" \
        || die "the kernel modules: $(cat "$WORK/kmods.log")"
fi
# With the modules' packages: they stay when the agent's is removed.
router_state > "$WORK/state-before"
COMMAND_LIMIT=120 console "$(router_install /tmp/parcel)" > "$WORK/install.log"
status=$?
promise "install" "status $status" "status 0" equal "$status" 0
[ "$status" = 0 ] || die "$(cat "$WORK/install.log")"
note "on flash: $(console "du -k /usr/sbin/qod-agent | cut -f 1") KiB the program"

console "$(router_configure)" > "$WORK/configure.log"
status=$?
promise "configure by UCI, start" "status $status" "status 0" equal "$status" 0
[ "$status" = 0 ] || die "$(cat "$WORK/configure.log")"
within 60 agent_is_connected
connected=$(operator_sees connected)
promise "the operator sees the agent connected" "$connected" "true within 60 s" equal "$connected" true
[ "$connected" = true ] || die "the agent does not reach the backend"
note "the agent without a session: $(agent_memory)"
