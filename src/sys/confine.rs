//! What a process gives up once it has what it needs: capabilities, and system calls.
//!
//! Capabilities belong to threads. Those that handle requests and pages keep none; the control
//! thread keeps what commands to the driver and the end of the service take; the parent has to have
//! what its children start with, because nobody gains anything any more (no_new_privs).
//!
//! System calls are refused by a list of what nobody here has a use for and an intruder would: the
//! rest passes. They fail with EPERM and a line in the kernel's log. A list of what may pass would
//! be shorter to attack, and a library that begins to use another call would be the end of the
//! swap. Nobody is killed for one: killing a server helps whoever is inside to another one. Rings
//! go round such a list, so no ring can be made any more.

use rustix::process::{Resource, Rlimit};
use rustix::thread::{self as process, CapabilitySet, CapabilitySets};
use std::io;

/// Whoever starts a server needs them: driver and mounts, locked memory, I/O flusher and OOM score,
/// urgency, other people's files and directories, a low port for the metrics.
const TO_START: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// The control thread's: the driver and unmounting; the control socket in somebody's directory, a
/// policy in somebody's file; metrics at another address.
const TO_CONTROL: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Requests and pages.
    Pages,
    /// Metrics.
    Metrics,
    /// The life of a device.
    Control,
    /// Children.
    Parent,
}

/// Gives up every capability of this thread that its duty does not take. It gains none.
pub fn drop_capabilities(duty: Duty) -> io::Result<()> {
    let (usable, at_hand) = match duty {
        Duty::Pages => (CapabilitySet::empty(), CapabilitySet::empty()),
        Duty::Metrics => (CapabilitySet::NET_BIND_SERVICE, CapabilitySet::NET_BIND_SERVICE),
        Duty::Control => (TO_CONTROL, TO_CONTROL),
        // Of no use to itself.
        Duty::Parent => (TO_CONTROL, TO_START),
    };
    // Where the limit on locked memory stayed, memory comes only to those who may pass it.
    let limited = rustix::process::getrlimit(Resource::Memlock).current.is_some();
    let lock = if limited { CapabilitySet::IPC_LOCK } else { CapabilitySet::empty() };
    let has = process::capabilities(None)?.permitted;
    let sets = CapabilitySets {
        effective: has & (usable | lock),
        permitted: has & (at_hand | lock),
        inheritable: CapabilitySet::empty(),
    };
    // Kernels without ambient capabilities have none to clear.
    let _ = process::clear_ambient_capability_set();
    Ok(process::set_capabilities(None, sets)?)
}

/// Lets threads that once made themselves nice be ordinary again without CAP_SYS_NICE.
pub fn allow_ordinary_priority() -> io::Result<()> {
    /// getrlimit(2): 20 less the nice value.
    const ORDINARY: Option<u64> = Some(20);
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nice);
    // No limit is more than any.
    let most = |limit: Option<u64>| limit.map_or(limit, |_| limit.max(ORDINARY));
    let wanted = Rlimit { current: most(current), maximum: most(maximum) };
    Ok(rustix::process::setrlimit(Resource::Nice, wanted)?)
}

/// Confines the process that starts servers and serves nothing itself. What it starts inherits it,
/// and still can start. Call it while the process has one thread.
pub fn confine_parent() -> io::Result<()> {
    // Each as far as it goes; the first that does not is the news.
    let steps = [
        process::set_no_new_privs(true).map_err(io::Error::from),
        limit_bounding_set(),
        refuse(NEVER, &[]),
        drop_capabilities(Duty::Parent),
    ];
    steps.into_iter().collect()
}

/// Confines a server or standby that has all it needs: for all threads of the process the calls
/// that are refused, for this one what the control thread gives up.
pub fn confine_server() -> io::Result<()> {
    let steps = [
        process::set_no_new_privs(true).map_err(io::Error::from),
        // The first server was there before its parent did this.
        limit_bounding_set(),
        drop_capabilities(Duty::Control),
        refuse(&[NEVER, STARTED].concat(), CODE),
    ];
    steps.into_iter().collect()
}

/// Takes out of the bounding set what no server starts with: for this thread and what it starts.
fn limit_bounding_set() -> io::Result<()> {
    let others = CapabilitySet::all() - TO_START;
    for one in others.iter() {
        // The kernel knows fewer than the library, or a manager has taken it out before.
        if process::capability_is_in_bounding_set(one).unwrap_or(false) {
            process::remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

/// A call that is refused if an argument has one of these bits.
type Part = (libc::c_long, u32, u32);

/// Nobody here has a use for these: looking into other processes, changing the kernel and the
/// machine's state, other namespaces, files by number.
const NEVER: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// And nobody who has started these: other programs, mounts, rings, device nodes, becoming somebody
/// else.
const STARTED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_mount,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_io_uring_setup,
    libc::SYS_mknodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// Nor new code.
const CODE: &[Part] = &[
    (libc::SYS_mmap, 2, libc::PROT_EXEC as u32),
    (libc::SYS_mprotect, 2, libc::PROT_EXEC as u32),
    (libc::SYS_pkey_mprotect, 2, libc::PROT_EXEC as u32),
];

/// Has the kernel refuse these calls to all threads of this process, and to those that come.
fn refuse(calls: &[libc::c_long], parts: &[Part]) -> io::Result<()> {
    let program = program(calls, parts);
    let len = u16::try_from(program.len()).expect("a few hundred instructions");
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // Without the last one the kernel would slow memory accesses down, against attacks that need
    // somebody else's code in this process.
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC
        | libc::SECCOMP_FILTER_FLAG_LOG
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: reads the program, which lives until the call returns.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    match done {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has other rules"))),
    }
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64 (Linux include/uapi/linux/audit.h)
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// Where the kernel puts things (`struct seccomp_data`): the call's number, the architecture that
/// it was made for, the low halves of its arguments.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;
/// Numbers from here on are those of x32, which are other numbers for the same calls.
const OTHER_NUMBERS: u32 = 0x4000_0000;

/// The list as a program for the kernel's machine. Arguments are looked at last: the kernel knows a
/// call without running the program if that never asks for one.
fn program(calls: &[libc::c_long], parts: &[Part]) -> Vec<libc::sock_filter> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let jump = |kind: u32, k, yes, no| step(libc::BPF_JMP | kind | libc::BPF_K, yes, no, k);
    let end = |verdict| step(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    let refusal = || end(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
        refusal(),
        load(NUMBER_AT),
        jump(libc::BPF_JGE, OTHER_NUMBERS, 0, 1),
        refusal(),
    ];
    for &call in calls {
        program.extend([jump(libc::BPF_JEQ, call as u32, 0, 1), refusal()]);
    }
    for &(call, argument, bits) in parts {
        program.extend([
            jump(libc::BPF_JEQ, call as u32, 0, 4),
            load(ARGUMENTS_AT + 8 * argument),
            jump(libc::BPF_JSET, bits, 0, 1),
            refusal(),
            end(libc::SECCOMP_RET_ALLOW),
        ]);
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    program
}

/// Whether calls of this process are filtered.
pub fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::guard;
    use std::fs;
    use std::process::Command;
    use std::sync::mpsc::sync_channel;
    use std::thread;

    /// Says to a copy of this test program what it is to be.
    const ROLE: &str = "USWAP_CONFINE";

    /// Runs one test alone in a process of its own, as what there is no way back from needs.
    fn alone(test: &str, role: &str) {
        let own = std::env::current_exe().expect("a program");
        let mut command = Command::new(own);
        command.args(["--exact", &format!("sys::confine::tests::{test}"), "--nocapture"]);
        let output = command.env(ROLE, role).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
    }

    fn own_role() -> Option<String> {
        std::env::var(ROLE).ok()
    }

    fn refused(result: io::Result<()>) {
        assert_eq!(result.expect_err("refused").raw_os_error(), Some(libc::EPERM));
    }

    fn word(status: &str, name: &str) -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        u64::from_str_radix(line.trim(), 16).expect("a number")
    }

    fn status_of(task: &str) -> String {
        fs::read_to_string(format!("/proc/{task}/status")).expect("proc")
    }

    /// A call that fails without the filter too, but for another reason: there is no such area.
    fn swapoff() -> io::Result<()> {
        // SAFETY: reads a name.
        match unsafe { libc::swapoff(c"/no/such/area".as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn mount() -> io::Result<()> {
        let flags = rustix::mount::MountFlags::empty();
        Ok(rustix::mount::mount("x", "/no/such/place", "tmpfs", flags, None)?)
    }

    /// Anonymous memory to run code from.
    fn code() -> io::Result<()> {
        let memory = memmap2::MmapMut::map_anon(4096)?;
        memory.make_exec().map(drop)
    }

    #[test]
    fn a_server_keeps_what_it_serves_with() {
        if own_role().is_none() {
            return alone("a_server_keeps_what_it_serves_with", "server");
        }
        let (go, wait) = sync_channel::<()>(0);
        let (tell, told) = sync_channel(1);
        let before = thread::spawn(move || {
            drop_capabilities(Duty::Pages).expect("less");
            let id = rustix::thread::gettid().as_raw_nonzero();
            tell.send(format!("self/task/{id}")).expect("heard");
            let _ = wait.recv();
            refused(code());
            guard::be_ordinary().expect("needs nothing");
        });
        let task = told.recv().expect("its place");
        code().expect("before");
        confine_server().expect("seccomp");
        assert!(is_filtered());
        refused(swapoff());
        refused(mount());
        refused(code());
        refused(Command::new("true").spawn().map(drop));
        refused(io_uring::IoUring::new(4).map(drop));
        let (own, theirs) = (status_of("thread-self"), status_of(&task));
        assert_eq!(word(&own, "CapEff:") & !TO_CONTROL.bits() & !IPC_LOCK, 0, "{own}");
        assert_eq!(word(&theirs, "CapPrm:") & !IPC_LOCK, 0, "{theirs}");
        for status in [&own, &theirs] {
            assert_eq!((word(status, "Seccomp:"), word(status, "NoNewPrivs:")), (2, 1));
            assert_eq!((word(status, "CapInh:"), word(status, "CapAmb:")), (0, 0));
        }
        drop(go);
        before.join().expect("nothing it needs is refused");
        // What a server and a standby go on doing.
        let file = tempfile::NamedTempFile::new().expect("files");
        fs::write(file.path(), "x").expect("writing");
        assert_eq!(thread::spawn(|| 7).join().expect("threads"), 7);
        drop(memmap2::MmapMut::map_anon(1 << 20).expect("memory"));
        let dir = tempfile::tempdir().expect("directories");
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("sockets");
        std::os::unix::net::UnixStream::connect(&path).expect("connections");
        drop(listener);
        drop(std::net::TcpListener::bind("127.0.0.1:0").expect("ports"));
    }

    const IPC_LOCK: u64 = CapabilitySet::IPC_LOCK.bits();

    #[test]
    fn a_parent_starts_children_who_can_do_no_more_than_it() {
        if own_role().is_none() {
            return alone("a_parent_starts_children_who_can_do_no_more_than_it", "parent");
        }
        // Only root has anything to give up, and may.
        let may = word(&status_of("thread-self"), "CapEff:") & CapabilitySet::SETPCAP.bits() != 0;
        let confined = thread::spawn(confine_parent).join().expect("no panic");
        if let Err(e) = confined {
            assert!(!may && e.raw_os_error() == Some(libc::EPERM), "{e}");
            return;
        }
        refused(swapoff());
        assert_ne!(mount().expect_err("no such place").raw_os_error(), None);
        // Filters hold for the process; capabilities are the thread's that gave them up.
        let output = thread::spawn(|| {
            drop_capabilities(Duty::Parent).expect("less");
            Command::new("cat").arg("/proc/self/status").output().expect("a child")
        });
        let output = output.join().expect("no panic");
        let status = String::from_utf8_lossy(&output.stdout);
        assert_eq!(word(&status, "CapEff:") & !TO_START.bits(), 0, "{status}");
        assert_eq!((word(&status, "Seccomp:"), word(&status, "NoNewPrivs:")), (2, 1));
    }

    #[test]
    fn niceness_can_be_taken_back() {
        if own_role().is_none() {
            return alone("niceness_can_be_taken_back", "nice");
        }
        let may =
            word(&status_of("thread-self"), "CapEff:") & CapabilitySet::SYS_RESOURCE.bits() != 0;
        let allowed = allow_ordinary_priority();
        assert!(allowed.is_ok() || !may, "{allowed:?}");
        let worker = thread::spawn(move || {
            drop_capabilities(Duty::Pages).expect("less");
            guard::set_nice(true).expect("anybody may");
            let back = guard::set_nice(false);
            assert!(back.is_ok() || allowed.is_err(), "{back:?}");
        });
        worker.join().expect("as it should be");
    }
}
