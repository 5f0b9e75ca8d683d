//! What lets a process serve the memory pressure that it lives in: nothing of it is ever paged,
//! killed or dumped, and its own allocations never wait for the swap that it serves. What that
//! rests on (I/O flusher, OOM score, locked memory) is read back from the kernel.

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use std::fs;
use std::io;

/// Sets PF_MEMALLOC_NOIO for this thread and every thread and ring made from it later: reclaim that
/// runs in its context does not start swap-out, hence does not wait for us (Linux kernel/sys.c,
/// include/linux/sched/mm.h).
pub fn set_io_flusher() -> io::Result<()> {
    rustix::process::configure_io_flusher_behavior(true)?;
    if is_io_flusher()? { Ok(()) } else { Err(io::Error::other("the kernel dropped the setting")) }
}

/// Lets every other thread go before the calling one, or no longer: that needs CAP_SYS_NICE.
pub fn set_nice(nice: bool) -> io::Result<()> {
    const NICEST: i32 = 19;
    Ok(rustix::process::setpriority_process(None, if nice { NICEST } else { 0 })?)
}

/// Runs this thread before all ordinary ones, and lets it take memory where ordinary ones have to
/// wait for somebody to free some: half of what the kernel keeps below its lowest mark is for such
/// threads (Linux mm/page_alloc.c, `ALLOC_MIN_RESERVE`). For the time in which nobody else can make
/// memory free. Threads made meanwhile are so too.
pub fn be_urgent() -> io::Result<()> {
    schedule(libc::SCHED_RR, 1)
}

/// Ends [`be_urgent`] for this thread.
pub fn be_ordinary() -> io::Result<()> {
    schedule(libc::SCHED_OTHER, 0)
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: reads the parameters, and touches no memory of ours.
    let result = unsafe { libc::sched_setscheduler(0, policy, &parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this thread is an I/O flusher.
pub fn is_io_flusher() -> io::Result<bool> {
    Ok(rustix::process::is_io_flusher()?)
}

/// Makes the OOM killer pass this process by.
pub fn set_oom_exempt() -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", "-1000")?;
    match oom_score_adj()? {
        -1000 => Ok(()),
        other => Err(io::Error::other(format!("oom_score_adj reads back {other}"))),
    }
}

/// This process's oom_score_adj.
pub fn oom_score_adj() -> io::Result<i32> {
    fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse().map_err(io::Error::other)
}

/// Bytes of a page of this kernel.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// No core dump (it would hold the device open for as long as it takes, and hold people's pages),
/// no huge-page collapse and no page merging under us (both take the mapping lock or copy on
/// write).
pub fn set_quiet_memory() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // SAFETY: PR_SET_THP_DISABLE takes a flag and four zeros, and touches no memory of ours.
    let thp = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if thp != 0 {
        return Err(io::Error::last_os_error());
    }
    // PR_SET_MEMORY_MERGE is 6.4+ and needs CONFIG_KSM; where it does not exist nothing is merged.
    // SAFETY: takes a flag and four zeros, and touches no memory of ours.
    let _ = unsafe { libc::prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0) };
    Ok(())
}

const PR_SET_MEMORY_MERGE: libc::c_int = 67;

/// Locks all memory, present and future. Blocks while the kernel brings pages in.
pub fn lock_memory() -> io::Result<()> {
    let unlimited = Rlimit { current: None, maximum: None };
    // Without CAP_SYS_RESOURCE the limit stays what it is, and is judged below.
    let _ = rustix::process::setrlimit(Resource::Memlock, unlimited);
    if let Some(limit) = rustix::process::getrlimit(Resource::Memlock).current
        && capabilities(&fs::read_to_string("/proc/self/status")?) >> CAP_IPC_LOCK & 1 == 0
    {
        return Err(io::Error::other(format!("the limit on locked memory is {} KiB", limit >> 10)));
    }
    Ok(rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
}

/// The bit of CAP_IPC_LOCK (Linux include/uapi/linux/capability.h).
pub const CAP_IPC_LOCK: u32 = 14;

/// The effective capabilities in the text of a /proc/PID/status; none if it does not say.
pub fn capabilities(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Makes mappings while pages that come into being in them are locked, but none are made to. Only
/// for memory that is brought in explicitly before anybody touches it. Call it while the process
/// has one thread.
pub fn lock_on_fault<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    rustix::mm::mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    let made = make();
    rustix::mm::mlockall(MlockAllFlags::FUTURE)?;
    made
}

/// Checks that every mapping is locked and present, by the kernel's own list.
pub fn verify_locked() -> io::Result<()> {
    match unlocked_mapping(&fs::read_to_string("/proc/self/smaps")?) {
        None => Ok(()),
        Some(what) => Err(io::Error::other(format!("not locked or not resident: {what}"))),
    }
}

/// The first mapping in an smaps text that could still fault. mlockall ignores errors of single
/// mappings and says success (Linux mm/mlock.c), so the kernel's own list is the only proof.
fn unlocked_mapping(smaps: &str) -> Option<&str> {
    let mut head = "";
    let mut size = 0;
    let mut resident = 0;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or("");
        let mut number = || words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        match first {
            "Size:" => size = number(),
            "Rss:" => resident = number(),
            "VmFlags:" => {
                let flags = |flag| line.split_ascii_whitespace().any(|w| w == flag);
                // VM_SPECIAL mappings (rings, descriptors) are kernel memory that mlock itself
                // skips; without read access there is nothing to fault in (guard pages).
                let exempt = ["io", "pf", "mm", "de"].into_iter().any(flags) || !flags("rd");
                // Locked on fault (lf): what is in use was brought in explicitly.
                let absent = resident < size && !flags("lf");
                if !exempt && !head.contains("[v") && (!flags("lo") || absent) {
                    return Some(head);
                }
            }
            _ if !first.ends_with(':') => head = line,
            _ => {}
        }
    }
    None
}

/// Restricts this thread to the given CPUs. An empty set is ignored.
pub fn pin_thread(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = rustix::thread::CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < rustix::thread::CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::unlocked_mapping;

    const LOCKED: &str = "55d0-55d1 rw-p 00000000 00:00 0 [heap]\nSize: 4 kB\nRss: 4 kB\n\
                          VmFlags: rd wr mr mw me lo ac sd \n";

    #[test]
    fn a_locked_and_resident_mapping_passes() {
        assert_eq!(unlocked_mapping(LOCKED), None);
    }

    #[test]
    fn a_mapping_that_is_not_resident_is_found() {
        let text = LOCKED.replace("Rss: 4", "Rss: 0");
        assert!(unlocked_mapping(&text).expect("must be found").contains("[heap]"));
    }

    #[test]
    fn a_mapping_that_is_not_locked_is_found() {
        assert!(unlocked_mapping(&LOCKED.replace(" lo", "")).is_some());
    }

    #[test]
    fn a_mapping_that_is_filled_explicitly_need_not_be_resident() {
        let text = LOCKED.replace("Rss: 4", "Rss: 0").replace(" lo", " lo lf");
        assert_eq!(unlocked_mapping(&text), None);
    }

    #[test]
    fn guard_pages_and_device_memory_do_not_count() {
        let guard = LOCKED.replace("Rss: 4", "Rss: 0").replace(" rd wr", "");
        assert_eq!(unlocked_mapping(&guard), None);
        let device = LOCKED.replace("Rss: 4", "Rss: 0").replace(" lo", " io pf");
        assert_eq!(unlocked_mapping(&device), None);
    }
}
