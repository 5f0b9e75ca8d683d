# desc: the harness itself: lib.sh's checks on zram, no uswap needed
# requires: mkfs.ext4 jq
# kernels: 6.12 new
# memory: 600
# seconds: 120
# smp: 2
# disk: pages
. /vm/lib.sh

modprobe virtio_blk
within 10 test -b /dev/vda || die "no data disk"
expect "the disk is read-only" test "$(cat /sys/block/vda/ro)" = 1
expect "ublk_drv and zram are here" test -c /dev/ublk-control -a -b /dev/zram0
echo 64M >/sys/block/zram0/disksize
expect mkswap mkswap -q /dev/zram0
expect swapon swapon --discard -p 5 /dev/zram0
expect "seen as swap" is_swap /dev/zram0
expect swapoff swapoff /dev/zram0
! is_swap /dev/zram0 || die "still swap"
expect_failure 1 'no such file' cat /nosuch
(die "on purpose") && die "die did not end the shell"
(expect "on purpose" false) && die "expect let a failure pass"
(expect_equal "on purpose" 1 2) && die "expect_equal let a difference pass"
(expect_failure 0 x false) && die "expect_failure let a wrong status pass"
(touch /dev/ublkb9; expect_nothing_left) && die "a leftover device was not seen"
rm /dev/ublkb9
within 1 false && die "within did not end"
say "harness passed"
