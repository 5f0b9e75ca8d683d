# desc: idle pages become dense by themselves, RAM beside zram lz4 and zstd; discarded pages give their RAM back
# requires: uswap jq
# kernels: 6.12 new
# test: new
# memory: 2400
# seconds: 560
# smp: 2
# disk: pages
. /vm/lib.sh

modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
bytes=$(($(blockdev --getsize64 /dev/vda) / (1 << 20) << 20))
[ $bytes -ge $((16 << 20)) ] || die "the disk holds $bytes bytes, 16 MiB wanted"
[ $bytes -le $((64 << 20)) ] || bytes=$((64 << 20))
mib=$((bytes >> 20)) pages=$((bytes >> 12))

# The default preset, but for time: what it does after five minutes happens after two seconds.
cat >/tmp/hasty.toml <<'END'
base = "balanced"
[time]
age_tick_seconds = 1
step_ms = 200
[recompress]
idle_seconds = 2
pages_per_second = 20000
[memory]
give_back_seconds = 2
END
resident() { status .memory.resident_bytes; }
# Slabs in use, slot table entries of stored pages, dictionaries.
held() { status '.memory.pool_used_bytes + .memory.dictionary_bytes + 8 * .pages.stored'; }

start_uswap --name dense --size 512M --pool 512M --policy /tmp/hasty.toml
idle_resident=$(resident) idle_pool=$(status .memory.pool_resident_bytes)
write() {
    expect "write to $1" dd if=/dev/vda of="$1" bs=1M count="$mib" oflag=direct conv=notrunc
}
same_as_written() { expect "$1 holds the pages" cmp -n "$bytes" /dev/vda "$1"; echo 3 >/proc/sys/vm/drop_caches; }
write "$DEV"
expect_none_staged
burst=$(held) burst_dense=$(status .pages.dense)

say "$mib MiB of captured pages go idle"
# Done when nothing was recompressed for a while, and something was.
tried() { status '.counters.recompressed_pages + .counters.recompress_useless_pages'; }
settled() { local before; before=$(tried); sleep 4; [ "$before" -gt 0 ] && [ "$before" = "$(tried)" ]; }
within 300 settled || die "pages are still recompressed after 300 s"
# What that freed goes back to the kernel, but for the reserve that was there at the start too, and half-filled slabs.
shrunk() {
    local free; free=$(status '.memory.pool_resident_bytes - .memory.pool_used_bytes')
    [ "$free" -le $((idle_pool + (2 << 20))) ]
}
within 60 shrunk || die "$(status .memory.pool_resident_bytes) bytes of pool are resident, $(held) held"
dense=$(held) dense_resident=$(resident)
show_status
[ "$(status .pages.dense)" -gt $((pages / 4)) ] || die "only $(status .pages.dense) of $pages pages are dense"
same_as_written "$DEV"
expect_status .counters.read_corrupt_pages 0
expect_status .safety.queue_allocations 0

zram() {
    echo "$1" >/sys/block/zram0/comp_algorithm
    echo 512M >/sys/block/zram0/disksize
    write /dev/zram0
    awk '{ print $3 }' /sys/block/zram0/mm_stat
    echo 1 >/sys/block/zram0/reset
}
zram_lz4=$(zram lz4 | tail -1) zram_zstd=$(zram zstd | tail -1)
awk -v b="$burst" -v bd="$burst_dense" -v d="$dense" -v r=$((dense_resident - idle_resident)) -v l="$zram_lz4" \
    -v z="$zram_zstd" 'BEGIN {
    printf "RESULT dense after the burst %d bytes, %.3f of zram lz4 (%d pages dense by then)\n", b, b / l, bd
    printf "RESULT dense idle %d bytes, %.3f of zram lz4, %.3f of zram zstd\n", d, d / l, d / z
    printf "RESULT dense resident set above its idle value %d bytes, %.3f of zram lz4, %.3f of zram zstd\n", r, r / l, r / z
}'
[ $((dense * 100)) -le $((zram_lz4 * 62)) ] || die "idle pages take $dense bytes, zram lz4 $zram_lz4: above 0.62"
[ $((dense * 100)) -le $((zram_zstd * 90)) ] || die "idle pages take $dense bytes, zram zstd $zram_zstd: above 0.90"
[ $((burst * 100)) -le $((zram_lz4 * 105)) ] || die "after the burst $burst bytes, zram lz4 $zram_lz4: above 1.05"

say "every page is discarded"
expect blkdiscard blkdiscard "$DEV"
given_back() { [ $(($(status .memory.pool_resident_bytes) * 10)) -le $((idle_pool * 11)) ]; }
within 60 given_back || die "$(status .memory.pool_resident_bytes) bytes of pool are still resident, $idle_pool when idle"
echo "RESULT dense after discard: pool $(status .memory.pool_resident_bytes) bytes, $idle_pool at start"
expect_status .pages.stored 0
stop_uswap
say "dense passed"
