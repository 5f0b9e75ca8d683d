# desc: a live service is recorded while it swaps, and replayed, within 5 %; by its name only: see NOTES, "Beside a live service"
# requires: uswap jq workload
# kernels:
# memory: 700
# seconds: 300
# smp: 2
# awake: yes
# disk: pages
# scratch: 512M
. /vm/lib.sh
allow_no_swap_table

TRACE=/tmp/trace
find_disks

# Seconds for minutes, so that pages rest long enough to become dense and to leave. So few pages a second become dense
# that an emulated CPU keeps up: how fast one compresses is no decision of the policy. That one program waits for
# nothing but memory is no sign that the machine is short of it.
cat >/root/quick.toml <<'TOML'
base = "balanced"
[time]
age_tick_seconds = 1
[recompress]
idle_seconds = 5
pages_per_second = 20
[spill]
idle_seconds = 15
min_age_seconds = 4
[pressure]
tight_some_permille = 900
tight_full_permille = 800
critical_full_permille = 900
TOML

start_uswap --name replay --size 112M --pool 24M --staging 4M --spill "$SCRATCH" --spill-size 256M \
    --swapon --discard --policy /root/quick.toml
within 30 is_swap "$DEV" || die "no swap area"
# What mkswap and swapon have written.
expect_none_staged
uswap trace record replay --output $TRACE >/tmp/recorded 2>&1 &
RECORDER=$!
is_recording() { [ "$(status .recording)" = true ]; }
within 20 is_recording || die "it does not record: $(cat /tmp/recorded)"
workload zipf --mib 64 --limit-mib 32 --seconds 60 --per-second 300 --source-mib 8 --pages "$PAGES" >/tmp/workload.out ||
    die "workload ended with $?"
jq -c . /tmp/workload.out | sed 's/^/   /'
kill -INT $RECORDER
wait $RECORDER || die "the recorder ended with $?: $(cat /tmp/recorded)"
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
