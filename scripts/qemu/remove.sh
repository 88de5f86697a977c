# shellcheck shell=bash
# The package is removed: nothing of it stays, but what its user wrote. Sourced by scripts/qemu-test.sh.

section "$ARCH: the package is removed"
# Else it would say nothing that nothing differs afterwards.
router_state > "$WORK/state-installed"
for each in 'table:^table .* qod' 'queue:^qdisc .* 71d: .*root' 'file:^/usr/sbin/qod-agent$'; do
    found=$(diff "$WORK/state-before" "$WORK/state-installed" | sed -n 's/^> //p' | grep -m 1 -e "${each#*:}")
    promise "before it: the agent's ${each%%:*}" "$(cut -d ' ' -f 1-3 <<< "${found:-none}")" there [ -n "$found" ]
done
COMMAND_LIMIT=120 console "$(router_remove)" > "$WORK/remove.log"
status=$?
promise "remove" "status $status" "status 0" equal "$status" 0
[ "$status" = 0 ] || note "$(tail -n 5 "$WORK/remove.log")"
promise "the agent's process" "$(console pidof qod-agent || echo none)" none console '! pidof qod-agent'
# What the user of the package has written is the user's.
console 'rm -rf /etc/config/qod-agent /etc/qod-agent'
router_state > "$WORK/state-after"
left=$(diff "$WORK/state-before" "$WORK/state-after" | grep '^[<>]')
promise "tables, queues and files as before" "$(grep -c . <<< "$left") differ" "0 differ" equal "$left" ""
[ -z "$left" ] || note "$(head -n 20 <<< "$left")"
observe removed
expect_dscps removed 0
