# desc: swap-out, swap-in and pressure measured with real pages on uswap, zram and zswap in one boot
# requires: uswap swapbench jq
# kernels: 6.12 new
# memory: 2000
# seconds: 560
# smp: 2
# alone: yes
# measures: yes
# awake: yes
# disk: pages
. /vm/lib.sh

# swapbench.sh [--targets 'T...'] [--rounds N] [--mib N] [--pressure-seconds N] [--faults N] [--page-cluster N]
#              [-- FLAGS OF uswap run...]
# Without arguments as small as swapbench allows, for a test that all of it works. `cargo xtask bench swap` measures.
TARGETS='uswap-null uswap-lz4 uswap-zstd zram-lz4 zram-zstd zswap-lz4'
ROUNDS=1 MIB=64 PRESSURE=2 FAULTS=2048 CLUSTER=0
while [ $# -gt 0 ]; do
    case $1 in
    --targets) TARGETS=$2 ;;
    --rounds) ROUNDS=$2 ;;
    --mib) MIB=$2 ;;
    --pressure-seconds) PRESSURE=$2 ;;
    --faults) FAULTS=$2 ;;
    --page-cluster) CLUSTER=$2 ;;
    --) shift; break ;;
    *) die "unknown argument $1" ;;
    esac
    shift 2
done
UFLAGS=("$@")
# Twice the working set: pages that came back keep their slots until they are written.
SIZE_MIB=$((2 * MIB))

# uswap CODEC-OR-null
uswap_on() {
    local codec=$1 arguments=(--name bench --size "${SIZE_MIB}M" --swapon --discard)
    case $codec in
    null) arguments=(--name bench --size "${SIZE_MIB}M" --target null) ;;
    *) arguments+=(--pool "$((MIB * 5 / 4))M" --codec "$codec") ;;
    esac
    start_uswap "${arguments[@]}" ${UFLAGS[@]+"${UFLAGS[@]}"}
    if [ "$codec" = null ]; then
        # It forgets the header too; while somebody has the device open, the page cache does not.
        exec 7<>"$DEV"
        expect mkswap mkswap -q "$DEV"
        expect swapon swapon "$DEV"
        exec 7>&-
    fi
    within 30 is_swap "$DEV" || die "no swap area 30 s after ready"
}

uswap_off() {
    if [ "$1" != null ]; then
        expect_safe
        expect_status .counters.read_corrupt_pages 0
        expect_status .counters.write_full_pages 0
    fi
    expect_status .safety.queue_allocations 0
    expect swapoff swapoff "$DEV"
    stop_uswap
}

zram_on() {
    echo "$1" >/sys/block/zram0/comp_algorithm
    echo "${SIZE_MIB}M" >/sys/block/zram0/disksize
    expect mkswap mkswap -q /dev/zram0
    expect swapon swapon --discard /dev/zram0
}

zram_off() {
    expect swapoff swapoff /dev/zram0
    echo 1 >/sys/block/zram0/reset
}

# zswap in front of a disk whose contents are in RAM, so that what it does write costs little.
zswap_on() {
    modprobe null_blk nr_devices=1 memory_backed=1 gb=1 bs=4096 queue_mode=2 || die "no null_blk"
    echo "$1" >/sys/module/zswap/parameters/compressor
    expect_equal "zswap's compressor" "$(cat /sys/module/zswap/parameters/compressor)" "$1"
    echo 50 >/sys/module/zswap/parameters/max_pool_percent
    echo Y >/sys/module/zswap/parameters/enabled
    expect mkswap mkswap -q /dev/nullb0
    expect swapon swapon /dev/nullb0
}

zswap_off() {
    echo N >/sys/module/zswap/parameters/enabled
    expect swapoff swapoff /dev/nullb0
    rmmod null_blk
}

# cannot TARGET: says why this kernel or uswap cannot be measured so.
cannot() {
    case $1 in
    zswap-*) [ -d /sys/module/zswap ] || echo "this kernel has no zswap" ;;
    uswap-lz4 | uswap-null) ;;
    uswap-*)
        # The size is one that never starts; what matters is whether the codec is refused before it.
        if uswap run --name bench --codec "${1#uswap-}" --size 0 2>&1 | grep -q 'not a codec'; then
            echo "uswap has no such codec"
        fi
        ;;
    esac
}

# round TARGET NUMBER
round() {
    local target=$1 kind=${1%%-*} codec=${1#*-} arguments=()
    case $target in
    uswap-null) arguments=(--lossy) ;;
    uswap-*) arguments=(--socket /run/uswap/bench.sock) ;;
    esac
    "${kind}_on" "$codec"
    swapbench --target "$target" --round "$2" --pages /dev/vda --mib "$MIB" --faults "$FAULTS" \
        --pressure-seconds "$PRESSURE" ${arguments[@]+"${arguments[@]}"} || die "swapbench ended with $?"
    "${kind}_off" "$codec"
}

modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
echo "$CLUSTER" >/proc/sys/vm/page-cluster
CAN=
for target in $TARGETS; do
    why=$(cannot "$target")
    if [ -n "$why" ]; then say "skipped $target: $why"; else CAN="$CAN $target"; fi
done
# One of each, and again: if the machine gets slower meanwhile it does so for all.
for number in $(seq "$ROUNDS"); do
    for target in $CAN; do
        echo "   round $number of $ROUNDS: $target"
        round "$target" "$number"
    done
done
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
say "swapbench passed"
