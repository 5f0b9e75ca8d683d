# desc: the loop target in every copy mode beside the kernel's loop device on the same file, 4 KiB direct
# requires: uswap jq fio mkfs.ext4 losetup
# kernels: new
# memory: 1500
# seconds: 560
# smp: 2
# alone: yes
# awake: yes
# modules: ublk_drv loop brd
. /vm/lib.sh

# bench [ROUNDS] [SECONDS] [MODES]. All devices lead to one fully written file on ext4 on a disk in memory. The kernel's
# loop device is there twice, with and without direct I/O to the file. In each round the three take turns, so that
# what else the machine does hits them alike; each ratio is of neighbours in a round, and the median counts. The null
# target moves no data at all: it is the most that any target of ublk can reach here.
ROUNDS=${1:-3} RUNTIME=${2:-2} MODES=${3:-zero copy user null}
PATTERNS='randwrite randread randrw'
rmmod brd 2>/dev/null
modprobe brd rd_nr=1 rd_size=$((400 << 10)) || die "no disk in memory"
mkdir -p /mnt
expect mkfs mkfs.ext4 -q /dev/ram0
expect mount mount -t ext4 /dev/ram0 /mnt
expect fill dd if=/dev/zero of=/mnt/file bs=1M count=256 oflag=direct
DIRECT=$(losetup -f --show --direct-io=on /mnt/file) || die "no loop device"
BUFFERED=$(losetup -f --show --direct-io=off /mnt/file) || die "no loop device"
expect_equal "direct I/O of $DIRECT" "$(cat "/sys/block/${DIRECT#/dev/}/loop/dio")" 1
expect_equal "direct I/O of $BUFFERED" "$(cat "/sys/block/${BUFFERED#/dev/}/loop/dio")" 0

iops() { # DEVICE PATTERN
    fio --name=bench --filename="$1" --ioengine=io_uring --direct=1 --bs=4k --rw="$2" --iodepth=32 --size=256m \
        --norandommap --randrepeat=0 --time_based --runtime="$RUNTIME" --output-format=json >/tmp/fio.json ||
        die "fio $2 on $1 ended with $?"
    jq '.jobs[0] | (.read.iops + .write.iops) | floor' /tmp/fio.json
}
median() { sort -g | awk '{ n[NR] = $1 } END { print NR % 2 ? n[(NR + 1) / 2] : (n[NR / 2] + n[NR / 2 + 1]) / 2 }'; }
column() { awk -v n="$1" '{ print $n }' "$2"; }

for mode in $MODES; do
    case $mode in
    null) start_uswap --name bench --target null --size 256M ;;
    *) start_uswap --name bench --target loop --spill /mnt/file --copy "$mode" ;;
    esac
    for round in $(seq "$ROUNDS"); do
        for pattern in $PATTERNS; do
            ours=$(iops "$DEV" "$pattern") direct=$(iops "$DIRECT" "$pattern") buffered=$(iops "$BUFFERED" "$pattern")
            echo "   $mode round $round $pattern: uswap $ours, loop direct $direct, loop buffered $buffered"
            awk -v u="$ours" -v d="$direct" -v b="$buffered" 'BEGIN { printf "%d %d %d %.3f %.3f\n", u, d, b, u / d, u / b }' \
                >>"/tmp/$mode.$pattern"
        done
    done
    expect_status .counters.backing_errors 0
    expect_status .safety.queue_allocations 0
    stop_uswap
done
for mode in $MODES; do
    for pattern in $PATTERNS; do
        file=/tmp/$mode.$pattern
        echo "RESULT loop $mode $pattern: uswap $(column 1 $file | median) IOPS," \
            "kernel loop direct $(column 2 $file | median), buffered $(column 3 $file | median);" \
            "ratio to direct $(column 4 $file | median), to buffered $(column 5 $file | median)"
    done
done
