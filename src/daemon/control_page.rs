//! What the processes of a service know of one another: a page of words in its state directory,
//! mapped by the parent, the server and the standby.
//!
//! Every process of the service gets a ticket from the parent, in order, and an entry for it. Who
//! the server is, is one word: the ticket of that process. A standby that sees the server dead puts
//! its own there by compare and exchange, so that there is one server whoever else had the same
//! thought, and whether or not the parent lives. All words are plain atomics: what a process wrote
//! before it was killed is there, whole.

use super::whispers::{self, Whispers};
use crate::sys::map::Words;
use crate::sys::process::{Identity, Process, clock_us};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Its file in the state directory.
const FILE: &str = "control";
/// What it begins with; the last byte is the version of its layout.
const MAGIC: u64 = u64::from_be_bytes(*b"uswapcp\x01");
/// Words of state, then those of lines on their way.
const STATE_WORDS: usize = 512;
const WORDS: usize = STATE_WORDS + whispers::WORDS;
/// Where entries begin, how long one is, how many there are before they are used again. Only a
/// handful of processes live at a time.
const ENTRIES_AT: usize = 64;
const ENTRY_WORDS: usize = 8;
const ENTRIES: u64 = 32;
/// Tickets stay below this for any age of the machine.
const TICKETS_END: Ticket = 1 << 48;
const _: () = assert!(ENTRIES_AT + ENTRY_WORDS * ENTRIES as usize <= STATE_WORDS);

/// Number of a process of the service; the first is 1, 0 is nobody.
pub type Ticket = u64;

/// How the service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first server makes the device.
    Starting,
    /// The device is there, and whatever dies is to be replaced.
    Serving,
    /// The device was stopped: nothing is to be taken over.
    Ended,
}

/// How a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It makes itself ready.
    Starting,
    /// A standby that needs nothing any more.
    Warm,
    /// It takes the device over.
    Recovering,
    /// It serves.
    Live,
}

/// Words of the page by their place.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Word {
    Magic,
    ParentPid,
    ParentBegan,
    Tickets,
    Server,
    Phase,
    Device,
    Cookie,
    Recoveries,
    LastRecovery,
    LongestRecovery,
    LiveAt,
    HandOverAt,
    Beat,
    Excused,
    SuccessorsWanted,
    SuccessorsDone,
    EndWanted,
}

/// The mapped page.
#[derive(Debug)]
pub struct ControlPage {
    words: Words,
}

/// Times of recoveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recoveries {
    /// How many there were.
    pub count: u64,
    /// How long the last took, from the moment that the end of the server was seen (or it was told
    /// to hand over) to the first request served, microseconds.
    pub last_us: u64,
    /// The longest.
    pub longest_us: u64,
    /// When the server that lives began to serve, on [`clock_us`].
    pub live_at_us: u64,
}

impl ControlPage {
    /// Makes the page in a state directory that has none. Resident when this returns. `cookie`: a
    /// number that the device will be known by.
    pub fn create(dir: &Path, cookie: u64) -> io::Result<Self> {
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create_new(true).mode(0o600).open(dir.join(FILE))?;
        file.set_len((WORDS * size_of::<u64>()) as u64)?;
        let page = Self { words: Words::new(&file, WORDS)? };
        page.put(Word::Cookie, cookie);
        page.put(Word::Magic, MAGIC);
        Ok(page)
    }

    /// Maps the page of a state directory; an error if there is none or it is of another version.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(dir.join(FILE))?;
        if file.metadata()?.len() != (WORDS * size_of::<u64>()) as u64 {
            return Err(io::Error::other("the control page has another size"));
        }
        let page = Self { words: Words::new(&file, WORDS)? };
        if page.get(Word::Magic) != MAGIC {
            return Err(io::Error::other("the control page is of another version of uswap"));
        }
        // The server first: nobody serves without a ticket.
        let (server, tickets) = (page.server(), page.get(Word::Tickets));
        if server > tickets || tickets >= TICKETS_END {
            return Err(io::Error::other("the control page is damaged"));
        }
        Ok(page)
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        &self.words[word as usize]
    }

    fn get(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    fn put(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    fn entry(&self, ticket: Ticket) -> &[AtomicU64] {
        let at = ENTRIES_AT + (ticket % ENTRIES) as usize * ENTRY_WORDS;
        &self.words[at..at + ENTRY_WORDS]
    }

    /// Lines for the administrator.
    pub fn whispers(&self) -> Whispers<'_> {
        Whispers::of(&self.words)
    }

    /// Who the parent is.
    pub fn parent(&self) -> Identity {
        Identity { pid: self.get(Word::ParentPid) as u32, began: self.get(Word::ParentBegan) }
    }

    /// This process is the parent from now on.
    pub fn become_parent(&self, identity: Identity) {
        self.put(Word::ParentPid, identity.pid.into());
        self.put(Word::ParentBegan, identity.began);
    }

    /// A new ticket. Only the parent takes one. Those that have the server's entry are passed over:
    /// as long as it is the server, everybody needs to know who it is.
    pub fn take_ticket(&self) -> Ticket {
        let next = || self.word(Word::Tickets).fetch_add(1, Ordering::AcqRel) + 1;
        let (server, ticket) = (self.server(), next());
        let taken = server > 0 && ticket % ENTRIES == server % ENTRIES;
        let ticket = if taken { next() } else { ticket };
        let [pid, began, stage, ..] = self.entry(ticket) else {
            unreachable!("entries have words")
        };
        [pid, began, stage].iter().for_each(|word| word.store(0, Ordering::Release));
        ticket
    }

    /// The tickets whose entries are still there, oldest first.
    pub fn recent_tickets(&self) -> impl Iterator<Item = Ticket> + use<> {
        let (server, last) = (self.server(), self.get(Word::Tickets));
        let first = last.saturating_sub(ENTRIES - 1).max(1);
        let kept = move |ticket: &Ticket| *ticket == server || ticket % ENTRIES != server % ENTRIES;
        let old_server = (server > 0 && server < first).then_some(server);
        old_server.into_iter().chain((first..=last).filter(move |t| server == 0 || kept(t)))
    }

    /// Writes down who has a ticket.
    pub fn enrol(&self, ticket: Ticket, identity: Identity) {
        let entry = self.entry(ticket);
        entry[1].store(identity.began, Ordering::Release);
        entry[0].store(identity.pid.into(), Ordering::Release);
    }

    /// Who has a ticket; nobody (process 0) before it is written down.
    pub fn holder(&self, ticket: Ticket) -> Identity {
        let entry = self.entry(ticket);
        let pid = entry[0].load(Ordering::Acquire) as u32;
        Identity { pid, began: entry[1].load(Ordering::Acquire) }
    }

    /// How the holder of a ticket stands.
    pub fn stage(&self, ticket: Ticket) -> Stage {
        match self.entry(ticket)[2].load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Warm,
            2 => Stage::Recovering,
            _ => Stage::Live,
        }
    }

    /// Says how the holder of a ticket stands.
    pub fn set_stage(&self, ticket: Ticket, stage: Stage) {
        self.entry(ticket)[2].store(stage as u64, Ordering::Release);
    }

    /// Whose turn it is to serve.
    pub fn server(&self) -> Ticket {
        self.get(Word::Server)
    }

    /// Whether a standby lives that is warm.
    pub fn has_warm_standby(&self) -> bool {
        self.recent_tickets().any(|ticket| {
            self.stage(ticket) == Stage::Warm
                && matches!(Process::open(self.holder(ticket)), Ok(Some(_)))
        })
    }

    /// Makes `heir` the server in place of `dead`; false if somebody else was quicker.
    pub fn succeed(&self, dead: Ticket, heir: Ticket) -> bool {
        let word = self.word(Word::Server);
        word.compare_exchange(dead, heir, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// How the service stands.
    pub fn phase(&self) -> Phase {
        match self.get(Word::Phase) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Ended,
        }
    }

    /// Says how the service stands.
    pub fn set_phase(&self, phase: Phase) {
        self.put(Word::Phase, phase as u64);
    }

    /// Number of the device, once there is one.
    pub fn device(&self) -> Option<u32> {
        self.get(Word::Device).checked_sub(1).map(|id| id as u32)
    }

    /// What the device is known by.
    pub fn cookie(&self) -> u64 {
        self.get(Word::Cookie)
    }

    /// Writes down which device it is.
    pub fn set_device(&self, id: u32) {
        self.put(Word::Device, u64::from(id) + 1);
    }

    /// The server was told to hand over: the pause begins now.
    pub fn begin_hand_over(&self) {
        self.put(Word::HandOverAt, clock_us());
    }

    /// A device began to be served by the holder of this ticket, for the first time.
    pub fn note_start(&self, ticket: Ticket) {
        self.put(Word::LiveAt, clock_us());
        self.set_stage(ticket, Stage::Live);
        self.set_phase(Phase::Serving);
    }

    /// A device began to be served again after its server was seen dead at `seen_us`; how long that
    /// took, in microseconds.
    pub fn note_recovery(&self, ticket: Ticket, seen_us: u64) -> u64 {
        let now = clock_us();
        let told = self.word(Word::HandOverAt).swap(0, Ordering::AcqRel);
        let begin = if told == 0 { seen_us } else { told.min(seen_us) };
        let took = now.saturating_sub(begin);
        self.put(Word::LastRecovery, took);
        self.word(Word::LongestRecovery).fetch_max(took, Ordering::AcqRel);
        self.word(Word::Recoveries).fetch_add(1, Ordering::AcqRel);
        self.put(Word::LiveAt, now);
        self.set_stage(ticket, Stage::Live);
        took
    }

    /// How recoveries went.
    pub fn recoveries(&self) -> Recoveries {
        Recoveries {
            count: self.get(Word::Recoveries),
            last_us: self.get(Word::LastRecovery),
            longest_us: self.get(Word::LongestRecovery),
            live_at_us: self.get(Word::LiveAt),
        }
    }

    /// Asks the parent to let a standby from the program that is in the state directory now take
    /// over; the number of this order. After the last number comes 0: a damaged page has any.
    pub fn want_successor(&self) -> u64 {
        self.word(Word::SuccessorsWanted).fetch_add(1, Ordering::AcqRel).wrapping_add(1)
    }

    /// Whether the order with this number, or a later one, was carried out or taken back.
    pub fn is_carried_out(&self, number: u64) -> bool {
        number.wrapping_sub(self.get(Word::SuccessorsDone)).cast_signed() <= 0
    }

    /// The last order of [`ControlPage::want_successor`], and the last that was carried out.
    pub fn successors(&self) -> (u64, u64) {
        (self.get(Word::SuccessorsWanted), self.get(Word::SuccessorsDone))
    }

    /// Orders up to this one are carried out, or were taken back.
    pub fn note_successor(&self, number: u64) {
        self.put(Word::SuccessorsDone, number);
    }

    /// Whether the service is to end as soon as nobody uses its device, whoever serves it then.
    pub fn want_end(&self, wanted: bool) {
        self.put(Word::EndWanted, wanted.into());
    }

    /// What [`ControlPage::want_end`] said last.
    pub fn is_end_wanted(&self) -> bool {
        self.get(Word::EndWanted) != 0
    }

    /// The server's control thread lives; `excused` says that requests may take long without
    /// anything being wrong.
    pub fn beat(&self, excused: bool) {
        self.put(Word::Excused, excused.into());
        self.put(Word::Beat, clock_us());
    }

    /// When [`ControlPage::beat`] was last called, and what it said.
    pub fn last_beat(&self) -> (u64, bool) {
        (self.get(Word::Beat), self.get(Word::Excused) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_seen_by_everybody_and_has_one_server() {
        let dir = tempfile::tempdir().expect("directory");
        assert!(ControlPage::open(dir.path()).is_err());
        let page = ControlPage::create(dir.path(), 5).expect("new");
        let other = ControlPage::open(dir.path()).expect("there");
        let (first, second, third) = (page.take_ticket(), page.take_ticket(), page.take_ticket());
        assert_eq!((first, second, third), (1, 2, 3));
        assert!(other.recent_tickets().eq(1..=3));
        let identity = Identity { pid: 77, began: 1234 };
        page.enrol(second, identity);
        page.set_stage(second, Stage::Warm);
        assert_eq!((other.holder(second), other.stage(second)), (identity, Stage::Warm));
        assert_eq!(other.holder(third), Identity::default());
        assert!(page.succeed(0, first) && other.succeed(first, second));
        assert!(!page.succeed(first, third), "somebody else was quicker");
        assert_eq!(page.server(), second);
        assert_eq!((page.phase(), page.device()), (Phase::Starting, None));
        page.set_device(0);
        page.note_start(second);
        assert_eq!((other.phase(), other.device()), (Phase::Serving, Some(0)));
        assert_eq!(other.cookie(), 5);
    }

    #[test]
    fn orders_are_carried_out_one_after_the_other_and_after_the_last_number_too() {
        let dir = tempfile::tempdir().expect("directory");
        let page = ControlPage::create(dir.path(), 5).expect("new");
        for before in [0, u64::MAX - 1, u64::MAX] {
            page.put(Word::SuccessorsWanted, before);
            page.note_successor(before);
            let (first, second) = (page.want_successor(), page.want_successor());
            assert_eq!(page.successors(), (second, before));
            assert!(!page.is_carried_out(first) && !page.is_carried_out(second));
            page.note_successor(first);
            assert!(page.is_carried_out(first) && !page.is_carried_out(second));
            page.note_successor(second);
            assert!(page.is_carried_out(first) && page.is_carried_out(second));
        }
    }

    #[test]
    fn an_entry_that_is_used_again_forgets() {
        let dir = tempfile::tempdir().expect("directory");
        let page = ControlPage::create(dir.path(), 5).expect("new");
        let first = page.take_ticket();
        page.enrol(first, Identity { pid: 1, began: 1 });
        page.set_stage(first, Stage::Live);
        let again = (0..ENTRIES).fold(0, |_, _| page.take_ticket());
        assert_eq!(again, first + ENTRIES);
        assert_eq!((page.holder(again), page.stage(again)), (Identity::default(), Stage::Starting));
    }

    #[test]
    fn the_servers_entry_is_kept_however_many_standbys_fail() {
        let dir = tempfile::tempdir().expect("directory");
        let page = ControlPage::create(dir.path(), 5).expect("new");
        let server = page.take_ticket();
        let identity = Identity { pid: 7, began: 8 };
        page.enrol(server, identity);
        page.set_stage(server, Stage::Live);
        assert!(page.succeed(0, server));
        let tickets: Vec<Ticket> = (0..5 * ENTRIES).map(|_| page.take_ticket()).collect();
        assert!(tickets.is_sorted_by(|a, b| a < b));
        for &ticket in &tickets {
            page.enrol(ticket, Identity { pid: 9, began: ticket });
        }
        assert_eq!((page.holder(server), page.stage(server)), (identity, Stage::Live));
        let recent: Vec<Ticket> = page.recent_tickets().collect();
        assert_eq!((recent[0], recent.len()), (server, ENTRIES as usize));
        for &ticket in &recent[1..] {
            assert_eq!(page.holder(ticket).began, ticket, "its own entry");
        }
    }

    #[test]
    fn recoveries_are_counted_and_timed_from_the_order_to_hand_over() {
        let dir = tempfile::tempdir().expect("directory");
        let page = ControlPage::create(dir.path(), 5).expect("new");
        let ticket = page.take_ticket();
        let short = page.note_recovery(ticket, clock_us());
        page.begin_hand_over();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let long = page.note_recovery(ticket, clock_us());
        let found = page.recoveries();
        assert_eq!((found.count, found.last_us, found.longest_us), (2, long, long));
        assert!(short < long && long >= 3000, "{short} {long}");
    }

    #[test]
    fn another_version_and_what_cannot_be_are_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let page = ControlPage::create(dir.path(), 5).expect("new");
        page.put(Word::Magic, MAGIC + 1);
        let error = ControlPage::open(dir.path()).expect_err("refused").to_string();
        assert!(error.contains("another version"), "{error}");
        page.put(Word::Magic, MAGIC);
        for (server, tickets) in [(1, 0), (0, TICKETS_END), (u64::MAX, u64::MAX)] {
            page.put(Word::Server, server);
            page.put(Word::Tickets, tickets);
            let error = ControlPage::open(dir.path()).expect_err("refused").to_string();
            assert!(error.contains("damaged"), "{error}");
        }
        std::fs::write(dir.path().join(FILE), "short").expect("file");
        assert!(ControlPage::open(dir.path()).is_err());
    }
}
