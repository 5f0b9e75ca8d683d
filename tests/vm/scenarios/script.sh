# desc: a policy in a script under real swap: hot reload, a version that is refused, one that breaks, who takes over has it
# requires: uswap jq hog
# kernels: 6.12 new
# test: 6.12
# memory: 700
# seconds: 400
# smp: 2
# awake: yes
# scratch: 256M
. /vm/lib.sh
allow_no_swap_table

find_disks
# What swaps has little memory of its own: the rest of the machine has enough, and so has the guest.
mkdir -p /sys/fs/cgroup/small
echo 10M >/sys/fs/cgroup/small/memory.max
# swap_until FILE: a working set of three times its memory goes round until FILE is there; sets HOG.
swap_until() {
    (
        echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs
        exec hog --mib 32 --passes 0 --pages /usr/bin/uswap --source-mib 4 --verify --until "$1"
    ) >/tmp/hog.out 2>&1 &
    HOG=$!
}
# end_swapping FILE: every page must have been right.
end_swapping() {
    running "$HOG" || { cat /tmp/hog.out; die "hog has ended"; }
    touch "$1"
    wait "$HOG" || { cat /tmp/hog.out; die "hog ended with $?: pages are wrong or it was killed"; }
    tail -2 /tmp/hog.out | sed 's/^/   /'
}
spilled() { status .counters.spilled_pages; }
spilled_more() { [ "$(spilled)" -gt $(($1 + 200)) ]; }

mkdir -p /root/policies && cd /root/policies || die "no directory"
cat >mine.rhai <<'RHAI'
fn settings() { #{ base: "dense" } }
fn rank(page) { page.age_ticks }
RHAI

say "a script that does not compile is refused, with its line"
printf 'fn rank(page) {\n  page.aeg_ticks\n}\n' >wrong.rhai
expect_brief_failure 2 'wrong.rhai:2: rank: .*aeg_ticks' uswap run --size 1G --pool 300M --policy ./wrong.rhai

say "it guides from the start, named from where one is"
start_uswap --name script --size 400M --pool 16M --staging 2M --spill "$SCRATCH" --swapon --discard \
    --policy ./mine.rhai --metrics 127.0.0.1:9998
within 30 is_swap "$DEV" || die "--swapon: no swap area 30 s after ready"
policy() { status ".policy.$1"; }
expect_status .policy.name /root/policies/mine.rhai
expect_status .policy.victim "the script"
expect_status .policy.script.base dense
expect_status .policy.script.broken null
swap_until /tmp/enough
# It says who goes when room is low: without it nothing would.
within 60 spilled_more 0 || die "the script sends no page to the spill: $(cat /tmp/hog.out)"

say "another version is taken when it is set"
digest=$(policy digest)
cat >mine.rhai <<'RHAI'
fn settings() { #{ base: "low-latency" } }
fn meet(page) { if page.reads > 0 { keep(0) } else { demote() } }
fn tick(view, plan) { plan }
RHAI
expect_equal "set" "$(uswap set policy ./mine.rhai)" "policy is /root/policies/mine.rhai"
expect_status .policy.script.base low-latency
[ "$(policy digest)" != "$digest" ] || die "the digest is the old one"

say "a wrong version is refused and the one before stays"
cp wrong.rhai mine.rhai
expect_brief_failure 2 'mine.rhai:2: rank: .*aeg_ticks' uswap set policy ./mine.rhai
expect_status .policy.script.base low-latency
expect_status .policy.script.broken null
within 60 spilled_more "$(spilled)" || die "it does not guide any more"

say "one that breaks after some steps: its base decides, and everybody says so"
cat >mine.rhai <<'RHAI'
fn settings() { #{ base: "dense" } }
fn state() { #{ steps: 0 } }
fn tick(view, plan) {
    this.steps += 1;
    if this.steps > 12 { loop { } }
    plan
}
RHAI
expect set uswap set policy ./mine.rhai
broken() { policy script.broken | grep -q rhai; }
within 60 broken || die "it does not break"
uswap status | grep -E '^(policy|script)' | tee /tmp/said
grep -q 'GIVEN UP, dense decides: /root/policies/mine.rhai:3: tick: more than 20000 operations' /tmp/said || die "status does not say so"
said() { grep -q 'policy script given up: .*mine.rhai:3: tick: .*the dense preset decides' "$USWAP_LOG"; }
metrics() { uswap metrics script | grep "^uswap_policy_script_$1{" | sed 's/.* //'; }
expect_equal "active" "$(metrics active)" 0
counted() { [ "$(metrics errors_total)" -ge 1 ]; }
within 30 counted || die "no error is counted"
within 60 spilled_more "$(spilled)" || die "nobody decides who goes"
end_swapping /tmp/enough
within 60 said || die "the log does not say so"

say "the file changes: the new version is taken by itself, once memory is not short"
cat >mine.rhai <<'RHAI'
fn settings() { #{ base: "spill-early" } }
fn rank(page) { page.reads }
RHAI
renewed() { [ "$(policy script.base)" = spill-early ]; }
within 60 renewed || die "the new version is not taken"
expect_status .policy.script.broken null
expect_equal "active" "$(metrics active)" 1
cp wrong.rhai mine.rhai
refused() { policy script.refused | grep -q 'mine.rhai:2: rank: .*the version before it stays'; }
within 60 refused || die "a wrong version is not refused: $(policy script)"
expect_status .policy.script.base spill-early

say "the server is killed: who takes over has what was kept, though the file is gone"
rm mine.rhai
swap_until /tmp/enough2
within 60 spilled_more "$(spilled)" || die "it does not guide"
server=$(status .processes.server_pid)
kill -9 "$server"
another() { s=$(status .processes.server_pid) && [ "$s" != "$server" ] && [ "$s" != null ] && [ -n "$s" ]; }
within 60 another || die "nobody has taken over"
kept() { renewed && [ "$(policy name)" = /root/policies/mine.rhai ]; }
within 30 kept || die "whoever took over has another policy: $(policy script)"
within 60 spilled_more "$(spilled)" || die "it does not guide any more"
end_swapping /tmp/enough2
expect_safe
expect_status .counters.refused_requests 0
expect_status .counters.read_corrupt_pages 0
expect_status .counters.read_spill_errors 0
expect_equal "processes killed for memory" "$(awk '/^oom_kill / { print $2 }' /proc/vmstat)" 0
expect swapoff swapoff "$DEV"
stop_uswap
say "script passed"
