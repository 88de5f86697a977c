# shellcheck shell=bash
# A long command as named steps, some of them beside each other. Sourced, after packages.sh.
#
# A step runs in the foreground and shows what it says, or in a lane: a function that runs beside everything else
# and has steps of its own. What these say is kept, and shown in one piece when a step of the foreground has ended.

STEPS=$(mktemp -d)
LANE=
LANES=()
# One line for each step that has ended: lane, status, seconds, what it said, name.
ENDED=$STEPS/ended
SHOWN=0
: > "$ENDED"

# step NAME COMMAND…
step() {
    local name=$1 started=$SECONDS kept status=
    shift
    kept=$(mktemp "$STEPS/step.XXXXXX")
    if [ -n "$LANE" ]; then
        "$@" > "$kept" 2>&1
        status=$?
    else
        printf '\n== %s\n' "$name"
        # Not in the shell's own group of processes, and waited for: a signal ends it at once.
        set -m
        { "$@" 2>&1; echo $? > "$kept.status"; } < /dev/null | tee "$kept" &
        set +m
        wait $!
        status=$(cat "$kept.status")
    fi
    printf '%s\t%d\t%d\t%s\t%s\n' "${LANE:--}" "${status:-1}" $((SECONDS - started)) "$kept" "$name" >> "$ENDED"
    [ -n "$LANE" ] || show_ended
    [ "$status" = 0 ]
}

# lane NAME NICENESS FUNCTION: its steps run beside what follows.
lane() {
    LANES+=("$1")
    set -m
    (
        LANE=$1
        renice -n "$2" -p "$BASHPID" > /dev/null
        "$3"
        : > "$STEPS/lane.$1"
    ) < /dev/null > "$STEPS/words.$1" 2>&1 &
    set +m
}

# What steps in lanes have said that have ended since the last time.
show_ended() {
    local lane status seconds kept name
    while IFS=$'\t' read -r lane status seconds kept name; do
        SHOWN=$((SHOWN + 1))
        [ "$lane" = - ] || { printf '\n== %s (meanwhile, %d s)\n' "$name" "$seconds" && cat "$kept"; }
    done < <(tail -n +$((SHOWN + 1)) "$ENDED")
}

# Waits for all lanes. One that did not come to its end has failed, whatever its steps were.
join_lanes() {
    local lane
    while [ -n "$(jobs -pr)" ]; do
        sleep 1
        show_ended
    done
    wait
    show_ended
    for lane in "${LANES[@]}"; do
        [ ! -s "$STEPS/words.$lane" ] || cat "$STEPS/words.$lane"
        [ -e "$STEPS/lane.$lane" ] || printf -- '-\t1\t0\t/dev/null\t%s (did not end)\n' "$lane" >> "$ENDED"
    done
}

# Everything that steps have said.
steps_said() {
    cut -f 4 "$ENDED" | xargs cat
}

# A table of all steps. Fails if one of them has.
report_steps() {
    local lane status seconds name failed=0 verdict
    printf '\n%8s\n' seconds
    while IFS=$'\t' read -r lane status seconds _ name; do
        verdict=
        [ "$status" = 0 ] || { failed=1 verdict='  FAILED'; }
        [ "$lane" = - ] || name="$name (meanwhile)"
        printf '%8d  %s%s\n' "$seconds" "$name" "$verdict"
    done < "$ENDED"
    # In a pipeline it would tell the pipeline's own.
    times > "$STEPS/times"
    printf '%8d  in all, and %d of processor time\n' "$SECONDS" "$(awk 'NR == 2 {
        for (i = 1; i <= 2; i++) { split($i, time, /[ms]/); all += time[1] * 60 + time[2] }
        print int(all)
    }' "$STEPS/times")"
    [ "$failed" = 0 ]
}

# Ends what still runs, and removes what was kept.
end_steps() {
    local signal groups group
    mapfile -t groups < <(jobs -p)
    for signal in TERM KILL; do
        for group in "${groups[@]}"; do
            as_root kill "-$signal" -- "-$group" 2> /dev/null
        done
        # A machine has to be switched off, a server to be ended.
        for _ in {1..50}; do
            [ -n "$(jobs -pr)" ] || break 2
            sleep 0.2
        done
    done
    rm -rf "$STEPS"
}
