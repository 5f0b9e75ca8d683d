//! Files of a service that another process finds: whole, torn, or somebody else's work.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use uswap::daemon::control_page::{ControlPage, Stage};
use uswap::daemon::format_of;
use uswap::limits::SEGMENT_BYTES;
use uswap::spill::{Layout, Segments, Spill, read_summary};
use uswap::sys::map::Words;
use uswap::sys::process::Identity;
use uswap::sys::statefs::anonymous_file;
use uswap::units::Location;

/// A run directory of this process, in memory if there is such a file system.
fn run_dir() -> PathBuf {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make =
        || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    DIR.get_or_init(make).path().to_owned()
}

/// The control page, with these bytes in it from the start on; or, behind a first byte of 0, a file
/// that is these bytes.
pub fn control_page(bytes: &[u8]) {
    let dir = run_dir();
    let path = dir.join("control");
    let _ = fs::remove_file(&path);
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if *kind == 0 {
        fs::write(&path, bytes).expect("file");
        let _ = ControlPage::open(&dir);
        return;
    }
    drop(ControlPage::create(&dir, 7).expect("new"));
    let file = File::options().write(true).open(&path).expect("it was made");
    let room = file.metadata().expect("metadata").len() as usize - 8;
    // Most of it at the start, after the magic; what is behind a byte of kind goes to the lines.
    let at = if *kind & 1 == 0 { 4096 } else { 8 };
    let part = &bytes[..bytes.len().min(room - at)];
    file.write_all_at(part, at as u64).expect("inside");
    if let Ok(page) = ControlPage::open(&dir) {
        use_page(&page);
    }
}

/// What parent, server, standby and `uswap list` do with it.
fn use_page(page: &ControlPage) {
    let tickets: Vec<u64> = page.recent_tickets().take(1000).collect();
    assert!(tickets.len() < 100, "{} processes at a time", tickets.len());
    for &ticket in &tickets {
        let _ = (page.holder(ticket), page.stage(ticket));
    }
    let _ = (page.parent(), page.phase(), page.device(), page.cookie(), page.successors());
    let _ = (page.recoveries(), page.last_beat(), page.is_end_wanted());
    // A line is fetched once, and there are so many.
    let lines = (0..1000).map_while(|_| page.whispers().fetch()).count();
    assert!(lines < 100, "{lines} lines");
    page.whispers().leave("a line");
    let _ = page.whispers().fetch();
    let (server, ticket) = (page.server(), page.take_ticket());
    assert_ne!(server, ticket, "the server keeps its entry");
    page.enrol(ticket, Identity { pid: 0, began: 1 });
    page.set_stage(ticket, Stage::Warm);
    assert!(page.succeed(server, ticket));
    page.begin_hand_over();
    page.note_recovery(ticket, 1);
    page.note_successor(page.want_successor());
    assert_eq!((page.server(), page.stage(ticket)), (ticket, Stage::Live));
}

/// The head of a state.
pub fn format(bytes: &[u8]) {
    let dir = run_dir();
    fs::create_dir_all(dir.join("one")).expect("directory");
    fs::write(dir.join("one/format"), bytes).expect("file");
    match format_of(&dir, "one") {
        Ok(format) => assert_eq!(format.pack(), bytes, "nothing but what was written"),
        Err(e) => assert!(e.to_string().contains("; "), "no remedy: {e}"),
    }
}

/// Segments of the spill.
const SEGMENTS: u64 = 6;

/// What is written down about segments, and what a disk gives back for one.
pub fn segments(bytes: &[u8]) {
    let spill_bytes = SEGMENTS * SEGMENT_BYTES as u64;
    let count = Segments::words(spill_bytes);
    let file = anonymous_file("segments", count as u64 * 8).expect("memory");
    let (head, rest) = bytes.split_at(bytes.len().min(count * 8));
    file.write_all_at(head, 0).expect("inside");
    let words = Words::new(&file, count).expect("memory");
    // Zeros are a key that was wiped.
    let Some(Spill { seal, segments }) = Spill::attach(words, spill_bytes) else { return };
    for entry in rest.as_chunks::<8>().0 {
        let [low @ .., x, y] = *entry;
        let len = u16::from_le_bytes([x, y]) % 4097;
        let units = low.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let at = Location::from_units(units % (2 * SEGMENTS * SEGMENT_BYTES as u64 / 16));
        if len > 0 && segments.adopt(at, len) {
            let (place, span) = (segments.place(at), segments.span(at, len));
            assert!(span.at + u64::from(span.len) <= spill_bytes, "{span:?}");
            assert!(span.skip + span.sealed <= span.len, "{span:?}");
            assert!(u64::from(place.unit) < SEGMENT_BYTES as u64 / 16, "{place:?}");
        }
    }
    let mut layout = Layout::new(&segments);
    let (mut found, mut block) = (Vec::new(), vec![0; SEGMENT_BYTES]);
    for round in 0..2 * SEGMENTS {
        let first = layout.next_sequence();
        if let Some((segment, sequence)) = layout.take(&segments, round % 2 == 0) {
            assert!(sequence >= first && u64::from(segment) < SEGMENTS);
            assert!(layout.next_sequence() > sequence, "a number is used once");
            layout.dropped(segment);
        }
        if let Some(victim) = layout.victim(&segments) {
            let job = victim.job();
            assert!(job.len <= SEGMENT_BYTES, "{job:?}");
            assert!(job.at + job.len as u64 <= spill_bytes, "{job:?}");
            let len = rest.len().min(block.len());
            block[..len].copy_from_slice(&rest[..len]);
            let read = read_summary(&seal, &victim, &mut block, &mut found);
            assert!(read.is_err(), "nobody has sealed that");
            layout.cleaning(victim.segment);
            layout.damaged(victim.segment);
        }
        layout.find_free_if_few(&segments);
        layout.check();
    }
}
