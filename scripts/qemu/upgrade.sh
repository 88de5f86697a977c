# shellcheck shell=bash
# Packages that do not fit change nothing; a downgrade, a forced mistake and an upgrade lose no mark of a flow that
# never pauses, no count and no setting. Sourced by scripts/qemu-test.sh, after scripts/qemu/session.sh. The packages are
# those of scripts/lib/versions.sh.

# opkg ARGUMENTS...: what it says is in WORK/opkg.log.
opkg() {
    COMMAND_LIMIT=120 console opkg "$@" '2>&1' > "$WORK/opkg.log"
}
# What an installation may not change: settings and identity, and who may read them.
kept() {
    console "cd /etc && cat config/qod-agent qod-agent/* | sha256sum; ls -ln config/qod-agent qod-agent/* | cut -c 1-10"
}
installed() {
    console "opkg list-installed | sed -n 's/^qod-agent - //p'; sha256sum < /usr/sbin/qod-agent; pidof qod-agent"
}
# What runs: the version by its own words, how many processes, and the file of the first.
running() {
    console "qod-agent --version; set -- \$(pidof qod-agent); echo \$# \$(readlink /proc/\$1/exe)" | xargs
}
counted() {
    agent_says 'qod-agent status --json' '"\(.upstream.packets) \(.downstream.packets)"'
}
# same BEFORE AFTER: for the report.
same() {
    if [ "$1" = "$2" ]; then echo "the same"; else xargs <<< "$2"; fi
}
# no_fewer "UP DOWN" "UP DOWN"
no_fewer() {
    at_most "${1% *}" "${2% *}" && at_most "${1#* }" "${2#* }"
}

# refused WHAT WORDS OPKG'S-ARGUMENTS...
refused() {
    local what=$1 words=$2 before after status said
    shift 2
    before=$(installed)
    opkg "$@"
    status=$?
    after=$(installed)
    said=$(grep -F -m 1 "$words" "$WORK/opkg.log")
    promise "$what" "status $status" "refused: …$words" test "$status" != 0 -a -n "$said"
    promise "  version, program and process" "$(same "$before" "$after")" "the same" \
        equal "$before" "$after"
}

# The operator's view, all the while: the time, the agent's version and run, and the session's packets up and down.
reports() {
    while sleep 0.3; do
        TOKEN=$ADMIN api GET "/admin/v1/agents/$AGENT" | jq -r --arg id "$SESSION" --arg now "$EPOCHREALTIME" \
            '[$now, .version, .status.bootId] + [.status.sessions[] | select(.sessionId == $id)
                | .upstream.packets, .downstream.packets] | map(tostring) | join(" ")'
    done 2> /dev/null >> "$WORK/reports"
}
# first_report RUN VERSION: when the operator first saw a report of VERSION from another run of the agent than RUN
# and those before it.
first_report() {
    awk -v run="$1" -v version="$2" '$3 == run { first = "" } $3 != run && $2 == version && first == "" { first = $1 }
        END { if (first == "") exit 1; print first }' "$WORK/reports"
}

# The last line of /etc/config/qod-agent in the package of a version.
shipped() {
    local file=$WORK/parcel/${NEW##*/}
    [ "$1" = "${VERSION:?}" ] || file=$WORK/parcel/versions/before.ipk
    tar -xzOf "$file" ./data.tar.gz | tar -xzO ./etc/config/qod-agent | tail -n 1
}

# replaced VERSION OPKG'S-ARGUMENTS...
replaced() {
    local version=$1 before after status began took first said
    shift
    RUN=$(tail -n 1 "$WORK/reports" | cut -d ' ' -f 3)
    console 'rm -f /etc/config/qod-agent-opkg'
    before=$(counted)
    began=$EPOCHREALTIME
    opkg "$@"
    status=$?
    took=$(compute "$EPOCHREALTIME - $began")
    promise "opkg" "status $status after $took s" "status 0" equal "$status" 0
    [ "$status" = 0 ] || note "$(tail -n 5 "$WORK/opkg.log")"
    within 60 first_report "$RUN" "$version" > /dev/null
    first=$(first_report "$RUN" "$version")
    promise "from then to the operator's first report of it" "${first:+$(compute "$first - $began") s}" \
        "$version within 60 s" test -n "$first"
    said=$(stream_unmarked upgrade "up 4" "$began" "${first:-$EPOCHREALTIME}" | sed 's/^.* of \(.*\),.*/\1/')
    promise "packets that the phone has sent meanwhile" "$said" "at least 50" at_least "$said" 50
    said=$(running)
    promise "what runs" "$said" "$version, one process" equal "$said" "qod-agent $version 1 /usr/sbin/qod-agent"
    after=$(counted)
    said=$(jq -r .version "$WORK/status.json")
    promise "version in the status" "$said" "$version" equal "$said" "$version"
    promise "packets in the status, up and down" "$after" "no fewer than $before" no_fewer "$before" "$after"
    said=$(kept)
    promise "settings, identity, who may read them" "$(same "$SETTINGS" "$said")" "the same" \
        equal "$said" "$SETTINGS"
    said=$(console tail -n 1 /etc/config/qod-agent-opkg)
    promise "the package's own settings, beside" "$(xargs <<< "${said//\'/}")" "those of $version" \
        equal "$said" "$(shipped "$version")"
    said=$(console 'ls /etc/uci-defaults | grep qod')
    promise "uci-defaults that did not run" "${said:-none}" none equal "$said" ""
}

section "$ARCH: packages that do not fit"
V=/tmp/parcel/versions
NEW=/tmp/parcel/$(basename "$(package_of "$ARCH")")
console "tar -xf /dev/vdb -C /tmp parcel/versions parcel/${NEW##*/} && uci set qod-agent.main.max_sessions=77 \
    && uci commit qod-agent && reload_config" || die "the packages cannot be read"
console_within 20 "grep -q '\"maxSessions\": *77' /var/run/qod-agent/config.json" || die "the settings are not taken"
# The agent of before may answer once more, and then there is none for a moment.
started_with() {
    STARTED_WITH=$(counted) && [ -n "$STARTED_WITH" ]
}
within 20 started_with || die "the agent does not come back from a change of its settings"
SETTINGS=$(kept)
stream_start upgrade 100000 20
refused "for another architecture" 'incompatible with the architectures configured' install $V/foreign.ipk
refused "a download that was cut" 'Malformed package file' install $V/cut.ipk
console "fallocate -l \$((\$(df -Pk / | awk 'END { print \$4 }') - 1024))k /full" || die "the flash cannot be filled"
refused "a full flash" 'available on filesystem' install --force-downgrade $V/before.ipk
console 'rm /full'
opkg install $V/before.ipk
promise "an older version" "$(sed -n 's/ package .*//p' "$WORK/opkg.log")" "Not downgrading" \
    grep -q '^Not downgrading' "$WORK/opkg.log"

reports &
REPORTS=$!
CHILDREN+=("$REPORTS")
within 20 test -s "$WORK/reports" || die "the operator has no report"
section "$ARCH: back to the version before, by force"
replaced "${BEFORE:?}" install --force-downgrade $V/before.ipk
section "$ARCH: the upgrade"
replaced "$VERSION" install "$NEW"

section "$ARCH: a package for another processor, by force"
other=$(tar -xzOf "$WORK/parcel/versions/foreign.ipk" ./control.tar.gz | tar -xzO ./control | sed -n 's/^Architecture: //p')
opkg --add-arch "$other:200" install --force-downgrade $V/foreign.ipk
said=$(console '/sbin/logread -e qod-agent | grep -c "for another processor: install the package for"')
promise "the log says which package it needs" "$said times" "at least once" at_least "$said" 1
# shellcheck disable=SC2016 # the router's shell expands it
said=$(console 'lines() { /sbin/logread | grep -c qod-agent; }; before=$(lines); sleep 7
    echo $(($(lines) - before)) more, $(pidof qod-agent | wc -w) processes')
promise "7 s later, lines in the log" "$said" "0 more, 0 processes" equal "$said" "0 more, 0 processes"
said=$(console ubus call qod-agent status | jq -r .error)
promise "ubus call qod-agent status" "…${said:24:32}…" "for another processor" grep -q 'for another processor' <<< "$said"
RUN=$(tail -n 1 "$WORK/reports" | cut -d ' ' -f 3)
opkg install "$NEW"
within 60 first_report "$RUN" "$VERSION" > /dev/null
said=$(running)
promise "the right one again: what runs" "$said" "$VERSION, one process" \
    equal "$said" "qod-agent $VERSION 1 /usr/sbin/qod-agent"
end "$REPORTS" KILL
stream_end

section "$ARCH: the flow, from the first of these packages to the last"
total=
for way in "up 4" "down 4" "up 6" "down 6"; do
    said=$(stream_unmarked upgrade "$way")
    promise "unmarked packets of the phone, $way" "${said%%,*}" "0 of some" grep -q '^0 of [1-9]' <<< "$said"
    # Where the emulated router has stood still, not the phone.
    note "the longest pause between two of them $(stream_way upgrade "$way" \
        | awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { printf "%.3f s", most }')"
    total="$total $(stream_way upgrade "$way" | wc -l)"
done
read -r up4 down4 up6 down6 <<< "$total"
said=$(awk '{ print $3 - $1, $4 - $2 }' <<< "$STARTED_WITH $(counted)")
promise "packets in the status, up and down" "$said" "as captured: $((up4 + up6)) $((down4 + down6))" \
    equal "$said" "$((up4 + up6)) $((down4 + down6))"
said=$(awk 'NF != 5 || $4 < up || $5 < down { n++ } { up = $4; down = $5 } END { print n + 0 " of " NR }' "$WORK/reports")
promise "operator's reports with fewer than one before" "$said" "0" equal "${said%% *}" 0
