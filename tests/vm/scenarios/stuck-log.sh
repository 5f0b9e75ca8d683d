# desc: the service's log takes nothing, its writer cannot even be killed: servers, standbys and parents are made as ever
# requires: uswap killer jq mkfs.ext4 fsfreeze cmp
# kernels: 6.12 new
# memory: 1000
# seconds: 240
# smp: 2
# modules: ublk_drv null_blk ext4
. /vm/lib.sh

say "a file system for the log"
new_disk disk 64
expect mkfs mkfs.ext4 -q "$DISK"
mkdir -p /mnt
expect mount mount -t ext4 "$DISK" /mnt

USWAP_LOG=/mnt/log
start_uswap --name one --size 256M --pool 128M
server() { status .processes.server_pid; }
standby() { status .processes.standby_pid; }
dd if=/dev/urandom of=/tmp/data bs=1M count=64 2>/dev/null
same() { timeout 20 dd if="$DEV" of=/tmp/back bs=128k count=512 iflag=direct 2>/dev/null && cmp /tmp/data /tmp/back; }
expect write dd if=/tmp/data of="$DEV" bs=128k oflag=direct conv=notrunc 2>/dev/null
expect "all of it as it was" same
# Of the process that was started, parent or not.
writer_waits() { cat "/proc/$USWAP_PID"/task/*/stack 2>/dev/null | grep -qE 'ext4_.*write|sb_start|percpu_rwsem'; }

say "nothing can be written: whoever tries waits in the kernel, and SIGKILL does not help"
expect fsfreeze fsfreeze -f /mnt
kill -9 "$(standby)"
within 20 writer_waits || die "nobody writes to the log: $(cat "/proc/$USWAP_PID"/task/*/stack)"
former=$(server)
# Not the shell's kill: whoever looks must not wait for the device, and it need not.
expect killer killer --dir /run/uswap/one --victim both --times 1 --min-ms 0 --max-ms 0 --warm
expect "all of it as it was" same
[ "$(server)" != "$former" ] || die "the server still lives"
expect killer killer --dir /run/uswap/one --victim both --times 2 --min-ms 0 --max-ms 0 --warm
expect "all of it as it was" same
writer_waits || die "nobody waits for the log any more"

say "the log goes on: all that there was to say is in it"
expect fsfreeze fsfreeze -u /mnt
all_said() { [ "$(grep -c 'has taken over' /mnt/log)" -ge 3 ]; }
within 20 all_said || die "not all three take-overs are in the log"
sed 's/^/   /' /mnt/log

say "nobody is left, but for the thread that waits for its log; another parent goes on"
expect fsfreeze fsfreeze -f /mnt
kill -9 "$(standby)"
within 20 writer_waits || die "nobody writes to the log: $(cat "/proc/$USWAP_PID"/task/*/stack)"
stuck=$USWAP_PID
killer --dir /run/uswap/one --victim all --times 1 --min-ms 0 --max-ms 0 --warm || die "cannot kill all"
USWAP_PID=$stuck
writer_waits || die "the thread that waits for the log is gone"
USWAP_LOG=/tmp/other.log
start_uswap --name one --size 256M --pool 128M
expect "all of it as it was" same
expect_status .processes.standby_warm true

say "the log goes on, and the thread ends"
expect fsfreeze fsfreeze -u /mnt
within 10 gone "$stuck" || die "process $stuck does not end"
sed 's/^/   /' "$USWAP_LOG"
expect_safe
expect_confined
stop_uswap
say "stuck-log passed"
