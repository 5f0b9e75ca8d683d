# desc: perf of uswap's threads and of a reclaimer while real pages are pushed out; for `cargo xtask bench profile`
# requires: uswap jq hog perf
# kernels: 6.12 new
# memory: 1500
# seconds: 560
# smp: 2
# alone: yes
# disk: pages
. /vm/lib.sh

HOG_MIB=${HOG_MIB:-480}
OUT_MIB=${OUT_MIB:-384}   # pushed out, in steps
STEP_MIB=16
HERTZ=499                 # no multiple of the kernel's tick

modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
echo 0 >/proc/sys/kernel/kptr_restrict
echo -1 >/proc/sys/kernel/perf_event_paranoid
start_uswap --name profile --size 2G --pool 600M --swapon --discard
within 30 is_swap "$DEV" || die "--swapon: no swap area 30 s after ready"

say "hog fills $HOG_MIB MiB of real pages and is stopped"
GROUP=/sys/fs/cgroup/profile
mkdir $GROUP
(
    echo "$BASHPID" >$GROUP/cgroup.procs
    exec hog --mib "$HOG_MIB" --passes 1 --pages /dev/vda --source-mib 64 --verify >/tmp/hog.out
) &
HOG=$!
within 120 grep -q '^hog fill' /tmp/hog.out || die "hog has not filled its memory in 120 s"
kill -STOP $HOG
expect_none_staged

say "$OUT_MIB MiB are pushed out"
# A process of its own, so that the samples of reclaim carry its name.
reclaim() {
    local left=$((OUT_MIB / STEP_MIB)) tries=0
    echo reclaimer >"/proc/$BASHPID/comm"
    while [ $left -gt 0 ] && [ $tries -lt 1000 ]; do
        tries=$((tries + 1))
        if echo ${STEP_MIB}M >$GROUP/memory.reclaim 2>/dev/null; then left=$((left - 1)); fi
    done
    [ $left = 0 ]
}
# cpu-clock, not a counter of the CPU: an emulated one has none.
perf record -q -e cpu-clock -F $HERTZ -a -g -o /tmp/perf.data -- sleep 600 >/tmp/perf.log 2>&1 &
PERF=$!
within 30 test -s /tmp/perf.data || die "perf does not record: $(cat /tmp/perf.log)"
pswpout() { awk '/^pswpout / { print $2 }' /proc/vmstat; }
sleep 1
pages=$(pswpout) begin=$(milliseconds)
(reclaim) || die "memory.reclaim did not get $OUT_MIB MiB"
end=$(milliseconds)
pages=$(($(pswpout) - pages))
expect_none_staged
kill -INT $PERF
wait $PERF || true
[ "$pages" -ge $((OUT_MIB * 128)) ] || die "only $pages pages were swapped out"
awk -v ms=$((end - begin)) -v pages="$pages" -v k="$(uname -r)" -v s="$(status .counters.write_staged_pages)" \
    -v d="$(status .counters.write_direct_pages)" 'BEGIN {
    printf "RESULT profile %s: %d pages out in %.1f s, %.0f MiB/s, %.2f of them staged\n",
        k, pages, ms / 1000, pages / 256 / (ms / 1000), s / (s + d)
}'

say "stacks"
perf script -i /tmp/perf.data -F comm,ip,sym,dso --no-demangle >/tmp/script 2>/tmp/perf.log ||
    die "perf script failed: $(cat /tmp/perf.log)"
# A sample is a name, and below it frames from the innermost on: address (in a program's file: offset), function, (file).
# The same stacks are added up.
# Of user space only the innermost frame of a sample that was taken there: without frame pointers the others are wrong.
awk '
    function flush() { if (name != "") count[name frames]++; name = ""; frames = "" }
    function frame(from,    where, function_name) {
        if ($from !~ /^[0-9a-f]+$/ || user) return
        if ($from !~ /^ffff/) {
            user = 1
            if (frames != "") return
        }
        where = $NF
        function_name = $(from + 1)
        sub(/\+0x.*/, "", function_name)
        if (where ~ /\/uswap\)$/) frames = frames " @" $from
        else if (where ~ /^\(\[/) frames = frames " " function_name
        else frames = frames " " function_name where
    }
    /^$/ { flush(); next }
    name == "" { name = $1; user = 0; next }
    { frame(1) }
    END { flush(); for (stack in count) print "PROFILE stack", count[stack], stack }
' /tmp/script >/tmp/stacks
[ -s /tmp/stacks ] || die "no samples: $(cat /tmp/perf.log)"
cat /tmp/stacks

say "hog goes on, and finds every page as it was"
kill -CONT $HOG
wait $HOG || die "hog ended with $?"
expect_safe
expect swapoff swapoff "$DEV"
stop_uswap
say "profile passed"
