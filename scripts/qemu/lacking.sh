# shellcheck shell=bash
# A router without the kernel modules that the package asks for: opkg refuses, by their names; and where they were
# left out nevertheless, the agent runs with what there is and says what is missing. Sourced by scripts/qemu-test.sh,
# with a session in force.
# shellcheck disable=SC2016 # the router expands them

section "$ARCH: kernel modules are missing"
console '(umask 077 && tar -cf /tmp/qod-kept.tar -C / etc/qod-agent etc/config/qod-agent)' || die "nothing can be kept"
COMMAND_LIMIT=120 console "$(router_remove)" > "$WORK/lacking.log" || die "no removal: $(cat "$WORK/lacking.log")"
console "sed -i.qod -e '/^Package: kmod-nft-core\$/,/^\$/d' -e '/^Package: kmod-sched-core\$/,/^\$/d' /usr/lib/opkg/status"
console "$(router_install /tmp/parcel)" > "$WORK/lacking.log" 2>&1
status=$?
missing=$(sed -n 's/.*cannot find dependency \([^ ]*\) for qod-agent.*/\1/p' "$WORK/lacking.log" | sort | paste -sd ' ')
promise "install" "status $status, for want of $missing" "refused, both named" \
    equal "$status $missing" '255 kmod-nft-core kmod-sched-core'
left=$(console 'ls /usr/sbin/qod-agent /etc/init.d/qod-agent /etc/config/qod-agent 2> /dev/null')
promise "  and nothing of it is there" "$(grep -c . <<< "$left") files" "0 files" equal "$left" ""

# What these packages bring is taken out of the kernel, and out of its reach. The firewall stands on it too.
console '/etc/init.d/firewall stop
    for each in nf_tables sch_htb sch_tbf; do
        file=$(find /lib/modules -name $each.ko)
        mv $file $file.qod
    done
    for each in 1 2 3 4; do
        rmmod $(lsmod | sed -n "s/^\(nft_[a-z0-9_]*\|nf_[a-z0-9_]*\|nfnetlink\|sch_[a-z0-9_]*\) .*/\1/p") 2> /dev/null
    done
    ! lsmod | grep "^nf_tables \|^sch_htb \|^sch_tbf "' > "$WORK/lacking.log" || die "still loaded: $(cat "$WORK/lacking.log")"
COMMAND_LIMIT=120 console 'opkg install --force-depends /tmp/parcel/*.ipk' > "$WORK/lacking.log" 2>&1
status=$?
promise "install --force-depends" "status $status" "status 0" equal "$status" 0
configure='rm -rf /etc/qod-agent && tar -xf /tmp/qod-kept.tar -C / && rm /tmp/qod-kept.tar'
router_log_begins
console "$configure && /etc/init.d/qod-agent restart" > "$WORK/lacking.log" || die "not configured: $(cat "$WORK/lacking.log")"

# check_says NAME: "warn missing (…): install …"
check_says() {
    console 'ubus call qod-agent check' | jq -r ".lines[] | select(.name == \"$1\") | \"\(.verdict) \(.text)\""
}
within 30 has_warning KERNEL kmod-nft-core
promise "the agent" "$(instances)" "runs" equal "$(instances)" "agent runs"
for each in 'KERNEL:kmod-nft-core' 'NO_QUEUE:kmod-sched-core'; do
    within 5 has_warning "${each%%:*}" "${each#*:}"
    promise "status: warning ${each%%:*}" "" "names ${each#*:}" has_warning "${each%%:*}" "${each#*:}"
    note "$(warning "${each%%:*}")"
    promise "  the log" "$(router_log | grep -cF "${each#*:}") lines" "names it, and does not repeat it" \
        equal "$(router_log | grep -cF "${each#*:}")" 1
done
for each in 'nf_tables:fail:kmod-nft-core' 'HTB:warn:kmod-sched-core' 'TBF:warn:kmod-sched-core'; do
    IFS=: read -r name verdict package <<< "$each"
    said=$(check_says "$name")
    promise "ubus call qod-agent check: $name" "$(cut -d ' ' -f 1,2 <<< "${said:-no line}")" "$verdict missing …: install $package" \
        grep -q "^$verdict missing .*: install $package" <<< "$said"
done
within 30 agent_is_connected
promise "the operator sees it" "$(operator_sees connected)" "connected" agent_is_connected

section "$ARCH: nf_tables is there again, HTB and TBF are not"
console 'file=$(find /lib/modules -name nf_tables.ko.qod); mv $file ${file%.qod}; /etc/init.d/firewall start'
since=$EPOCHREALTIME
within 60 session_is_active
promise "the session, by itself" "after $(compute "$EPOCHREALTIME - $since") s" "ACTIVE within 60 s" session_is_active
within 60 router_routes
observe lacking
for each in "internet:ip and src port $PHONE_PORT" "phone:ip6 and dst port $PHONE_PORT"; do
    seen=$(dscps "lacking-${each%%:*}" "${each#*:}")
    promise "DSCP without a queue (${each#*:})" "$seen" "$EF on $PROBES" equal "$seen" "$EF on $PROBES"
done
promise "status: warning NO_QUEUE" "" "is still there" has_warning NO_QUEUE kmod-sched-core

section "$ARCH: all is there again"
console 'for each in $(find /lib/modules -name "*.ko.qod"); do mv $each ${each%.qod}; done; mv /usr/lib/opkg/status.qod /tmp/
    awk "BEGIN { RS = \"\"; ORS = \"\n\n\" } /^Package: kmod-(nft|sched)-core\n/" /tmp/status.qod >> /usr/lib/opkg/status; rm /tmp/status.qod'
nothing_lacks() {
    [ -n "$(agent_status .agentId)" ] && ! has_warning KERNEL '' && ! has_warning NO_QUEUE '' \
        && ! has_warning QUEUE_INCOMPLETE ''
}
since=$EPOCHREALTIME
within 60 nothing_lacks
promise "warnings of what lacks" "$(agent_status '[.warnings[].code] | join(" ")'), after $(compute "$EPOCHREALTIME - $since") s" "none within 60 s" nothing_lacks
queues=$(console '/sbin/tc qdisc show dev eth1' | grep -o '^qdisc [a-z]* 71d:\|^qdisc tbf')
promise "queues on the WAN" "$(tr '\n' ' ' <<< "$queues")" "HTB and TBF" equal "$(sort -u <<< "$queues" | paste -sd ' ')" 'qdisc htb 71d: qdisc tbf'
