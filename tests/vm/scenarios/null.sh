# desc: the null target answers 4 KiB random writes and reads
# requires: uswap jq fio
# kernels: 6.12 new
# memory: 1500
# seconds: 180
# smp: 2
. /vm/lib.sh

start_uswap --name null --target null --size 1G --queues 2
expect_status .target null
for pattern in randwrite randread; do
    fio --name=null --filename="$DEV" --ioengine=io_uring --direct=1 --bs=4k --rw=$pattern --iodepth=32 \
        --time_based --runtime=5 --output-format=json >/tmp/fio.json || die "fio $pattern ended with $?"
    jq -r '.jobs[0] | "   \(.jobname) '$pattern': \((.write.iops + .read.iops) | floor) IOPS, errors \(.error)"' \
        /tmp/fio.json
    [ "$(jq '.jobs[0] | .write.total_ios + .read.total_ios' /tmp/fio.json)" -gt 1000 ] || die "hardly any I/O"
done
expect_status .safety.queue_allocations 0
expect_status .pages.stored 0
stop_uswap
say "null passed"
