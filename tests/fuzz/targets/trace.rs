//! Traces: files that somebody sends to somebody.

use uswap::simulate::Replay;
use uswap::trace::{Event, Header, Reader, TraceError, Writer, forged, summarize};

/// Slots of the device in traces that are put together here.
const SLOTS: u64 = 1000;
/// Larger devices are not replayed here: what that allocates grows with them.
const REPLAYED_SLOTS_MAX: u64 = 1 << 20;

/// A file that is these bytes behind the first; or, where that is odd, one with a whole frame
/// around the bytes behind the second, which is how many events that frame says it has.
pub fn trace(bytes: &[u8]) {
    match bytes {
        [kind, file @ ..] if kind % 2 == 0 => whole(file),
        [_, count, block @ ..] => block_of(*count, block),
        _ => {}
    }
}

/// What is read of a file is as if it had been written so.
fn whole(file: &[u8]) {
    let mut events = Vec::new();
    let read = Reader::new(file).and_then(|reader| summarize(reader, |event| events.push(*event)));
    match read {
        Ok((header, trailer)) => {
            check(&header, &events);
            assert_eq!(trailer.totals.events(), events.len() as u64);
            if header.slots <= REPLAYED_SLOTS_MAX {
                let replay = Replay::new(events.iter().copied().map(Ok::<_, TraceError>));
                assert!(replay.expect("no errors").steps.len() <= events.len());
            }
        }
        Err(e) => assert!(e.to_string().contains("; "), "no remedy: {e}"),
    }
}

/// Of a block that is not whole there is no event, and without a trailer the trace is not.
fn block_of(count: u8, block: &[u8]) {
    let header = Header { slots: SLOTS, ..Header::default() };
    let file = forged(&header, count.into(), block);
    let mut reader = Reader::new(&file[..]).expect("a header");
    let mut events = Vec::new();
    let error = loop {
        match reader.next().expect("it does not end well") {
            Ok(event) => events.push(event),
            Err(e) => break e,
        }
    };
    assert!(reader.next().is_none() && reader.trailer().is_none());
    let good = matches!(error, TraceError::Truncated);
    assert!(good || matches!(error, TraceError::Damaged { .. }), "{error}");
    assert_eq!(events.len(), if good { count.into() } else { 0 });
    check(&header, &events);
}

/// Events that lie in the device, in order, and can be written again.
fn check(header: &Header, events: &[Event]) {
    assert!(events.is_sorted_by_key(|event| event.time_us));
    let mut writer = Writer::new(Vec::new(), header).expect("memory");
    for event in events {
        writer.push(event).expect("it was in a trace of this device");
    }
    let (file, trailer) = writer.finish(0, 0, 0).expect("memory");
    let mut again = Vec::new();
    let reader = Reader::new(&file[..]).expect("a header");
    let read = summarize(reader, |event| again.push(*event)).expect("just written");
    assert_eq!((&read.0, read.1), (header, trailer));
    assert_eq!(again, events);
}
