//! As much of HTTP/1.1 as a scrape needs: one request, one answer, and the connection ends.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest time for one client, from its connection to the end of the answer.
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

/// Answers one client: reads its request and calls `metrics` if that is what it wants. Takes at
/// most some seconds, however slow the client is, plus what `metrics` takes.
pub fn answer(
    mut stream: TcpStream,
    metrics: impl FnOnce() -> Result<String, String>,
) -> io::Result<()> {
    let deadline = Instant::now() + CLIENT_TIME_MAX;
    let head = read_head(&mut stream, deadline)?;
    let (status, kind, text, body) = match judge(&head) {
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
    write_by(&mut stream, reply.as_bytes(), Instant::now() + CLIENT_TIME_MAX)
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

/// What is left until `deadline`, or an error if nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Bytes up to the empty line that ends a head, or as many as are allowed.
fn read_head(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => head.extend_from_slice(&piece[..count]),
        }
    }
    Ok(head)
}

fn write_by(stream: &mut TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn asked(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().expect("client");
                // What a client does wrong is not the server's failure.
                let _ = answer(stream, || Ok("a 1\n".into()));
            });
            let mut client = TcpStream::connect(address).expect("connected");
            // The server may have answered and gone before all of a bad request was sent.
            let _ = client.write_all(request);
            let _ = client.shutdown(std::net::Shutdown::Write);
            let mut reply = Vec::new();
            let _ = client.read_to_end(&mut reply);
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("sent");
        let (stream, _) = listener.accept().expect("client");
        answer(stream, || Err("no answer".into())).expect("answered");
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("text");
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.ends_with("no answer\n"), "{reply}");
    }
}
