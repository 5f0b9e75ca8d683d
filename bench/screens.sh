# desc: a service at work, once a second as Prometheus sees it, and a frame of `uswap top`; for `cargo xtask screens`
# requires: uswap jq hog curl script
# kernels: new
# memory: 700
# seconds: 560
# smp: 2
# alone: yes
# disk: pages
# scratch: 512M
. /vm/lib.sh
allow_no_swap_table

modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
SCRATCH=
for disk in /sys/block/vd*; do
    if [ "$(cat "$disk/serial" 2>/dev/null)" = scratch ]; then SCRATCH=/dev/${disk##*/}; fi
done
[ -b "$SCRATCH" ] || die "no disk for the spill"
# As the preset spill-early, but that minutes are seconds.
cat >/tmp/hasty.toml <<'END'
base = "spill-early"
[time]
age_tick_seconds = 1
step_ms = 500
[recompress]
idle_seconds = 5
pages_per_second = 4000
[spill]
idle_seconds = 12
min_age_seconds = 3
idle_mib_per_second = 4
END
echo 0 >/proc/sys/vm/page-cluster
start_uswap --name default --size 1G --pool 250M --policy /tmp/hasty.toml --spill "$SCRATCH" --swapon
within 30 is_swap "$DEV" || die "no swap area"

mkdir /tmp/scrapes
scrape() {
    local now
    while sleep 0.9; do
        now=$(milliseconds)
        curl -sS --max-time 5 http://127.0.0.1:10847/metrics >/tmp/scrape && mv /tmp/scrape "/tmp/scrapes/$now"
    done
}
scrape &
SCRAPER=$!
sleep 5
say "a program fills more memory than there is, and goes over it"
hog --mib 560 --passes 1 --pages /dev/vda --source-mib 64 --verify --until /tmp/enough >/tmp/hog.out &
HOG=$!
within 240 grep -q '^hog fill' /tmp/hog.out || die "hog has not filled its memory in 240 s"
sleep 10
script -qec 'uswap top --once --interval 2' /dev/null >/tmp/frame || die "no frame"
sleep 10
say "it is left alone: pages become dense, and leave RAM"
kill -STOP $HOG
sleep 40
say "it goes on, and ends"
touch /tmp/enough
kill -CONT $HOG
wait $HOG || die "hog ended with $?"
sleep 5
kill $SCRAPER
expect_safe
expect_status .counters.read_corrupt_pages 0
expect swapoff swapoff "$DEV"
stop_uswap
[ "$(ls /tmp/scrapes | wc -l)" -gt 60 ] || die "only $(ls /tmp/scrapes | wc -l) scrapes"
echo "SCREENS kernel $(uname -r)"
echo "SCREENS booted $(($(date +%s) - $(milliseconds) / 1000))"
gzip -9 -c /tmp/frame | base64 | sed 's/^/SCREENS frame /'
tar -C /tmp -cf - scrapes | gzip -9 | base64 | sed 's/^/SCREENS scrapes /'
