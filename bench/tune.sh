# desc: one knob of the server at a time, measured by swapbench; prints the rows of a Markdown table
# requires: uswap swapbench jq
# kernels: new
# memory: 2000
# seconds: 900
# smp: 2
# alone: yes
# awake: yes
# disk: pages
# Run with: tests/vm/boot -k new -b target/release/uswap -b target/release/swapbench -d target/vm/pages bench/tune.sh
. /vm/lib.sh

MIB=64
ROUNDS=${1:-3}
shift $(($# > 0))
# tune.sh ROUNDS [FLAGS...]: these flags, one string for each row, or all of those that were ever in question.
ROWS=("" "$@")
[ $# -gt 0 ] || ROWS=(
    ""
    "--queues 2"
    "--depth 8" "--depth 16" "--depth 32" "--depth 128"
    "--staging 0" "--staging 1M" "--staging 2M" "--staging 32M"
    "--helpers 2"
    "--poll-us 0" "--poll-us 50" "--poll-us 1000"
)
modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
echo 0 >/proc/sys/vm/page-cluster
# Rows by turns, so that a machine that gets slower does so for all.
for round in $(seq "$ROUNDS"); do
    for i in "${!ROWS[@]}"; do
        # shellcheck disable=SC2086 # words on purpose
        start_uswap --name tune --size 128M --pool 80M --swapon --discard ${ROWS[$i]}
        within 30 is_swap "$DEV" || die "no swap area 30 s after ready"
        swapbench --target uswap-lz4 --round "$round" --pages /dev/vda --mib $MIB --faults 4096 \
            --pressure-seconds 2 --socket /run/uswap/tune.sock >/tmp/out ||
            die "swapbench ended with $?"
        sed -n 's/^SWAPBENCH //p' /tmp/out >>"/tmp/row.$i"
        expect_status .safety.queue_allocations 0
        expect swapoff swapoff "$DEV"
        stop_uswap
    done
done
for i in "${!ROWS[@]}"; do
    jq -rs --arg row "${ROWS[$i]:-defaults}" 'def median: sort | .[length / 2 | floor];
        "RESULT tune | `\($row)` | \(map(.out.us_per_page) | median * 10 | round / 10) |" +
        " \(map(.out.cpu_us_per_page) | median * 10 | round / 10) |" +
        " \(map(.random_in.quantiles_us[12]) | median * 10 | round / 10) |" +
        " \(map(.pressure.operations_per_second) | median | round) |"' "/tmp/row.$i" || die "jq"
done
