//! The metrics' HTTP server: a thread that serves one client after another.
//!
//! It is a client of the control socket like any other, so that whoever scrapes, however slowly,
//! keeps nobody waiting but the next one who scrapes. It shares nothing with the queue threads.
//! Started while the process is protected: it is an I/O flusher with locked memory as all threads
//! are. A port that is taken never keeps the service from serving swap; it is tried again.

use super::protocol::{Reply, Request, ask};
use super::{Tell, exposition};
use crate::config::{METRICS_DEFAULT, Metrics, Settings};
use crate::error::{StartError, StartResult};
use crate::metrics::http;
use crate::sys::guard;
use crate::sys::wake::{Bell, wait_readable};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Stack of the thread: the rendering of a page is its deepest path, and takes a few KiB.
const STACK_BYTES: usize = 256 << 10;
/// Time between two tries to get an address that is taken.
const RETRY: Duration = Duration::from_secs(5);
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
    listener: Option<TcpListener>,
    /// Where it really listens.
    bound: Option<SocketAddr>,
    ending: bool,
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
                wanted.bound = listener.local_addr().ok();
                wanted.listener = Some(listener);
            }
            Some((address, Err(e))) if asked => return Err(unusable(address, &e)),
            Some((address, Err(e))) => {
                tell(&format!("no metrics for now: {}", unusable(address, &e)))
            }
            None => {}
        }
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
                serve(&theirs);
            })
            .map_err(fail)?;
        Ok(Self { shared })
    }

    /// The same in a standby: the server has the address, until it dies.
    pub fn start_beside(settings: &Settings) -> StartResult<Self> {
        let metrics = Metrics { asked: false, ..settings.metrics };
        Self::start(&Settings { metrics, ..settings.clone() }, &|_| ())
    }

    /// Where metrics can be scraped now.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.shared.wanted().bound
    }

    /// Serves at another address from now on, or not at all.
    pub fn move_to(&self, address: Option<SocketAddr>) -> StartResult<()> {
        if address.is_some() && address == self.listening() {
            return Ok(());
        }
        let listener = address.map(|a| listen(a).map_err(|e| unusable(a, &e))).transpose()?;
        let mut wanted = self.shared.wanted();
        wanted.address = address;
        wanted.bound = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        wanted.listener = listener;
        drop(wanted);
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

/// The thread's life.
fn serve(shared: &Shared) {
    let mut listener: Option<TcpListener> = None;
    loop {
        let address = {
            let mut wanted = shared.wanted();
            if wanted.ending {
                return;
            }
            if wanted.listener.is_some() || wanted.address.is_none() {
                listener = wanted.listener.take();
            }
            wanted.address
        };
        if let (None, Some(address)) = (&listener, address)
            && let Ok(made) = listen(address)
        {
            let mut wanted = shared.wanted();
            // Unless somebody wants another one meanwhile.
            if wanted.address == Some(address) && wanted.listener.is_none() {
                wanted.bound = made.local_addr().ok();
                listener = Some(made);
            }
        }
        if wait_and_answer(shared, listener.as_ref()).is_err() {
            thread::sleep(PAUSE);
        }
    }
}

/// Answers a client, or waits for one for some time; returns early when the bell rings.
fn wait_and_answer(shared: &Shared, listener: Option<&TcpListener>) -> io::Result<()> {
    let bell = shared.bell.as_fd();
    // Without a listener the bell stands in for it.
    let door = listener.map_or(bell, AsFd::as_fd);
    let [rung, knocked] = wait_readable([bell, door], RETRY)?;
    if rung {
        return shared.bell.wait();
    }
    let Some(listener) = listener.filter(|_| knocked) else { return Ok(()) };
    let stream = match listener.accept() {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        accepted => accepted?.0,
    };
    stream.set_nonblocking(false)?;
    // A client that misbehaves or goes away is its own problem.
    let _ = http::answer(stream, || gather(&shared.socket));
    Ok(())
}

/// The metrics of the service behind `socket`.
fn gather(socket: &Path) -> Result<String, String> {
    match ask(socket, &Request::Status) {
        Ok(Reply::Status(status)) => Ok(exposition::text(&status)),
        Ok(Reply::Stopping | Reply::Done { .. }) => Err("the service is stopping".into()),
        Ok(Reply::Refused { message }) => Err(message),
        Err(e) => Err(e.to_string()),
    }
}
