# desc: the loop target in every copy mode beside the kernel's loop device on the same file, 4 KiB direct
# requires: uswap jq fio mkfs.ext4 losetup
# kernels: new
# memory: 1500
# seconds: 560
# smp: 2
# alone: yes
# measures: yes
# awake: yes
# scratch: 400M
# modules: ublk_drv loop brd virtio_blk
. /vm/lib.sh

# bench [ROUNDS] [SECONDS] [MODES] [DISKS] [STYLES]. All devices lead to one fully written file on ext4. The kernel's
# loop device is there twice, with and without direct I/O to the file. In each round the three take turns, so that
# what else the machine does hits them alike; each ratio is of neighbours in a round, and the median counts. The null
# target moves no data at all: it is the most that any target of ublk can reach here.
# Disks: `memory` (brd) answers within the call, `virtio` is one that is told of new requests, once for each batch.
# Styles: `plain`, and `letter`, with fio's words of the cover letter that the bar is from (bench/NOTES.md).
ROUNDS=${1:-3} RUNTIME=${2:-2} MODES=${3:-zero copy user null} DISKS=${4:-memory} STYLES=${5:-plain}
PATTERNS='randwrite randread randrw'
DEPTH=64
case $STYLES in *letter*) DEPTH=128 ;; esac

disk() { # NAME -> device
    case $1 in
    memory)
        rmmod brd 2>/dev/null
        modprobe brd rd_nr=1 rd_size=$((400 << 10)) || die "no disk in memory"
        echo /dev/ram0
        ;;
    virtio) echo /dev/vda ;;
    *) die "no disk $1" ;;
    esac
}
iops() { # DEVICE PATTERN STYLE
    local words='--ioengine=io_uring --iodepth=32'
    case $3 in
    letter) words='--ioengine=libaio --iodepth=128 --iodepth_batch_submit=16 --iodepth_batch_complete_min=16' ;;
    esac
    # shellcheck disable=SC2086 # words on purpose
    fio --name=bench --filename="$1" $words --direct=1 --bs=4k --rw="$2" --size=256m \
        --norandommap --randrepeat=0 --time_based --runtime="$RUNTIME" --output-format=json >/tmp/fio.json ||
        die "fio $2 on $1 ended with $?"
    jq '.jobs[0] | (.read.iops + .write.iops) | floor' /tmp/fio.json
}
median() { sort -g | awk '{ n[NR] = $1 } END { print NR % 2 ? n[(NR + 1) / 2] : (n[NR / 2] + n[NR / 2 + 1]) / 2 }'; }
column() { awk -v n="$1" '{ print $n }' "$2"; }

# round STYLE: one of each pattern on the device that is served as $mode.
round() {
    local pattern ours direct buffered
    for pattern in $PATTERNS; do
        ours=$(iops "$DEV" "$pattern" "$1") || die "$ours"
        direct=$(iops "$DIRECT" "$pattern" "$1") || die "$direct"
        buffered=$(iops "$BUFFERED" "$pattern" "$1") || die "$buffered"
        echo "   $name $1 $mode $pattern: uswap $ours, loop direct $direct, loop buffered $buffered"
        awk -v u="$ours" -v d="$direct" -v b="$buffered" 'BEGIN { printf "%d %d %d %.3f %.3f\n", u, d, b, u / d, u / b }' \
            >>"/tmp/$name.$1.$mode.$pattern"
    done
}

bench_on() { # DISK
    local name=$1 device mode style
    device=$(disk "$name") || die "$device"
    mkdir -p /mnt
    expect mkfs mkfs.ext4 -q "$device"
    expect mount mount -t ext4 "$device" /mnt
    expect fill dd if=/dev/zero of=/mnt/file bs=1M count=256 oflag=direct
    DIRECT=$(losetup -f --show --direct-io=on /mnt/file) || die "no loop device"
    BUFFERED=$(losetup -f --show --direct-io=off /mnt/file) || die "no loop device"
    expect_equal "direct I/O of $DIRECT" "$(cat "/sys/block/${DIRECT#/dev/}/loop/dio")" 1
    expect_equal "direct I/O of $BUFFERED" "$(cat "/sys/block/${BUFFERED#/dev/}/loop/dio")" 0
    for mode in $MODES; do
        case $mode in
        null) start_uswap --name bench --target null --size 256M --depth $DEPTH ;;
        *) start_uswap --name bench --target loop --spill /mnt/file --copy "$mode" --depth $DEPTH ;;
        esac
        for style in $STYLES; do
            for _ in $(seq "$ROUNDS"); do round "$style"; done
        done
        expect_status .counters.backing_errors 0
        expect_status .safety.queue_allocations 0
        stop_uswap
    done
    losetup -d "$DIRECT"
    losetup -d "$BUFFERED"
    # A loop device is let go of a moment after losetup ended.
    within 10 umount /mnt || die "the file on $device stays in use"
}

within 10 test -b /dev/vda || die "no scratch disk"
case " $(uswap doctor --json | jq -r '.[] | select(.name == "ublk features") | .found') " in
*" AUTO_BUF_REG "*) ;;
*) MODES=$(echo " $MODES " | sed 's/ zero / /') ;;
esac
for name in $DISKS; do bench_on "$name"; done
for name in $DISKS; do
    for style in $STYLES; do
        for mode in $MODES; do
            for pattern in $PATTERNS; do
                file=/tmp/$name.$style.$mode.$pattern
                echo "RESULT loop $name $style $mode $pattern: uswap $(column 1 $file | median) IOPS," \
                    "kernel loop direct $(column 2 $file | median), buffered $(column 3 $file | median);" \
                    "ratio to direct $(column 4 $file | median), to buffered $(column 5 $file | median)"
            done
        done
    done
done
