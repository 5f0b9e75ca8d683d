//! As much of HTTP/1.1 as a scrape needs: one request, one answer, and the connection ends.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Longest time for a client to send its request, and again for it to take the answer.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest request head. Prometheus sends some 300 bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Most header lines.
const HEADERS_MAX: usize = 64;
/// Where the metrics are.
const PATH: &str = "/metrics";
/// Prometheus's text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// What to say to a request, before anything is gathered for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The metrics; whether their text goes with the head.
    Metrics { body: bool },
    /// A status line and a line for whoever looks.
    Other(&'static str, &'static str),
}

/// A connection that is being answered, a step at a time: one that says nothing keeps nobody else
/// waiting.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    deadline: Instant,
    head: Vec<u8>,
    /// What is left to be sent; nothing before the request is whole.
    reply: VecDeque<u8>,
}

impl Client {
    /// A client that has just come.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let deadline = Instant::now() + CLIENT_TIME_MAX;
        Ok(Self { stream, deadline, head: Vec::new(), reply: VecDeque::new() })
    }

    /// Whether it waits to send; else it waits to read.
    pub fn is_sending(&self) -> bool {
        !self.reply.is_empty()
    }

    /// How long it may still take for what it does.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Goes as far as it can without waiting for the client; calls `metrics` if that is what it
    /// wants. True once it has its answer; a client that went away is an error.
    pub fn go_on(&mut self, metrics: impl FnOnce() -> Result<String, String>) -> io::Result<bool> {
        if !self.is_sending() {
            if !self.has_read_head()? {
                return Ok(false);
            }
            self.reply = reply_to(&self.head, metrics).into();
            self.deadline = Instant::now() + CLIENT_TIME_MAX;
        }
        while self.is_sending() {
            match self.stream.write(self.reply.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.reply.drain(..count)),
                Err(e) => return go_on_after(e).map(|()| false),
            }
        }
        Ok(true)
    }

    /// Reads to the empty line that ends a head, to the end, or as many bytes as are allowed.
    fn has_read_head(&mut self) -> io::Result<bool> {
        let mut piece = [0; 1024];
        while !self.head.windows(4).any(|w| w == b"\r\n\r\n") && self.head.len() < HEAD_BYTES_MAX {
            match self.stream.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.head.extend_from_slice(&piece[..count]),
                Err(e) => return go_on_after(e).map(|()| false),
            }
        }
        Ok(true)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Whether a failed read or write only has to be tried again later.
fn go_on_after(e: io::Error) -> io::Result<()> {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(e),
    }
}

/// All of the answer to a request, or to what came instead of one; calls `metrics` if that is what
/// it wants.
pub fn reply_to(head: &[u8], metrics: impl FnOnce() -> Result<String, String>) -> Vec<u8> {
    let (status, kind, text, body) = match judge(head) {
        Verdict::Metrics { body } => match metrics() {
            Ok(text) => ("200 OK", METRICS_TYPE, text, body),
            Err(why) => ("503 Service Unavailable", TEXT_TYPE, why + "\n", body),
        },
        Verdict::Other(status, text) => (status, TEXT_TYPE, text.to_owned(), true),
    };
    let mut reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nAllow: GET, HEAD\r\n\
         Connection: close\r\n\r\n",
        text.len()
    );
    if body {
        reply += &text;
    }
    reply.into_bytes()
}

fn judge(head: &[u8]) -> Verdict {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => {
            return Verdict::Other("400 Bad Request", "the request ends too early\n");
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            let status = "431 Request Header Fields Too Large";
            return Verdict::Other(status, "at most 8 KiB and 64 header lines\n");
        }
        Err(_) => return Verdict::Other("400 Bad Request", "this is no HTTP request\n"),
    }
    let path = request.path.unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    match (request.method.unwrap_or_default(), path) {
        ("GET", PATH) => Verdict::Metrics { body: true },
        ("HEAD", PATH) => Verdict::Metrics { body: false },
        ("GET" | "HEAD", "/") => Verdict::Other("200 OK", "uswap: see /metrics\n"),
        ("GET" | "HEAD", _) => Verdict::Other("404 Not Found", "see /metrics\n"),
        _ => Verdict::Other("405 Method Not Allowed", "use GET\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn connection() -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let theirs = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        (Client::new(listener.accept().expect("client").0).expect("set up"), theirs)
    }

    /// Lets the client go on until it has its answer or is gone.
    fn finish(client: &mut Client, metrics: Result<String, String>) {
        while matches!(client.go_on(|| metrics.clone()), Ok(false)) {
            assert!(!client.left().is_zero(), "it takes too long");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn asked(request: &[u8]) -> String {
        let (mut client, mut theirs) = connection();
        std::thread::scope(|scope| {
            scope.spawn(move || finish(&mut client, Ok("a 1\n".into())));
            // The server may have answered and gone before all of a bad request was sent.
            let _ = theirs.write_all(request);
            let _ = theirs.shutdown(std::net::Shutdown::Write);
            let mut reply = Vec::new();
            let _ = theirs.read_to_end(&mut reply);
            String::from_utf8(reply).expect("text")
        })
    }

    #[test]
    fn a_scrape_is_answered() {
        let reply = asked(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
        assert!(reply.ends_with(
            "\r\nContent-Length: 4\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\na 1\n"
        ));
        let reply = asked(b"HEAD /metrics?x=1 HTTP/1.0\r\n\r\n");
        assert!(reply.contains("Content-Length: 4\r\n") && reply.ends_with("\r\n\r\n"), "{reply}");
    }

    #[test]
    fn everything_else_gets_its_status() {
        let status = |request: &[u8]| asked(request).split(' ').nth(1).map(str::to_owned);
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n").as_deref(), Some("200"));
        assert_eq!(status(b"GET /x HTTP/1.1\r\n\r\n").as_deref(), Some("404"));
        assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n").as_deref(), Some("405"));
        assert_eq!(status(b"\x16\x03\x01 tls\r\n\r\n").as_deref(), Some("400"));
        assert_eq!(status(b"GET /metrics").as_deref(), Some("400"));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(status(many.as_bytes()).as_deref(), Some("431"));
        let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(judge(&long.as_bytes()[..HEAD_BYTES_MAX]), judge(many.as_bytes()));
    }

    #[test]
    fn a_failure_to_gather_is_told() {
        let (mut client, mut theirs) = connection();
        assert!(!client.go_on(|| Ok(String::new())).expect("there"), "it has said nothing yet");
        theirs.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("sent");
        finish(&mut client, Err("no answer".into()));
        drop(client);
        let mut reply = String::new();
        theirs.read_to_string(&mut reply).expect("text");
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.ends_with("no answer\n"), "{reply}");
    }
}
