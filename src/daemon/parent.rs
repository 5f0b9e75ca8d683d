//! The parent of a service: starts the server and the standby, and serves nothing itself.
//!
//! It is not in the way of a page: a standby sees the server's end by itself and takes over whether
//! or not the parent gets a turn. The parent then makes the next standby, when there is memory for
//! it; if the parent is the one that waits for memory, pages are served meanwhile. Everything it
//! knows is in the control page, so another parent can go on where a dead one was.
//!
//! It does all that in one thread, its memory is locked, and it is the last that the OOM killer
//! takes. Children are started by vfork and exec of the program's copy in the state directory:
//! nothing is read from a disk, and no page of the parent is write-protected. It keeps the
//! libraries in memory that they need, and some memory that it lets go when a standby has to be
//! made while nobody serves: then reclaim stands still, and what is free is all there is.
//!
//! What it and the others have to say is written by a thread of its own ([`super::scribe`]), and
//! only while the device is served and a standby is warm: a log's page may be swapped out, and
//! whoever waits for it cannot start a server.

use super::children::Member;
use super::control_page::{ControlPage, Phase, Stage, Ticket};
use super::leftover::{self, Found};
use super::notify::{self, Manager};
use super::program::{self, PROGRAM, keep_policy, read_words, write_words};
use super::scribe::Scribe;
use super::watchdog::Watchdog;
use super::{Role, Tell, cannot, not_confined, protect, state};
use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::sys::confine;
use crate::sys::guard;
use crate::sys::heap;
use crate::sys::map::Held;
use crate::sys::process::{Ask, Ended, Identity, Process, clock_us};
use crate::sys::secret::random_key;
use crate::sys::statefs::StateDir;
use crate::sys::wake::{Signals, Told, wait_readable};
use crate::ublk::Controller;
use crate::ublk::ctrl::block_path;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time between two looks while something is about to change, and while nothing is.
const BUSY_POLL: Duration = Duration::from_millis(10);
pub(super) const IDLE_POLL: Duration = Duration::from_secs(1);
/// A server that lived for less did not get far.
const SHORT_LIFE_US: u64 = 1_000_000;
/// So many short lives in a row are bad luck; after more the next standby is made later and later.
const SHORT_LIVES_MAX: u32 = 10;
/// The first pause before a standby is made again, and the longest.
const PAUSE_MIN_US: u64 = 100_000;
const PAUSE_MAX_US: u64 = 30_000_000;
/// What a standby takes when it starts, and some more.
const RESERVE_BYTES: usize = 8 << 20;
/// Lines that wait to be written; the oldest go when there are more.
pub(super) const LINES_MAX: usize = 64;
/// Most processes at a time: the server, a standby, and one from another program.
const MEMBERS: usize = 3;

/// How far an order for a successor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replacing {
    /// The standby there was goes, and another one gets warm.
    Clearing(Option<Ticket>),
    /// This server was told to hand over.
    Told(Ticket),
}

/// The parent and what it watches.
pub(super) struct Parent<'a> {
    pub(super) settings: &'a Settings,
    pub(super) dir: PathBuf,
    pub(super) page: ControlPage,
    pub(super) words: Vec<OsString>,
    pub(super) scribe: Scribe,
    pub(super) members: [Option<Member>; MEMBERS],
    /// Whether the service was called ready.
    pub(super) announced: bool,
    /// When the server was first seen to serve.
    pub(super) serving_since_us: Option<u64>,
    /// The server that was last seen, and since when it serves.
    pub(super) last_server: (Ticket, u64),
    /// Servers in a row that lived for a short time only.
    pub(super) short_lives: u32,
    /// Standbys in a row that did not get warm.
    pub(super) failures: u32,
    /// When the next standby may be made.
    pub(super) next_at_us: u64,
    /// The order for a successor that is being carried out.
    pub(super) replacing: Option<Replacing>,
    /// Looks after the device, once there is one.
    pub(super) watchdog: Option<Watchdog>,
    /// Who wants to hear that this process lives, and when it last heard.
    pub(super) manager: Option<Manager>,
    pub(super) heard_at_us: u64,
    /// What has to be said.
    pub(super) lines: VecDeque<String>,
    /// Whether a server or standby has ever had something to say.
    pub(super) told: bool,
    /// Memory for the time of need.
    pub(super) reserve: Vec<u8>,
    /// What the loader needs.
    _libraries: Vec<Held>,
}

/// Runs a service as its parent until it is stopped; the exit code that its server ended with.
/// `words`: what the server is to be started with. `ready` is called with the device path once I/O
/// is served and, if memory allows, a standby is warm. It and `tell` are called by a thread of
/// their own, and may wait.
pub fn run(
    settings: &Settings,
    words: Vec<OsString>,
    ready: &mut (dyn FnMut(&str) + Send),
    tell: Tell<'_>,
) -> StartResult<u8> {
    // Before anything that may wait for memory: perhaps nobody serves, and what reclaim would write
    // goes to the device that waits for this process.
    let prepared = guard::set_io_flusher().and_then(|()| guard::be_urgent());
    heap::settle();
    let mut signals = Signals::open().map_err(|e| cannot("watch for signals", &e))?;
    let mut controller = Controller::open()?;
    let (name, found) = leftover::take_or_find(&settings.name, &settings.run_dir, &mut controller)?;
    drop(controller);
    // Nothing but the lock is held by then, and all is written when the scope ends.
    std::thread::scope(|scope| {
        let scribe = Scribe::start(scope, &name, ready, tell)?;
        let mut parent = Parent::prepare(settings, words, found, scribe)?;
        if let Err(e) = prepared {
            parent.say(format!("cannot run before other processes ({e})"));
        }
        let result = parent.watch(&mut signals);
        parent.speak_out();
        result
    })
}

impl<'a> Parent<'a> {
    /// The parent of a new service or of one that was found, protected and confined.
    fn prepare(
        settings: &'a Settings,
        words: Vec<OsString>,
        found: Option<Found>,
        scribe: Scribe,
    ) -> StartResult<Self> {
        let begins = found.is_none();
        let mut parent = match found {
            None => Parent::begin(settings, words, scribe)?,
            Some(found) => Parent::go_on(settings, &words, found, scribe)?,
        };
        let identity = Identity::own().map_err(|e| cannot("read /proc/self/stat", &e))?;
        parent.page.become_parent(identity);
        if let Err(e) = protect(settings, &|line| parent.scribe.write(line.into())) {
            // What serves already goes on serving.
            if begins {
                parent.give_up();
            }
            parent.speak_out();
            return Err(e);
        }
        parent._libraries = program::hold_libraries();
        if let Err(e) = confine::confine_parent() {
            parent.say(not_confined(&e));
        }
        Ok(parent)
    }

    /// A new service: its directory, the program in it, the first server.
    fn begin(settings: &'a Settings, words: Vec<OsString>, scribe: Scribe) -> StartResult<Self> {
        let path = state::dir_of(&settings.run_dir, &settings.name);
        let dir = StateDir::mount(&path, 0).map_err(|e| {
            let what = format!("cannot mount a noswap tmpfs on {} ({e})", path.display());
            let remedy =
                "run as root on Linux 6.4 or newer, or with --unsafe-no-lock to try without";
            StartError::failure(what, remedy)
        })?;
        let own = Path::new("/proc/self/exe");
        program::copy(own, &path.join(PROGRAM)).map_err(|e| cannot("copy the program", &e))?;
        let key = random_key().map_err(|e| cannot("draw a number", &e))?;
        let cookie = key.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let page =
            ControlPage::create(&path, cookie).map_err(|e| cannot("make the control page", &e))?;
        write_words(&path, &words).map_err(|e| cannot("note the settings", &e))?;
        keep_policy(&path, &settings.policy).map_err(|e| cannot("keep the policy", &e))?;
        let mut parent = Self::new(settings, path, page, words, scribe);
        parent.start(Role::First).map_err(|e| cannot("start the server", &e))?;
        // Whoever ends last removes it.
        dir.leave();
        Ok(parent)
    }

    /// A service whose parent died: its processes, or nothing but its state.
    fn go_on(
        settings: &'a Settings,
        words: &[OsString],
        found: Found,
        scribe: Scribe,
    ) -> StartResult<Self> {
        let Found { dir, page } = found;
        let old = read_words(&dir).map_err(|e| cannot("read the settings of the service", &e))?;
        let same = old == *words;
        let mut parent = Self::new(settings, dir, page, old, scribe);
        // Whoever starts it wants it to go on.
        parent.page.want_end(false);
        for ticket in parent.page.recent_tickets() {
            let process = Process::open(parent.page.holder(ticket));
            if let Some(process) = process.map_err(|e| cannot("watch a process", &e))? {
                parent.add(Member { ticket, process });
            }
        }
        let server = parent.page.server();
        let serves = parent.members().any(|member| member.ticket == server);
        let device = parent.page.device().map(block_path).unwrap_or_default();
        let doing = if serves { "is served" } else { "waits for a server" };
        parent.say(format!("taking over: {} {doing}", device.display()));
        if !same {
            let line = "the service goes on with the settings that it was started with; others \
                        need `uswap down` first";
            parent.say(line.to_owned());
        }
        Ok(parent)
    }

    fn new(
        settings: &'a Settings,
        dir: PathBuf,
        page: ControlPage,
        words: Vec<OsString>,
        scribe: Scribe,
    ) -> Self {
        Self {
            settings,
            dir,
            page,
            words,
            scribe,
            members: [const { None }; MEMBERS],
            announced: false,
            serving_since_us: None,
            last_server: (0, 0),
            short_lives: 0,
            failures: 0,
            next_at_us: 0,
            replacing: None,
            watchdog: None,
            manager: notify::watchdog().and_then(|_| Manager::of_this_process()),
            heard_at_us: 0,
            lines: VecDeque::with_capacity(LINES_MAX),
            told: false,
            reserve: Vec::new(),
            _libraries: Vec::new(),
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    /// The parent's life.
    fn watch(&mut self, signals: &mut Signals) -> StartResult<u8> {
        loop {
            if self.wait(signals) == Some(Told::End) {
                self.pass_on();
            }
            if let Some(ended) = self.look_for_dead() {
                return self.finish(ended);
            }
            self.look_at_server();
            self.guard_server();
            self.look_for_successor();
            self.look_for_heir();
            self.announce();
            self.speak();
            self.report_to_manager();
        }
    }

    /// Says that this process lives, once a second.
    fn report_to_manager(&mut self) {
        let now = clock_us();
        if now - self.heard_at_us > IDLE_POLL.as_micros() as u64 / 2 {
            self.heard_at_us = now;
            self.manager.iter().for_each(|manager| manager.tell("WATCHDOG=1"));
        }
    }

    /// Sleeps until something ends or somebody wants something.
    fn wait(&self, signals: &mut Signals) -> Option<Told> {
        let most = if self.announced && self.settled() { IDLE_POLL } else { BUSY_POLL };
        let none = signals.as_fd();
        let fd = |i: usize| self.members[i].as_ref().map_or(none, |member| member.process.as_fd());
        match wait_readable([none, fd(0), fd(1), fd(2)], most) {
            Ok([true, ..]) => signals.take().unwrap_or(None),
            Ok(_) => None,
            Err(_) => {
                std::thread::sleep(BUSY_POLL);
                None
            }
        }
    }

    /// Tells the server that the service is to end. It does when the device is not in use any more,
    /// and so does whoever serves then.
    fn pass_on(&mut self) {
        self.page.want_end(true);
        let server = self.page.server();
        let asked = self.members().find(|member| member.ticket == server);
        if asked.map(|member| member.process.ask(Ask::End)).is_none() {
            let line = "not ending yet: the device has no server just now; the next one does it";
            self.say(line.to_owned());
        }
    }

    /// Takes note of processes that have ended; how the service ended, if it did.
    fn look_for_dead(&mut self) -> Option<Ended> {
        for i in 0..MEMBERS {
            let member = self.members[i].take_if(|member| member.process.has_ended());
            let Some(Member { ticket, process }) = member else { continue };
            let ended = process.reap().unwrap_or(Ended::Unknown);
            let was_server = ticket == self.page.server() || ticket == self.last_server.0;
            if self.page.phase() != Phase::Serving {
                // Nobody makes a standby before the service serves, and a standby's end is no news
                // when it does not any more.
                if was_server || self.page.phase() == Phase::Starting {
                    return Some(ended);
                }
            } else if was_server {
                self.note_death(ticket, ended);
            } else {
                if self.replacing == Some(Replacing::Clearing(Some(ticket))) {
                    continue;
                }
                self.pause(&format!("the standby ended ({})", said(ended)));
            }
        }
        None
    }

    /// The next standby is made later the more have failed.
    fn pause(&mut self, why: &str) {
        self.failures = self.failures.saturating_add(1);
        let pause = pause_us(self.failures);
        self.next_at_us = clock_us() + pause;
        self.say(format!("{why}; the next one is made in {} ms", pause / 1000));
    }

    fn note_death(&mut self, ticket: Ticket, ended: Ended) {
        let now = clock_us();
        // One that never served has not lived at all.
        let served = self.page.stage(ticket) == Stage::Live;
        let lived = now.saturating_sub(self.page.recoveries().live_at_us);
        let short = !served || lived < SHORT_LIFE_US;
        self.short_lives = if short { self.short_lives + 1 } else { 0 };
        let heir = self.heir().is_some_and(|heir| self.is_warm(heir));
        let next = if heir || self.page.server() != self.last_server.0 {
            "the standby takes over".to_owned()
        } else {
            "there is no standby: making one, which may take long when memory is short".to_owned()
        };
        self.say(format!("the server ended ({}); {next}", said(ended)));
        if self.short_lives > SHORT_LIVES_MAX {
            let pause = pause_us(self.short_lives - SHORT_LIVES_MAX + 3);
            self.next_at_us = now + pause;
            self.say(format!(
                "{} servers in a row lived for less than {} ms: the next standby is made in {} ms; \
                 pages wait, none is lost",
                self.short_lives,
                SHORT_LIFE_US / 1000,
                pause / 1000
            ));
        }
    }

    /// Whoever is not the server.
    pub(super) fn heir(&self) -> Option<&Member> {
        let server = self.page.server();
        self.members().find(|member| member.ticket != server)
    }

    pub(super) fn is_warm(&self, member: &Member) -> bool {
        self.page.stage(member.ticket) != Stage::Starting
    }

    fn look_at_server(&mut self) {
        let server = self.page.server();
        self.meet(server);
        if self.page.phase() == Phase::Serving
            && self.page.stage(server) == Stage::Live
            && self.last_server.0 != server
        {
            self.last_server = (server, clock_us());
            self.serving_since_us.get_or_insert_with(clock_us);
        }
        let found = self.members().find(|member| member.ticket == server);
        let ending = found.is_some_and(|member| member.process.is_ending());
        if self.announced && self.settled() && !ending {
            self.failures = 0;
            if self.reserve.is_empty() {
                // Locked as it comes; takes as long as the kernel needs to find it.
                self.reserve = vec![0; RESERVE_BYTES];
            }
        }
        // Whoever is to serve next needs it, whatever it is doing just now; and a server that was
        // killed while it waited for memory cannot end without, nor be taken over from.
        if !self.is_served() || ending {
            self.reserve = Vec::new();
        }
    }

    /// Whether there is a server that lives, and serves.
    pub(super) fn is_served(&self) -> bool {
        let server = self.page.server();
        self.members().any(|member| member.ticket == server)
            && self.page.stage(server) == Stage::Live
    }

    /// Makes a standby if there is none. While a server takes over the machine has better things to
    /// do.
    fn look_for_heir(&mut self) {
        let server = self.page.server();
        let taken_over = self.members().any(|member| member.ticket == server)
            && self.page.stage(server) != Stage::Live;
        if self.page.phase() != Phase::Serving
            || taken_over
            || self.heir().is_some()
            || clock_us() < self.next_at_us
        {
            return;
        }
        if let Err(e) = self.start(Role::Heir) {
            self.pause(&format!("cannot start a standby ({e})"));
        }
    }
}

/// A pause that doubles with every failure.
fn pause_us(failures: u32) -> u64 {
    (PAUSE_MIN_US << failures.clamp(1, 16).saturating_sub(1)).min(PAUSE_MAX_US)
}

pub(super) fn said(ended: Ended) -> String {
    match ended {
        Ended::Code(code) => format!("exit code {code}"),
        Ended::Signal(signal) => format!("signal {signal}"),
        Ended::Unknown => "nobody knows how".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!((pause_us(1), pause_us(2), pause_us(3)), (100_000, 200_000, 400_000));
        assert_eq!(pause_us(u32::MAX), PAUSE_MAX_US);
    }
}
