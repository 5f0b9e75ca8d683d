# desc: every budget at its smallest: full pool, staging exhausted, readers, trims and swap at once; right or refused
# requires: uswap jq fio hog
# kernels: 6.12 new
# test: new
# memory: 512
# seconds: 420
# smp: 2
. /vm/lib.sh

# Writes that find no room fail with ENOSPC, which the kernel reports.
allow_dmesg 'critical space allocation error, dev ublkb'
allow_dmesg 'Write-error on swap-device'

say "16 MiB of pool, 8 tags, one queue, 256 KiB of staging; 256 MiB of device"
start_uswap --name overload --size 256M --pool 16M --depth 8 --queues 1 --staging 256K --helpers 1
full_pages() { status .counters.write_full_pages; }

say "fill the pool for good: what is acknowledged is there, what is refused is refused soon"
# Writers of noise fill the pool. fio goes on after an error, and calls ENOSPC one only when told so.
cat >/tmp/fill.fio <<FIO
[global]
filename=$DEV
direct=1
ioengine=io_uring
iodepth=8
refill_buffers
continue_on_error=write
ignore_error=,ENOSPC
error_dump=0
group_reporting
[noise]
rw=write
bs=64k
offset=0
size=64m
buffer_compress_percentage=0
FIO
began=$SECONDS
timeout 100 fio --minimal /tmp/fill.fio >/tmp/fio.out 2>&1 || true
say "filling took $((SECONDS - began)) s, $(full_pages) pages refused"
[ "$(full_pages)" -gt 4096 ] || die "only $(full_pages) pages were refused: the pool was not full"

say "with the pool full: writers of noise and of text, readers and trims at once"
cat >/tmp/storm.fio <<FIO
[global]
filename=$DEV
direct=1
ioengine=io_uring
iodepth=16
refill_buffers
continue_on_error=io
ignore_error=,ENOSPC
error_dump=0
time_based
runtime=20
[noise]
rw=randwrite
bsrange=4k-128k
offset=64m
size=32m
numjobs=2
buffer_compress_percentage=0
[text]
rw=randwrite
bs=4k
offset=96m
size=32m
buffer_compress_percentage=80
[read]
rw=randread
bs=4k
offset=0
size=160m
numjobs=2
[trim]
rw=randtrim
bs=64k
offset=128m
size=32m
FIO
read_before=$(counter_sum '^read_(empty|same|lz4|zstd|huge|staged)_pages$')
timeout 100 fio --minimal /tmp/storm.fio >/tmp/fio.out 2>&1
code=$?
[ $code != 124 ] || die "fio hangs with a full pool"
read_after=$(counter_sum '^read_(empty|same|lz4|zstd|huge|staged)_pages$')
say "pages read meanwhile: $((read_after - read_before))"
[ $((read_after - read_before)) -gt 1000 ] || die "readers hardly got anywhere"
expect_status .counters.read_corrupt_pages 0
expect_status .counters.refused_requests 0
expect_status .safety.queue_allocations 0
[ "$(status .memory.pool_used_bytes)" -le $((16 << 20)) ] || die "pool over its limit"

say "discards make room, and what is written then is right"
expect discard blkdiscard "$DEV"
pool_empty() { [ "$(status .memory.pool_used_bytes)" = 0 ]; }
within 30 pool_empty || die "$(status .memory.pool_used_bytes) bytes of the pool are in use, but no page is stored"
before=$(full_pages)
fio --name=again --filename="$DEV" --direct=1 --ioengine=io_uring --iodepth=8 --rw=randwrite --bsrange=4k-128k --offset=0 \
    --size=12m --buffer_compress_percentage=20 --refill_buffers --verify=crc32c --verify_fatal=1 --do_verify=1 \
    --minimal >/tmp/fio.out || { cat /tmp/fio.out; die "writes fail although there is room"; }
expect_equal "pages refused with room" "$(full_pages)" "$before"

say "pages that were acknowledged survive a storm of refused writes around them"
dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
expect discard blkdiscard "$DEV"
within 30 pool_empty || die "the pool is not empty"
expect write dd if=/tmp/data of="$DEV" bs=64k oflag=direct conv=notrunc
sed -e 's/^runtime=.*/runtime=8/' -e 's/^offset=0$/offset=8m/' -e 's/^size=160m/size=120m/' /tmp/storm.fio >/tmp/storm2.fio
timeout 100 fio --minimal /tmp/storm2.fio >/tmp/fio.out 2>&1
[ $? != 124 ] || die "fio hangs"
for pass in 1 2; do
    expect read dd if="$DEV" of=/tmp/back bs=64k count=128 iflag=direct
    expect "8 MiB unchanged, pass $pass" cmp /tmp/data /tmp/back
done
rm /tmp/data /tmp/back

say "as swap, far too small: the kernel keeps what is refused"
expect discard blkdiscard "$DEV"
expect mkswap mkswap -q "$DEV"
expect swapon swapon --discard "$DEV"
before=$(full_pages)
# The kernel is asked again and again to push out more than the pool can hold. A limit would not do: memory.max kills for
# pages that cannot go, memory.high stops the program for seconds each time.
mkdir /sys/fs/cgroup/small
(
    echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs
    exec timeout 150 hog --mib 120 --passes 8 --pages /usr/bin/uswap --source-mib 4 --verify --until /tmp/enough
) &
HOG=$!
reclaims=0
began=$SECONDS
while running "$HOG"; do
    # Ends with EAGAIN when not all of it could go, which is the point; while some can, it may go on for minutes.
    timeout 4 sh -c 'echo 80M >/sys/fs/cgroup/small/memory.reclaim' 2>/dev/null || true
    reclaims=$((reclaims + 1))
    # On a busy machine one of them may take longer than all of the program's passes.
    if { [ $reclaims -ge 8 ] && [ "$(full_pages)" -gt "$before" ]; } || [ $((SECONDS - began)) -ge 90 ]; then
        touch /tmp/enough
    fi
    sleep 0.2
done
wait "$HOG" || die "hog ended with $?"
say "asked $reclaims times"
say "pages refused as swap: $(($(full_pages) - before))"
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
[ "$(awk '/^pswpout / { print $2 }' /proc/vmstat)" -gt 1000 ] || die "hardly anything was swapped out"
[ "$(full_pages)" -gt "$before" ] || die "no page was refused: the pool was large enough"
expect swapoff swapoff "$DEV"

show_status
expect_status .counters.read_corrupt_pages 0
expect_status .counters.refused_requests 0
expect_safe
stop_uswap
say "overload passed"
