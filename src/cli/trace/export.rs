//! `uswap trace export`: a trace as a table.

use crate::cli::{note, say};
use crate::error::{StartError, StartResult};
use crate::trace::{Event, Kind, Reader, Source, Stored, TraceError, summarize};
use clap::{Args, ValueEnum};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "\
One row for each event. Columns: time_us (since the recording began), slot, event, and what there is
of bytes (stored, denser), count (discard), available_mib, some_permille, full_permille (machine).")]
pub struct Export {
    /// A file that `uswap trace record` has written
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to make
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// File to write, which must not be there yet
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Comma-separated values
    Csv,
}

/// The first line.
const HEAD: &str = "time_us,slot,event,bytes,count,available_mib,some_permille,full_permille";

impl Export {
    /// Writes the table; nothing of a trace that is not whole.
    pub fn execute(&self) -> StartResult<()> {
        let fail = |e: TraceError| e.of(&self.file);
        let open = || Reader::open(&self.file);
        let (_, trailer) = open().and_then(|reader| summarize(reader, |_| ())).map_err(fail)?;
        let cannot = |e: io::Error| {
            let what = format!("cannot write {} ({e})", self.output.display());
            StartError::failure(what, "name a file that is not there yet, where there is room")
        };
        let file = File::options().write(true).create_new(true).open(&self.output);
        let mut out = BufWriter::new(file.map_err(cannot)?);
        let Format::Csv = self.format;
        let written = open().map_err(fail).and_then(|reader| {
            writeln!(out, "{HEAD}").map_err(cannot)?;
            for event in reader {
                row(&event.map_err(fail)?, &mut out).map_err(cannot)?;
            }
            out.flush().map_err(cannot)
        });
        written.inspect_err(|_| {
            // Half a table is none.
            let _ = fs::remove_file(&self.output);
        })?;
        if trailer.dropped > 0 {
            note(&format!("{} events were dropped and are not in it", trailer.dropped));
        }
        say(&format!("{}: {} rows\n", self.output.display(), trailer.totals.events()))
    }
}

/// Numbers and words without commas: nothing needs quotes.
fn row(event: &Event, out: &mut impl Write) -> io::Result<()> {
    let Event { time_us, slot, kind } = event;
    write!(out, "{time_us},{},{},", slot.0, word(*kind))?;
    match kind {
        Kind::Stored(Stored::Compressed { bytes }) | Kind::Denser { bytes } => {
            writeln!(out, "{bytes},,,,")
        }
        Kind::Discard { count } => writeln!(out, ",{count},,,"),
        Kind::Machine { available_mib, some_permille, full_permille } => {
            writeln!(out, ",,{available_mib},{some_permille},{full_permille}")
        }
        _ => writeln!(out, ",,,,"),
    }
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Write => "write",
        Kind::Read(Source::Empty) => "read_empty",
        Kind::Read(Source::Staged) => "read_staged",
        Kind::Read(Source::Same) => "read_same",
        Kind::Read(Source::Pool) => "read_pool",
        Kind::Read(Source::Dense) => "read_dense",
        Kind::Read(Source::Huge) => "read_huge",
        Kind::Read(Source::Spill) => "read_spill",
        Kind::Discard { .. } => "discard",
        Kind::Stored(Stored::Same) => "stored_same",
        Kind::Stored(Stored::Compressed { .. }) => "stored_compressed",
        Kind::Stored(Stored::Huge) => "stored_huge",
        Kind::Denser { .. } => "denser",
        Kind::NotDenser => "not_denser",
        Kind::Spilled => "spilled",
        Kind::Promoted => "promoted",
        Kind::Machine { .. } => "machine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotIndex;

    #[test]
    fn every_row_has_as_many_columns_as_the_first() {
        let machine = Kind::Machine { available_mib: 70, some_permille: 1, full_permille: 2 };
        let rows = [
            (Kind::Write, "5,7,write,,,,,"),
            (Kind::Stored(Stored::Compressed { bytes: 9 }), "5,7,stored_compressed,9,,,,"),
            (Kind::Denser { bytes: 8 }, "5,7,denser,8,,,,"),
            (Kind::Discard { count: 3 }, "5,7,discard,,3,,,"),
            (machine, "5,7,machine,,,70,1,2"),
        ];
        for (kind, wanted) in rows {
            let mut line = Vec::new();
            let event = Event { time_us: 5, slot: SlotIndex(7), kind };
            row(&event, &mut line).expect("memory");
            let line = String::from_utf8(line).expect("text");
            assert_eq!(line.trim_end(), wanted);
            assert_eq!(line.matches(',').count(), HEAD.matches(',').count());
        }
    }
}
