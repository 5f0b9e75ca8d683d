//! What comes from the driver, and from whoever connects.

use super::text;
use std::path::Path;
use uswap::config::{metrics, policy};
use uswap::daemon::protocol::{Reply, Request};
use uswap::limits::REQUEST_BYTES_MAX;
use uswap::metrics::http;
use uswap::sys::ublk_abi::IoDesc;
use uswap::ublk::{self, Op};

/// Descriptors of the driver, one after the other: whatever passes lies in the device.
pub fn iod(bytes: &[u8]) {
    for bytes in bytes.as_chunks::<24>().0 {
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let whole = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
        let (op_flags, nr_sectors) = (half(0), half(4));
        // No device has more than there are numbers for slots.
        let (start_sector, slots) = (whole(8), (whole(16) >> 31).min(1 << 32));
        let desc = IoDesc { op_flags, nr_sectors, start_sector, addr: 0 };
        let Ok(request) = ublk::Request::parse(&desc, slots) else { continue };
        let end = u64::from(request.first.0) + u64::from(request.count);
        assert!(end <= slots || request.op == Op::Flush, "{request:?} of {slots}");
        assert_eq!(request.count == 0, request.op == Op::Flush, "{request:?}");
        assert!(request.data_bytes() <= REQUEST_BYTES_MAX, "{request:?}");
        let last = request.slots().take(1 << 12).last();
        assert!(last.is_none_or(|slot| u64::from(slot.0) < slots), "{request:?} of {slots}");
    }
}

/// A line to the control socket, and one from it.
pub fn control_line(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        if let Request::Set { value, .. } = &request {
            let _ = metrics::parse(Some(value));
            // A file's name is for the file system.
            if !policy::is_file(value) {
                let _ = policy::named(Path::new("/nowhere"), value);
            }
        }
        let line = serde_json::to_string(&request).expect("it was one");
        assert!(!line.contains('\n'), "a line");
        let again: Request = serde_json::from_str(&line).expect("it was one");
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(bytes) {
        // Numbers that JSON has no word for are the reply's, not the reader's.
        assert!(serde_json::to_string(&reply).is_ok_and(|line| !line.contains('\n')));
    }
}

/// What comes to the metrics' port: any of it gets an answer that is one.
pub fn http(bytes: &[u8]) {
    let reply = http::reply_to(bytes, || Ok("metrics\n".to_owned()));
    let reply = text(&reply).expect("what we write is text");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let len: usize = len.and_then(|len| len.parse().ok()).expect("a length");
    assert!(body.is_empty() || body.len() == len, "{reply}");
}
