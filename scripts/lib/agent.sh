# shellcheck shell=bash
# What the router says of its agent: procd, the log, and the agent itself. Sourced, after machine.sh. SESSION is the
# session that is asked for.

# The router's log of the agent's package from here on is what router_log prints.
router_log_begins() {
    LOG_FROM="qod-agent-test-$EPOCHREALTIME"
    console "logger -t test $LOG_FROM"
}

# Without times and names.
router_log() {
    # A shell's own logread may be another one.
    console '/sbin/logread -e qod-agent' | sed "1,/$LOG_FROM/d" | sed 's/^.* \(daemon\|user\)\.[a-z]* [^:]*: //'
}

# The last line with these words.
router_said() { # WORDS
    router_log | grep -F -- "$1" | tail -n 1
}

router_logged() { # WORDS
    router_log | grep -qF -- "$1"
}

# The instances that procd has, and whether they run: "agent runs".
instances() {
    console "ubus call service list '{ \"name\": \"qod-agent\" }'" | jq -r '."qod-agent".instances // {} | to_entries
        | map("\(.key) \(if .value.running then "runs" else "waits" end)") | join(", ")'
}

# agent_status EXPRESSION: of what the router says of its agent.
agent_status() {
    # What is no JSON says why there is none, on the console's log.
    console qod-agent status --json | jq -r "$1" 2> /dev/null
}

# agent_says COMMAND EXPRESSION: of the session in the status that COMMAND prints on the router, which is
# WORK/status.json then.
agent_says() {
    console "$1" > "$WORK/status.json" \
        && jq -r --arg id "$SESSION" "[.sessions[] | select(.sessionId == \$id)][0] | $2" "$WORK/status.json"
}

session_state() {
    agent_status ".sessions[] | select(.sessionId == \"$SESSION\") | .state"
}

session_is_active() {
    [ "$(session_state)" = ACTIVE ]
}

warning() { # CODE: its message
    agent_status ".warnings[] | select(.code == \"$1\") | .message"
}

# Any with that code, if there are no words.
has_warning() { # CODE WORDS
    warning "$1" 2> /dev/null | grep -qF -- "$2"
}

# What the agent takes of the router's memory: all that is resident, and of it what is no file's.
agent_memory() {
    console "cat /proc/\$(pidof qod-agent)/status" \
        | awk '$1 == "VmRSS:" || $1 == "RssAnon:" { printf "%s%s %s KiB", s++ ? ", " : "", substr($1, 1, length($1) - 1), $2 }'
}
