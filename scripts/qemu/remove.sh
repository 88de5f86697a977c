# shellcheck shell=bash
# The package is removed while a session is in force and its flow goes on: the marks end, nothing stays. Then it is
# installed again. Sourced by scripts/qemu-test.sh.

section "$ARCH: the package is removed, under a session"
# Else it would say nothing that nothing differs afterwards.
router_state > "$WORK/state-installed"
objects=()
! router_has_rpcd || objects=('object:^qod-agent$')
for each in 'table:^table .* qod' 'queue:^qdisc .* 71d: .*root\|^qdisc htb of ' 'file:^/usr/sbin/qod-agent$' \
    'link:^/etc/rc.d/S[0-9]*qod-agent$' 'folder:^/var/run/qod-agent$' "${objects[@]}"; do
    found=$(diff "$WORK/state-before" "$WORK/state-installed" | sed -n 's/^> //p' | grep -m 1 -e "${each#*:}")
    promise "before it: the agent's ${each%%:*}" "$(cut -d ' ' -f 1-3 <<< "${found:-none}")" there [ -n "$found" ]
done
# For the second installation.
console '(umask 077 && tar -cf /tmp/kept.tar -C / etc/qod-agent etc/config/qod-agent)' || die "nothing can be kept"
stream_start removal 100000 20
within 20 stream_has_captured 40
began=$EPOCHREALTIME
COMMAND_LIMIT=120 console "$(router_remove)" > "$WORK/remove.log"
status=$?
ended=$EPOCHREALTIME
promise "remove" "status $status after $(compute "$ended - $began") s" "status 0" equal "$status" 0
[ "$status" = 0 ] || note "$(tail -n 5 "$WORK/remove.log")"
within 20 stream_has_captured $(($(stream_captured) + 80))
stream_end
for way in "up 4" "down 4" "up 6" "down 6"; do
    said=$(stream_way removal "$way" | awk -v dscp="$EF" -v began="$began" -v ended="$ended" '
        $1 < began && $2 != dscp { unmarked++ }
        $2 == dscp { last = $1; marked++ }
        $1 > ended { after++; late += $2 == dscp }
        END { printf "%d unmarked, %d late, last after %.1f s", unmarked, late, marked && after ? last - began : -1 }')
    promise "marks of the phone, $way" "$said" "until then, and none after" \
        grep -q '^0 unmarked, 0 late, last after [0-9]' <<< "$said"
done
promise "the agent's process" "$(console pidof qod-agent || echo none)" none console '! pidof qod-agent'
router_state > "$WORK/state-after"
left=$(diff "$WORK/state-before" "$WORK/state-after" | grep '^[<>]')
promise "tables, queues, files, links, cron, ubus" "$(grep -c . <<< "$left") differ" "0 differ" equal "$left" ""
[ -z "$left" ] || note "$(head -n 20 <<< "$left")"
observe removed
expect_dscps removed 0

section "$ARCH: and installed again"
stream_start again 100000 20
began=$EPOCHREALTIME
COMMAND_LIMIT=120 console "$(router_install /tmp/parcel) && rm -rf /etc/qod-agent && tar -xf /tmp/kept.tar -C / && rm /tmp/kept.tar \
    && /etc/init.d/qod-agent restart" > "$WORK/again.log"
status=$?
promise "install, the identity of before, restart" "status $status" "status 0" equal "$status" 0
[ "$status" = 0 ] || note "$(tail -n 5 "$WORK/again.log")"
is_marked() {
    FIRST_MARK=$(stream_way again "up 4" | awk -v dscp="$EF" '$2 == dscp { print $1; exit }')
    [ -n "$FIRST_MARK" ]
}
within 60 is_marked
stream_end
promise "the session's marks are back" "${FIRST_MARK:+after $(compute "$FIRST_MARK - $began") s}" "within 60 s" \
    [ -n "$FIRST_MARK" ]
