# shellcheck shell=bash
# Configurations that cannot be used: nothing is started, and the log says which option it is; what runs, runs on.
# Sourced by scripts/qemu-test.sh, with an agent that runs.
# shellcheck disable=SC2016 # the router expands them

section "$ARCH: wrong configurations"
within 30 agent_is_connected
# WHAT | commands | the log's words after qod-agent, the package's name
WRONG='no URL | uci delete qod-agent.backend.url | .backend.url: is missing
another scheme | uci set qod-agent.backend.url=ftp://backend.example | .backend.url: "ftp://backend.example" is not an https URL
plain HTTP | uci set qod-agent.backend.url=http://backend.example | .backend.url: "http://backend.example" is not an https URL; plain HTTP needs allow_plain_http
an option that there is not | uci set qod-agent.backend.colour=red | .backend.colour: is not a key
an option in another section | uci set qod-agent.main.url=https://backend.example | .main.url: is not a key
a section that there is not | uci set qod-agent.bakend=backend; uci set qod-agent.bakend.url=https://b.example | .bakend: is not a key
a section without a name | uci add qod-agent backend > /dev/null; uci set qod-agent.@backend[-1].url=https://b.example | .@backend: the section has no name
a capital letter | uci set qod-agent.main.agentId=home | .main.agentId: options are written in small letters
an id with a space | uci set qod-agent.main.agent_id="my home" | .main.agent_id: "my home" is not of the form
a LAN that there is not | uci add_list qod-agent.main.lan=lan9 | .main.lan: there is no interface and no device '"'lan9'"'
no LAN | uci delete qod-agent.main.lan | .main.lan: is missing
a WAN that is the LAN | uci set qod-agent.main.wan=lan | .main.wan: "br-lan" stands in lan too
a number that is none | uci set qod-agent.main.poll_wait_seconds=abc | .main.poll_wait_seconds: invalid type: string "abc"
a number that is too big | uci set qod-agent.main.poll_wait_seconds=999 | .main.poll_wait_seconds: 999 is not between 0 and 55
bits that are not seven | uci set qod-agent.main.fwmask=0xff | .main.fwmask: "0xff" is not seven
no such way of queues | uci set qod-agent.main.queues=fast | .main.queues: unknown variant `fast`
a rate of zero | uci set qod-agent.link.upstream_kbps=0 | .link.upstream_kbps: is zero
a token and its file | uci set qod-agent.backend.token=hush-hush-hush; uci set qod-agent.backend.token_file=/etc/qod-agent/token; uci -q delete qod-agent.backend.bootstrap_token_file | .backend.token_file: token is given too
a token with a space | uci set qod-agent.status.token="hush hush-hush" | .status.token: is empty or has characters
a status for everybody | uci set qod-agent.status.listen=0.0.0.0:8742 | .status.token: is missing, and 0.0.0.0:8742 is not a loopback address
neither 0 nor 1 | uci set qod-agent.main.enabled=perhaps | .main.enabled: is neither 0 nor 1
a quote that does not end | echo "config agent '"'main"'" > /etc/config/qod-agent | /etc/config/qod-agent cannot be read: '
# One after the other in one go, from the configuration that runs; a mark in the log before each.
{
    echo 'cp -p /etc/config/qod-agent /tmp/qod-good; /etc/init.d/qod-agent stop'
    number=0
    while IFS='|' read -r _ commands _; do
        number=$((number + 1))
        printf 'logger -t test qod-agent-row-%d; cp -p /tmp/qod-good /etc/config/qod-agent; { %s; uci commit qod-agent; } 2> /dev/null\n%s\n' \
            "$number" "$commands" '/etc/init.d/qod-agent start 2> /dev/null; echo "$? $(pidof qod-agent)"; uci -q revert qod-agent'
    done <<< "$WRONG"
    echo 'cp -p /tmp/qod-good /etc/config/qod-agent'
} > "$WORK/wrong.sh"
COMMAND_LIMIT=200 console "$(cat "$WORK/wrong.sh")" | tr -d '\r' > "$WORK/wrong.out"
console '/sbin/logread -e qod-agent' | tr -d '\r' > "$WORK/wrong.log"

refuses() { # STATUS-AND-PID WORDS LOG
    [[ $1 =~ ^[1-9][0-9]*\ $ ]] && grep -qF "qod-agent: $2" <<< "$3" && grep -qF 'nothing is started until' <<< "$3"
}
number=0
while IFS='|' read -r what _ words; do
    number=$((number + 1))
    said=$(sed "1,/qod-agent-row-$number\$/d;/qod-agent-row-/,\$d" "$WORK/wrong.log")
    words="qod-agent${words# }"
    [[ $words != qod-agent/* ]] || words=${words#qod-agent}
    promise "$what" "$(sed -n "${number}p" "$WORK/wrong.out" | awk '{ print "status " $1 ", " ($2 ? "pid " $2 : "not started") }')" \
        "$words" refuses "$(sed -n "${number}p" "$WORK/wrong.out")" "$words" "$said"
    refuses "$(sed -n "${number}p" "$WORK/wrong.out")" "$words" "$said" || note "$said"
done <<< "$WRONG"
promise "tokens in the log" "$(grep -c hush "$WORK/wrong.log")" 0 equal "$(grep -c hush "$WORK/wrong.log")" 0

section "$ARCH: a wrong configuration is put right, and a good one is made wrong"
# As somebody who edits the file, and tells procd.
router_log_begins
console 'uci delete qod-agent.backend.url; uci commit qod-agent; /etc/init.d/qod-agent start 2> /dev/null; reload_config
    cp -p /tmp/qod-good /etc/config/qod-agent; reload_config' > "$WORK/wrong.out"
within 30 router_logged ' starts; backend '
promise "put right, reload_config: it is started" "$(instances)" "agent runs" equal "$(instances)" "agent runs"
within 30 agent_is_connected
agent=$(console 'pidof qod-agent; cat /var/run/qod-agent/config.json | md5sum')
router_log_begins
console 'uci set qod-agent.main.poll_wait_seconds=999; uci commit qod-agent; reload_config' > "$WORK/wrong.out"
within 30 router_logged 'the change is not in force until'
promise "made wrong, reload_config: the log names it" "" "qod-agent.main.poll_wait_seconds" \
    router_logged 'qod-agent.main.poll_wait_seconds: 999 is not between'
now=$(console 'pidof qod-agent; cat /var/run/qod-agent/config.json | md5sum')
promise "what runs" "pid ${now%%$'\n'*}" "the same process, the same configuration" equal "$now" "$agent"
said=$(console 'ubus call qod-agent check' | jq -r '.lines[] | select(.verdict == "fail" and .name == "configuration") | .text')
promise "ubus call qod-agent check" "${said#*.json: }" "names it" grep -q pollWaitSeconds <<< "$said"
observe wrong
seen=$(dscps wrong-internet "ip and src port $PHONE_PORT")
promise "DSCP of phone, upstream, meanwhile" "$seen" "$EF on $PROBES" equal "$seen" "$EF on $PROBES"
router_log_begins
console 'cp -p /tmp/qod-good /etc/config/qod-agent; rm /tmp/qod-good; reload_config; sleep 2; /etc/init.d/qod-agent reload' > "$WORK/wrong.out"
now=$(console 'pidof qod-agent; cat /var/run/qod-agent/config.json | md5sum; ls /var/run/qod-agent')
promise "put right again" "pid ${now%%$'\n'*}" "the same process, none rejected" equal "$now" "$agent"$'\n'config.json

# What stands in files may come later: it is tried again, and the log names the file.
for each in 'missing:mv /etc/qod-agent/ca.pem /tmp/qod-ca:cannot be read: No such file' \
    'without a certificate:echo nothing > /etc/qod-agent/ca.pem:holds no certificate'; do
    IFS=: read -r what command words <<< "$each"
    router_log_begins
    console "$command; /etc/init.d/qod-agent restart" > "$WORK/wrong.out"
    within 30 router_logged "/etc/qod-agent/ca.pem: $words"
    promise "a ca_file $what" "$(instances)" "waits, and the log names it" \
        router_logged "/etc/qod-agent/ca.pem: $words"
done
router_log_begins
console 'mv /tmp/qod-ca /etc/qod-agent/ca.pem'
within 30 router_logged ' starts; backend '
promise "  it is there again, and nothing else is done" "$(instances)" "agent runs" equal "$(instances)" "agent runs"
