# desc: life of one swap device: data, swap area, safety fields, stop refused while in use, clean stop
# requires: uswap jq hog
# kernels: 6.12 new
# memory: 1500
# seconds: 240
# smp: 2
. /vm/lib.sh

dd if=/dev/urandom of=/tmp/junk bs=1M count=8 2>/dev/null
say "start"
start_uswap --name smoke --size 512M --pool 128M --queues 2
uname -r
status '.features | join(" ")' || die "no status"
expect_status .device "$DEV"
expect_status .name smoke
expect_status .pid "$USWAP_PID"
expect_status .size_bytes $((512 << 20))
expect_status .queues 2
expect_status .kernel "$(uname -r)"
expect_status .target swap
expect_status .swap null
expect_equal "size of $DEV" "$(blockdev --getsize64 "$DEV")" $((512 << 20))
expect "list names the service" grep -q smoke <(uswap list)
[ "$(status '.features | length')" -gt 0 ] || die "no features listed"

say "what is written comes back, across pages and past the server's restart of its buffers"
dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null
expect write dd if=/tmp/data of="$DEV" bs=1M seek=100 oflag=direct conv=notrunc
expect read dd if="$DEV" of=/tmp/back bs=64k skip=1600 count=256 iflag=direct
expect "16 MiB unchanged" cmp /tmp/data /tmp/back
expect "untouched pages are zero" cmp -n $((4 << 20)) "$DEV" /dev/zero
[ "$(status .pages.stored)" -ge 4096 ] || die "4096 pages written, stored: $(status .pages.stored)"
rm /tmp/data /tmp/back

say "swap area"
expect mkswap mkswap -q "$DEV"
expect swapon swapon --discard -p 7 "$DEV"
expect_status .swap.priority 7
expect_safe
within 30 standby_warm || die "no warm standby"
expect_confined
expect_equal "pages the ONCE discard left" "$(($(status .pages.stored) < 64))" 1
expect_equal "the OOM killer passes it by" \
    "$(cat "/proc/$USWAP_PID/oom_score_adj")" -1000
locked=$(awk '/^VmLck:/ { print $2 }' "/proc/$USWAP_PID/status")
[ "$locked" -gt 0 ] || die "VmLck is $locked"

say "pages really go there: a cgroup with 40 MiB runs something that needs 80"
mkdir /sys/fs/cgroup/small
echo 40M >/sys/fs/cgroup/small/memory.max
(
    echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs
    exec hog --mib 80 --passes 1 --pages /usr/bin/uswap --source-mib 4 --verify
) || die "hog in the small cgroup failed with $?"
grep -E '^pswp(in|out) ' /proc/vmstat
[ "$(awk '/^pswpout / { print $2 }' /proc/vmstat)" -gt 1000 ] || die "hardly anything was swapped out"
[ "$(awk '/^pswpin / { print $2 }' /proc/vmstat)" -gt 1000 ] || die "hardly anything was swapped in"
show_status

say "SIGTERM and SIGINT while in use: it stays, and says what to do"
for signal in TERM INT; do
    : >"$USWAP_LOG"
    kill -$signal "$USWAP_PID"
    within 10 grep -qi swapoff "$USWAP_LOG" || die "no advice to swapoff within 10 s of SIG$signal"
    sleep 1
    expect "still running after SIG$signal" running "$USWAP_PID"
    expect "device still there" test -b "$DEV"
    expect "still swap" is_swap "$DEV"
    sed 's/^/   said: /' "$USWAP_LOG"
done

say "clean stop"
expect_safe
expect swapoff swapoff "$DEV"
# A service told to stop while in use may end by itself now; both are its right, but it must end clean.
if running "$USWAP_PID"; then stop_uswap; else wait "$USWAP_PID"; expect_nothing_left; fi

say "again, under the same name, and ended by SIGINT"
start_uswap --name smoke --size 64M --pool 32M
kill -INT "$USWAP_PID"
within 30 gone "$USWAP_PID" || die "uswap still runs 30 s after SIGINT"
wait "$USWAP_PID" || die "exit status $? after SIGINT"
expect_nothing_left

none_runs() { [ -z "$(pidof uswap)" ]; }
# shellcheck disable=SC2046 # words on purpose
kill_all() { kill -KILL $(pidof uswap); within 10 none_runs || die "killed processes are still there"; }

say "parent, server and standby killed dead: the next start goes on with what they left"
start_uswap --name smoke --size 64M --pool 32M
expect write dd if=/tmp/junk of="$DEV" bs=1M count=8 oflag=direct conv=notrunc
kill_all
expect "list says so" grep -q 'its server is dead' <(uswap list 2>&1)
start_uswap --name smoke --size 64M --pool 32M
expect "8 MiB unchanged" cmp -n $((8 << 20)) "$DEV" /tmp/junk
expect_status .processes.recoveries 1
stop_uswap

say "the parent alone killed dead: the server goes on, and the next start becomes its parent"
start_uswap --name smoke --size 64M --pool 32M
server=$(status .processes.server_pid)
kill -KILL "$USWAP_PID"
within 10 gone "$USWAP_PID" || die "the killed parent is still there"
expect_status .processes.parent_pid 0
expect write dd if=/tmp/junk of="$DEV" bs=1M count=8 oflag=direct conv=notrunc
start_uswap --name smoke --size 64M --pool 32M
expect_status .processes.parent_pid "$USWAP_PID"
expect_status .processes.server_pid "$server"
stop_uswap

say "killed dead, and not wanted any more: down removes it"
start_uswap --name smoke --size 64M --pool 32M
kill_all
expect "down removes what the dead server left" uswap down smoke
expect_nothing_left

say "nobody but root sees pages: files, sockets, and the memory of a server that crashes"
echo '/tmp/core.%p' >/proc/sys/kernel/core_pattern
ulimit -c unlimited
sh -c 'kill -ABRT $$' || true
[ -n "$(find /tmp -name 'core.*')" ] || die "this kernel makes no core dumps"
rm /tmp/core.*
start_uswap --name smoke --size 64M --pool 32M
expect write dd if=/tmp/junk of="$DEV" bs=1M count=8 oflag=direct conv=notrunc
within 30 standby_warm || die "no warm standby"
expect_equal "the state's directory" "$(stat -c '%a %u' /run/uswap/smoke)" '700 0'
for file in arena buffers control slabs table; do
    expect_equal "the file $file" "$(stat -c '%a %u' /run/uswap/smoke/$file)" '600 0'
done
expect_equal "the socket" "$(stat -c '%a %u' /run/uswap/smoke.sock)" '600 0'
server=$(status .processes.server_pid)
kill -ABRT "$server"
within 30 gone "$server" || die "the server lives"
expect "8 MiB unchanged" cmp -n $((8 << 20)) "$DEV" /tmp/junk
expect_status .processes.recoveries 1
left=$(find /tmp / -maxdepth 1 -name 'core*')
[ -z "$left" ] || die "a core dump: $left"
within 30 standby_warm || die "no warm standby"
expect_confined
stop_uswap

say "without a standby the next start says what to do, and that works"
start_uswap --name smoke --size 64M --pool 32M --standby=false
expect_status .processes null
kill_all
expect_brief_failure 1 'uswap down smoke' uswap run --name smoke --size 64M --pool 32M --standby=false
expect "down removes what the dead server left" uswap down smoke
expect_nothing_left
start_uswap --name smoke --size 64M --pool 32M --standby=false
expect write dd if=/dev/zero of="$DEV" bs=1M count=8 oflag=direct conv=notrunc
stop_uswap

say "up and down, with vm.page-cluster and zswap as a distribution has them; down puts them back"
cluster=/proc/sys/vm/page-cluster
zswap=/sys/module/zswap/parameters/enabled
echo 3 >$cluster
if [ -e $zswap ]; then echo Y >$zswap || die "zswap cannot be switched on"; fi
expect up uswap up smoke --size 256M --pool 64M --codec zstd 2>/tmp/said
sed 's/^/   /' /tmp/said
expect "one swap area" test "$(grep -c ublkb /proc/swaps)" = 1
expect "up says what it set" grep -q 'vm.page-cluster set from 3 to 0' /tmp/said
expect_equal "vm.page-cluster while up" "$(cat $cluster)" 0
if [ -e $zswap ]; then
    expect "up warns of zswap in front" grep -q 'warning: zswap is Y' /tmp/said
    expect_equal "zswap, which nobody asked to switch off" "$(cat $zswap)" Y
fi
expect_status .codec zstd
expect down uswap down smoke
expect "no swap area" test "$(grep -c ublkb /proc/swaps)" = 0
expect_equal "vm.page-cluster after down" "$(cat $cluster)" 3
expect_nothing_left

say "up and down again, told to do the opposite"
expect up uswap up smoke --size 256M --pool 64M --keep-page-cluster --disable-zswap
expect_equal "vm.page-cluster, kept" "$(cat $cluster)" 3
if [ -e $zswap ]; then expect_equal "zswap while up" "$(cat $zswap)" N; fi
# The server dies unused: down of what is left puts back too.
expect swapoff swapoff /dev/ublkb0
kill_all
expect down uswap down smoke
if [ -e $zswap ]; then expect_equal "zswap after down" "$(cat $zswap)" Y; fi

expect_nothing_left
say "smoke passed"
