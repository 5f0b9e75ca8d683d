# desc: servers die every few seconds while programs swap, clocks jump, disks fill up, swap is taken off, devices removed
# requires: uswap killer hog fio jq mkfs.ext4
# kernels: 6.12 new
# memory: 800
# seconds: 800
# smp: 2
# awake: yes
# disk: pages
# scratch: 512M
. /vm/lib.sh
allow_no_swap_table
# Of the devices that are removed under I/O.
allow_dmesg 'I/O error.* dev ublkb[01]'

find_disks
expect mkfs mkfs.ext4 -q "$SCRATCH"
mkdir -p /mnt
expect mount mount -t ext4 "$SCRATCH" /mnt
echo always >/sys/kernel/mm/transparent_hugepage/enabled

# While memory is short no service can be started.
declare -A GONE
start_gone() { # NAME; goes on with what is there
    USWAP_LOG=/tmp/$1.log USWAP_OUT=/tmp/$1.out start_uswap --name "$1" --size 128M --pool 24M --queues 1 --depth 16
    GONE[$1]=$USWAP_PID USWAP_PID=${SERVICE:-} DEV=${SWAP:-}
}
declare -A FIO
start_fio() { # NAME DEVICE
    # Slow: it is there to be in the way, not to take the machine.
    fio --name=gone --filename="$2" --direct=1 --ioengine=io_uring --iodepth=16 --rw=randrw --bsrange=4k-64k --norandommap \
        --rate_iops=100 --buffer_compress_percentage=90 --time_based --runtime=550 --minimal >"/tmp/fio.$1" 2>&1 &
    FIO[$1]=$!
    within 60 busy "$2" || { cat "/tmp/fio.$1"; die "fio does not write"; }
}
busy() { [ "$(awk '{ print $5 }' "/sys/block/${1#/dev/}/stat")" -gt 100 ]; }
start_gone alive
start_fio alive /dev/ublkb0
start_gone dead
start_fio dead /dev/ublkb1
start_uswap --name storm --size 1G --pool 320M --spill /mnt/pages --spill-size 256M --swapon --discard
expect_equal device "$DEV" /dev/ublkb2
SERVICE=$USWAP_PID SWAP=$DEV
within 30 is_swap "$DEV" || die "no swap area"
status() { uswap status storm --json | jq -r "$1"; }

say "three programs, one of them in a small cgroup, with transparent huge pages"
mkdir /sys/fs/cgroup/small
echo +memory >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
echo 60M >/sys/fs/cgroup/small/memory.high
declare -A HOG
start_hog() { # NAME MIB CGROUP
    (
        echo $BASHPID >"/sys/fs/cgroup/$3/cgroup.procs"
        exec hog --mib "$2" --passes 1 --pages "$PAGES" --source-mib 4 --verify --random --until "/tmp/enough.$1"
    ) >"/tmp/hog.$1" 2>&1 &
    HOG[$1]=$!
}
# expect_hog NAME: it has found every page right.
expect_hog() {
    touch "/tmp/enough.$1"
    wait "${HOG[$1]}" || { cat "/tmp/hog.$1"; die "program $1 ended with $?: pages are wrong or it was killed"; }
    sed "s/^/   $1: /" "/tmp/hog.$1" | tail -1
}
start_hog large 280 .
start_hog other 120 .
start_hog small 80 small
swapped_out() { [ "$(awk '/^pswpout / { print $2 }' /proc/vmstat)" -gt 30000 ]; }
within 120 swapped_out || die "no memory pressure within 120 s"

# The one that kills has its memory locked and waits for a warm standby each time; this shell's memory is swapped.
killer --dir /run/uswap/storm --times 10000 --min-ms 1500 --max-ms 4500 --warm >/tmp/killer 2>&1 &
KILLER=$!
evidence() {
    tail -3 /tmp/killer
    grep . /sys/block/ublkb*/inflight
    cat "/proc/$1/stack" "/proc/$1/stat"
    timeout 20 uswap status storm | head -12
    free -m
}
kills() { grep -c '^kill ' /tmp/killer; }

say "clocks jump: a day forward, three days back, to 1970"
now=$(date +%s)
for to in $((now + 86400)) $((now - 172800)) 1000 "$now"; do
    expect "set the clock" date -s "@$to" >/tmp/said
    sleep 4
done
[ "$(kills)" -ge 2 ] || die "only $(kills) kills"

say "the spill's file system is full"
dd if=/dev/zero of=/mnt/more bs=1M 2>/dev/null
avail() { df -k /mnt | awk 'END { print $4 }'; }
[ "$(avail)" -lt 1024 ] || die "$(avail) KiB are still free"
at=$(kills)
more_kills() { [ "$(kills)" -ge $((at + 3)) ]; }
within 120 more_kills || { cat /tmp/killer; die "three kills take more than two minutes"; }
rm /mnt/more

say "devices are removed while they are written to, one with its servers alive and one with them dead"
for state in alive dead; do
    dev=/dev/ublkb0
    [ $state = alive ] || dev=/dev/ublkb1
    fio=${FIO[$state]}
    running "$fio" || die "fio has ended: $(cat /tmp/fio.$state)"
    if [ $state = dead ]; then
        # shellcheck disable=SC2046 # words on purpose
        kill -KILL "${GONE[dead]}" $(uswap status dead --json | jq -r '.processes | .server_pid, .standby_pid')
        within 20 gone "${GONE[dead]}" || die "the killed parent is still there"
        sleep 1
        running "$fio" || die "fio has ended: $(cat /tmp/fio.dead)"
    fi
    # A kernel that can tell that a device is open keeps it; one that cannot (before 7.0) takes it away.
    if timeout 60 uswap down $state >/tmp/said 2>&1; then
        echo "   $dev is gone, and who used it has errors"
    else
        expect_brief_failure 1 "$dev (is open, and its server is dead.*uswap run --name dead|does not stop .*close whatever)" \
            uswap down $state
        if [ $state = dead ]; then
            # Whoever waits for a device that nobody serves cannot even be killed, so it has to be served again.
            start_gone dead
            expect_equal "device" "$(sed -n 's/^ready //p' /tmp/dead.out)" "$dev"
        fi
        kill "$fio"
    fi
    within 120 gone "$fio" || { evidence "$fio"; die "fio does not end"; }
    # It was told to go, and may have gone when nobody used it any more.
    timeout 60 uswap down $state >/tmp/said 2>&1 || grep -q "no service $state runs" /tmp/said || die "down: $(cat /tmp/said)"
    device_gone() { ! test -e "$dev"; }
    within 20 device_gone || die "the device is still there"
    within 20 gone "${GONE[$state]}" || die "the parent is still there"
done
expect_hog other

say "swap is taken off and put on again, with servers dying"
expect_hog small
for i in 1 2; do
    at=$(kills)
    expect swapoff timeout 200 swapoff "$DEV"
    echo "   swapoff $i: $(($(kills) - at)) servers died meanwhile"
    expect swapon swapon --discard "$DEV"
    running "${HOG[large]}" || die "the program was killed"
done

say "parent, server and standby die at once"
kill "$KILLER"
within 10 gone "$KILLER" || die "killer lives"
former=$USWAP_PID
: >"$USWAP_OUT"
killer --dir /run/uswap/storm --victim all --times 1 --min-ms 0 --max-ms 100 --warm -- \
    /usr/bin/uswap run --name storm --size 1G --pool 320M --spill /mnt/pages --spill-size 256M </dev/null >>"$USWAP_OUT" 2>>"$USWAP_LOG" &
USWAP_PID=$!
wait "$former"
within 60 is_ready || die "not ready 60 s after nobody was left"
expect_hog large

sed 's/^/   /' "$USWAP_LOG" | tail -20
tail -3 /tmp/killer
sed -n 's/^kill .*: \([0-9.]*\) ms$/\1/p' /tmp/killer | sort -n | awk '{ v[NR] = $1 } END { if (!NR) exit 1
    printf "RESULT storm %d servers killed, without one for %.1f ms at median, %.1f ms at most\n", NR, v[int((NR + 1) / 2)], v[NR] }' ||
    die "no kill"
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
expect_status .counters.read_corrupt_pages 0
expect_status .counters.refused_requests 0
expect_safe
expect swapoff swapoff "$DEV"
stop_uswap
say "storm passed"
