# desc: settings that change while the service runs, those that cannot, and a spill file deleted under it
# requires: uswap jq mkfs.ext4 cmp
# kernels: 6.12 new
# test: 6.12
# memory: 1500
# seconds: 240
# smp: 2
# modules: ublk_drv null_blk ext4
. /vm/lib.sh

say "a file system for the spill"
new_disk disk 256
expect mkfs mkfs.ext4 -q "$DISK"
mkdir -p /mnt /etc/uswap/one.toml.d
expect mount mount -t ext4 "$DISK" /mnt
cat >/etc/uswap/one.toml <<'TOML'
size = "min(ram/2, 512M)"
pool = "64M"
spill = "/mnt/spill"
spill-size = "128M"
TOML
expect check-config uswap check-config
start_uswap --name one
expect_status .size_bytes $((512 << 20))

within 30 standby_warm || die "no warm standby"

say "set: at once, and seen"
expect_equal "set" "$(uswap set policy dense)" "policy is dense"
expect_status .policy.name dense
expect set uswap set poll-us 0
expect_status .poll_us 0
expect set uswap set metrics off
expect_status .metrics null
expect set uswap set metrics 127.0.0.1:9998
expect_status .metrics 127.0.0.1:9998
expect_brief_failure 1 'pool cannot change while the service runs; .*uswap down one' uswap set pool 128M
expect_brief_failure 2 'balancd.*balanced, dense' uswap set policy balancd
expect_brief_failure 2 'poll-us: 99999 is out of range' uswap set poll-us 99999
expect_brief_failure 2 'unknown key "polcy"; did you mean "policy"' uswap set polcy dense
expect_brief_failure 1 'cannot serve metrics on 192.0.2.1:80' uswap set metrics 192.0.2.1:80
expect_status .metrics 127.0.0.1:9998

say "reload: a drop-in's policy is taken, its depth needs a restart"
printf 'policy = "low-latency"\ndepth = 32\n' >/etc/uswap/one.toml.d/50-mine.toml
expect reload uswap reload >/tmp/said 2>/tmp/noted
cat /tmp/said /tmp/noted
grep -qx 'policy is low-latency (was dense)' /tmp/said || die "reload did not change the policy"
grep -q 'depth is 64 and stays so' /tmp/noted || die "reload does not speak of the depth"
expect_status .policy.name low-latency
expect_status .poll_us 0
echo 'depht = 32' >>/etc/uswap/one.toml.d/50-mine.toml
expect_brief_failure 2 '50-mine.toml:3: unknown key "depht"; did you mean "depth"' uswap reload
! uswap doctor >/dev/null || die "doctor finds nothing wrong"
uswap doctor --json | jq -r '.[] | select(.name == "configuration of one") | .level' | grep -qx fail || die "doctor does not see it"
rm -r /etc/uswap/one.toml.d

say "a standby, warm before any of it was set, takes over: it is so still"
server=$(status .processes.server_pid)
standby=$(status .processes.standby_pid)
kill -KILL "$server"
serves() { [ "$(status .processes.server_pid)" = "$standby" ]; }
within 20 serves || die "the standby does not serve"
has_metrics() { [ "$(status .metrics)" = 127.0.0.1:9998 ]; }
within 10 has_metrics || die "metrics are at $(status .metrics)"
expect_status .policy.name low-latency
expect_status .poll_us 0

say "it stores and reads back with what was changed"
dd if=/dev/urandom of=/tmp/data bs=1M count=96 2>/dev/null
expect write dd if=/tmp/data of="$DEV" bs=128k oflag=direct conv=notrunc 2>/dev/null
spilled() { [ "$(status .spill.pages)" -gt 4000 ]; }
within 60 spilled || die "only $(status .spill.pages) pages are spilled"

say "the spill's file is deleted under it: nothing is lost, and doctor says what it is"
rm /mnt/spill
expect read dd if="$DEV" of=/tmp/back bs=128k count=768 iflag=direct 2>/dev/null
expect "all of it as it was" cmp /tmp/data /tmp/back
uswap doctor --json | jq -r '.[] | select(.name == "one: spill") | .level + " " + .found' | tee /tmp/said
grep -q 'fail /mnt/spill was deleted; only who has it open still does' /tmp/said || die "doctor does not see it"
expect_safe
stop_uswap
say "live passed"
