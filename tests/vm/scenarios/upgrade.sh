# desc: a service in use goes on with another program, ten times under load; one that does not fit is refused
# requires: uswap jq hog killer
# kernels: new
# memory: 700
# seconds: 900
# smp: 2
# alone: yes
# awake: yes
# disk: pages
. /vm/lib.sh
allow_no_swap_table

# Arguments of tests/vm/boot, for shorter runs: how many upgrades, and MiB to hold.
HOG_MIB=${2:-700}
TIMES=${1:-10}
modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
start_uswap --name upgrade --size 2G --pool 500M --swapon --discard
within 30 is_swap "$DEV" || die "--swapon: no swap area 30 s after ready"
hog --mib "$HOG_MIB" --passes 1 --pages /dev/vda --source-mib 16 --verify --random --until /tmp/enough >/tmp/hog.out 2>&1 &
HOG=$!
swapped_out() { [ "$(awk '/^pswpout / { print $2 }' /proc/vmstat)" -gt 20000 ]; }
within 120 swapped_out || die "no memory pressure within 120 s"

say "programs that are none, or that refuse, change nothing"
before=$(status .processes.server_pid)
expect_brief_failure 1 'not a 64-bit.*ELF' uswap upgrade upgrade --binary /vm/lib.sh
expect_brief_failure 1 'the new program refuses' uswap upgrade upgrade --binary /bin/busybox
expect_equal "the server" "$(status .processes.server_pid)" "$before"

say "upgraded $TIMES times"
for i in $(seq "$TIMES"); do
    expect upgrade uswap upgrade upgrade >/tmp/said
    sed 's/^/   /' /tmp/said
    now=$(status .processes.server_pid)
    [ "$now" != "$before" ] || die "upgrade $i: the server is still $before"
    before=$now
done
pauses=$(sed -n 's/.*waited for \([0-9]*\) us.*/\1/p' /tmp/said)
[ -n "$pauses" ] || die "no pause was printed"

running "$HOG" || { cat /tmp/hog.out; die "hog has ended"; }
touch /tmp/enough
wait "$HOG" || { cat /tmp/hog.out; die "hog ended with $?: pages are wrong or it was killed"; }
sed 's/^/   /' /tmp/hog.out
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
expect_status .processes.recoveries "$TIMES"
expect_status .counters.read_corrupt_pages 0
expect_safe

say "a server that is stopped is noticed and replaced"
dd if="$DEV" of=/dev/null bs=1M count=64 iflag=direct 2>/dev/null || die "the device cannot be read"
sed 's/^/   /' "$USWAP_LOG" | tail -30
expect_equal "the server" "$(status .processes.server_pid)" "$before"
: >"$USWAP_LOG"
# Before it is stopped: this shell's own pages may be swapped.
begin=$(milliseconds)
kill -STOP "$before"
timeout 60 dd if="$DEV" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || die "no read within 60 s"
took=$(($(milliseconds) - begin))
echo "   a read took $took ms, watchdog included"
expect "it waited for the watchdog" test $took -gt 10000
expect_equal "the server" "$(($(status .processes.server_pid) != before))" 1
within 10 grep -q 'the server was killed' "$USWAP_LOG" || die "nobody said that the server was killed"
expect swapoff swapoff "$DEV"
stop_uswap
say "upgrade passed"
