//! `uswap trace record`: takes events out of a server's rings and writes them to a file.

use crate::cli::flags::RunDir;
use crate::cli::service::{Service, refused};
use crate::cli::{note, say};
use crate::config::{check, size};
use crate::daemon::protocol::{Reply, Request, Status, ask};
use crate::daemon::{has_process, rings_of};
use crate::error::{StartError, StartResult};
use crate::sys::map::Words;
use crate::sys::process::Process;
use crate::sys::wake::{Signals, wait_readable};
use crate::sys::{clock, guard};
use crate::trace::{Header, Order, Rings, TraceError, Writer};
use crate::units::PAGE_SHIFT;
use clap::Args;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time between two looks at the rings.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time between two times that events are put in order and written.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// Time between two lines about how it goes.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long a server is waited for that others are to replace.
const SUCCESSOR_WAIT_MAX: Duration = Duration::from_secs(60);
/// Time between two looks for it.
const POLL: Duration = Duration::from_millis(100);
/// How long a thread may take to put in what it was about to put in when the recording ended.
const LAST_EVENT_WAIT: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
#[command(after_help = "\
Ctrl-C ends it; so does the end of the service. When the service's server is replaced meanwhile the
recording goes on, and the trace says that there is a gap. The service never waits for the
recorder: what comes too fast is dropped, and counted.")]
pub struct Record {
    /// Name of the service [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// File to write, which must not be there yet
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Record {
    /// Records until it is told to end.
    pub fn execute(&self) -> StartResult<()> {
        let service = Service::chosen(self.name.as_deref(), &self.run_dir)?;
        let status = service.status()?;
        let signals = Signals::open_ends().map_err(|e| {
            StartError::failure(format!("cannot watch for signals ({e})"), "try again")
        })?;
        let file = File::options().write(true).create_new(true).open(&self.output);
        let file = file.map_err(|e| {
            let what = format!("cannot make {} ({e})", self.output.display());
            StartError::failure(what, "name a file that is not there yet, where there is room")
        })?;
        let recorded = Session::begin(&service, &status, file, &self.output);
        let session = recorded.inspect_err(|_| {
            // Nothing is in it.
            let _ = fs::remove_file(&self.output);
        })?;
        // What is recorded would be another thing if this were swapped to it.
        let _ = guard::lock_memory();
        session.run(signals, self.seconds.map(Duration::from_secs))
    }
}

/// The rings of one server, while it records to them.
struct Source {
    rings: Rings,
    number: u8,
    server: Option<Process>,
    /// When it began, microseconds after boot.
    began_us: u64,
    /// Events that had been dropped before.
    dropped_before: u64,
}

impl Source {
    /// Has the service's server record.
    fn begin(service: &Service) -> StartResult<Self> {
        order(service, true)?;
        let path = rings_of(&service.run_dir, &service.name);
        let open = || {
            let file = File::options().read(true).write(true).open(&path)?;
            let words = file.metadata()?.len() as usize / size_of::<u64>();
            let rings = Rings::open(Words::new(&file, words)?)?;
            let server = Process::open(rings.server())?;
            Ok((rings, server))
        };
        let (rings, server) = open().map_err(|e: TraceError| e.of(&path))?;
        let (number, began_us) = rings.recording();
        let dropped_before = rings.dropped();
        Ok(Self { rings, number, server, began_us, dropped_before })
    }

    /// Whether events still come.
    fn is_on(&self) -> bool {
        self.rings.is_on() && self.server.as_ref().is_some_and(|server| !server.has_ended())
    }

    fn dropped(&self) -> u64 {
        self.rings.dropped().wrapping_sub(self.dropped_before)
    }
}

/// Tells a server to record, or not to.
fn order(service: &Service, on: bool) -> StartResult<()> {
    match ask(&service.socket, &Request::Record { on })? {
        Reply::Done { .. } => Ok(()),
        Reply::Refused { message, usage } => Err(refused(&message, usage)),
        Reply::Status(_) | Reply::Stopping => Err(refused("an answer to another question", false)),
    }
}

/// Why a recording is over.
enum Over {
    /// Somebody said so, or the time is up.
    Wanted,
    /// There is nothing to record any more.
    NoService,
}

/// A recording.
struct Session<'a> {
    service: &'a Service,
    path: &'a Path,
    writer: Writer<BufWriter<File>>,
    order: Order,
    source: Source,
    /// When the first server began, microseconds after boot.
    began_us: u64,
    /// By servers before this one.
    dropped: u64,
    gaps: u64,
}

impl<'a> Session<'a> {
    fn begin(
        service: &'a Service,
        status: &Status,
        file: File,
        path: &'a Path,
    ) -> StartResult<Self> {
        let source = Source::begin(service)?;
        let header = header(status, source.began_us);
        let writer = Writer::new(BufWriter::new(file), &header).map_err(|e| e.of(path))?;
        let began_us = source.began_us;
        let order = Order::default();
        Ok(Self { service, path, writer, order, source, began_us, dropped: 0, gaps: 0 })
    }

    fn run(mut self, mut signals: Signals, most: Option<Duration>) -> StartResult<()> {
        let over = self.record(&mut signals, most);
        if self.source.is_on() {
            // If it cannot be told it will notice.
            let _ = order(self.service, false);
            sleep(LAST_EVENT_WAIT);
        }
        let took = self.take().and_then(|()| self.write(u64::MAX));
        let (over, dropped) = (over.and_then(|over| took.map(|()| over))?, self.dropped());
        let Self { writer, began_us, gaps, path, service, .. } = self;
        let duration_us = now_us().saturating_sub(began_us);
        let done = writer.finish(duration_us, dropped, gaps).map_err(|e| e.of(path))?;
        let trailer = done.1;
        if let Over::NoService = over {
            note(&format!("{} has ended, and the recording with it", service.name));
        }
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        say(&format!(
            "{}: {} events in {:.1} s, {dropped} dropped, {gaps} gaps, {}\n",
            path.display(),
            trailer.totals.events(),
            trailer.duration_us as f64 / 1e6,
            size::format(bytes)
        ))
    }

    /// Takes and writes events until it is over.
    fn record(&mut self, signals: &mut Signals, most: Option<Duration>) -> StartResult<Over> {
        let (mut written, mut told) = (Instant::now(), Instant::now());
        let begin = Instant::now();
        let mut line = Line::new();
        loop {
            let most = most.map(|most| most.saturating_sub(begin.elapsed()));
            if most.is_some_and(|left| left.is_zero()) {
                return Ok(Over::Wanted);
            }
            let wait = most.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            // A wait that fails is a look more.
            let told_to = wait_readable([signals.as_fd()], wait).is_ok_and(|ready| ready[0]);
            if told_to && signals.take().is_ok() {
                return Ok(Over::Wanted);
            }
            self.source.rings.beat();
            // Before the look at the rings, so that nothing comes after it.
            let is_on = self.source.is_on();
            self.take()?;
            if !is_on && !self.renew(signals)? {
                return Ok(Over::NoService);
            }
            if written.elapsed() > WRITE_EVERY {
                self.write(now_us().saturating_sub(self.began_us))?;
                written = Instant::now();
            }
            if told.elapsed() > TELL_EVERY {
                line.tell(&format!(
                    "{} events, {} dropped, {}, {} s",
                    self.writer.totals().events(),
                    self.dropped(),
                    size::format(self.writer.bytes()),
                    begin.elapsed().as_secs()
                ));
                told = Instant::now();
            }
        }
    }

    /// Finds the next server. False if there is none to come, or somebody does not want to wait
    /// for it.
    fn renew(&mut self, signals: &mut Signals) -> StartResult<bool> {
        self.write(u64::MAX)?;
        let begin = Instant::now();
        loop {
            // One that serves may stop a recorder that it thought dead.
            match Source::begin(self.service) {
                Ok(next) => {
                    self.dropped += self.source.dropped();
                    self.source = next;
                    self.gaps += 1;
                    return Ok(true);
                }
                Err(_) if has_process(&self.service.name, &self.service.run_dir) => {}
                Err(_) => return Ok(false),
            }
            let told = wait_readable([signals.as_fd()], POLL).is_ok_and(|ready| ready[0]);
            if told || begin.elapsed() > SUCCESSOR_WAIT_MAX {
                return Ok(false);
            }
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped + self.source.dropped()
    }

    /// Takes what is in the rings. Their time becomes that of this recording.
    fn take(&mut self) -> StartResult<()> {
        let Self { source, order, began_us, .. } = self;
        let ahead = source.began_us.saturating_sub(*began_us);
        let taken = source.rings.take(source.number, |mut event| {
            event.time_us += ahead;
            order.push(event);
        });
        taken.map_err(|e| e.of(&rings_of(&self.service.run_dir, &self.service.name)))
    }

    /// Writes what nothing earlier can come before any more.
    fn write(&mut self, now_us: u64) -> StartResult<()> {
        let Self { order, writer, .. } = self;
        order.settle(now_us, |event| writer.push(event)).map_err(|e| e.of(self.path))
    }
}

/// Microseconds after boot.
fn now_us() -> u64 {
    clock::since_boot().as_micros() as u64
}

/// `began_us`: when it began to be recorded, after boot.
fn header(status: &Status, began_us: u64) -> Header {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Header {
        uswap_version: status.version.clone(),
        service: status.name.clone(),
        slots: status.size_bytes >> PAGE_SHIFT,
        pool_bytes: status.memory.pool_bytes,
        spill_bytes: status.spill.as_ref().map_or(0, |spill| spill.size_bytes),
        staging_bytes: status.staging_bytes,
        // The policy does without it too.
        ram_bytes: check::memory(Path::new("/")).map_or(0, |memory| memory.total),
        codec: status.codec.clone(),
        policy: status.policy.as_ref().map_or_else(String::new, |policy| policy.name.clone()),
        began_unix_ms: began.as_millis() as u64,
        aged_us: status.policy.as_ref().map_or(0, |p| began_us.saturating_sub(p.ages_began_us)),
    }
}

/// A line on a terminal that is written again and again; nothing where there is no terminal.
struct Line {
    shown: bool,
}

impl Line {
    const fn new() -> Self {
        Self { shown: false }
    }

    fn tell(&mut self, text: &str) {
        let mut err = io::stderr().lock();
        if err.is_terminal() {
            self.shown = true;
            // Nobody is there to be told that it cannot be told.
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown {
            let _ = writeln!(io::stderr());
        }
    }
}
