# desc: the loop target in every copy mode: data, errors of the backing, discards, swap, refusals
# requires: uswap jq fio hog mkfs.ext4 fallocate losetup
# kernels: 6.12 new
# memory: 1500
# seconds: 780
# smp: 2
# modules: ublk_drv null_blk loop
. /vm/lib.sh

# A disk in memory that can be told to fail; it obeys per sector range.
null=/sys/kernel/config/nullb/spill
new_disk spill 320 discard=1
expect mkfs mkfs.ext4 -q "$DISK"
mkdir -p /mnt
expect mount mount -t ext4 "$DISK" /mnt
FILE=/mnt/spill
expect fill dd if=/dev/zero of=$FILE bs=1M count=192 oflag=direct

case " $(uswap doctor --json | jq -r '.[] | select(.name == "ublk features") | .found') " in
*" AUTO_BUF_REG "*) MODES='copy user zero' BEST=zero ;;
*) MODES='copy user' BEST=copy ;;
esac
expect_equal "doctor's choice" \
    "$(uswap doctor --json | jq -r '.[] | select(.name == "loop copy mode") | .found' | cut -d: -f1)" $BEST

say "words that do not go together, files that will not do"
expect_brief_failure 2 'target loop' uswap run --spill $FILE --copy zero
expect_brief_failure 2 'spill PATH' uswap run --target loop
expect_brief_failure 2 'drop pool' uswap run --target loop --spill $FILE --pool 64M
expect_brief_failure 2 'No such file.*dd if=' uswap run --target loop --spill /mnt/none
expect "nothing was created" test ! -e /mnt/none
expect_brief_failure 2 'neither a regular file' uswap run --target loop --spill /mnt
expect_brief_failure 2 'size: 1G is more' uswap run --target loop --spill $FILE --size 1G
expect_brief_failure 2 'not a copy mode' uswap run --target loop --spill $FILE --copy all
expect_brief_failure 1 "$DISK.*busy.*mount" uswap run --target loop --spill "$DISK"
[ $BEST = zero ] ||
    expect_brief_failure 1 'no SUPPORT_ZERO_COPY.*--copy copy' uswap run --target loop --spill $FILE --copy zero
dd if=/dev/zero of=/mnt/small bs=4k count=100 2>/dev/null
expect_brief_failure 2 'too small' uswap run --target loop --spill /mnt/small
expect_nothing_left

say "not under swap unless forced: memory file systems, holes, swap on swap"
mkdir -p /ram
mount -t tmpfs ram /ram
dd if=/dev/zero of=/ram/spill bs=1M count=8 2>/dev/null
truncate -s 16M /mnt/thin
expect_brief_failure 1 'tmpfs is memory' uswap run --target loop --spill /ram/spill --swapon
expect_brief_failure 1 'holes.*conv=notrunc' uswap run --target loop --spill /mnt/thin --swapon
expect_brief_failure 1 'holes.*conv=notrunc' uswap up --target loop --spill /mnt/thin
start_uswap --name forced --target loop --spill /ram/spill --swapon --unsafe-spill
within 30 is_swap "$DEV" || die "forced, but no swap area"
expect "it says so" grep -q 'not safe for swap: tmpfs' "$USWAP_LOG"
expect_brief_failure 1 'busy' uswap run --name second --target loop --spill /ram/spill
expect swapoff swapoff "$DEV"
stop_uswap
umount /ram
fallocate -l 16M /mnt/thin
expect_brief_failure 1 'never written' uswap run --target loop --spill /mnt/thin --swapon
rm /mnt/thin

write_and_verify() { # fio with checksums, all sizes, both a fresh and a second time over
    fio --name=verify --filename="$DEV" --direct=1 --ioengine=io_uring --iodepth=32 --rw=randwrite \
        --bsrange=4k-1m --blockalign=4k --size="$1" --verify=crc32c --verify_fatal=1 --verify_dump=0 --do_verify=1 \
        --refill_buffers --loops=2 --minimal >/tmp/fio.out || { cat /tmp/fio.out; die "fio verify failed"; }
}

PAGES=/usr/bin/uswap
for mode in $MODES; do
    say "$mode: mixed sizes with checksums, flushes"
    start_uswap --name loop --target loop --spill $FILE --copy "$mode" --queues 2
    expect_equal "warnings" "$(cat "$USWAP_LOG")" ""
    expect_status .target loop
    expect_status .backing.copy "$mode"
    expect_status .backing.direct true
    expect_status .backing.discard false
    expect_equal "size" "$(blockdev --getsize64 "$DEV")" $((192 << 20))
    write_and_verify 96m
    dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
    expect write dd if=/tmp/data of="$DEV" bs=1M seek=100 oflag=direct conv=notrunc,fsync
    expect "at the same place of the file" cmp /tmp/data <(dd if=$FILE bs=1M skip=100 count=8 iflag=direct 2>/dev/null)
    expect "a flush reached us" test "$(status .counters.flush_requests)" -gt 0
    expect_equal "discards are not offered for a full file" "$(cat "/sys/block/${DEV#/dev/}/queue/discard_max_bytes")" 0
    expect_status .counters.backing_errors 0
    expect_status .safety.queue_allocations 0
    stop_uswap

    say "$mode: swap, with real pages through it"
    start_uswap --name loop --target loop --spill $FILE --copy "$mode" --queues 2 --swapon
    within 30 is_swap "$DEV" || die "no swap area"
    out=$(awk '/^pswpout / { print $2 }' /proc/vmstat)
    mkdir -p /sys/fs/cgroup/small
    echo 40M >/sys/fs/cgroup/small/memory.max
    (
        echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs
        exec hog --mib 80 --passes 1 --pages $PAGES --source-mib 4 --verify
    ) || die "hog ended with $?"
    expect "pages went out" test $(($(awk '/^pswpout / { print $2 }' /proc/vmstat) - out)) -gt 5000
    expect_status .counters.backing_errors 0
    expect_safe
    expect swapoff swapoff "$DEV"
    stop_uswap
done

say "thin file: discards and zeros give blocks back, and read as zeros"
truncate -s 64M /mnt/thin
for mode in $MODES; do
    start_uswap --name thin --target loop --spill /mnt/thin --copy "$mode"
    expect "it says that this is not for swap" grep -q 'not safe for swap: it has holes' "$USWAP_LOG"
    expect write dd if=/tmp/data of="$DEV" bs=1M seek=4 oflag=direct conv=notrunc,fsync
    before=$(stat -c %b /mnt/thin)
    expect discard blkdiscard -o $((4 << 20)) -l $((2 << 20)) "$DEV"
    expect "write zeroes" fallocate -z -o $((6 << 20)) -l $((1 << 20)) "$DEV"
    expect "3 MiB given back" test $((before - $(stat -c %b /mnt/thin))) -ge $((3 << 11))
    dd if=/dev/zero of=/tmp/wanted bs=1M count=3 2>/dev/null
    dd if=/tmp/data bs=1M skip=3 2>/dev/null >>/tmp/wanted
    dd if="$DEV" of=/tmp/back bs=1M skip=4 count=8 iflag=direct 2>/dev/null
    expect "zeros, and the rest unchanged" cmp /tmp/wanted /tmp/back
    expect_status .counters.backing_errors 0
    stop_uswap
done
rm /mnt/thin

say "file shortened and full file system below a running device: the request fails, the others do not, nobody waits"
for mode in $MODES; do
    expect fill dd if=/dev/zero of=/mnt/victim bs=1M count=16 oflag=direct
    start_uswap --name victim --target loop --spill /mnt/victim --copy "$mode"
    truncate -s 8M /mnt/victim
    timeout 20 dd if="$DEV" of=/dev/null bs=64k skip=$((9 << 4)) count=1 iflag=direct 2>/dev/null &&
        die "$mode: a read behind the end of the file did not fail"
    [ $? != 124 ] || die "$mode: a read behind the end of the file hangs"
    timeout 20 dd if="$DEV" of=/dev/null bs=64k skip=16 count=1 iflag=direct 2>/dev/null ||
        die "$mode: a read inside failed"
    expect "counted" test "$(status .counters.backing_errors)" -gt 0
    rm /mnt/victim
    timeout 20 dd if=/tmp/data of="$DEV" bs=64k count=8 oflag=direct conv=notrunc 2>/dev/null ||
        die "$mode: a write to a file that was removed failed"
    # Blocks that a commit of the journal is still to give back would be found again.
    for part in 1 2 3; do
        sync
        dd if=/dev/zero of=/mnt/rest$part bs=64k 2>/dev/null
    done
    timeout 20 dd if=/tmp/data of="$DEV" bs=64k seek=$((9 << 4)) count=1 oflag=direct conv=notrunc 2>/tmp/err &&
        die "$mode: a write that needs a block of a full file system did not fail"
    expect "it says no space" grep -qi 'no space' /tmp/err
    rm /mnt/rest*
    stop_uswap
done
allow_dmesg 'I/O error, dev ublkb|Buffer I/O error on dev ublkb|critical space allocation error, dev ublkb'

say "block device that writes zeros itself behind it"
LOOP=$(losetup -f --show $FILE) || die "no kernel loop device"
[ "$(cat "/sys/block/${LOOP#/dev/}/queue/write_zeroes_max_bytes")" -gt 0 ] || die "the kernel's loop device has no write zeroes"
for mode in $MODES; do
    start_uswap --name zeroes --target loop --spill "$LOOP" --copy "$mode"
    expect write dd if=/tmp/data of="$DEV" bs=1M seek=4 oflag=direct conv=notrunc
    expect zeros fallocate -z -o $((4 << 20)) -l $((3 << 20)) "$DEV"
    dd if="$DEV" of=/tmp/back bs=1M skip=4 count=8 iflag=direct 2>/dev/null
    expect "zeros, and the rest unchanged" cmp /tmp/wanted /tmp/back
    expect "as zeros, not as data" test "$(status .counters.write_zeroes_requests)" -gt 0
    expect_status .counters.backing_errors 0
    stop_uswap
done
losetup -d "$LOOP"

say "block device behind it: discards, zeros, bad blocks"
expect umount umount /mnt
for mode in $MODES; do
    start_uswap --name block --target loop --spill "$DISK" --copy "$mode"
    expect_status .backing.discard true
    write_and_verify 64m
    expect write dd if=/tmp/data of="$DEV" bs=1M seek=4 oflag=direct conv=notrunc,fsync
    expect discard blkdiscard -o $((4 << 20)) -l $((2 << 20)) "$DEV"
    expect "zeros" fallocate -z -o $((6 << 20)) -l $((1 << 20)) "$DEV"
    dd if="$DEV" of=/tmp/back bs=1M skip=4 count=8 iflag=direct 2>/dev/null
    expect "zeros, and the rest unchanged" cmp /tmp/wanted /tmp/back
    expect_status .counters.backing_errors 0
    # 100 pages of it are bad; fio touches each page of the region once, a page at a time.
    echo "+65536-66335" >$null/badblocks || die "no bad blocks"
    fio --name=bad --filename="$DEV" --direct=1 --ioengine=io_uring --iodepth=16 --rw=randrw --bs=4k --offset=24m \
        --size=16m --continue_on_error=all --minimal >/tmp/fio.out 2>&1
    expect_equal "failed requests, for 100 bad pages" "$(status .counters.backing_errors)" 100
    timeout 20 dd if="$DEV" of=/dev/null bs=4k skip=$((65536 / 8)) count=1 iflag=direct 2>/tmp/err &&
        die "$mode: a bad block was read"
    expect "EIO" grep -q 'Input/output error' /tmp/err
    echo "-65536-66335" >$null/badblocks
    expect "good again" dd if="$DEV" of=/dev/null bs=4k skip=$((65536 / 8)) count=1 iflag=direct
    expect_status .safety.queue_allocations 0
    stop_uswap
done
allow_dmesg 'I/O error, dev nullb|Buffer I/O error on dev nullb|I/O error, dev spill'
say "loop passed"
