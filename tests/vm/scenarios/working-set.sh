# desc: a working set of three times RAM in a small pool and a file, every page verified; then all of it given up
# requires: uswap jq hog mkfs.ext4
# kernels: new
# memory: 300
# seconds: 900
# smp: 2
# alone: yes
# awake: yes
# disk: pages
# scratch: 2G
. /vm/lib.sh

RAM_MIB=300
HOG_MIB=$((3 * RAM_MIB))
find_disks
expect mkfs mkfs.ext4 -q "$SCRATCH"
mkdir -p /mnt
expect mount mount -t ext4 "$SCRATCH" /mnt

start_uswap --name set --size 1300M --pool 64M --spill /mnt/pages --spill-size 768M --swapon --discard
within 30 is_swap "$DEV" || die "no swap area"
expect_equal "swap areas" "$(tail -n +2 /proc/swaps | wc -l)" 1
settled() { # memory held when nothing has happened for a while
    sleep 3
    status '.memory | .pool_resident_bytes + .bookkeeping_bytes + .dictionary_bytes + .table_bytes + .buffer_bytes'
}
IDLE=$(settled)
IDLE_RSS=$(status .memory.resident_bytes)
echo "   idle: $((IDLE >> 20)) MiB counted, $((IDLE_RSS >> 20)) MiB resident"
free -m
while sleep 2; do
    uswap status --json | jq -r '[.pages.stored, .pages.spilled, .spill.data_bytes, .spill.used_bytes, .memory.pool_used_bytes, .memory.resident_bytes] | join(" ")' \
        >>/tmp/samples
done &
SAMPLER=$!
hog --mib "$HOG_MIB" --passes 0 --pages "$PAGES" --source-mib 16 --verify >/tmp/hog.out ||
    { cat /tmp/hog.out; uswap status; die "hog ended with $?"; }
kill "$SAMPLER"
sed 's/^/   /' /tmp/hog.out
sort -n /tmp/samples | tail -1 | {
    read -r stored spilled data used pool resident
    awk -v s="$stored" -v p="$spilled" -v d="$data" -v u="$used" -v pool="$pool" -v r="$resident" -v mib=1048576 'BEGIN {
        printf "   fullest: %d pages (%.0f MiB), %d of them in the spill as %.0f MiB of data in %.0f MiB of segments; %.0f MiB of pool; %.0f MiB resident\n",
            s, s / 256, p, d / mib, u / mib, pool / mib, r / mib }'
} || die "the fullest sample cannot be shown"
show_status | grep -E '^ *(spill|pool|policy|pages|read_spill|write_full|throttled|promoted|recompressed|write_(staged|direct))' | cut -c1-150
expect_status .spill.health good
expect_status .spill.write_errors 0
expect_status .spill.read_errors 0
expect_status .counters.read_corrupt_pages 0
expect_status .counters.write_full_pages 0
expect_status .counters.refused_requests 0
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
expect "most of it was in the spill" test "$(status .counters.spilled_pages)" -gt $((HOG_MIB * 256 / 3))
expect "and came back" test "$(status .counters.read_spill_pages)" -gt $((HOG_MIB * 256 / 4))
expect_safe
jq_number() { uswap status --json | jq "$1"; }
echo "RESULT working-set $(jq_number '.counters.spill_write_bytes / (.counters.spilled_pages + .counters.spill_moved_pages + .counters.spill_stale_pages) | floor') bytes written for a page, $(jq_number '.counters.spill_payload_bytes / (.counters.spilled_pages + .counters.spill_moved_pages + .counters.spill_stale_pages) | floor') of them data"
echo "RESULT working-set $(sed -n 's/^hog total: \([0-9.]*\) s.*/\1/p' /tmp/hog.out) s for $HOG_MIB MiB filled and read back in $RAM_MIB MiB of RAM"

say "all given up: discarded clusters free the pool and the file"
gave_back() {
    local now
    now=$(status '.memory | .pool_resident_bytes + .bookkeeping_bytes + .dictionary_bytes + .table_bytes + .buffer_bytes')
    [ $((now * 10)) -le $((IDLE * 11)) ]
}
within 120 gave_back || { uswap status; die "more than a tenth above what it held idle"; }
# Beside what it counts all that the kernel says it has: no bar yet, it has not been seen to hold.
HELD=$(settled) HELD_RSS=$(status .memory.resident_bytes)
echo "RESULT working-set after discard $HELD bytes counted, $IDLE idle; $HELD_RSS resident, $IDLE_RSS idle; $(status .spill.pages) pages in the spill"
expect swapoff swapoff "$DEV"
stop_uswap
allow_no_swap_table
