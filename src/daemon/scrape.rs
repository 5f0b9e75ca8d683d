//! The metrics' HTTP server: a thread that serves a few clients at a time.
//!
//! It is a client of the control socket like any other, so that whoever scrapes, however slowly,
//! keeps nobody waiting. It shares nothing with the queue threads.
//! Started while the process is protected: it is an I/O flusher with locked memory as all threads
//! are. A port that is taken never keeps the service from serving swap; it is tried again.

use super::control_page::{ControlPage, Stage, Ticket};
use super::protocol::{Reply, Request, ask};
use super::seat::Seat;
use super::{Tell, cannot, exposition, program, state};
use crate::config::{METRICS_DEFAULT, Metrics, Settings, metrics};
use crate::error::{StartError, StartResult};
use crate::metrics::http::Client;
use crate::sys::confine::{Duty, drop_capabilities};
use crate::sys::guard;
use crate::sys::wake::{Bell, wait_ready};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Stack of the thread: the rendering of a page is its deepest path, and takes a few KiB.
const STACK_BYTES: usize = 256 << 10;
/// Time between two tries to get an address that is taken.
const RETRY: Duration = Duration::from_secs(5);
/// Time between two looks of a standby whether it serves now.
const TURN_POLL: Duration = Duration::from_secs(1);
/// Most clients at a time. Of more, the one that has waited longest is let go: whoever says nothing
/// must not keep the others out.
const CLIENTS_MAX: usize = 8;
/// Pause after the listening socket failed, for want of descriptors or memory.
const PAUSE: Duration = Duration::from_secs(1);

/// The server, from its start to the drop of this.
#[derive(Debug)]
pub struct Scrape {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    bell: Bell,
    wanted: Mutex<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    address: Option<SocketAddr>,
    /// Made where somebody waits to hear whether it can be.
    listener: Option<Arc<TcpListener>>,
    /// Where it really listens.
    bound: Option<SocketAddr>,
    ending: bool,
}

/// How a standby finds out that it serves: only then may it listen, or it would take an address
/// that the server has let go on purpose.
#[derive(Debug)]
struct Turn {
    dir: PathBuf,
    page: ControlPage,
    ticket: Ticket,
}

impl Turn {
    fn has_come(&self) -> bool {
        self.page.server() == self.ticket && self.page.stage(self.ticket) == Stage::Live
    }

    /// Where the service was told to serve metrics meanwhile, or nowhere, if it was.
    fn told(&self) -> Option<Option<SocketAddr>> {
        let word = program::read_word(&self.dir, "--metrics").ok()??;
        Some(metrics::parse(Some(&word)).ok()?.address)
    }
}

impl Wanted {
    fn listen_with(&mut self, listener: TcpListener) {
        self.bound = listener.local_addr().ok();
        self.listener = Some(Arc::new(listener));
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scrape {
    /// Listens where `settings` say and starts the thread. An address that cannot be had is an
    /// error only if somebody asked for it.
    pub fn start(settings: &Settings, tell: Tell<'_>) -> StartResult<Self> {
        let Metrics { address, asked } = settings.metrics;
        let mut wanted = Wanted { address, ..Wanted::default() };
        match address.map(|address| (address, listen(address))) {
            Some((_, Ok(listener))) => {
                wanted.listen_with(listener);
            }
            Some((address, Err(e))) if asked => return Err(unusable(address, &e)),
            Some((address, Err(e))) => {
                tell(&format!("no metrics for now: {}", unusable(address, &e)))
            }
            None => {}
        }
        Self::spawn(settings, wanted, None)
    }

    /// The same in a standby: the server has the address, until it dies.
    pub fn start_beside(settings: &Settings, seat: &Seat) -> StartResult<Self> {
        let dir = state::dir_of(&settings.run_dir, &settings.name);
        let page = ControlPage::open(&dir).map_err(|e| cannot("open the control page", &e))?;
        let wanted = Wanted { address: settings.metrics.address, ..Wanted::default() };
        Self::spawn(settings, wanted, Some(Turn { dir, page, ticket: seat.ticket }))
    }

    fn spawn(settings: &Settings, wanted: Wanted, turn: Option<Turn>) -> StartResult<Self> {
        let fail = |e: io::Error| {
            StartError::failure(
                format!("cannot start the metrics thread ({e})"),
                "give --metrics off",
            )
        };
        let bell = Bell::new().map_err(fail)?;
        let socket = settings.socket.clone();
        let shared = Arc::new(Shared { socket, bell, wanted: Mutex::new(wanted) });
        let theirs = Arc::clone(&shared);
        // Not waited for at the end: it may be waiting for an answer of a control thread that has
        // ended, and nothing depends on it.
        thread::Builder::new()
            .name("uswap-metrics".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // A standby begins as urgent as can be; this is for people who can wait.
                let _ = guard::be_ordinary();
                let _ = drop_capabilities(Duty::Metrics);
                serve(&theirs, turn);
            })
            .map_err(fail)?;
        Ok(Self { shared })
    }

    /// Where metrics can be scraped now.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.shared.wanted().bound
    }

    /// Serves at another address from now on, or not at all.
    pub fn move_to(&self, address: Option<SocketAddr>) -> StartResult<()> {
        let mut wanted = self.shared.wanted();
        let bound = wanted.bound;
        if address.is_some() && address == bound {
            return Ok(());
        }
        // 0.0.0.0:PORT is taken while we have 127.0.0.1:PORT, by ourselves.
        if bound.zip(address).is_some_and(|(ours, theirs)| ours.port() == theirs.port()) {
            wanted.listener.take().iter().for_each(|listener| deafen(listener));
        }
        let made = match address.map(|a| listen(a).map_err(|e| unusable(a, &e))).transpose() {
            Ok(made) => made,
            Err(e) => {
                if wanted.listener.is_none() {
                    wanted.bound = None;
                    // If it is gone by now the thread goes on trying.
                    if let Some(ours) = bound.and_then(|ours| listen(ours).ok()) {
                        wanted.listen_with(ours);
                    }
                    self.shared.bell.ring();
                }
                return Err(e);
            }
        };
        wanted.address = address;
        (wanted.bound, wanted.listener) = (None, None);
        made.into_iter().for_each(|listener| wanted.listen_with(listener));
        self.shared.bell.ring();
        Ok(())
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.shared.wanted().ending = true;
        self.shared.bell.ring();
    }
}

fn unusable(address: SocketAddr, e: &io::Error) -> StartError {
    let remedy = match e.kind() {
        io::ErrorKind::AddrInUse => format!(
            "`ss -ltnp` shows who has it; give another address with --metrics, or `off` \
             (default: {METRICS_DEFAULT})"
        ),
        _ => "give an address of this machine with --metrics, or `off`".to_owned(),
    };
    StartError::failure(format!("cannot serve metrics on {address} ({e})"), remedy)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // A client that goes away between the look and the accept must not hold the thread.
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Frees the listener's address at once, although the thread has it open still.
fn deafen(listener: &TcpListener) {
    // std shuts only streams down; to the kernel a listener is no different. What fails here shows
    // when the address is taken again.
    let shut = |fd| TcpStream::from(OwnedFd::from(fd)).shutdown(Shutdown::Both);
    let _ = listener.try_clone().and_then(shut);
}

/// The thread's life. Of a standby, `turn` says when it may begin.
fn serve(shared: &Shared, mut turn: Option<Turn>) {
    let mut clients = Vec::with_capacity(CLIENTS_MAX);
    loop {
        if let Some(told) = turn.take_if(|turn| turn.has_come()).and_then(|turn| turn.told()) {
            shared.wanted().address = told;
        }
        let listener = {
            let mut wanted = shared.wanted();
            if wanted.ending {
                return;
            }
            if wanted.listener.is_none()
                && turn.is_none()
                && let Some(made) = wanted.address.and_then(|address| listen(address).ok())
            {
                wanted.listen_with(made);
            }
            wanted.listener.clone()
        };
        let most = if turn.is_some() { TURN_POLL } else { RETRY };
        if wait_and_answer(shared, listener.as_deref(), &mut clients, most).is_err() {
            thread::sleep(PAUSE);
        }
    }
}

/// Answers clients as far as they are ready, or waits for one for some time; returns early when the
/// bell rings.
fn wait_and_answer(
    shared: &Shared,
    listener: Option<&TcpListener>,
    clients: &mut Vec<Client>,
    most: Duration,
) -> io::Result<()> {
    let bell = shared.bell.as_fd();
    // Without a listener the bell stands in for it.
    let mut sources = vec![(bell, false), (listener.map_or(bell, AsFd::as_fd), false)];
    sources.extend(clients.iter().map(|client| (client.as_fd(), client.is_sending())));
    let most = clients.iter().map(Client::left).fold(most, Duration::min);
    let ready = wait_ready(&sources, most)?;
    let mut of_clients = ready[2..].iter();
    clients.retain_mut(|client| {
        let ready = of_clients.next() == Some(&true);
        // A client that misbehaves or goes away is its own problem.
        let done = ready && client.go_on(|| gather(&shared.socket)).unwrap_or(true);
        !done && !client.left().is_zero()
    });
    if ready[0] {
        return shared.bell.wait();
    }
    let Some(listener) = listener.filter(|_| ready[1]) else { return Ok(()) };
    let stream = match listener.accept() {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        accepted => accepted?.0,
    };
    if clients.len() == CLIENTS_MAX {
        clients.remove(0);
    }
    clients.push(Client::new(stream)?);
    Ok(())
}

/// The metrics of the service behind `socket`.
fn gather(socket: &Path) -> Result<String, String> {
    match ask(socket, &Request::Status) {
        Ok(Reply::Status(status)) => Ok(exposition::text(&status)),
        Ok(Reply::Stopping | Reply::Done { .. }) => Err("the service is stopping".into()),
        Ok(Reply::Refused { message, .. }) => Err(message),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{check, load};
    use std::io::{Read, Write};

    /// Settings with this control socket, where nobody answers: a scrape is a 503.
    fn settings(dir: &Path) -> Settings {
        let words = "metrics = \"127.0.0.1:0\"\nsize = \"16M\"\npool = \"16M\"\n";
        let mut keys = load::parse(Path::new("x"), words).expect("words");
        (keys.name, keys.run_dir) = (Some("x".into()), Some(dir.into()));
        check::settings(Path::new("/"), keys).expect("settings")
    }

    fn scraped(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(4)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn those_who_say_nothing_keep_nobody_waiting() {
        let dir = tempfile::tempdir().expect("directory");
        let scrape = Scrape::start(&settings(dir.path()), &|_| ()).expect("started");
        let address = scrape.listening().expect("an address");
        let silent: Vec<TcpStream> =
            (0..CLIENTS_MAX + 3).map(|_| TcpStream::connect(address).expect("connected")).collect();
        for _ in 0..3 {
            assert!(scraped(address).expect("in time").starts_with("HTTP/1.1 503 "));
        }
        drop(silent);
    }

    #[test]
    fn our_own_port_is_not_in_our_way() {
        let dir = tempfile::tempdir().expect("directory");
        let scrape = Scrape::start(&settings(dir.path()), &|_| ()).expect("started");
        let first = scrape.listening().expect("an address");
        let wide = SocketAddr::from(([0, 0, 0, 0], first.port()));
        scrape.move_to(Some(wide)).expect("moved");
        assert_eq!(scrape.listening(), Some(wide));
        assert!(scraped(first).expect("an answer").starts_with("HTTP/1.1 503 "));
        // An address of the same port that is no machine's of ours: back to where it was.
        let bad = SocketAddr::from(([192, 0, 2, 1], first.port()));
        assert!(scrape.move_to(Some(bad)).is_err());
        assert_eq!(scrape.listening(), Some(wide));
        assert!(scraped(first).expect("an answer").starts_with("HTTP/1.1 503 "));
        scrape.move_to(None).expect("off");
        assert_eq!(scrape.listening(), None);
        assert!(scraped(first).is_err());
    }

    #[test]
    fn a_standby_listens_when_it_serves() {
        use crate::daemon::control_page::ControlPage;
        let dir = tempfile::tempdir().expect("directory");
        let settings = settings(dir.path());
        let state = state::dir_of(&settings.run_dir, &settings.name);
        std::fs::create_dir(&state).expect("state");
        let page = ControlPage::create(&state, 1).expect("page");
        let (server, heir) = (page.take_ticket(), page.take_ticket());
        page.succeed(0, server);
        let seat = Seat { page, ticket: heir };
        let scrape = Scrape::start_beside(&settings, &seat).expect("started");
        thread::sleep(2 * TURN_POLL);
        assert_eq!(scrape.listening(), None, "the server has the address, or wants none");
        // What the server was told counts.
        let turn = Turn {
            dir: state.clone(),
            page: ControlPage::open(&state).expect("page"),
            ticket: heir,
        };
        assert!(!turn.has_come());
        assert_eq!(turn.told(), None);
        let note = |address: &str| {
            program::write_words(&state, &["--metrics".into(), address.into()]).expect("words");
        };
        note("off");
        assert_eq!(turn.told(), Some(None));
        note("127.0.0.1:0");
        seat.page.succeed(server, heir);
        seat.page.set_stage(heir, Stage::Live);
        let end = std::time::Instant::now() + 5 * TURN_POLL;
        while scrape.listening().is_none() {
            assert!(std::time::Instant::now() < end, "it serves and does not listen");
            thread::sleep(Duration::from_millis(50));
        }
    }
}
