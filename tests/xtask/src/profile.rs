//! What `bench/profile.sh` sampled in a guest, as the tree of steps that NOTES compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Kernel functions whose share, callees included, is shown: the ones of the notes this project
/// began with, by every name that they have had. Deeper ones are indented below their usual caller.
const KERNEL_STEPS: [(&str, &[&str]); 14] = [
    ("io_cqring_wait", &["io_cqring_wait"]),
    ("- task work run while waiting or looking", &["__io_run_local_work"]),
    ("- ublk_copy_user_pages", &["ublk_copy_user_pages"]),
    ("io_submit_sqes", &["io_submit_sqes"]),
    ("- ublk_ch_uring_cmd", &["ublk_ch_uring_cmd", "ublk_ch_uring_cmd_local"]),
    ("-- blk_update_request", &["blk_update_request"]),
    (
        "--- end_swap_bio_write, swap_write_end",
        &["end_swap_bio_write", "__end_swap_bio_write", "swap_write_end"],
    ),
    ("---- folio_end_writeback", &["folio_end_writeback", "folio_end_writeback_no_dropbehind"]),
    ("----- folio_rotate_reclaimable", &["folio_rotate_reclaimable"]),
    ("-- wbt_done (throttling of writeback)", &["wbt_done"]),
    ("io_write", &["io_write"]),
    ("schedule", &["schedule", "preempt_schedule_irq"]),
    ("eventfd_write (asking for growth)", &["eventfd_write"]),
    (
        "interrupts",
        &[
            "asm_sysvec_apic_timer_interrupt",
            "asm_common_interrupt",
            "asm_sysvec_call_function_single",
        ],
    ),
];

/// Steps in user space by where a function is, innermost first; what is inlined counts where it
/// came from.
const USER_STEPS: [(&str, &[&str]); 7] = [
    ("compression", &["lz4_flex", "uswap::codec"]),
    ("pool", &["uswap::pool"]),
    ("table", &["uswap::table"]),
    ("store, around these", &["uswap::store"]),
    ("staging and handler", &["uswap::daemon"]),
    ("queue loop and ring", &["uswap::ublk", "uswap::sys", "io_uring"]),
    ("libc (copies)", &["libc.so"]),
];

/// Samples with the same stack.
#[derive(Clone, Debug, PartialEq)]
struct Stack {
    count: u64,
    thread: String,
    /// Innermost first: kernel functions, or one user frame (`@`, an offset in uswap's file, or a
    /// library).
    frames: Vec<String>,
}

/// Everything one run sampled.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    stacks: Vec<Stack>,
    /// The scenario's RESULT line.
    result: String,
}

/// A function without what the compiler appended to its name.
fn plain(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

impl Samples {
    /// From the scenario's output.
    pub fn parse(log: &str) -> Result<Self, String> {
        let mut samples = Self::default();
        for line in log.lines() {
            if let Some(result) = line.strip_prefix("RESULT ") {
                samples.result = result.to_owned();
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["PROFILE", "stack", count, thread, frames @ ..] = words.as_slice() {
                samples.stacks.push(Stack {
                    count: count.parse().map_err(|e| format!("{line}: {e}"))?,
                    thread: (*thread).to_owned(),
                    frames: frames.iter().map(|f| (*f).to_owned()).collect(),
                });
            }
        }
        if samples.of(is_queue) == 0 {
            return Err("no sample of a queue thread; the log says more".into());
        }
        Ok(samples)
    }

    fn of(&self, which: fn(&str) -> bool) -> u64 {
        self.stacks.iter().filter(|s| which(&s.thread)).map(|s| s.count).sum()
    }

    /// Offsets in the program's file that were sampled.
    fn offsets(&self) -> BTreeSet<u64> {
        let frames = self.stacks.iter().flat_map(|s| &s.frames);
        frames.filter_map(|f| u64::from_str_radix(f.strip_prefix('@')?, 16).ok()).collect()
    }

    /// Names the program's functions with addr2line: the unstripped program knows what was inlined.
    pub fn resolve(&self, program: &Path) -> Result<Functions, String> {
        let file = fs::read(program).map_err(|e| format!("{}: {e}", program.display()))?;
        let offsets = self.offsets();
        let shift = code_shift(&file).ok_or(format!("{} is no program", program.display()))?;
        let mut command = Command::new("addr2line");
        command.args(["--functions", "--inlines", "--demangle", "--addresses", "--exe"]);
        command.arg(program);
        command.args(offsets.iter().map(|at| format!("{:#x}", at.wrapping_add(shift))));
        let output = command.output().map_err(|e| format!("addr2line (of binutils): {e}"))?;
        if !output.status.success() {
            return Err(format!("addr2line: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(inlined(&String::from_utf8_lossy(&output.stdout), shift))
    }

    /// Share of the threads' samples that have any of the functions in their stacks, in percent.
    fn share(&self, which: fn(&str) -> bool, functions: &[&str]) -> f64 {
        let within = |s: &&Stack| s.frames.iter().any(|f| functions.contains(&plain(f)));
        self.percent(which, |s| within(&s))
    }

    fn percent(&self, which: fn(&str) -> bool, has: impl Fn(&Stack) -> bool) -> f64 {
        let stacks = self.stacks.iter().filter(|s| which(&s.thread));
        let found: u64 = stacks.filter(|s| has(s)).map(|s| s.count).sum();
        100.0 * found as f64 / self.of(which).max(1) as f64
    }

    /// The Markdown rows: each step's share of the queue threads' samples and of the reclaimer's.
    pub fn table(&self, functions: &Functions) -> String {
        let mut table = format!(
            "{}\n\n| step | queue threads and helpers % | reclaim % |\n|---|--:|--:|\n",
            self.result
        );
        let mut row = |name: &str, queue: f64, reclaim: f64| {
            let _ = writeln!(table, "| {name} | {queue:.1} | {reclaim:.1} |");
        };
        for (name, names) in KERNEL_STEPS {
            row(name, self.share(is_queue, names), self.share(is_reclaim, names));
        }
        let user = |s: &Stack| !s.frames.first().is_some_and(|f| is_kernel(f));
        row("user space", self.percent(is_queue, user), self.percent(is_reclaim, user));
        for (name, _) in USER_STEPS.iter().chain([&("elsewhere", &[][..])]) {
            let step = |s: &Stack| user(s) && user_step(s, functions) == *name;
            row(&format!("- {name}"), self.percent(is_queue, step), self.percent(is_reclaim, step));
        }
        let _ = writeln!(
            table,
            "\nSamples: queue threads {}, reclaim {}, growing thread {}, idle {}, all {}.",
            self.of(is_queue),
            self.of(is_reclaim),
            self.of(|t| t == "uswap-grow"),
            self.of(|t| t == "swapper"),
            self.of(|_| true),
        );
        table
    }
}

/// Queue threads, and the helpers that compress what they have staged.
fn is_queue(thread: &str) -> bool {
    thread.starts_with("uswap-q") || thread.starts_with("uswap-h")
}

fn is_reclaim(thread: &str) -> bool {
    thread == "reclaimer" || thread.starts_with("kswapd")
}

/// Kernel functions have neither an address nor a library's name.
fn is_kernel(frame: &str) -> bool {
    !frame.starts_with('@') && !frame.contains('/')
}

/// What is added to an offset in an ELF file's code to make the address that its symbols have: perf
/// gives the first, addr2line takes the second.
fn code_shift(file: &[u8]) -> Option<u64> {
    let number = |at: usize, len: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes.get_mut(..len)?.copy_from_slice(file.get(at..at + len)?);
        Some(u64::from_le_bytes(bytes))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for i in 0..count {
        let header = usize::try_from(table + i * size).ok()?;
        let (kind, flags) = (number(header, 4)?, number(header + 4, 4)?);
        // A loaded segment that may be executed.
        if kind == 1 && flags & 1 != 0 {
            return Some(number(header + 16, 8)?.wrapping_sub(number(header + 8, 8)?));
        }
    }
    None
}

/// Functions at an offset in the file, innermost first.
type Functions = BTreeMap<u64, Vec<String>>;

/// From addr2line's lines: an address, then a function and a place for each level of inlining.
fn inlined(output: &str, shift: u64) -> Functions {
    let mut functions = Functions::new();
    let mut at = 0;
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        if let Some(address) = line.strip_prefix("0x") {
            at = u64::from_str_radix(address, 16).unwrap_or(0).wrapping_sub(shift);
        } else {
            functions.entry(at).or_default().push(line.to_owned());
            lines.next();
        }
    }
    functions
}

fn user_step(stack: &Stack, functions: &Functions) -> &'static str {
    let Some(frame) = stack.frames.first() else { return "elsewhere" };
    let address = frame.strip_prefix('@').and_then(|a| u64::from_str_radix(a, 16).ok());
    let chain = match address {
        Some(address) => functions.get(&address).cloned().unwrap_or_default(),
        None => vec![frame.clone()],
    };
    let place = |function: &String| {
        USER_STEPS.iter().find(|(_, parts)| parts.iter().any(|part| function.contains(part)))
    };
    chain.iter().find_map(place).map_or("elsewhere", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "RESULT profile 7.3: 9 pages\n\
        PROFILE stack 2 uswap-q0 @1010\n\
        PROFILE stack 1 uswap-q1 memcpy(/lib/libc.so.6)\n\
        PROFILE stack 3 uswap-q0 rep_movs ublk_copy_user_pages.isra.0 io_cqring_wait\n\
        PROFILE stack 2 uswap-q1 schedule io_cqring_wait\n\
        PROFILE stack 4 reclaimer submit_bio\nPROFILE stack 9 swapper halt\n";

    fn functions() -> Functions {
        let lines = "0x0000000000002010\ncore::ptr::read\nmod.rs:1\nlz4_flex::block::f\nb.rs:2\n\
            uswap::store::write\nw.rs:3\n";
        inlined(lines, 0x1000)
    }

    #[test]
    fn shares_include_callees_and_ignore_suffixes() {
        let samples = Samples::parse(LOG).unwrap();
        assert_eq!(samples.of(is_queue), 8);
        assert_eq!(samples.share(is_queue, &["io_cqring_wait"]), 62.5);
        assert_eq!(samples.share(is_queue, &["ublk_copy_user_pages"]), 37.5);
        assert_eq!(samples.share(is_reclaim, &["io_cqring_wait"]), 0.0);
        assert!(Samples::parse("PROFILE stack 1 swapper halt\n").is_err());
    }

    #[test]
    fn inlined_code_counts_where_it_came_from() {
        let samples = Samples::parse(LOG).unwrap();
        assert_eq!(samples.offsets(), BTreeSet::from([0x1010]));
        assert_eq!(user_step(&samples.stacks[0], &functions()), "compression");
        assert_eq!(user_step(&samples.stacks[1], &functions()), "libc (copies)");
        assert_eq!(user_step(&samples.stacks[0], &Functions::new()), "elsewhere");
    }

    #[test]
    fn this_programs_own_code_is_found() {
        let program = fs::read("/proc/self/exe").unwrap();
        assert!(code_shift(&program).is_some_and(|shift| shift.is_multiple_of(0x1000)));
        assert_eq!(code_shift(b"text"), None);
    }

    #[test]
    fn the_table_adds_up() {
        let table = Samples::parse(LOG).unwrap().table(&functions());
        for row in [
            "| - ublk_copy_user_pages | 37.5 | 0.0 |",
            "| user space | 37.5 | 0.0 |",
            "| - compression | 25.0 | 0.0 |",
            "| - libc (copies) | 12.5 | 0.0 |",
            "| - elsewhere | 0.0 | 0.0 |",
            "queue threads 8, reclaim 4, growing thread 0, idle 9, all 21.",
        ] {
            assert!(table.contains(row), "{row} is not in\n{table}");
        }
    }
}
