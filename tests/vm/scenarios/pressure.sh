# desc: a program touches more memory than there is three times, every page verified
# requires: uswap jq hog
# kernels: 6.12 new
# test: new
# memory: 700
# seconds: 560
# smp: 2
# alone: yes
# awake: yes
# disk: pages
. /vm/lib.sh
allow_no_swap_table

# The machine has 700 MiB, the kernel and this system included.
HOG_MIB=700
KIND=${1:-uswap}
modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
case $KIND in
uswap)
    start_uswap --name pressure --size 2G --pool 500M --swapon --discard
    within 30 is_swap "$DEV" || die "--swapon: no swap area 30 s after ready"
    ;;
zram)
    echo lz4 >/sys/block/zram0/comp_algorithm
    echo 2G >/sys/block/zram0/disksize
    expect mkswap mkswap -q /dev/zram0
    expect swapon swapon --discard /dev/zram0
    ;;
esac
expect_equal "swap areas" "$(tail -n +2 /proc/swaps | wc -l)" 1
free -m
# What is held is seen only while hog runs: sampled now and then, the fullest sample is shown.
sample() {
    if [ "$KIND" = uswap ]; then
        uswap status --json |
            jq -r '[.pages.stored, .pages.data_bytes, .memory.pool_used_bytes, .memory.resident_bytes] | join(" ")'
    else
        awk '{ print int($1 / 4096), $2, $3, $3 }' /sys/block/zram0/mm_stat
    fi
}
while sleep 2; do sample >>/tmp/samples; done &
SAMPLER=$!
hog --mib "$HOG_MIB" --passes 3 --pages /dev/vda --source-mib 16 --verify >/tmp/hog.out ||
    { cat /tmp/hog.out; die "hog ended with $?"; }
kill "$SAMPLER"
sed 's/^/   /' /tmp/hog.out
[ -s /tmp/samples ] || die "not one sample was taken"
sort -n /tmp/samples | tail -1 | {
    read -r pages data used resident
    awk -v p="$pages" -v d="$data" -v u="$used" -v r="$resident" -v k="$KIND" -v mib=1048576 'BEGIN {
        printf "   fullest: %d pages (%.0f MiB) stored as %.0f MiB of data in %.0f MiB of RAM, %.2f to 1",
            p, p / 256, d / mib, u / mib, p * 4096 / u
        if (k == "uswap") printf "; the server as a whole holds %.0f MiB", r / mib
        print ""
    }'
} || die "the fullest sample cannot be shown"
grep -E '^(pswpin|pswpout|oom_kill|allocstall_[a-z]*) ' /proc/vmstat
[ "$(awk '/^pswpout / { print $2 }' /proc/vmstat)" -gt 50000 ] || die "hardly anything was swapped out"
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
if [ "$KIND" = uswap ]; then
    show_status
    expect_safe
    expect_status .counters.write_full_pages 0
    expect_status .counters.refused_requests 0
    expect_status .counters.read_corrupt_pages 0
    expect_status .memory.pool_growth_failures 0
    expect "at least 50000 pages went out and came back" test "$(counter_sum '^read_(lz4|zstd|huge|same)_pages$')" -gt 50000
    expect swapoff swapoff "$DEV"
    stop_uswap
else
    cat /sys/block/zram0/mm_stat
    expect swapoff swapoff /dev/zram0
fi
echo "RESULT pressure $KIND $(sed -n 's/^hog total: \([0-9.]*\) s.*/\1/p' /tmp/hog.out) s for $HOG_MIB MiB filled and passed 3 times"
