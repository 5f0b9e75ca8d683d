//! `killer`: kills the server of a service at random moments, again and again, and measures how
//! long the device is without one.
//!
//! The time counts from the signal until the control page says that another process serves: what a
//! page fault waits at most. Its own memory is locked, so that it never waits for the swap that it
//! takes away.

use clap::{Parser, ValueEnum};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use uswap::daemon::control_page::{ControlPage, Stage, Ticket};
use uswap::error::{StartError, StartResult};
use uswap::sys::guard;
use uswap::sys::map::Held;
use uswap::sys::process::{Ask, Process};
use uswap_bench::statistics::{median, quantile};
use uswap_bench::swap::random::Random;

/// Time between two looks at the page.
const LOOK: Duration = Duration::from_micros(100);
/// How long a service may be without a server.
const GONE_MAX: Duration = Duration::from_secs(60);
/// From here on it is shown what the dead server is still doing.
const GONE_LONG: Duration = Duration::from_secs(3);
/// What is read of a thread.
const THREAD_FILES: [&str; 3] = ["stack", "wchan", "status"];

/// Whom to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Victim {
    /// The server.
    Server,
    /// The standby: the server goes on.
    Standby,
    /// Both at once.
    Both,
    /// Both and the parent: nobody is left.
    All,
}

/// Kills, waits, measures.
#[derive(Debug, Parser)]
#[command(name = "killer")]
struct Arguments {
    /// State directory of the service
    #[arg(long, default_value = "/run/uswap/default")]
    dir: PathBuf,
    /// Whom to kill
    #[arg(long, value_enum, default_value = "server")]
    victim: Victim,
    /// How often
    #[arg(long, default_value_t = 50)]
    times: u32,
    /// Least pause before a kill, milliseconds
    #[arg(long, default_value_t = 100)]
    min_ms: u64,
    /// Longest pause before a kill, milliseconds
    #[arg(long, default_value_t = 1500)]
    max_ms: u64,
    /// Wait for a warm standby before each pause
    #[arg(long)]
    warm: bool,
    /// Seed of the pauses
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Become this command afterwards. Its program, and the libraries that this one uses, are kept
    /// in memory until then, as they are on a machine whose files are not in memory that is swapped
    #[arg(last = true)]
    then: Vec<String>,
}

/// What the kernel says of a process's threads and of everybody. The files are open and have been
/// read once, so that reading them again takes no memory: there may be none.
struct Evidence {
    threads: Vec<(String, File)>,
    orders: Option<File>,
}

impl Evidence {
    /// Of a process that lives.
    fn of(pid: u32) -> Self {
        let mut threads = Vec::with_capacity(64 * THREAD_FILES.len());
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for path in tasks.flat_map(|task| THREAD_FILES.map(|name| task.path().join(name))) {
            if let Ok(file) = File::open(&path) {
                let _ = file.read_at(&mut [0; 4096], 0);
                threads.push((path.display().to_string(), file));
            }
        }
        let orders = OpenOptions::new().write(true).open("/proc/sysrq-trigger").ok();
        Self { threads, orders }
    }

    /// Shows it, on the console and on stderr.
    fn show(&self) {
        for (path, file) in &self.threads {
            let mut bytes = [0; 4096];
            // A thread that has ended has none.
            if let Ok(len) = file.read_at(&mut bytes, 0) {
                eprintln!("killer: {path}:\n{}", String::from_utf8_lossy(&bytes[..len]));
            }
        }
        // 9: whatever the console shows otherwise.
        for order in ["9", "w", "l", "t", "m"] {
            let _ = self.orders.as_ref().map(|mut orders| orders.write_all(order.as_bytes()));
        }
    }
}

struct Killer {
    page: ControlPage,
}

impl Killer {
    fn process(&self, ticket: Ticket) -> Option<Process> {
        Process::open(self.page.holder(ticket)).ok().flatten()
    }

    fn standby(&self) -> Option<(Ticket, Process)> {
        let server = self.page.server();
        let others = self.page.recent_tickets().filter(|ticket| *ticket != server);
        others.filter_map(|ticket| Some((ticket, self.process(ticket)?))).last()
    }

    fn is_warm(&self) -> bool {
        self.standby().is_some_and(|(ticket, _)| self.page.stage(ticket) == Stage::Warm)
    }

    /// Waits until `there` is true, and shows the evidence if that takes long.
    fn until(
        &self,
        what: &str,
        mut evidence: Option<&Evidence>,
        there: impl Fn(&Self) -> bool,
    ) -> StartResult<()> {
        let begin = Instant::now();
        let all = evidence;
        while !there(self) {
            if begin.elapsed() > GONE_LONG
                && let Some(evidence) = evidence.take()
            {
                self.show_holders();
                evidence.show();
            }
            if begin.elapsed() > GONE_MAX {
                self.show_holders();
                all.iter().for_each(|evidence| evidence.show());
                let what = format!("no {what} for {} s", GONE_MAX.as_secs());
                return Err(StartError::failure(what, "see what the service says"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Who has a ticket.
    fn show_holders(&self) {
        for ticket in self.page.recent_tickets() {
            let (holder, stage) = (self.page.holder(ticket), self.page.stage(ticket));
            eprintln!("killer: ticket {ticket} process {} {stage:?}", holder.pid);
        }
    }

    /// Kills once; how long until somebody else served.
    fn kill(&self, victim: Victim) -> StartResult<Duration> {
        let server = self.page.server();
        let standby = self.standby().map(|(_, process)| process);
        let parent = Process::open(self.page.parent()).ok().flatten();
        let mut doomed = Vec::with_capacity(3);
        doomed.extend(parent.filter(|_| victim == Victim::All));
        doomed.extend(standby.filter(|_| victim != Victim::Server));
        doomed.extend(self.process(server).filter(|_| victim != Victim::Standby));
        let evidence = Evidence::of(self.page.holder(server).pid);
        let begin = Instant::now();
        for process in &doomed {
            process
                .ask(Ask::Die)
                .map_err(|e| StartError::failure(format!("cannot kill ({e})"), "run as root"))?;
        }
        if matches!(victim, Victim::Server | Victim::Both) {
            self.until("server", Some(&evidence), |killer| {
                let now = killer.page.server();
                now != server && killer.page.stage(now) == Stage::Live
            })?;
        }
        Ok(begin.elapsed())
    }
}

fn run(arguments: &Arguments) -> StartResult<()> {
    let page = ControlPage::open(&arguments.dir).map_err(|e| {
        let what = format!("cannot watch {} ({e})", arguments.dir.display());
        StartError::failure(what, "name the state directory of a service with a standby")
    })?;
    let locked = guard::lock_memory().and_then(|()| guard::set_oom_exempt());
    let ready = locked.and_then(|()| guard::be_urgent());
    ready.map_err(|e| StartError::failure(format!("cannot lock memory ({e})"), "run as root"))?;
    let _libraries = uswap::daemon::hold_libraries();
    let _program =
        arguments.then.first().and_then(|program| Held::new(&File::open(program).ok()?).ok());
    let killer = Killer { page };
    let mut random = Random::new(arguments.seed);
    let (mut took, mut cold) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    let span = arguments.max_ms.saturating_sub(arguments.min_ms) as usize + 1;
    for number in 1..=arguments.times {
        if arguments.warm {
            killer.until("warm standby", None, Killer::is_warm)?;
        }
        let pause = arguments.min_ms + random.below(span) as u64;
        std::thread::sleep(Duration::from_millis(pause));
        let warm = killer.is_warm();
        let ms = killer.kill(arguments.victim)?.as_secs_f64() * 1000.0;
        let standby = if warm { "warm" } else { "not ready" };
        println!("kill {number}: after {pause} ms, standby {standby}: {ms:.1} ms");
        if warm { took.push(ms) } else { cold.push(ms) }
    }
    for (what, times) in [("warm", &mut took), ("cold", &mut cold)] {
        times.sort_by(f64::total_cmp);
        let (half, most) = (median(times.iter().copied()).unwrap_or(0.0), quantile(times, 1.0));
        println!("killer {what} {} median_ms {half:.1} max_ms {most:.1}", times.len());
    }
    let Some((program, words)) = arguments.then.split_first() else { return Ok(()) };
    let error = Command::new(program).args(words).exec();
    Err(StartError::failure(format!("cannot run {program} ({error})"), "give its whole path"))
}

fn main() -> ExitCode {
    uswap_bench::exit("killer", run(&Arguments::parse()))
}
