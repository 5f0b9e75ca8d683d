# Sourced by scenarios inside a test guest: `. /vm/lib.sh`. Ends the scenario with status 1 at the first failed check.
# shellcheck shell=bash
# Variables set here are for the scenarios.
# shellcheck disable=SC2034
set -u

USWAP_LOG=/tmp/uswap.log   # what the service wrote to stderr
USWAP_OUT=/tmp/uswap.out   # and to stdout
USWAP_WITH=               # words to start it with, such as setpriv
USWAP_PID=
DEV=
FAILED=

say() { echo "== $*"; }

# Ends the scenario with a reason and what the service said last.
die() {
    FAILED=1
    echo "FAIL: $*"
    if [ -s "$USWAP_LOG" ]; then sed 's/^/  uswap: /' "$USWAP_LOG" | tail -20; fi
    exit 1
}

skip() { echo "VM SKIP $*"; exit 77; }

# expect WHAT COMMAND...: the command must succeed.
expect() {
    local what=$1
    shift
    "$@" || die "$what: \`$*' ended with $?"
}

# expect_equal WHAT GOT WANTED
expect_equal() { [ "$2" = "$3" ] || die "$1: got '$2', wanted '$3'"; }

# within SECONDS COMMAND...: waits for the command to succeed.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# Kernel lines that match REGEX are this scenario's own doing.
allow_dmesg() { echo "$1" >>/run/dmesg.allowed; }

# allow_no_swap_table: Linux 7 wants a page for a table before it swaps to a cluster, says so when there is none, and
# takes another page to swap or waits (swap_cluster_alloc_table, mm/swapfile.c). Nothing to do with who serves the device.
allow_no_swap_table() {
    allow_dmesg 'page allocation failure: order:0, mode:0x[0-9a-f]*\(GFP_KERNEL\|__GFP_HIGH\|__GFP_ZERO\|__GFP_COMP\|__GFP_NOMEMALLOC\)'
}

# new_disk NAME MIB [SETTING=VALUE...]: a disk in memory, of null_blk; sets DISK.
new_disk() {
    local name=$1 mib=$2 dir=/sys/kernel/config/nullb/$1 setting
    shift 2
    mount -t configfs configfs /sys/kernel/config 2>/dev/null
    mkdir "$dir"
    for setting in memory_backed=1 "size=$mib" blocksize=4096 "$@" power=1; do
        echo "${setting#*=}" >"$dir/${setting%=*}"
    done
    # Kernels differ in whether it has its name or a number.
    DISK=/dev/$(cd /sys/block && ls -d nullb[0-9]* "$name" 2>/dev/null | while read -r name; do
        [ "$(cat "$name/size")" = $((mib << 11)) ] && echo "$name"
    done | head -1)
    [ -b "$DISK" ] || die "no null_blk device of $mib MiB"
}

# find_disks: waits for the disk of `# scratch:`, whose serial number says that it is; sets SCRATCH, and PAGES to the
# other disk where there is one.
find_disks() {
    local dir
    modprobe virtio_blk
    within 10 grep -qx scratch /sys/block/vd*/serial || die "no scratch disk"
    for dir in /sys/block/vd*; do
        if grep -qx scratch "$dir/serial"; then SCRATCH=/dev/${dir##*/}; else PAGES=/dev/${dir##*/}; fi
    done
}

milliseconds() { local now; read -r now _ </proc/uptime; echo $((10#${now/./} * 10)); }

running() { kill -0 "$1" 2>/dev/null; }
gone() { ! running "$1"; }
is_ready() { grep -q '^ready /dev/ublkb' "$USWAP_OUT" || gone "$USWAP_PID"; }
is_swap() { grep -q "^$1 " <(tr '\t' ' ' </proc/swaps); }

# start_uswap ARGS...: `uswap run ARGS` in the background; sets USWAP_PID and DEV once it serves.
start_uswap() {
    : >"$USWAP_OUT"
    : >"$USWAP_LOG"
    # Appending, so that a scenario may empty them meanwhile.
    # shellcheck disable=SC2086 # words on purpose
    $USWAP_WITH uswap run "$@" </dev/null >>"$USWAP_OUT" 2>>"$USWAP_LOG" &
    USWAP_PID=$!
    within 60 is_ready || die "uswap run $*: not ready within 60 s"
    DEV=$(sed -n 's/^ready \(\/dev\/ublkb[0-9]*\)$/\1/p' "$USWAP_OUT")
    [ -n "$DEV" ] || die "uswap run $*: ended before it was ready"
    [ -b "$DEV" ] || die "uswap run said ready $DEV, which is no block device"
}

# stop_uswap: SIGTERM, exit status 0, nothing left.
stop_uswap() {
    local status=0
    kill -TERM "$USWAP_PID"
    within 30 gone "$USWAP_PID" || die "uswap still runs 30 s after SIGTERM"
    wait "$USWAP_PID" || status=$?
    expect_equal "exit status of uswap after SIGTERM" "$status" 0
    USWAP_PID=
    expect_nothing_left
}

# No device, no mount, no socket, no process. May stay: an empty /run/uswap, lock files, and the log of what `uswap up`
# started.
expect_nothing_left() {
    local left
    left=$(find /dev -name 'ublk[bc]*')
    [ -z "$left" ] || die "devices left: $left"
    ! grep -q ' /run/uswap' /proc/mounts || die "mounts left: $(grep ' /run/uswap' /proc/mounts)"
    left=$(find /run/uswap ! -type d ! -name '*.log' ! -name '*.lock' 2>/dev/null)
    [ -z "$left" ] || die "files left: $left"
    left=$(pidof uswap || true)
    [ -z "$left" ] || die "processes left: $left"
}

# status FILTER: one value of the service's status.
status() { uswap status --json | jq -r "$1"; }

# expect_status FILTER WANTED: of `uswap status --json`.
expect_status() {
    local got
    got=$(status "$1") || die "uswap status --json failed"
    expect_equal "status $1" "$got" "$2"
}

# The standby has everything but the device.
standby_warm() { [ "$(status .processes.standby_warm 2>/dev/null)" = true ]; }

# Staged pages are not in the pool yet: whoever looks at the pool waits first.
none_staged() { [ "$(status .pages.staged)" = 0 ]; }
expect_none_staged() { within 30 none_staged || die "$(status .pages.staged) pages are still staged after 30 s"; }

# What must hold for every service that may be swapped to.
expect_safe() {
    expect_status .safety.memory_locked true
    expect_status .safety.io_flusher true
    expect_status .safety.oom_score_adj -1000
    expect_status .safety.state_noswap true
    expect_status .safety.queue_allocations 0
}

# rights PID[/task/TID] FIELD: of the process's or thread's status in /proc.
rights() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

# What processes of a service have given up. Capabilities as in capability.h: 1 DAC_OVERRIDE, 10 NET_BIND_SERVICE,
# 14 IPC_LOCK, 21 SYS_ADMIN, 23 SYS_NICE, 24 SYS_RESOURCE.
expect_confined() {
    local parent server standby pid task control=$((1 << 1 | 1 << 10 | 1 << 21)) start
    start=$((control | 1 << 14 | 1 << 23 | 1 << 24))
    parent=$(status .processes.parent_pid) server=$(status .processes.server_pid) standby=$(status .processes.standby_pid)
    for pid in "$parent" "$server" "$standby"; do
        expect_equal "no_new_privs of $pid" "$(rights "$pid" NoNewPrivs)" 1
        expect_equal "seccomp of $pid" "$(rights "$pid" Seccomp)" 2
        expect_equal "capabilities of $pid" $((0x$(rights "$pid" CapEff))) $control
        expect_equal "inheritable capabilities of $pid" $((0x$(rights "$pid" CapInh) | 0x$(rights "$pid" CapAmb))) 0
        expect_equal "bounding set of $pid" $((0x$(rights "$pid" CapBnd))) $start
    done
    expect_equal "what the parent's children start with" $((0x$(rights "$parent" CapPrm))) $start
    for pid in "$server" "$standby"; do
        expect_equal "what $pid can have" $((0x$(rights "$pid" CapPrm))) $control
        [ "$(find "/proc/$pid/task" -maxdepth 1 -mindepth 1 | wc -l)" -gt 4 ] || die "hardly a thread in $pid"
    done
    for pid in "$parent" "$server" "$standby"; do
        for task in "/proc/$pid/task"/*; do
            [ "$task" != "/proc/$pid/task/$pid" ] || continue
            expect_equal "seccomp of $task" "$(rights "${task#/proc/}" Seccomp)" 2
            case $(cat "$task/comm") in
            # The kernel's, for a ring: it has the rights of whoever asked for what it does.
            iou-*) ;;
            uswap-metrics) expect_equal "capabilities of $task" $((0x$(rights "${task#/proc/}" CapPrm))) $((1 << 10)) ;;
            uswap-*) expect_equal "capabilities of $task" $((0x$(rights "${task#/proc/}" CapPrm))) 0 ;;
            *) die "a thread that nobody knows: $(cat "$task/comm")" ;;
            esac
        done
    done
    expect_status .safety.calls_filtered true
    ! dmesg | grep 'type=1326' || die "a server made a call that is refused to it"
}

# counter_sum REGEX: of all counters of that name.
counter_sum() { status "[.counters | to_entries[] | select(.key | test(\"$1\")) | .value] | add // 0"; }

# The tables people read, for the log.
show_status() { uswap status || die "uswap status failed"; }

# expect_failure STATUS REGEX COMMAND...: the command must fail so, with one line on stderr that matches.
expect_failure() {
    local wanted=$1 regex=$2 got=0
    shift 2
    timeout 30 "$@" >/tmp/out 2>/tmp/err </dev/null || got=$?
    echo "   $* -> $got: $(cat /tmp/err)"
    expect_equal "exit status of $*" "$got" "$wanted"
    grep -qiE "$regex" /tmp/err || die "$*: the message does not say /$regex/"
    ! grep -q panicked /tmp/err || die "$*: a panic is no error message"
    # A server says why it ends; that line is for one that did not.
    ! grep -q 'ended before it served' /tmp/err || die "$*: more than the reason"
}

# The same, and exactly one line (plus at most one that says what to do).
expect_brief_failure() {
    expect_failure "$@"
    [ "$(wc -l </tmp/err)" -le 2 ] || die "${*:3}: more than two lines: $(cat /tmp/err)"
}

# A failed scenario must still end: a service that holds a swap area would stop nothing here, power off does.
on_exit() {
    local code=$?
    if [ -n "$FAILED" ] || [ $code != 0 ]; then
        dmesg | tail -15 | sed 's/^/  kernel: /'
    fi
    exit $code
}
trap on_exit EXIT
