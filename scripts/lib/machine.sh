# shellcheck shell=bash
# The router as a machine of QEMU between the namespaces of the lab. Sourced, after lab.sh, in the top folder.
#
# It has two network cards, eth0 to the home and eth1 to the internet, and two disks: its own, and /dev/vdb, which
# is a tar file with what is to be installed, so that no network is needed for that. It stays as it is over
# `reboot`, and over machine_cut and machine_start, but for what was not written yet.
# shellcheck disable=SC2034 # the scenarios read STARTED
# shellcheck disable=SC2054 # QEMU's options have commas

# Seconds that a machine may run in all, that it may take to boot, and that a command may take. The first is for a
# machine that hangs: one with all scenarios, on a computer that does other work too, needs more than ten minutes.
MACHINE_LIMIT=${MACHINE_LIMIT:-1200}
BOOT_LIMIT=${BOOT_LIMIT:-180}
COMMAND_LIMIT=60
# What a scenario wants more, before machine_start.
QEMU_MORE=()
MACHINE=

# machine_start ARCH: DISK with KERNEL and INITRD, or alone if it is an image that boots by itself; and PARCEL. Its
# pid is MACHINE; STARTED is the time, in seconds, with a fraction.
machine_start() {
    local arch=$1 qemu first=,bootindex=0
    # A kernel that is given is what boots first.
    [ -z "${KERNEL:-}" ] || first=
    case $arch in
        x86_64) qemu=(qemu-system-x86_64 -machine pc -cpu max) ;;
        # No Cortex has what is slow to emulate in `max`, the authentication of pointers.
        aarch64) qemu=(qemu-system-aarch64 -machine virt -cpu cortex-a53) ;;
        *) die "there is no machine for $arch" ;;
    esac
    qemu+=(-accel "$(vm_accelerator "$arch")" -m 256 -smp 1
        -nodefaults -no-user-config -display none
        -chardev "socket,id=console,path=$WORK/console,server=on,wait=off,logfile=$WORK/console.log,logappend=on"
        -serial chardev:console
        -drive "file=$DISK,format=raw,if=none,id=disk,cache=unsafe" -device "virtio-blk-pci,drive=disk$first"
        -drive "file=$PARCEL,format=raw,if=none,id=parcel,readonly=on" -device virtio-blk-pci,drive=parcel
        -netdev tap,id=lan,ifname=lan,script=no,downscript=no
        -device virtio-net-pci,netdev=lan,mac=02:00:00:00:00:01,romfile=
        -netdev tap,id=wan,ifname=wan,script=no,downscript=no
        -device virtio-net-pci,netdev=wan,mac=02:00:00:00:00:02,romfile=)
    if [ -n "${KERNEL:-}" ]; then
        qemu+=(-kernel "$KERNEL/vmlinuz" -initrd "$INITRD"
            -append "console=$(machine_tty "$arch") loglevel=4 panic=5 mitigations=off")
    fi
    rm -f "$WORK/console"
    STARTED=$EPOCHREALTIME
    # Whatever becomes of this script, and of `timeout`, the machine ends with it.
    child qemu.log machine setpriv --pdeathsig TERM timeout -k 5 "$MACHINE_LIMIT" \
        setpriv --pdeathsig KILL "${qemu[@]}" "${QEMU_MORE[@]}"
    MACHINE=$CHILD
}

machine_tty() {
    case $1 in
        x86_64) echo ttyS0 ;;
        *) echo ttyAMA0 ;;
    esac
}

# Waits until the console has a shell.
machine_ready() {
    "$QOD_LAB" console-ready --at "$WORK/console" --seconds "${1:-$BOOT_LIMIT}"
}

machine_runs() {
    [ -n "$MACHINE" ] && kill -0 "$MACHINE" 2> /dev/null
}

# Cuts its power: what it has not written to its disk by now is lost.
machine_cut() {
    # MACHINE is the pid of `timeout`, whose only child is QEMU.
    pkill -KILL -P "$MACHINE" || echo "the machine was off already" >&2
    # Bash says who was killed.
    { wait "$MACHINE"; } 2> /dev/null
    end "$MACHINE"
    MACHINE=
}

# Boots it anew as a user would, and waits for its shell.
machine_reboot() {
    local before
    before=$(machine_boot_id)
    console reboot > /dev/null
    # The old shell still answers for a moment.
    within "$BOOT_LIMIT" machine_is_another "$before"
}

machine_boot_id() {
    console cat /proc/sys/kernel/random/boot_id
}

machine_is_another() {
    local now
    machine_ready "$BOOT_LIMIT" > /dev/null 2>&1 || return
    now=$(machine_boot_id 2> /dev/null) || return
    [ "$now" != "$1" ]
}

# console COMMAND...: in a shell on the machine's console; prints its output and has its status, 124 if it took
# longer than COMMAND_LIMIT. What passes is in WORK/console.log.
console() {
    "$QOD_LAB" console --at "$WORK/console" --seconds "$COMMAND_LIMIT" -- "$@"
}

# console_within SECONDS COMMAND...: until it succeeds there.
console_within() {
    local seconds=$1
    shift
    within "$seconds" console "$@" > /dev/null 2>&1
}

# machine_diagnosis: what tells most of a failure, on the console's log.
machine_diagnosis() {
    machine_runs || return 0
    console 'logread | grep -v DEBUG | tail -n 60; dmesg | tail -n 40; ip addr; ip route; nft list ruleset' \
        > "$WORK/diagnosis.log" 2>&1
}
