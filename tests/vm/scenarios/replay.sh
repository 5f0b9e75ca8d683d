# desc: a live service is recorded while it swaps, and replayed: all totals within 5 %
# requires: uswap jq workload
# kernels: 6.12 new
# test: new
# memory: 700
# seconds: 300
# smp: 2
# awake: yes
# alone: yes
# disk: pages
# scratch: 512M
. /vm/lib.sh
allow_no_swap_table

TRACE=/tmp/trace
find_disks

# Seconds for minutes, so that pages rest long enough to become dense and to leave. So little is accessed that an emulated
# CPU keeps up, and pages become dense and leave as soon as they are old enough: when the mover gets a CPU, and which pages
# it looks at first, is no decision of the policy (NOTES, "Beside a live service"). That one program waits for nothing but
# memory is no sign that the machine is short of it.
cat >/root/quick.toml <<'TOML'
base = "balanced"
[time]
age_tick_seconds = 1
[recompress]
idle_seconds = 8
pages_per_second = 150
[spill]
idle_seconds = 25
min_age_seconds = 4
[pressure]
tight_some_permille = 900
tight_full_permille = 800
critical_full_permille = 900
TOML

start_uswap --name replay --size 112M --pool 16M --staging 4M --spill "$SCRATCH" --spill-size 256M \
    --swapon --discard --policy /root/quick.toml
within 30 is_swap "$DEV" || die "no swap area"
# What mkswap and swapon have written.
expect_none_staged
uswap trace record replay --output $TRACE >/tmp/recorded 2>&1 &
RECORDER=$!
is_recording() { [ "$(status .recording)" = true ]; }
within 20 is_recording || die "it does not record: $(cat /tmp/recorded)"
workload zipf --mib 32 --limit-mib 16 --seconds 115 --per-second 1500 --source-mib 8 --pages "$PAGES" >/tmp/workload.out &
WORKLOAD=$!
# Not to its end, where it verifies all pages as fast as it can.
sleep 110
kill -INT $RECORDER
wait $RECORDER || die "the recorder ended with $?: $(cat /tmp/recorded)"
wait $WORKLOAD || die "workload ended with $?"
jq -c . /tmp/workload.out | sed 's/^/   /'
uswap trace info $TRACE || die "info failed"
show_status | grep -E '^ *(spill|pool|policy|pages|promoted|recompressed|throttled)' | cut -c1-150
expect_equal "dropped" "$(uswap trace info $TRACE --json | jq .dropped)" 0
expect "pages were spilled" test "$(status .counters.spilled_pages)" -gt 2000
expect "and came back" test "$(status .counters.read_spill_pages)" -gt 500
expect "pages became dense" test "$(status .counters.recompressed_pages)" -gt 500
expect_status .counters.refused_requests 0
expect_safe

say "the replay"
uswap simulate $TRACE --compare --tolerance 5 || die "the simulator does not say what the service did"
expect swapoff swapoff "$DEV"
stop_uswap
say "replay passed"
