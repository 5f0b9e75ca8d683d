# desc: metrics over HTTP and as a file: right numbers, a taken port, bad clients, what a scrape costs
# requires: uswap jq curl
# kernels: 6.12 new
# test: new
# memory: 1500
# seconds: 240
# smp: 2
. /vm/lib.sh

scrape() { curl -sS --max-time 10 "http://$1/metrics"; }
# value METRIC-WITH-LABELS-REGEX: of the page in /tmp/page.
value() { sed -n "s/^$1 //p" /tmp/page; }
served() { scrape "$1" >/tmp/page 2>/dev/null; }

say "by default on loopback, and only there"
start_uswap --name one --size 1G --pool 512M
expect_status .metrics 127.0.0.1:10847
expect scrape scrape 127.0.0.1:10847 >/tmp/page
expect_equal "info" "$(value 'uswap_info{.*target="swap".*}')" 1
expect_equal "not in use" "$(value 'uswap_swap_active{.*}')" 0
expect_equal "locked" "$(value 'uswap_safe{.*protection="memory_locked"}')" 1
expect_equal "I/O flusher, the metrics thread included" "$(value 'uswap_safe{.*protection="io_flusher"}')" 1
expect_equal "size" "$(value 'uswap_device_size_bytes{.*}')" $((1 << 30))

say "the numbers are those of status"
dd if=/dev/urandom of=/tmp/data bs=1M count=64 2>/dev/null
expect write dd if=/tmp/data of="$DEV" bs=128k oflag=direct conv=notrunc
expect read dd if="$DEV" of=/dev/null bs=4k count=1000 iflag=direct
expect_none_staged
expect scrape scrape 127.0.0.1:10847 >/tmp/page
expect_equal "huge pages" "$(value 'uswap_pages{.*tier="pool",codec="none"}')" 16384
expect_equal "write requests" "$(value 'uswap_requests_total{.*op="write"}')" "$(status .counters.write_requests)"
expect_equal "commits" "$(value 'uswap_commit_seconds_count{.*}')" "$(status .times.commit.count)"
expect_equal "commits, last bucket" "$(value 'uswap_commit_seconds_bucket{.*le="+Inf"}')" "$(status .times.commit.count)"

say "uswap metrics, and the file for node_exporter"
expect metrics uswap metrics one >/tmp/printed
expect_equal "families" "$(grep -c '^# TYPE' /tmp/printed)" "$(grep -c '^# TYPE' /tmp/page)"
expect textfile uswap metrics --textfile /tmp/uswap.prom
grep -q '^uswap_info' /tmp/uswap.prom || die "nothing in the file"
expect_equal "files" "$(ls /tmp/*.prom*)" /tmp/uswap.prom

say "a second service: its default port is taken, which keeps it from nothing"
second=$(uswap run --name two --size 64M --pool 32M >/tmp/two.out 2>/tmp/two.log & echo $!)
second_ready() { grep -q ^ready /tmp/two.out; }
within 30 second_ready || die "two is not ready: $(cat /tmp/two.log)"
cat /tmp/two.log
grep -q 'no metrics for now: cannot serve metrics on 127.0.0.1:10847' /tmp/two.log || die "two does not say so"
expect_equal "metrics of two" "$(uswap status two --json | jq -r .metrics)" null
say "a port that was asked for and is taken is an error at start"
expect_brief_failure 1 'cannot serve metrics.*in use' uswap run --name three --size 64M --pool 32M --metrics 127.0.0.1:10847
say "when the first one ends the second one gets it"
stop_one() { kill -TERM "$USWAP_PID"; within 30 gone "$USWAP_PID" || die "one still runs"; wait "$USWAP_PID"; }
stop_one
two_answers() { served 127.0.0.1:10847 && grep -q 'service="two"' /tmp/page; }
within 15 two_answers || die "two does not serve metrics now"
kill -TERM "$second"; within 30 gone "$second" || die "two still runs"
expect_nothing_left

say "bad clients: none of them keeps the service or the next scrape waiting for long"
start_uswap --name one --size 2G --pool 512M --metrics 127.0.0.1:9999
exec 5<>/dev/tcp/127.0.0.1/9999   # says nothing
begin=$(milliseconds)
expect "status beside a silent client" uswap status one >/dev/null
[ $(($(milliseconds) - begin)) -lt 2000 ] || die "status took $(($(milliseconds) - begin)) ms"
expect "scrape behind a silent client" scrape 127.0.0.1:9999 >/tmp/page
[ $(($(milliseconds) - begin)) -lt 9000 ] || die "the scrape took $(($(milliseconds) - begin)) ms"
exec 5>&-
head -c 100000 /dev/urandom >/dev/tcp/127.0.0.1/9999 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do exec 6<>/dev/tcp/127.0.0.1/9999; done
exec 6>&-
expect "scrape after them" scrape 127.0.0.1:9999 >/tmp/page
expect_equal "404" "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9999/nothing)" 404
expect_equal "405" "$(curl -s -o /dev/null -w '%{http_code}' -d x http://127.0.0.1:9999/metrics)" 405
expect_safe

say "what a scrape costs: ten with nothing stored, ten with 100000 pages"
# CPU ticks of the two threads that a scrape keeps busy: the control thread and the metrics' own.
ticks() {
    local task
    for task in "/proc/$USWAP_PID"/task/*; do
        case $(cat "$task/comm") in uswap | uswap-metrics) sed 's/.*) //' "$task/stat" ;; esac
    done | awk '{ sum += $12 + $13 } END { print sum }'
}
ten() {
    local begin
    begin=$(ticks)
    for _ in 1 2 3 4 5 6 7 8 9 10; do scrape 127.0.0.1:9999 >/tmp/page || die "no page"; done
    echo $(($(ticks) - begin))
}
empty=$(ten)
for i in 0 1 2 3 4 5; do
    expect write dd if=/tmp/data of="$DEV" bs=1M seek=$((i * 64)) oflag=direct conv=notrunc 2>/dev/null
done
expect_none_staged
filled=$(ten)
stored=$(status .pages.stored)
echo "RESULT ten scrapes: $empty ticks of 10 ms CPU with nothing stored, $filled with $stored pages; page of $(wc -c </tmp/page) bytes"
[ "$stored" -ge 98304 ] || die "only $stored pages are stored"
# Ticks are coarse; what grows with the pages would take hundreds.
[ "$filled" -le $((empty + 10)) ] || die "a scrape costs more the more is stored: $empty, then $filled ticks"
stop_uswap

say "off"
start_uswap --name one --size 64M --pool 32M --metrics off
expect_status .metrics null
expect_equal "nobody listens" "$(curl -s --max-time 5 http://127.0.0.1:10847/metrics; echo $?)" 7
stop_uswap
say "without a service the file goes, so that nobody sees old numbers"
expect_failure 1 'no service|no server' uswap metrics --textfile /tmp/uswap.prom
[ ! -e /tmp/uswap.prom ] || die "the file is still there"
say "metrics passed"
