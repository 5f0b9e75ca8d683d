# desc: pages leave RAM for a file: refusals, a working set of several pools, a disk that fails and heals
# requires: uswap jq hog mkfs.ext4 cmp blkdiscard
# kernels: 6.12 new
# test: new
# memory: 1200
# seconds: 600
# smp: 2
# modules: ublk_drv null_blk
. /vm/lib.sh

# Disks in memory; the second is told to fail.
new_disk plain 256
expect mkfs mkfs.ext4 -q "$DISK"
mkdir -p /mnt /ram
expect mount mount -t ext4 "$DISK" /mnt
PLAIN=$DISK
new_disk weak 64
WEAK=$DISK

say "words that do not go together, files that will not do"
expect_brief_failure 2 'give --spill-size' uswap run --spill /mnt/none
expect_brief_failure 2 'name a file with --spill' uswap run --spill-size 32M
expect_brief_failure 2 'at least 16M' uswap run --spill /mnt/none --spill-size 1M
expect_brief_failure 2 'neither a regular file' uswap run --spill /mnt --spill-size 32M
expect_brief_failure 2 'stores nothing' uswap run --target null --spill /mnt/none --spill-size 32M
expect_brief_failure 1 "$PLAIN.*busy.*mount" uswap run --pool 16M --spill "$PLAIN"
expect_brief_failure 1 'No space.*smaller --spill-size' uswap run --pool 16M --spill /mnt/none --spill-size 1G
expect_brief_failure 1 'make its directory' uswap run --pool 16M --spill /mnt/no/where --spill-size 16M
truncate -s 64M /mnt/thin
expect_brief_failure 1 'holes.*conv=notrunc' uswap run --pool 16M --spill /mnt/thin
expect_brief_failure 2 'too small.*remove the file' uswap run --pool 16M --spill /mnt/thin --spill-size 128M
rm /mnt/thin
mount -t tmpfs ram /ram
expect_brief_failure 1 'tmpfs is memory' uswap run --pool 16M --spill /ram/none --spill-size 16M
expect "nothing is left behind" test ! -e /ram/none -a ! -e /mnt/none
mount -o remount,ro /mnt
expect_brief_failure 1 'Read-only file system' uswap run --pool 16M --spill /mnt/none --spill-size 16M
mount -o remount,rw /mnt
expect mkswap mkswap -q "$WEAK"
expect swapon swapon "$WEAK"
expect_brief_failure 1 "$WEAK.*(busy|in use as swap)" uswap run --pool 16M --spill "$WEAK"
expect swapoff swapoff "$WEAK"
expect_brief_failure 2 'too small' uswap run --pool 16M --spill "$WEAK" --spill-size 128M
blockdev --setro "$WEAK" || die "it cannot be made read-only"
expect_brief_failure 1 "$WEAK.*(read-only|not permitted)" uswap run --pool 16M --spill "$WEAK"
blockdev --setrw "$WEAK" || die "it cannot be made writable"
expect_nothing_left

say "a working set of several pools: what does not fit goes to the file and comes back"
PAGES=/usr/bin/uswap
start_uswap --name spill --size 400M --pool 32M --staging 4M --spill /mnt/pages --spill-size 128M --swapon --discard
within 30 is_swap "$DEV" || die "no swap area"
expect "it says that it makes the file" grep -q 'writing 128M of zeros to /mnt/pages' "$USWAP_LOG"
expect_equal "mode of the file" "$(stat -c %a /mnt/pages)" 600
expect "every block is there" test "$(stat -c %b /mnt/pages)" -ge $((128 << 11))
expect_status .spill.health good
expect_brief_failure 1 'busy' uswap run --name second --pool 16M --spill /mnt/pages
mkdir -p /sys/fs/cgroup/small
echo 32M >/sys/fs/cgroup/small/memory.max
while sleep 1; do
    uswap status --json | jq -r '[.spill.pages, .spill.used_bytes, .spill.data_bytes, .memory.pool_used_bytes, .pages.stored] | join(" ")' \
        >>/tmp/samples
done &
SAMPLER=$!
(
    echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs
    exec hog --mib 160 --passes 1 --pages $PAGES --source-mib 5 --verify
) || die "hog ended with $?"
kill "$SAMPLER"
sort -n /tmp/samples | tail -1 | {
    read -r pages used data pool stored
    awk -v p="$pages" -v u="$used" -v d="$data" -v pool="$pool" -v s="$stored" -v mib=1048576 'BEGIN {
        printf "   fullest: %d of %d pages in the spill, %.1f MiB of data in %.1f MiB of segments; %.1f MiB of pool\n",
            p, s, d / mib, u / mib, pool / mib }'
}
show_status | grep -E '^ *(spill|pool|pages|read_spill|buffers|write_full|throttled)' | cut -c1-150
expect_status .spill.health good
expect_status .spill.write_errors 0
expect_status .spill.read_errors 0
expect_status .counters.read_corrupt_pages 0
expect_status .counters.write_full_pages 0
expect "pages went out" test "$(status .counters.spilled_pages)" -gt 10000
expect "pages came back" test "$(status .counters.read_spill_pages)" -gt 5000
expect_safe
WRITTEN=$(($(status .counters.spill_write_bytes) / ($(status .counters.spilled_pages) + $(status .counters.spill_stale_pages) + $(status .counters.spill_moved_pages))))
echo "RESULT spill $WRITTEN bytes written for a page spilled"
expect "packed" test "$WRITTEN" -lt 3000
expect swapoff swapoff "$DEV"
stop_uswap

# Pieces of 1 MiB, each different, written to the device itself until it refuses one.
piece() { { echo "piece $1"; dd if=$PAGES bs=64k skip=$(($1 % 8)) count=17 2>/dev/null; } | head -c 1048576; }
write_pieces() { # FIRST LAST -> sets LAST to the last one that was taken
    local i
    LAST=$(($1 - 1))
    for i in $(seq "$1" "$2"); do
        piece "$i" >/tmp/piece
        timeout 60 dd if=/tmp/piece of="$DEV" bs=64k seek=$((i << 4)) oflag=direct conv=notrunc 2>/dev/null || break
        LAST=$i
    done
}
check_pieces() { # FIRST LAST
    local i
    for i in $(seq "$1" "$2"); do
        piece "$i" >/tmp/piece
        timeout 60 dd if="$DEV" of=/tmp/back bs=64k skip=$((i << 4)) count=16 iflag=direct 2>/dev/null ||
            die "piece $i cannot be read"
        cmp -s /tmp/piece /tmp/back || die "piece $i is wrong"
    done
}
health_is() { [ "$(status .spill.health)" = "$1" ]; }

say "a disk that fails every write: spilling stops, loudly; what was taken is there, what does not fit is refused"
BAD=/sys/kernel/config/nullb/weak/badblocks
echo "+0-131071" >$BAD || die "no bad blocks"
start_uswap --name weak --size 256M --pool 16M --spill "$WEAK" --codec none
expect_status .spill.size_bytes $((64 << 20))
write_pieces 0 40
FIRST_LAST=$LAST
echo "   $((LAST + 1)) MiB were taken, in a pool of 16 MiB"
expect "about the pool" test "$LAST" -ge 8 -a "$LAST" -le 16
expect_status .spill.health failing
expect "counted" test "$(status .spill.write_errors)" -gt 0
expect_status .spill.pages 0
within 30 grep -q 'spilling has stopped: the spill cannot be written (Input/output error' "$USWAP_LOG" || die "it did not say so"
check_pieces 0 "$LAST"

say "the disk is well again: spilling goes on by itself"
echo "-0-131071" >$BAD
spills() { [ "$(status .spill.pages)" -gt 0 ]; }
within 90 spills || die "it does not try again"
within 30 grep -q 'spilling goes on' "$USWAP_LOG" || die "it did not say so"
expect_status .spill.health good
write_pieces $((FIRST_LAST + 1)) 45
expect_equal "the last piece" "$LAST" 45
check_pieces 0 45
expect "more than the pool" test "$(status .spill.pages)" -gt 6000

say "reads fail: only what is on the disk, and only until it is well again"
echo "+0-131071" >$BAD
write_pieces 46 46
expect_equal "a piece that the pool has room for" "$LAST" 46
FAILED_READS=0 GOOD_READS=0
for i in $(seq 0 46); do
    if timeout 60 dd if="$DEV" of=/tmp/back bs=64k skip=$((i << 4)) count=16 iflag=direct 2>/dev/null; then
        piece "$i" >/tmp/piece
        cmp -s /tmp/piece /tmp/back || die "piece $i is wrong"
        GOOD_READS=$((GOOD_READS + 1))
    else
        FAILED_READS=$((FAILED_READS + 1))
    fi
done
echo "   $GOOD_READS pieces could be read, $FAILED_READS could not"
expect "both" test "$GOOD_READS" -gt 0 -a "$FAILED_READS" -gt 0
expect "counted" test "$(status .spill.read_errors)" -gt 0
expect_status .counters.read_corrupt_pages 0
echo "-0-131071" >$BAD
check_pieces 0 46

say "somebody writes to the disk below us: errors, never a wrong page"
dd if=/dev/urandom of="$WEAK" bs=1M seek=4 count=8 oflag=direct conv=notrunc 2>/dev/null || die "it could not be written"
CORRUPT=0
for i in $(seq 0 45); do
    timeout 60 dd if="$DEV" of=/tmp/back bs=64k skip=$((i << 4)) count=16 iflag=direct 2>/dev/null || { CORRUPT=$((CORRUPT + 1)); continue; }
    piece "$i" >/tmp/piece
    cmp -s /tmp/piece /tmp/back || die "piece $i is wrong"
done
expect "noticed" test "$CORRUPT" -gt 0 -a "$(status .counters.read_corrupt_pages)" -gt 0
echo "   $CORRUPT pieces could not be read"

say "everything discarded: the spill is empty without any I/O"
# -f: it would look for signatures, which cannot be read any more.
expect blkdiscard blkdiscard -f "$DEV"
expect_status .spill.pages 0
write_pieces 0 40
check_pieces 0 40
expect_status .safety.queue_allocations 0
stop_uswap

say "the file shrinks under us and its file system is full: errors for what is gone, all else stays right"
start_uswap --name shrunk --size 256M --pool 16M --spill /mnt/pages --codec none
write_pieces 0 60
expect_equal "the last piece" "$LAST" 60
expect_status .spill.health good
expect cut truncate -s 16M /mnt/pages
dd if=/dev/zero of=/mnt/filler bs=1M 2>/dev/null
expect "no room" test "$(stat -f -c %a /mnt)" -lt 256
lost() { # FIRST LAST: pieces that cannot be read; none may be wrong
    local i
    for i in $(seq "$1" "$2"); do
        timeout 60 dd if="$DEV" of=/tmp/back bs=64k skip=$((i << 4)) count=16 iflag=direct 2>/dev/null || { echo "$i"; continue; }
        piece "$i" >/tmp/piece
        cmp -s /tmp/piece /tmp/back || die "piece $i is wrong" >&2
    done
}
LOST=$(lost 0 60)
echo "   pieces that cannot be read: $(echo $LOST)"
expect "some are gone, and not all" test "$(echo "$LOST" | wc -w)" -gt 10 -a "$(echo "$LOST" | wc -w)" -lt 60
expect "counted" test "$(status .spill.read_errors)" -gt 0
expect_status .counters.read_corrupt_pages 0
write_pieces 61 100
expect "only what the pool has room for is taken" test "$LAST" -lt 90
expect_status .spill.health failing
within 30 grep -q 'spilling has stopped: the spill cannot be written (No space left' "$USWAP_LOG" || die "it did not say so"
check_pieces 61 "$LAST"
rm /mnt/filler
within 90 health_is good || die "it does not go on"
expect "nothing else was lost" test -z "$(for i in $(lost 0 60); do echo "$LOST" | grep -x "$i" >/dev/null || echo "$i"; done)"
stop_uswap
allow_dmesg 'I/O error, dev (ublkb|nullb|weak)|Buffer I/O error on dev (ublkb|nullb|weak)|critical space allocation error, dev ublkb'
say "spill passed"
