//! `killer`: kills the server of a service at random moments, again and again, and measures how
//! long the device is without one.
//!
//! The time counts from the signal until the control page says that another process serves: what a
//! page fault waits at most. Its own memory is locked, so that it never waits for the swap that it
//! takes away.

use clap::{Parser, ValueEnum};
use std::fs::File;
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

    /// Waits until `there` is true.
    fn until(&self, what: &str, there: impl Fn(&Self) -> bool) -> StartResult<()> {
        let begin = Instant::now();
        while !there(self) {
            if begin.elapsed() > GONE_MAX {
                self.show();
                let what = format!("no {what} for {} s", GONE_MAX.as_secs());
                return Err(StartError::failure(what, "see what the service says"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What the kernel says of those who wait, for whoever reads the console.
    fn show(&self) {
        for ticket in self.page.recent_tickets() {
            let (holder, stage) = (self.page.holder(ticket), self.page.stage(ticket));
            eprintln!("killer: ticket {ticket} process {} {stage:?}", holder.pid);
        }
        // 9: whatever the console shows otherwise.
        for order in ["9", "l", "t", "m"] {
            let _ = std::fs::write("/proc/sysrq-trigger", order);
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
        let begin = Instant::now();
        for process in &doomed {
            process
                .ask(Ask::Die)
                .map_err(|e| StartError::failure(format!("cannot kill ({e})"), "run as root"))?;
        }
        if matches!(victim, Victim::Server | Victim::Both) {
            self.until("server", |killer| {
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
            killer.until("warm standby", Killer::is_warm)?;
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
