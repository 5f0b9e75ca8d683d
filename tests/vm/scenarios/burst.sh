# desc: fio bursts of 60 % compressible pages that fit staging: uswap lz4 against the null target; idle wake-ups
# requires: uswap jq fio
# kernels: new
# memory: 1900
# seconds: 560
# smp: 2
# alone: yes
# awake: yes
. /vm/lib.sh

BURST_KIB=${BURST_KIB:-4096} # of one burst; what staging takes is printed with the result
ROUNDS=${ROUNDS:-7}
IDLE_SECONDS=10
COMMON="--size 1G --queues 2 --depth 64"

declare -A DEVICE PID SERVER
for target in null lz4; do
    # shellcheck disable=SC2086 # words on purpose
    case $target in
    null) start_uswap --name null --target null $COMMON ;;
    lz4) start_uswap --name lz4 --pool 640M $COMMON ;;
    esac
    DEVICE[$target]=$DEV PID[$target]=$USWAP_PID
    # The null target's is alone; the other's has a parent.
    SERVER[$target]=$(uswap status $target --json | jq -r ".processes.server_pid // $USWAP_PID")
done
of() { uswap status lz4 --json | jq -r "$1"; }
drained() { [ "$(of .pages.staged)" = 0 ]; }

# fio_run TARGET DEPTH SEED OPTIONS...: IOPS and mean latency in microseconds. What fio does before its first request is
# in neither. refill_buffers: without it fio would write the same 32 pages again and again.
fio_run() {
    local target=$1 depth=$2 seed=$3
    shift 3
    fio --name=burst --filename="${DEVICE[$target]}" --ioengine=io_uring --direct=1 --bs=4k --rw=randwrite \
        --iodepth="$depth" --buffer_compress_percentage=60 --buffer_compress_chunk=4k --refill_buffers \
        --norandommap --randseed="$seed" --output-format=json "$@" >/tmp/fio.json || die "fio on $target ended with $?"
    jq -r '.jobs[0].write | "\(.iops) \(.lat_ns.mean / 1000)"' /tmp/fio.json
    within 60 drained || die "$(of .pages.staged) pages are still staged 60 s after a burst"
}
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
staged_direct() { of '"\(.counters.write_staged_pages) \(.counters.write_direct_pages)"'; }

# The voluntary context switches of a server's queue threads: each is a sleep that ended.
switches() {
    local task
    for task in "/proc/$1"/task/*; do
        case $(cat "$task/comm") in
        uswap-q*) awk -v name="$(cat "$task/comm")" '/^voluntary_ctxt_switches/ { print name, $2 }' "$task/status" ;;
        esac
    done
}

# expect_idle WHEN: nobody wakes a queue thread for 10 s, and none asks its ring again.
expect_idle() {
    local target before after waits
    sleep 0.5
    for target in null lz4; do switches "${SERVER[$target]}"; done >/tmp/before
    [ "$(wc -l </tmp/before)" = 4 ] || die "wanted 2 queue threads of each server: $(cat /tmp/before)"
    waits=$(of .counters.waits)
    sleep $IDLE_SECONDS
    for target in null lz4; do switches "${SERVER[$target]}"; done >/tmp/after
    before=$(awk '{ n += $2 } END { print n }' /tmp/before)
    after=$(awk '{ n += $2 } END { print n }' /tmp/after)
    echo "RESULT idle $1: $((after - before)) wake-ups of 4 queue threads in $IDLE_SECONDS s"
    expect_equal "wake-ups of queue threads ($1)" $((after - before)) 0
    expect_equal "waits of queue threads ($1)" "$(of .counters.waits)" "$waits"
}

say "nothing to do since the start"
expect_idle "after start"

for depth in 1 32; do
    say "depth $depth: $ROUNDS bursts of $BURST_KIB KiB each, by turns"
    rm -f /tmp/null.iops /tmp/lz4.iops /tmp/null.us /tmp/lz4.us
    fio_run null "$depth" 1 --io_size="${BURST_KIB}k" >/dev/null
    fio_run lz4 "$depth" 1 --io_size="${BURST_KIB}k" >/dev/null
    read -r staged direct < <(staged_direct)
    for round in $(seq "$ROUNDS"); do
        order="null lz4"
        [ $((round % 2)) = 0 ] || order="lz4 null"
        for target in $order; do
            read -r iops us < <(fio_run "$target" "$depth" "$round" --io_size="${BURST_KIB}k")
            echo "$iops" >>"/tmp/$target.iops"
            echo "$us" >>"/tmp/$target.us"
        done
    done
    read -r staged_after direct_after < <(staged_direct)
    awk -v depth="$depth" -v ni="$(median /tmp/null.iops)" -v li="$(median /tmp/lz4.iops)" \
        -v nu="$(median /tmp/null.us)" -v lu="$(median /tmp/lz4.us)" \
        -v staged=$((staged_after - staged)) -v direct=$((direct_after - direct)) 'BEGIN {
        printf "RESULT burst depth %d: lz4 %.0f of null %.0f IOPS, ratio %.3f; mean latency %.1f and %.1f us; staged %.3f\n",
            depth, li, ni, li / ni, lu, nu, staged / (staged + direct)
    }'
    [ "$depth" != 32 ] || expect_idle "after a burst"
done

say "sustained, for information"
for depth in 1 32; do
    read -r null _ < <(fio_run null "$depth" 99 --time_based --runtime=5)
    read -r lz4 _ < <(fio_run lz4 "$depth" 99 --time_based --runtime=5)
    awk -v d="$depth" -v n="$null" -v l="$lz4" \
        'BEGIN { printf "RESULT sustained depth %d: lz4 %.0f of null %.0f IOPS, ratio %.3f\n", d, l, n, l / n }'
done
[ "$(of .safety.queue_allocations)" = 0 ] || die "queue threads allocated"
for target in null lz4; do
    USWAP_PID=${PID[$target]}
    kill -TERM "$USWAP_PID"
    within 30 gone "$USWAP_PID" || die "$target still runs 30 s after SIGTERM"
    wait "$USWAP_PID" || die "exit status of $target after SIGTERM: $?"
done
expect_nothing_left
say "burst passed"
