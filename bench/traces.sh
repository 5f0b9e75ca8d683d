# desc: real programs that want more memory than they get, their swapping recorded; for `cargo xtask traces`
# requires: uswap jq
# kernels: new
# memory: 1100
# seconds: 1700
# smp: 2
# modules: ublk_drv ext4
# alone: yes
# disk: programs
. /vm/lib.sh
allow_no_swap_table

# traces.sh [PROGRAM...]: prints each trace as lines `TRACE PROGRAM BASE64`.
modprobe virtio_blk
within 10 test -b /dev/vda || die "no disk with programs"
D=/debian
mkdir -p $D
expect mount mount -t ext4 -o ro /dev/vda $D
for dir in tmp run root var/lib/redis; do mount -t tmpfs tmp $D/$dir; done
for dir in dev proc sys; do mount --bind /$dir $D/$dir; done
echo 0 >/proc/sys/vm/page-cluster
inside() { chroot $D /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"; }

# What each of them does. All of it is decided by the text here: nothing is random, nothing comes from outside.
compiler_mib=96
compiler() {
    cat >$D/root/rows.cc <<'END'
#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>
template <int N> struct Row {
    std::map<int, std::vector<std::string>> cells;
    std::unordered_map<std::string, int> names;
    int total(int seed) {
        std::mt19937 engine(seed + N);
        for (int i = 0; i < 1000; ++i) cells[engine() % N].push_back(std::to_string(engine()));
        int sum = 0;
        for (auto &[key, value] : cells) {
            std::sort(value.begin(), value.end(), [](auto &a, auto &b) { return a.size() * N < b.size(); });
            for (auto &name : value) sum += names[name]++ + key;
        }
        return sum + Row<N - 1>().total(sum);
    }
};
template <> struct Row<0> { int total(int) { return 0; } };
int main() { return Row<4>().total(1); }
END
    inside g++ -std=c++20 -O2 -c /root/rows.cc -o /root/rows.o && [ -s $D/root/rows.o ]
}

# Values of 2 KiB by popularity, half of all commands look and half store.
database_mib=48
database() {
    cat >$D/root/load.pl <<'END'
use strict;
srand 1;
my ($keys, $count) = (60000, 240000);
my (@sums, $sum);
push @sums, $sum += 1 / ($_ ** 0.8) for 1 .. $keys;
sub command { print '*', scalar @_, "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @_ }
for (1 .. $count) {
    my ($at, $low, $high) = (rand() * $sum, 0, $keys - 1);
    while ($low < $high) { my $mid = ($low + $high) >> 1; $sums[$mid] < $at ? ($low = $mid + 1) : ($high = $mid) }
    my $key = 'key:' . ($low * 7919 % $keys);
    if (rand() < 0.5) { command('GET', $key) } else { command('SET', $key, join ' ', map { int rand 1e6 } 1 .. 300) }
}
END
    inside redis-server --port 0 --unixsocket /run/redis.sock --save '' --appendonly no --daemonize yes --dir /root || return
    within 30 test -S $D/run/redis.sock || return
    # The client is not what is short of memory.
    echo $BASHPID >/sys/fs/cgroup/cgroup.procs
    inside sh -c 'perl /root/load.pl | redis-cli -s /run/redis.sock --pipe' || return
    inside redis-cli -s /run/redis.sock INFO memory | grep -E '^used_memory(_rss)?_human'
    inside redis-cli -s /run/redis.sock SHUTDOWN NOSAVE
}

jvm_mib=96
jvm() {
    cat >$D/root/Cache.java <<'END'
import java.util.*;
public class Cache {
    public static void main(String[] words) {
        Random random = new Random(1);
        LinkedHashMap<Integer, String[]> cache = new LinkedHashMap<>(16, 0.75f, true) {
            protected boolean removeEldestEntry(Map.Entry<Integer, String[]> e) { return size() > 30000; }
        };
        long hits = 0, lookups = Long.parseLong(words[0]);
        for (long n = 0; n < lookups; n++) {
            int key = (int) Math.abs(random.nextGaussian() * 30000);
            String[] value = cache.get(key);
            if (value == null) {
                value = new String[8];
                for (int i = 0; i < 8; i++) value[i] = "entry " + key + " of " + n + " part " + i + " " + random.nextLong();
                cache.put(key, value);
            } else hits++;
        }
        System.out.println(lookups + " lookups, " + hits + " hits, " + cache.size() + " cached");
    }
}
END
    inside java -Xshare:auto -Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 /root/Cache.java 600000
}

browser_mib=128
browser() {
    cat >$D/root/page.html <<'END'
<!doctype html><title>waiting</title><body><script>
const rows = [];
for (let i = 0; i < 3000; i++) {
  const div = document.createElement('div');
  div.innerHTML = '<b>row ' + i + '</b> <i>' + 'text '.repeat(i % 40) + '</i>';
  document.body.appendChild(div);
  rows.push({ i, text: div.textContent.repeat(4) });
}
let sum = 0;
for (let round = 0; round < 30; round++) {
  for (const row of rows) { row.copy = row.text + round; sum += row.copy.length; }
}
document.title = 'done ' + sum;
</script>
END
    inside timeout 500 chromium --headless --no-sandbox --disable-gpu --dump-dom file:///root/page.html 2>/tmp/browser.err |
        grep -o '<title>done [0-9]*</title>'
}

# record PROGRAM: runs it with as much RAM as it gets, in a swap area of its own.
record() {
    local program=$1 limit=${1}_mib cgroup=/sys/fs/cgroup/$1 recorder begin
    say "$program with ${!limit} MiB"
    start_uswap --name "$program" --size 1G --pool 300M --staging 1M --swapon --metrics off
    within 30 is_swap "$DEV" || die "no swap area"
    mkdir "$cgroup"
    echo "${!limit}M" >"$cgroup/memory.max"
    uswap trace record "$program" --output "/tmp/$program.trace" >/tmp/recorded 2>&1 &
    recorder=$!
    sleep 1
    begin=$(milliseconds)
    (
        echo $BASHPID >"$cgroup/cgroup.procs"
        "$program"
    ) || die "$program ended with $?"
    echo "   $(($(milliseconds) - begin)) ms, at most $(($(cat "$cgroup/memory.peak") >> 20)) MiB of RAM and $(($(cat "$cgroup/memory.swap.peak") >> 20)) MiB of swap"
    # It sees the end of what it records.
    kill -INT $recorder
    wait $recorder || die "the recorder ended with $?: $(cat /tmp/recorded)"
    sed 's/^/   /' /tmp/recorded
    expect_status .counters.read_corrupt_pages 0
    [ "$(status '.counters | .write_staged_pages + .write_direct_pages')" -gt 4000 ] || die "hardly anything was swapped out"
    rmdir "$cgroup" || die "something of $program still runs"
    rm -rf $D/root/* $D/tmp/*
    expect swapoff swapoff "$DEV"
    stop_uswap
    base64 -w 1000 "/tmp/$program.trace" | sed "s/^/TRACE $program /"
    rm "/tmp/$program.trace"
}

[ $# -gt 0 ] || set -- compiler database jvm browser
for program in "$@"; do record "$program"; done
