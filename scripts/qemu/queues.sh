# shellcheck shell=bash
# The queues towards the internet with all that this kernel has: the agent's own, and what becomes of them when somebody
# puts another in their place. Sourced by scripts/qemu-test.sh, after scripts/qemu/session.sh.

section "$ARCH: queues"
# From the status, as long as there is one: every warning about queues, and who has the root.
queue_warnings() {
    agent_status '[.warnings[].code | select(test("QUEUE|QDISC"))] | sort | join(" ")'
}
queue_root() {
    agent_status '[.queues[] | "\(.kind) of \(.owner)"] | join(", ")'
}
root_is() {
    equal "$(queue_root)" "$1"
}
# How many of each kind, as tc counts them.
qdiscs() {
    console /sbin/tc qdisc show dev eth1 | awk '{ n[$2]++ } END { for (kind in n) print n[kind], kind }' | sort -k 2 | xargs
}

OWN_QUEUES='4 fq_codel 1 htb 4 tbf'
for moment in before after; do
    within 20 root_is 'htb of qod-agent'
    root=$(queue_root)
    promise "the root by the status" "$root" "htb of qod-agent" equal "$root" 'htb of qod-agent'
    there=$(qdiscs)
    promise "qdiscs by tc" "$there" "$OWN_QUEUES" equal "$there" "$OWN_QUEUES"
    warned=$(queue_warnings)
    promise "warnings about queues" "${warned:-none}" none equal "$warned" ''
    [ "$moment" = before ] || break

    console '/sbin/tc qdisc replace dev eth1 root cake bandwidth 20mbit' || die "no cake: $(tail -n 3 "$WORK/console.log")"
    within 20 root_is 'cake of foreign'
    root=$(queue_root)
    promise "somebody's CAKE instead: the root" "$root" "cake of foreign" equal "$root" 'cake of foreign'
    warned=$(queue_warnings)
    promise "  warnings about queues" "${warned:-none}" FOREIGN_QDISC equal "$warned" FOREIGN_QDISC
    stream_start cake 20 20
    stream_wait
    for way in "up 4" "down 4" "up 6" "down 6"; do
        seen=$(stream_unmarked cake "$way")
        promise "  without mark, $way" "$seen" "0 of 20" equal "${seen%,*}" "0 of 20"
    done
    there=$(qdiscs)
    promise "  qdiscs by tc" "$there" "1 cake" equal "$there" "1 cake"
    console '/sbin/tc qdisc del dev eth1 root' || die "CAKE does not go"
    note "CAKE is removed again"
done
