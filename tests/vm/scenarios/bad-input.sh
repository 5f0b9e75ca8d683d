# desc: every foreseeable refusal says why in a line, with the right exit code, and leaves nothing behind
# requires: uswap jq setpriv
# kernels: 6.12 new
# test: 6.12
# memory: 1000
# seconds: 240
# smp: 2
# modules: none
. /vm/lib.sh

say "no ublk module"
expect_brief_failure 1 'modprobe ublk_drv' uswap run --size 64M --pool 32M
expect_nothing_left
expect "doctor names it" grep -q ublk_drv <(uswap doctor 2>&1)
modprobe ublk_drv || die "modprobe ublk_drv"

say "words that are wrong"
for size in 0 1.5Q 4097 -1 x '' 10000T; do
    expect_brief_failure 2 'size|invalid|value' uswap run --size="$size" --pool 32M
    expect_nothing_left
done
expect_brief_failure 2 'pool|invalid|value' uswap run --size 64M --pool 0
expect_brief_failure 2 'queues|value' uswap run --size 64M --pool 32M --queues 0
expect_brief_failure 2 'depth|value' uswap run --size 64M --pool 32M --depth 0
expect_brief_failure 2 'request buffers.*fewer --queues' uswap run --size 64M --pool 32M --queues 64 --depth 128
expect_brief_failure 2 'codec|value' uswap run --size 64M --codec snappy
expect_brief_failure 2 'name' uswap run --size 64M --pool 32M --name ../../etc
expect_failure 2 'frobnicate' uswap run --frobnicate
expect_failure 2 'frobnicate' uswap frobnicate
expect_brief_failure 2 'nosuch' uswap run --config /nosuch.toml
printf 'size = "64M"\nsise = "1G"\n' >/tmp/bad.toml
expect_brief_failure 2 'sise' uswap run --config /tmp/bad.toml
expect_brief_failure 2 'nosuch.*balanced.*dense.*low-latency.*spill-early' uswap run --size 64M --pool 32M --policy nosuch
expect_brief_failure 2 'nosuch.*sieve' uswap run --size 64M --pool 32M --policy dense/nosuch
printf 'base = "balanced"\n[watermarks]\nlow_permille = 20\nmin_permille = 100\n' >/tmp/marks.toml
expect_brief_failure 2 'min_permille' uswap run --size 64M --pool 32M --policy /tmp/marks.toml
expect_nothing_left

say "more memory than there is"
expect_brief_failure 2 'memory|RAM' uswap run --size 64G --pool 32G
expect_nothing_left

say "io_uring switched off"
if [ -e /proc/sys/kernel/io_uring_disabled ]; then
    echo 2 >/proc/sys/kernel/io_uring_disabled
    expect_brief_failure 1 'io_uring_disabled' uswap run --size 64M --pool 32M
    expect_nothing_left
    echo 0 >/proc/sys/kernel/io_uring_disabled
else
    die "this kernel has no io_uring_disabled"
fi

say "not allowed to lock memory: it raises the limit where it may, and says so where it may not"
ulimit -l 64
USWAP_WITH='setpriv --bounding-set -ipc_lock'
start_uswap --name limited --size 64M --pool 32M
expect_status .safety.memory_locked true
stop_uswap
USWAP_WITH=
expect_brief_failure 1 'limit on locked memory is 64 KiB' \
    setpriv --bounding-set -ipc_lock,-sys_resource uswap run --size 64M --pool 32M

say "for development it runs all the same, and says in which ways it is unsafe"
USWAP_WITH='setpriv --bounding-set -ipc_lock,-sys_resource'
start_uswap --name unsafe --size 64M --pool 32M --unsafe-no-lock
for reason in 'limit on locked memory is 64 KiB' 'I/O flusher' 'OOM killer'; do
    expect "it says '$reason'" grep -q "unsafe: .*$reason" "$USWAP_LOG"
done
expect_status .safety.memory_locked false
expect_status .safety.io_flusher false
stop_uswap
USWAP_WITH=
ulimit -l unlimited
expect_nothing_left

say "not root"
expect_brief_failure 1 'run as root' \
    setpriv --reuid 65534 --regid 65534 --clear-groups uswap run --size 64M --pool 32M
expect_nothing_left

say "taken: name, number, socket"
start_uswap --name first --id 3 --size 64M --pool 32M
expect_equal "device" "$DEV" /dev/ublkb3
expect_brief_failure 1 'first' uswap run --name first --size 64M --pool 32M
expect_brief_failure 1 'number 3 is taken' uswap run --name second --id 3 --size 64M --pool 32M
expect_status .name first
expect_equal "devices" "$(find /dev -name 'ublkb*')" /dev/ublkb3
expect "the first still serves" dd if=/dev/zero of="$DEV" bs=1M count=4 oflag=direct conv=notrunc
touch /tmp/taken.sock
expect_brief_failure 1 'taken.sock' uswap run --name second --socket /tmp/taken.sock --size 64M --pool 32M
expect "the file in the way is not ours to remove" test -f /tmp/taken.sock
expect_brief_failure 1 'nosuch' uswap status nosuch
expect_brief_failure 1 'nosuch' uswap down nosuch
stop_uswap

say "nobody runs"
expect_failure 1 'no service|run' uswap status
expect list uswap list
say "bad-input passed"
