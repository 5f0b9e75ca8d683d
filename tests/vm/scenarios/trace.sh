# desc: what is recorded is what the service counts; recorders and servers that are killed meanwhile
# requires: uswap jq hog
# kernels: 6.12 new
# test: new
# memory: 1200
# seconds: 300
# smp: 2
# scratch: 64M
. /vm/lib.sh

TRACE=/tmp/trace
RECORDER=
# record WORDS...: begins a recording in the background.
record() {
    rm -f $TRACE
    uswap trace record -o $TRACE "$@" >/tmp/record.out 2>/tmp/record.err &
    RECORDER=$!
    within 20 is_recording || die "it does not record: $(cat /tmp/record.err)"
}
is_recording() { [ "$(status .recording)" = true ]; }
is_not_recording() { [ "$(status .recording)" = false ]; }
# end_record: as Ctrl-C does.
end_record() {
    kill -INT "$RECORDER"
    local code=0
    wait "$RECORDER" || code=$?
    sed 's/^/   /' /tmp/record.out /tmp/record.err
    expect_equal "exit status of the recorder" "$code" 0
}
info() { uswap trace info $TRACE --json | jq -r "$1"; }
# swap_out MIB: a working set twice as large as its memory.
swap_out() {
    (
        echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs
        exec hog --mib "$1" --passes 1 --pages /usr/bin/uswap --source-mib 5 --verify
    ) || die "hog ended with $?"
}
# Counters that a trace has under another name.
counts() {
    status '.counters | [.write_staged_pages + .write_direct_pages, .read_empty_pages, .read_staged_pages,
        .read_same_pages, .read_lz4_pages + .read_zstd_pages, .read_dense_pages, .read_huge_pages, .read_spill_pages,
        .write_same_pages, .write_lz4_pages + .write_zstd_pages, .write_huge_pages, .discard_pages,
        .recompressed_pages, .spilled_pages, .promoted_pages] | join(" ")'
}
traced() {
    info '.totals | [.writes, .reads_empty, .reads_staged, .reads_same, .reads_pool, .reads_dense, .reads_huge,
        .reads_spill, .stored_same, .stored_compressed, .stored_huge, .discarded_slots, .denser, .spilled,
        .promoted] | join(" ")'
}

say "nothing to record, nowhere to write"
expect_brief_failure 1 'no service in' uswap trace record -o $TRACE
start_uswap --name none --target null --size 64M
expect_brief_failure 2 'keeps no pages.*--target swap' uswap trace record -o $TRACE
expect "no file is left" test ! -e $TRACE
stop_uswap

say "everything that is counted is recorded"
mkdir -p /sys/fs/cgroup/small
find_disks
echo 32M >/sys/fs/cgroup/small/memory.max
start_uswap --name t --size 400M --pool 24M --staging 4M --spill "$SCRATCH" --swapon --discard
within 30 is_swap "$DEV" || die "no swap area"
# What mkswap and swapon have read and written.
expect_none_staged
BEFORE=$(counts)
record
expect_brief_failure 1 'records this service already' uswap trace record -o /tmp/other
expect "no file is left" test ! -e /tmp/other
expect_brief_failure 1 'not there yet' uswap trace record -o $TRACE
swap_out 80
expect_none_staged
# The mover goes on by itself: both are looked at while it rests.
same_twice() { local first; first=$(counts); sleep 1; [ "$first" = "$(counts)" ]; }
within 60 same_twice || die "it does not come to rest"
end_record
is_not_recording || die "it still records"
AFTER=$(counts)
read -ra before <<<"$BEFORE"
read -ra after <<<"$AFTER"
WANTED=$(for i in "${!after[@]}"; do echo $((after[i] - before[i])); done | tr '\n' ' ')
uswap trace info $TRACE || die "info failed"
expect_equal "dropped" "$(info .dropped)" 0
expect_equal "gaps" "$(info .gaps)" 0
expect_equal "events by kind" "$(traced) " "$WANTED"
expect_status .counters.trace_events "$(info .events)"
expect_status .counters.trace_dropped_events 0
expect "pages went out" test "$(info .totals.writes)" -gt 10000
expect "and came back" test "$(info .reads)" -gt 5000
expect "the machine was looked at" test "$(info .totals.machine)" -gt 3
expect_safe
expect_confined
expect_equal "rows of the table" \
    "$(uswap trace export $TRACE -o /tmp/table >/dev/null && wc -l </tmp/table)" $(($(info .events) + 1))
rm /tmp/table

say "a recorder that is killed is noticed, and the next one records"
record
kill -KILL "$RECORDER"
wait "$RECORDER" 2>/dev/null
expect_brief_failure 1 'ends in the middle' uswap trace info $TRACE
within 30 is_not_recording || die "the server waits for a dead recorder"
grep -q 'recording has ended' "$USWAP_LOG" || within 10 grep -q 'recording has ended' "$USWAP_LOG" || die "it did not say so"
record --seconds 2
wait "$RECORDER" || die "a recording of two seconds failed: $(cat /tmp/record.err)"
expect "two seconds" test "$(info .duration_us)" -ge 2000000 -a "$(info .duration_us)" -lt 10000000

say "the server dies: the recording goes on with the next one"
within 60 standby_warm || die "no standby"
record
swap_out 40
SERVER=$(status .processes.server_pid)
WRITES=$(status '.counters | .write_staged_pages + .write_direct_pages')
kill -KILL "$SERVER"
other_server() { [ "$(status .processes.server_pid 2>/dev/null)" != "$SERVER" ] && is_recording; }
within 60 other_server || die "nobody records after the kill"
swap_out 40
end_record
expect_equal "gaps" "$(info .gaps)" 1
expect "pages of both servers" test "$(info .totals.writes)" -gt 5000
within 60 standby_warm || die "no standby"
expect_status .safety.queue_allocations 0

say "the service ends: so does the recording"
record
swap_out 40
expect swapoff swapoff "$DEV"
kill -TERM "$USWAP_PID"
wait "$RECORDER" || die "the recorder failed: $(cat /tmp/record.err)"
grep -q 'has ended, and the recording with it' /tmp/record.err || die "it did not say so: $(cat /tmp/record.err)"
expect "its pages are in it" test "$(info .reads)" -gt 0
wait "$USWAP_PID" || die "uswap ended with $?"
expect_nothing_left
say "trace passed"
