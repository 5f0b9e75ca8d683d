//! The control thread: answers the socket, minds signals, notices a device that was taken away.
//!
//! It may allocate and wait; it shares only atomics, and the pool's short lock, with the queue
//! threads.

use super::protocol::{LINE_WAIT_MAX, Reply, Request};
use crate::error::{StartError, StartResult};
use crate::sys::wake::{Bell, Signals, Told, wait_readable};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The listening socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket, mode 0600, replacing one that a dead server left. Refuses if a server
    /// answers there.
    pub fn bind(path: &Path, name: &str) -> StartResult<Self> {
        let fail = |e: io::Error| {
            let what = format!("cannot make the socket {} ({e})", path.display());
            StartError::failure(what, "give another --socket or --run-dir")
        };
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let what = format!("{} exists and is not a socket", path.display());
                return Err(StartError::failure(what, "remove it or give another --socket"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                let what = format!("a service already answers on {}", path.display());
                let remedy = format!("give another --name, or stop it with `uswap down {name}`");
                return Err(StartError::failure(what, remedy));
            }
            Ok(_) => fs::remove_file(path).map_err(fail)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(fail)?;
        let socket = Self { listener, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fail)?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that cannot be removed is recognised as dead and replaced by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Longest time between two ticks.
const TICK: Duration = Duration::from_secs(2);

/// Why the control loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Somebody asked, and the device is stopped.
    Stopped,
    /// The driver took the device away from the queues.
    DeviceGone,
}

/// What the loop calls to act on the service.
pub trait Service {
    /// Makes the control socket, if that can be done now.
    fn bind(&self) -> Option<Socket>;
    /// Everything about the service now.
    fn status(&self) -> super::protocol::Status;
    /// Changes a setting; says what is so now.
    fn set(&mut self, key: &str, value: &str) -> StartResult<String>;
    /// Lets somebody record what the threads do, or ends that.
    fn record(&mut self, on: bool) -> StartResult<String>;
    /// Takes the block device away if nobody uses it; says what to do if somebody does.
    fn stop(&mut self) -> StartResult<()>;
    /// Notes that the service is to end once nobody uses the device.
    fn want_end(&mut self);
    /// Whether it is.
    fn is_end_wanted(&self) -> bool;
    /// Leaves the device to the standby, and does not return if there is one.
    fn hand_over(&mut self);
    /// Looks after what changes by itself.
    fn tick(&mut self);
    /// Tells the administrator something.
    fn tell(&self, message: &str);
}

/// Serves until the device is stopped. Without a socket it tries to get one. `gone` rings when a
/// queue thread ends by itself.
pub fn serve(
    socket: &mut Option<Socket>,
    signals: &mut Signals,
    gone: &Bell,
    service: &mut impl Service,
) -> io::Result<Ending> {
    loop {
        if socket.is_none() {
            // Whoever has taken over serves first, and can be asked later.
            *socket = service.bind();
        }
        let client = socket.as_ref().map_or(signals.as_fd(), |socket| socket.listener.as_fd());
        let ready = wait_readable([signals.as_fd(), gone.as_fd(), client], TICK)?;
        service.tick();
        if ready[1] {
            return Ok(Ending::DeviceGone);
        }
        match if ready[0] { signals.take()? } else { None } {
            Some(Told::End) => match service.stop() {
                Ok(()) => return Ok(Ending::Stopped),
                Err(e) => {
                    service.want_end();
                    service.tell(&format!("not ending before nobody uses it: {e}"));
                }
            },
            Some(Told::HandOver) => service.hand_over(),
            // Whoever asked once does not ask again: a service manager waits.
            None if service.is_end_wanted() && service.stop().is_ok() => {
                return Ok(Ending::Stopped);
            }
            None => {}
        }
        if let (true, Some(socket)) = (ready[2], &*socket) {
            // A client that misbehaves or goes away is its own problem.
            let stopped = socket.listener.accept().and_then(|(s, _)| answer(s, service));
            if stopped.unwrap_or(false) {
                return Ok(Ending::Stopped);
            }
        }
    }
}

/// Answers one client. True when the service was stopped.
fn answer(mut stream: UnixStream, service: &mut impl Service) -> io::Result<bool> {
    stream.set_write_timeout(Some(LINE_WAIT_MAX))?;
    let line = read_request(&mut stream)?;
    let reply = match serde_json::from_slice(&line) {
        Ok(Request::Status) => Reply::Status(Box::new(service.status())),
        Ok(Request::Set { key, value }) => match service.set(&key, &value) {
            Ok(message) => Reply::Done { message },
            Err(e) => Reply::refused(&e),
        },
        Ok(Request::Record { on }) => match service.record(on) {
            Ok(message) => Reply::Done { message },
            Err(e) => Reply::refused(&e),
        },
        Ok(Request::Stop) => match service.stop() {
            Ok(()) => Reply::Stopping,
            Err(e) => Reply::refused(&e),
        },
        Err(e) => Reply::refused(&StartError::failure(
            format!("unreadable request ({e})"),
            "use the uswap program of the server's version",
        )),
    };
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    let sent = stream.write_all(text.as_bytes());
    let stopped = matches!(reply, Reply::Stopping);
    if stopped { Ok(true) } else { sent.map(|()| false) }
}

/// Longest request; they are a few dozen bytes.
const REQUEST_BYTES_MAX: usize = 1024;

/// One line from a client, which has [`LINE_WAIT_MAX`] for all of it: the control thread has
/// nothing to wait for.
fn read_request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + LINE_WAIT_MAX;
    let (mut line, mut piece) = (Vec::new(), [0; 256]);
    while !line.contains(&b'\n') && line.len() < REQUEST_BYTES_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => line.extend_from_slice(&piece[..count]),
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_its_line_or_its_limit() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("sockets");
        theirs.write_all(b"{\"command\":\"status\"}\nmore").expect("sent");
        let line = read_request(&mut ours).expect("a line");
        assert!(line.starts_with(b"{\"command\":\"status\"}\n"));
        theirs.write_all(&[b'x'; 4 * REQUEST_BYTES_MAX]).expect("sent");
        assert!(read_request(&mut ours).expect("cut off").len() < 2 * REQUEST_BYTES_MAX);
    }
}
