# shellcheck shell=bash
# The router is switched off and on again while a session is in force and the phone sends: how long until the first
# mark. Sourced by scripts/qemu-test.sh.

section "$ARCH: off and on"
machine_stop
capture_start boot internet ip and udp and src port "$PHONE_PORT" and dst port "$SERVER_PORT"
capture=$CHILD
child boot-flow.log phone "$QOD_LAB" rtt --from "$PHONE4:$PHONE_PORT" --to "$SERVER4:$SERVER_PORT" --interval-ms 50 \
    --count $((BOOT_LIMIT * 20))
flow=$CHILD
machine_start "$ARCH"
boot_marked() {
    FIRST_MARK=$(capture_read boot | awk -v dscp="$EF" '$2 == dscp { print $1; exit }')
    [ -n "$FIRST_MARK" ]
}
within "$BOOT_LIMIT" boot_marked
end "$flow" KILL
end "$capture"
machine_ready > /dev/null || die "no shell on the console after off and on"
asked=$EPOCHREALTIME
uptime=$(console cut -d "' '" -f 1 /proc/uptime)
kernel=$(compute "$asked - $uptime")
first=$(capture_read boot | awk '{ print $1; exit }')
if [ -n "$FIRST_MARK" ]; then
    promise "first mark after QEMU started" "$(compute "$FIRST_MARK - $STARTED") s" "within $BOOT_LIMIT s" true
    note "from the kernel's start: the first packet of the phone routed after $(
        compute "$first - $kernel") s, the first mark after $(compute "$FIRST_MARK - $kernel") s"
else
    promise "first mark after QEMU started" never "within $BOOT_LIMIT s" false
fi
