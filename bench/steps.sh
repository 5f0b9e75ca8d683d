# desc: instructions of a swap-in, step by step, and of a miss under pressure: null target, uswap lz4, zram lz4
# requires: uswap swapbench jq
# kernels: 6.12 new
# memory: 1000
# seconds: 900
# smp: 1
# accel: icount
# disk: pages
# Run with: tests/vm/boot -k new -b target/release/uswap -b target/release/swapbench -d target/vm/pages bench/steps.sh
. /vm/lib.sh

# steps.sh [TARGETS]. The guest's clock counts instructions, so a microsecond is a thousand of them. One CPU: nothing
# overlaps, and the queue thread does not poll, since it would keep the CPU from the program it waits for.
TARGETS=${1:-null lz4 zram}
MIB=64
TRACE=/sys/kernel/tracing
GROUP=/sys/fs/cgroup/swapbench

on() {
    case $1 in
    null)
        start_uswap --name steps --size $((2 * MIB))M --target null --poll-us 0
        # It forgets the header too; while somebody has the device open, the page cache does not.
        exec 7<>"$DEV"
        expect mkswap mkswap -q "$DEV"
        expect swapon swapon "$DEV"
        exec 7>&-
        ;;
    lz4) start_uswap --name steps --size $((2 * MIB))M --pool $((MIB * 5 / 4))M --swapon --discard --poll-us 0 ;;
    zram)
        echo lz4 >/sys/block/zram0/comp_algorithm
        echo "$((2 * MIB))M" >/sys/block/zram0/disksize
        DEV=/dev/zram0
        expect mkswap mkswap -q "$DEV"
        expect swapon swapon --discard "$DEV"
        ;;
    *) die "no target $1" ;;
    esac
    within 30 is_swap "$DEV" || die "no swap area on $DEV"
}
off() {
    expect swapoff swapoff "$DEV"
    case $1 in
    zram) echo 1 >/sys/block/zram0/reset ;;
    *) stop_uswap ;;
    esac
}
measure() { # TARGET FAULTS
    local arguments=()
    case $1 in
    null) arguments=(--lossy) ;;
    lz4) arguments=(--socket /run/uswap/steps.sock) ;;
    esac
    on "$1"
    swapbench --target "$1" --pages /dev/vda --source-mib 16 --mib $MIB --faults "$2" --pressure-seconds 1 \
        ${arguments[@]+"${arguments[@]}"} >/tmp/out || die "swapbench on $1 ended with $?"
    off "$1"
}
totals() {
    sed -n 's/^SWAPBENCH //p' /tmp/out | jq -r 'def r: round / 1000;
        "RESULT steps \(.target): thousand instructions: out \(.out.us_per_page * 1000 | r) a page, in" +
        " \(.random_in.quantiles_us[12] * 1000 | r), pressure \(1e9 / .pressure.operations | r) an operation," +
        " \(1e9 / .pressure.major_faults | r) a miss with" +
        " \(.pressure.pages_out / .pressure.major_faults * 1000 | r) pages out;" +
        " operations for 1e9: \(.pressure.operations)"' || die jq
}
pages() { awk '/^pswpin / { i = $2 } /^pswpout / { o = $2 } END { print i, o }' /proc/vmstat; }
# Lets events through for a part of the phase in which pages only come in.
catch_faults() {
    local was now
    was=$(pages)
    while [ "$(cat $GROUP/memory.max 2>/dev/null)" != "$((MIB << 19))" ]; do
        sleep 0.03
        now=$(pages)
        if [ "${now#* }" = "${was#* }" ] && [ $((${now% *} - ${was% *})) -gt 40 ]; then
            echo 1 >$TRACE/tracing_on
            sleep 0.02
            echo 0 >$TRACE/tracing_on
            return
        fi
        was=$now
    done
    die "no faults were caught"
}
# The mean of each step over the faults that take the commonest steps and no timer tick or other thread: at most a fifth
# more than the mean of all. A fault ends with the last return of do_swap_page before the next one: after a wait the kernel goes through it
# again.
table() { # TARGET, with the trace on stdin
    awk -v target="$1" '
        function mark(name) { if (!(name in at)) { at[name] = now; order[++steps] = name } }
        function settle(    i, line, n) {
            if (returned && ("bio" in at)) {
                at["done"] = returned
                order[++steps] = "done"
                line = order[1]
                for (i = 2; i <= steps; i++) line = line " " order[i]
                n = ++seen[line]
                for (i = 2; i <= steps; i++) took[line, n, i] = at[order[i]] - at[order[i - 1]]
                all = returned - at["fault"]
                total[line, n] = all
                mean[line] += (all - mean[line]) / n
            }
            steps = 0
            returned = 0
            delete at
        }
        {
            now = 0
            for (i = 1; i <= 5 && !now; i++) if ($i ~ /^[0-9]+[.][0-9]+:$/) now = $i * 1e6
            if (!now) next
            rest = $0
            sub(/^.*[0-9][.][0-9]+: /, "", rest)
            ours = $1 ~ /^swapbench-/
        }
        ours && rest ~ /^page_fault_user/ { settle(); mark("fault") }
        !steps { next }
        ours && rest ~ /^swapin:/ { mark("swapin") }
        ours && rest ~ /^swapin_returns:/ { returned = now }
        rest ~ /^block_bio_queue/ { mark("bio") }
        rest ~ /^block_rq_issue/ { mark("queued") }
        rest ~ /^sched_switch.*next_comm=uswap-q/ { mark("switched") }
        rest ~ /^io_uring_complete/ { mark("completed") }
        rest ~ /^sys_io_uring_enter ->/ { mark("seen") }
        rest ~ /^sys_io_uring_enter\(/ { mark("committed") }
        rest ~ /^block_rq_complete/ { mark("ended") }
        rest ~ /^sched_waking: comm=swapbench/ { mark("woken") }
        rest ~ /^sched_switch.*next_comm=swapbench/ { mark("back") }
        END {
            for (line in seen) if (seen[line] > seen[best]) best = line
            steps = split(best, name, " ")
            for (n = 1; n <= seen[best]; n++) {
                if (total[best, n] > 1.2 * mean[best]) continue
                count++
                for (i = 2; i <= steps; i++) sum[i] += took[best, n, i]
                sum[1] += total[best, n]
            }
            if (!count) exit 1
            for (i = 2; i <= steps; i++) {
                printf "RESULT step %s: %.1f thousand from %s to %s\n", target, sum[i] / count, name[i - 1], name[i]
            }
            printf "RESULT step %s: %.1f in all, tracing included, mean of %d faults\n", target, sum[1] / count, count
        }'
}
EVENTS='exceptions/page_fault_user block/block_bio_queue block/block_rq_issue block/block_rq_complete
    sched/sched_switch sched/sched_waking io_uring/io_uring_complete
    syscalls/sys_enter_io_uring_enter syscalls/sys_exit_io_uring_enter kprobes/swapin kprobes/swapin_returns'

modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
echo 0 >/proc/sys/vm/page-cluster
for target in $TARGETS; do
    measure "$target" 1500
    totals
done

expect tracefs mount -t tracefs tracefs $TRACE
echo 0 >$TRACE/tracing_on
echo 8000 >$TRACE/buffer_size_kb
echo 'p:swapin do_swap_page' >>$TRACE/kprobe_events
echo 'r:swapin_returns do_swap_page' >>$TRACE/kprobe_events
for event in $EVENTS; do echo 1 >"$TRACE/events/$event/enable" || die "no event $event"; done
for target in $TARGETS; do
    echo >$TRACE/trace
    catch_faults &
    catcher=$!
    measure "$target" 3000
    wait $catcher || die "no faults were caught"
    table "$target" <$TRACE/trace || die "no fault of $target is complete"
done
say "steps passed"
