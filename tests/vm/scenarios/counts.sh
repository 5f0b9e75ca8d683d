# desc: instructions per operation: null target, uswap lz4, zram lz4; bench/limits.toml holds them
# requires: uswap jq opcount
# kernels: 6.12 new
# memory: 1500
# seconds: 500
# smp: 1
# accel: icount
# limits: yes
. /vm/lib.sh

# One at a time in one boot: kernels differ, and a boot differs from the next in what it touches first.
COMMON="--size 1G --queues 1 --depth 64"
# shellcheck disable=SC2086 # words on purpose
for target in null lz4; do
    case $target in
    null) start_uswap --name null --target null $COMMON ;;
    lz4) start_uswap --name lz4 --pool 512M $COMMON ;;
    esac
    opcount "$DEV" --label $target >/tmp/counts || die "opcount on $target ended with $?"
    cat /tmp/counts
    expect_none_staged
    expect_status .safety.queue_allocations 0
    if [ $target = lz4 ]; then
        echo "   staged $(status .counters.write_staged_pages) direct $(status .counters.write_direct_pages)"
    fi
    stop_uswap
done
echo lz4 >/sys/block/zram0/comp_algorithm
echo 1G >/sys/block/zram0/disksize
opcount /dev/zram0 --label zram || die "opcount on zram ended with $?"
say "counts passed"
