# desc: RAM that the same real pages take in uswap and in zram lz4
# requires: uswap jq
# kernels: 6.12 new
# test: 6.12
# memory: 2000
# seconds: 300
# smp: 2
# disk: pages
. /vm/lib.sh

modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
bytes=$(($(blockdev --getsize64 /dev/vda) / (1 << 20) << 20))
[ $bytes -ge $((16 << 20)) ] || die "the disk holds $bytes bytes, 16 MiB wanted"
[ $bytes -le $((256 << 20)) ] || bytes=$((256 << 20))
mib=$((bytes >> 20))
echo "   $mib MiB of captured pages"
start_uswap --name memory --size 512M --pool 512M
echo lz4 >/sys/block/zram0/comp_algorithm
echo 512M >/sys/block/zram0/disksize
for device in "$DEV" /dev/zram0; do
    expect "write to $device" dd if=/dev/vda of="$device" bs=1M count="$mib" oflag=direct conv=notrunc
    expect "$device holds the pages" cmp -n "$bytes" /dev/vda "$device"
    echo 3 >/proc/sys/vm/drop_caches
done
expect_none_staged
show_status
read -r _ zram_data zram_used _ _ zram_same _ zram_huge _ </sys/block/zram0/mm_stat
stored=$(status .pages.stored)
uswap_data=$(status .pages.data_bytes)
uswap_pool=$(status .memory.pool_used_bytes)
uswap_used=$((uswap_pool + 8 * stored))
awk -v pages=$((bytes >> 12)) -v zd="$zram_data" -v zu="$zram_used" -v zs="$zram_same" -v zh="$zram_huge" \
    -v ud="$uswap_data" -v up="$uswap_pool" -v uu="$uswap_used" \
    -v us="$(status .pages.same)" -v uh="$(status .pages.huge)" 'BEGIN {
    printf "%-34s %12s %12s\n", "bytes", "uswap", "zram lz4"
    printf "%-34s %12d %12d\n", "page data", ud, zd
    printf "%-34s %12d %12d\n", "RAM for it (uswap: + 8 a slot)", uu, zu
    printf "%-34s %12.1f %12.1f\n", "RAM a page written", uu / pages, zu / pages
    printf "%-34s %12.3f %12.3f\n", "pages per page of RAM", pages * 4096 / uu, pages * 4096 / zu
    printf "%-34s %12d %12d\n", "same-filled pages", us, zs
    printf "%-34s %12d %12d\n", "pages stored raw", uh, zh
    printf "RESULT memory uswap/zram %.4f\n", uu / zu
}'
# What a stored page costs, part by part; the rest of the pool's and table's RAM does not depend on how much is stored.
status '[.pages.stored, (.pages | .lz4 + .zstd), .pages.data_bytes, .memory.object_bytes, .memory.pool_used_bytes,
    .memory.bookkeeping_bytes, .memory.table_bytes] | @tsv' >/tmp/cost || die "no status"
awk '{
    stored = $1; headers = 4 * $2; data = $3; objects = $4; slabs = $5
    if (stored == 0 || objects < data + headers || slabs < objects) exit 1
    printf "%-34s %12s\n", "a stored page costs", "bytes"
    printf "%-34s %12.1f\n", "data", data / stored
    printf "%-34s %12.1f\n", "header (4 for each lz4 page)", headers / stored
    printf "%-34s %12.1f\n", "rounding to a class", (objects - data - headers) / stored
    printf "%-34s %12.1f\n", "half-filled slabs", (slabs - objects) / stored
    printf "%-34s %12.1f\n", "slot", 8
    printf "%-34s %12.1f\n", "sum", slabs / stored + 8
    printf "for information: bookkeeping of the pool %d bytes, slot table %d bytes\n", $6, $7
}' /tmp/cost || die "the parts do not add up: $(cat /tmp/cost)"
[ $((uswap_used * 100)) -le $((zram_used * 102)) ] || die "uswap takes $uswap_used bytes, zram $zram_used"
stop_uswap
say "memory passed"
