# desc: servers die every few seconds while programs swap, clocks jump, disks fill up, swap is taken off, devices removed
# requires: uswap killer hog fio jq mkfs.ext4
# kernels: 6.12 new
# memory: 900
# seconds: 600
# smp: 2
# awake: yes
# disk: pages
# scratch: 512M
. /vm/lib.sh
allow_no_swap_table
# Of the device that is removed under I/O.
allow_dmesg 'I/O error, dev ublkb1'

modprobe virtio_blk
disk_of() { # SERIAL
    local dir
    for dir in /sys/block/vd*; do
        [ "$(cat "$dir/serial" 2>/dev/null)" = "$1" ] && echo "/dev/${dir##*/}"
    done
}
scratch() { [ -n "$(disk_of scratch)" ]; }
within 10 scratch || die "no scratch disk"
SCRATCH=$(disk_of scratch)
PAGES=$(for dir in /sys/block/vd*; do echo "/dev/${dir##*/}"; done | grep -v "^$SCRATCH$" | head -1)
expect mkfs mkfs.ext4 -q "$SCRATCH"
mkdir -p /mnt
expect mount mount -t ext4 "$SCRATCH" /mnt
echo always >/sys/kernel/mm/transparent_hugepage/enabled

start_uswap --name storm --size 1G --pool 320M --spill /mnt/pages --spill-size 256M --swapon --discard
expect_equal device "$DEV" /dev/ublkb0
within 30 is_swap "$DEV" || die "no swap area"
server() { status .processes.server_pid; }

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
start_hog large 330 .
start_hog other 200 .
start_hog small 110 small
swapped_out() { [ "$(awk '/^pswpout / { print $2 }' /proc/vmstat)" -gt 30000 ]; }
within 120 swapped_out || die "no memory pressure within 120 s"

# The one that kills has its memory locked and waits for a warm standby each time; this shell's memory is swapped.
killer --dir /run/uswap/storm --times 10000 --min-ms 1000 --max-ms 4000 --warm >/tmp/killer 2>&1 &
KILLER=$!
kills() { grep -c '^kill ' /tmp/killer; }

say "clocks jump: a day forward, three days back, to 1970"
now=$(date +%s)
for jump in 86400 -172800 -$((now - 1000)) $((now - 1000 + 86400)); do
    expect "set the clock" date -s "@$(($(date +%s) + jump))" >/dev/null
    sleep 4
done
[ "$(kills)" -ge 2 ] || die "only $(kills) kills"

say "the spill's file system is full"
dd if=/dev/zero of=/mnt/more bs=1M 2>/dev/null
avail() { df -k /mnt | awk 'END { print $4 }'; }
[ "$(avail)" -lt 1024 ] || die "$(avail) KiB are still free"
at=$(kills)
more_kills() { [ "$(kills)" -ge $((at + 3)) ]; }
within 60 more_kills || { cat /tmp/killer; die "three kills take more than 60 s"; }
rm /mnt/more

say "another device is removed while it is written to, once with its servers alive and once dead"
for state in alive dead; do
    first=$USWAP_PID log=$USWAP_LOG out=$USWAP_OUT
    USWAP_LOG=/tmp/gone.log USWAP_OUT=/tmp/gone.out
    start_uswap --name gone --size 128M --pool 64M
    expect_equal device "$DEV" /dev/ublkb1
    fio --name=gone --filename="$DEV" --direct=1 --ioengine=io_uring --iodepth=32 --rw=randrw --bsrange=4k-64k --norandommap \
        --time_based --runtime=300 --minimal >/tmp/fio.out 2>&1 &
    FIO=$!
    busy() { [ "$(awk '{ print $7 }' /sys/block/ublkb1/stat)" -gt 1000 ]; }
    within 60 busy || { cat /tmp/fio.out; die "fio does not write"; }
    if [ $state = dead ]; then
        # shellcheck disable=SC2046 # words on purpose
        kill -KILL "$USWAP_PID" $(uswap status gone --json | jq -r '.processes | .server_pid, .standby_pid')
        within 20 gone "$USWAP_PID" || die "the killed parent is still there"
        ! running "$FIO" || echo "   fio waits for a server"
    fi
    timeout 60 uswap down gone >/tmp/said 2>&1
    echo "   down ended with $?: $(cat /tmp/said)"
    # Nobody may be left waiting for a device that nobody serves.
    if test -b "$DEV"; then
        kill "$FIO"
        within 30 gone "$FIO" || die "fio does not end: $(cat "/proc/$FIO/stack")"
        expect down timeout 60 uswap down gone
    fi
    within 30 gone "$FIO" || die "fio still runs without a device: $(cat "/proc/$FIO/stack")"
    device_gone() { ! test -e /dev/ublkb1; }
    within 20 device_gone || die "the device is still there"
    USWAP_PID=$first USWAP_LOG=$log USWAP_OUT=$out DEV=/dev/ublkb0
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
awk '/^kill / { sub(" ms$", ""); n = split($0, w, " "); v[++k] = w[n] } END { if (!k) exit 1;
    for (i = 1; i <= k; i++) for (j = i + 1; j <= k; j++) if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t }
    printf "RESULT storm %d servers killed, without one for %.1f ms at median, %.1f ms at most\n", k, v[int((k + 1) / 2)], v[k] }' \
    /tmp/killer || die "no kill"
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
expect_status .counters.read_corrupt_pages 0
expect_status .counters.refused_requests 0
expect_safe
expect swapoff swapoff "$DEV"
stop_uswap
say "storm passed"
