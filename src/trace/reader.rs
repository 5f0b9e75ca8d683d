//! Reads traces, and believes nothing that it reads.

use super::code::{self, Before, EVENT_BYTES_MAX};
use super::frame::{FrameKind, HEAD_BYTES, Head, JSON_BYTES_MAX, Unpacker};
use super::{BLOCK_EVENTS_MAX, Event, Header, MAGIC, Totals, TraceError, Trailer, VERSION};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Most bytes of a block's contents, and more than zstd makes of them.
const BLOCK_BYTES_MAX: usize = BLOCK_EVENTS_MAX * EVENT_BYTES_MAX;
const PACKED_BYTES_MAX: usize = BLOCK_BYTES_MAX + (BLOCK_BYTES_MAX >> 7) + 512;

/// Reads the events of a trace, in the order of their time. Takes some 1.5 MiB however long the
/// trace is. After an error, and after the end, there are no more events.
pub struct Reader<R> {
    input: R,
    header: Header,
    trailer: Option<Trailer>,
    failed: bool,
    /// Bytes read, to the frame that is being read.
    at: u64,
    events: Vec<Event>,
    next: usize,
    time_us: u64,
    totals: Totals,
    stored: Vec<u8>,
    plain: Vec<u8>,
    unpacker: Unpacker,
}

impl Reader<BufReader<File>> {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Self::new(BufReader::new(File::open(path).map_err(TraceError::Io)?))
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header. It is read in small parts: give it something buffered.
    pub fn new(mut input: R) -> Result<Self, TraceError> {
        let mut start = [0; 12];
        let mut len = 0;
        while len < start.len() {
            match input.read(&mut start[len..])? {
                0 => break,
                more => len += more,
            }
        }
        let (magic, version) = start.split_at(MAGIC.len());
        if len < MAGIC.len() || magic != MAGIC {
            return Err(TraceError::NotATrace);
        }
        if len < start.len() {
            return Err(TraceError::Truncated);
        }
        let version = u32::from_le_bytes([version[0], version[1], version[2], version[3]]);
        if version != VERSION {
            return Err(TraceError::Foreign { version });
        }
        let mut reader = Self {
            input,
            header: Header::default(),
            trailer: None,
            failed: false,
            at: start.len() as u64,
            events: Vec::new(),
            next: 0,
            time_us: 0,
            totals: Totals::default(),
            stored: Vec::new(),
            plain: Vec::new(),
            unpacker: Unpacker::new(),
        };
        let head = reader.head()?;
        if head.kind != FrameKind::Header {
            return Err(reader.damaged("there is no header"));
        }
        reader.header = reader.json(&head)?;
        if reader.header.slots > 1 << 32 {
            return Err(reader.damaged("its device is larger than any"));
        }
        reader.pass(&head);
        Ok(reader)
    }

    /// Where the trace comes from.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What is in it; only after its last event, when it is known to be whole.
    pub const fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// Bytes read so far: for showing how far it is.
    pub const fn bytes(&self) -> u64 {
        self.at
    }

    const fn damaged(&self, what: &'static str) -> TraceError {
        TraceError::Damaged { at: self.at, what }
    }

    fn head(&mut self) -> Result<Head, TraceError> {
        let mut bytes = [0; HEAD_BYTES];
        self.input.read_exact(&mut bytes)?;
        Head::parse(&bytes).map_err(|what| self.damaged(what))
    }

    /// Reads what follows a head, of at most so many bytes.
    fn body(&mut self, head: &Head, most: usize) -> Result<(), TraceError> {
        let read = head.read(&mut self.input, most, &mut self.stored)?;
        read.ok_or(self.damaged("its checksum is another"))
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, head: &Head) -> Result<T, TraceError> {
        self.body(head, JSON_BYTES_MAX)?;
        if head.events > 0 || head.plain_bytes != head.stored_bytes {
            return Err(self.damaged("a frame that is not as it says"));
        }
        serde_json::from_slice(&self.stored).map_err(|_| self.damaged("it is not as JSON is"))
    }

    const fn pass(&mut self, head: &Head) {
        self.at += HEAD_BYTES as u64 + head.stored_bytes as u64;
    }

    /// Reads the next frame: more events, or the trailer and the end.
    fn advance(&mut self) -> Result<(), TraceError> {
        let head = self.head()?;
        match head.kind {
            FrameKind::Header => return Err(self.damaged("a second header")),
            FrameKind::Block => self.block(&head)?,
            FrameKind::Trailer => {
                let trailer: Trailer = self.json(&head)?;
                if trailer.totals != self.totals || trailer.duration_us < self.time_us {
                    return Err(self.damaged("events are missing, or there are too many"));
                }
                if self.input.read(&mut [0])? > 0 {
                    return Err(self.damaged("something follows the trailer"));
                }
                self.trailer = Some(trailer);
            }
        }
        self.pass(&head);
        Ok(())
    }

    fn block(&mut self, head: &Head) -> Result<(), TraceError> {
        self.body(head, PACKED_BYTES_MAX)?;
        let (count, bytes) = (head.events as usize, head.plain_bytes as usize);
        if count == 0 || count > BLOCK_EVENTS_MAX || bytes > BLOCK_BYTES_MAX {
            return Err(self.damaged("a block that is too long, or empty"));
        }
        let unpacked = self.unpacker.unpack(&self.stored, bytes, &mut self.plain);
        unpacked.ok_or(self.damaged("a block that does not decompress"))?;
        let (mut rest, mut before) = (&self.plain[..], Before::default());
        self.events.clear();
        self.next = 0;
        for _ in 0..count {
            let event = code::take(&mut rest, &mut before).filter(|event| {
                let (first, count) = code::slots_of(event);
                first + count <= self.header.slots && event.time_us >= self.time_us
            });
            let Some(event) = event else {
                self.events.clear();
                return Err(self.damaged("an event that cannot be"));
            };
            self.time_us = event.time_us;
            self.totals.count(&event);
            self.events.push(event);
        }
        if !rest.is_empty() {
            self.events.clear();
            return Err(self.damaged("a block that is longer than its events"));
        }
        Ok(())
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Event, TraceError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(&event) = self.events.get(self.next) {
                self.next += 1;
                return Some(Ok(event));
            }
            if self.failed || self.trailer.is_some() {
                return None;
            }
            if let Err(e) = self.advance() {
                self.failed = true;
                return Some(Err(e));
            }
        }
    }
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("header", &self.header).finish_non_exhaustive()
    }
}

/// What a whole trace says of itself: reads all of it, calling `each` with every event. An error
/// may come after some events: what `each` has made of them is then void.
pub fn summarize<R: Read>(
    mut reader: Reader<R>,
    mut each: impl FnMut(&Event),
) -> Result<(Header, Trailer), TraceError> {
    for event in &mut reader {
        each(&event?);
    }
    let trailer = *reader.trailer().ok_or(TraceError::Truncated)?;
    Ok((reader.header, trailer))
}
