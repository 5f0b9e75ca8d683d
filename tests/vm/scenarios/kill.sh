# desc: the server is killed 50 times while memory is exhausted: no page is lost, nobody else is killed
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

# The machine has 700 MiB, the kernel and this system included.
# Arguments of tests/vm/boot, for shorter runs: how often to kill the server, and MiB to hold.
HOG_MIB=${2:-700}
TIMES=${1:-50}
modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with captured pages"
# Nobody who is asked to look at the service may have to wait for it.
state=/run/uswap/kill
start_uswap --name kill --size 2G --pool 500M --swapon --discard
within 30 is_swap "$DEV" || die "--swapon: no swap area 30 s after ready"
expect_status .processes.standby_warm true
show_status | head -8
free -m
hog --mib "$HOG_MIB" --passes 1 --pages /dev/vda --source-mib 16 --verify --random --until /tmp/enough >/tmp/hog.out 2>&1 &
HOG=$!
swapped_out() { [ "$(awk '/^pswpout / { print $2 }' /proc/vmstat)" -gt 20000 ]; }
within 120 swapped_out || die "no memory pressure within 120 s"

say "the server is killed $TIMES times at random moments"
expect killer killer --dir $state --times "$TIMES" --min-ms 500 --max-ms 2500
say "the standby is killed, three times"
expect killer killer --dir $state --victim standby --times 3 --warm
say "server and standby are killed at once"
expect killer killer --dir $state --victim both --times 3 --warm
say "nobody is left: server, standby and parent are killed at once, and the service is started again"
for i in 1 2 3; do
    former=$USWAP_PID
    begin=$(milliseconds)
    # The programs of this guest are in memory that is swapped, to a device that nobody serves then: the one that kills
    # becomes the one that is started.
    : >"$USWAP_OUT"
    killer --dir $state --victim all --times 1 --min-ms 0 --max-ms 100 --warm -- \
        /usr/bin/uswap run --name kill --size 2G --pool 500M </dev/null >>"$USWAP_OUT" 2>>"$USWAP_LOG" &
    USWAP_PID=$!
    wait "$former"
    within 60 is_ready || die "not ready 60 s after nobody was left"
    echo "   ready again after $(($(milliseconds) - begin)) ms, the wait for a warm standby included"
done
sed 's/^/   /' "$USWAP_LOG" | tail -20

running "$HOG" || { cat /tmp/hog.out; die "hog has ended"; }
touch /tmp/enough
wait "$HOG" || { cat /tmp/hog.out; die "hog ended with $?: pages are wrong or it was killed"; }
sed 's/^/   /' /tmp/hog.out
grep -E '^(pswpin|pswpout|oom_kill|allocstall_[a-z]*) ' /proc/vmstat
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
show_status | head -8
expect_safe
expect_status .counters.refused_requests 0
expect_status .counters.read_corrupt_pages 0
expect swapoff swapoff "$DEV"
stop_uswap
say "kill passed"
