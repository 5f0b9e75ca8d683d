# desc: fio with checksums on the raw device, then a file system, checked; several queues
# requires: uswap jq fio mkfs.ext4 fsck.ext4
# kernels: 6.12 new
# memory: 1500
# seconds: 480
# smp: 2
. /vm/lib.sh

start_uswap --name verify --size 768M --pool 512M --queues 2 --depth 64

say "random mixed sizes, checksums, three disjoint regions"
# Pages half compressible: the pool then holds compressed, raw and same-filled ones at once.
cat >/tmp/verify.fio <<FIO
[global]
filename=$DEV
direct=1
ioengine=io_uring
iodepth=16
verify=crc32c
verify_fatal=1
verify_dump=0
do_verify=1
buffer_compress_percentage=50
refill_buffers
randrepeat=1
group_reporting
[mixed]
rw=randwrite
bsrange=4k-1m
bs_unaligned=0
blockalign=4k
offset=0
size=96m
[small]
rw=randwrite
bs=4k
norandommap=0
offset=128m
size=32m
loops=2
[sequential]
rw=write
bs=1m
offset=256m
size=96m
buffer_compress_percentage=0
FIO
fio --minimal /tmp/verify.fio >/tmp/fio.out || { cat /tmp/fio.out; die "fio verify failed"; }

say "trims mixed in: what is trimmed is gone, what is not stays"
fio --name=trim --filename="$DEV" --direct=1 --ioengine=io_uring --iodepth=16 --bsrange=4k-64k --offset=384m --size=64m \
    --rw=randtrimwrite --minimal >/tmp/fio.out || { cat /tmp/fio.out; die "fio trim failed"; }
dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
expect write dd if=/tmp/data of="$DEV" bs=1M seek=500 oflag=direct conv=notrunc
before=$(status .pages.stored)
expect discard blkdiscard -o $((502 << 20)) -l $((2 << 20)) "$DEV"
expect_equal "pages freed by a discard of 2 MiB" $((before - $(status .pages.stored))) 512
dd if=/dev/zero of=/tmp/data bs=1M seek=2 count=2 conv=notrunc 2>/dev/null
dd if="$DEV" of=/tmp/back bs=1M skip=500 count=8 iflag=direct 2>/dev/null
expect "discarded pages read as zeros, their neighbours unchanged" cmp /tmp/data /tmp/back
rm /tmp/data /tmp/back

say "file system"
expect discard blkdiscard "$DEV"
expect_status .pages.stored 0
# A page that is being compressed while its slot is discarded holds its object a moment longer.
pool_empty() { [ "$(status .memory.pool_used_bytes)" = 0 ]; }
within 10 pool_empty || die "$(status .memory.pool_used_bytes) bytes of the pool are in use, but no page is stored"
expect mkfs mkfs.ext4 -q "$DEV"
mkdir -p /mnt
expect mount mount -t ext4 -o discard "$DEV" /mnt
for i in 1 2 3 4 5 6; do
    mkdir /mnt/$i
    cp -r /usr/bin /mnt/$i/
    dd if=/dev/urandom of=/mnt/$i/noise bs=64k count=$((i * 8)) 2>/dev/null
done
rm -r /mnt/2 /mnt/4
(cd /mnt && find . -type f -exec sha256sum {} + | sort -k2) >/tmp/sums
[ "$(wc -l </tmp/sums)" -gt 20 ] || die "only $(wc -l </tmp/sums) files written"
expect umount umount /mnt
# Nothing of it may come from the page cache.
echo 3 >/proc/sys/vm/drop_caches
expect mount mount -t ext4 "$DEV" /mnt
(cd /mnt && find . -type f -exec sha256sum {} + | sort -k2) >/tmp/sums.back
expect "checksums of all files" cmp /tmp/sums /tmp/sums.back
expect umount umount /mnt
expect fsck fsck.ext4 -f -n "$DEV"

say "counters"
expect_none_staged
show_status
[ "$(status .counters.write_staged_pages)" -gt 0 ] || die "no page was ever staged"
expect_status .counters.read_corrupt_pages 0
expect_status .counters.write_full_pages 0
stored=$(status .pages.stored)
kinds=$(status '.pages | .same + .lz4 + .zstd + .huge')
expect_equal "stored pages by kind" "$kinds" "$stored"
[ "$(status .memory.pool_used_bytes)" -ge "$(status .pages.data_bytes)" ] || die "more data than memory for it"
[ "$(status .memory.pool_used_bytes)" -le "$(status .memory.pool_bytes)" ] || die "pool over its limit"
expect_safe
stop_uswap
say "verify passed"
