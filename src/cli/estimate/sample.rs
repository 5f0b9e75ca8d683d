//! A sample of pages, and what is to be said of all pages from it.
//!
//! Pages come in runs of neighbours, because neighbours are alike: the sample has as many runs as
//! it may, each as likely as any other (Vitter's algorithm R), and its error is calculated from
//! runs, not from pages.

use crate::codec::{DenseStream, Dictionary, Stream, same};
use crate::limits::HUGE_BYTES;
use crate::pool::object_bytes;
use crate::sys::resident::{self, Place, Reader};
use crate::units::{PAGE_SIZE, Page};
use serde::Serialize;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Pages of a run.
const RUN_PAGES: usize = 32;
/// A page's place in the slot table.
const SLOT_BYTES: usize = 8;
/// Codecs that are tried.
pub const CODECS: usize = 3;
/// Half-width of a 95 % interval of a normal distribution, in standard errors.
const Z_95: f64 = 1.96;

/// Where a run begins.
#[derive(Clone, Debug)]
enum Run {
    Process(Vec<Place>),
    File { page: u64, pages: usize },
}

/// What all pages would take with one codec.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// Its name.
    pub codec: &'static str,
    /// Bytes of RAM that they would take.
    pub bytes: u64,
    /// Half of the width of the 95 % confidence interval, in percent of `bytes`.
    pub error_percent: f64,
}

/// The sample.
#[derive(Debug)]
pub struct Sample {
    runs_max: usize,
    runs: Vec<Run>,
    /// Runs that were shown.
    seen: u64,
    /// Pages that were shown.
    pages: u64,
    random: u64,
    file: Option<File>,
    sampled: u64,
}

impl Sample {
    /// An empty sample, for about so many pages.
    pub fn new(pages: usize) -> Self {
        Self {
            runs_max: (pages / RUN_PAGES).max(2),
            runs: Vec::new(),
            seen: 0,
            pages: 0,
            random: 0x9E37_79B9_7F4A_7C15,
            file: None,
            sampled: 0,
        }
    }

    /// Pages of which this is a sample.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that [`Self::estimate`] looked at.
    pub const fn sampled(&self) -> u64 {
        self.sampled
    }

    /// Runs in the sample.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Shows it the pages of a process.
    pub fn add_process(&mut self, pid: u32) -> io::Result<()> {
        let mut run = Vec::with_capacity(RUN_PAGES);
        let shown = resident::for_each(pid, |place| {
            run.push(place);
            if run.len() == RUN_PAGES {
                self.show(RUN_PAGES, || Run::Process(run.clone()));
                run.clear();
            }
        });
        if !run.is_empty() {
            self.show(run.len(), || Run::Process(run.clone()));
        }
        shown
    }

    /// Shows it a file of pages.
    pub fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        if !bytes.is_multiple_of(PAGE_SIZE as u64) {
            return Err(io::Error::other(format!("its {bytes} bytes are not whole pages")));
        }
        let all = bytes / PAGE_SIZE as u64;
        for page in (0..all).step_by(RUN_PAGES) {
            let pages = (all - page).min(RUN_PAGES as u64) as usize;
            self.show(pages, || Run::File { page, pages });
        }
        self.file = Some(file);
        Ok(())
    }

    /// A run of so many pages: takes it, perhaps in the place of another.
    fn show(&mut self, pages: usize, run: impl FnOnce() -> Run) {
        self.pages += pages as u64;
        self.seen += 1;
        if self.runs.len() < self.runs_max {
            return self.runs.push(run());
        }
        // xorshift64*: the sample need not be secret, and the same each time is welcome.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let at = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) % self.seen;
        if at < self.runs_max as u64 {
            self.runs[at as usize] = run();
        }
    }

    /// The pages of a run that are still there.
    fn read(&self, run: &Run, reader: &mut Reader) -> Vec<Page> {
        let mut page = [0; PAGE_SIZE];
        match run {
            // A process that has ended has no pages any more.
            Run::Process(places) => places
                .iter()
                .filter_map(|place| reader.read(*place, &mut page).ok()?.then_some(page))
                .collect(),
            Run::File { page: first, pages } => {
                let at = |i| (first + i as u64) * PAGE_SIZE as u64;
                let file = self.file.as_ref();
                (0..*pages)
                    .filter_map(|i| file?.read_exact_at(&mut page, at(i)).ok().map(|()| page))
                    .collect()
            }
        }
    }

    /// Reads the sample and tries every codec on it. What has gone meanwhile is left out, also of
    /// [`Self::pages`], in proportion.
    pub fn estimate(&mut self) -> Vec<Estimate> {
        let mut reader = Reader::default();
        let runs: Vec<Vec<Page>> =
            self.runs.iter().map(|run| self.read(run, &mut reader)).collect();
        let runs: Vec<Vec<Page>> = runs.into_iter().filter(|run| !run.is_empty()).collect();
        self.sampled = runs.iter().map(|run| run.len() as u64).sum();
        let wanted: u64 = self.runs.iter().map(Run::pages).sum();
        if let Some(scaled) = (self.pages * self.sampled).checked_div(wanted) {
            self.pages = scaled;
        }
        let mut stream = Stream::new();
        let lz4 = |page: &Page, stream: &mut Stream| stream.compress_lz4(page).len();
        let zstd = |page: &Page, stream: &mut Stream| {
            stream.compress_zstd(page).map_or(PAGE_SIZE, <[u8]>::len)
        };
        // Every second run teaches, the others are tried, so that nobody is tried on what it knows.
        let taught: Vec<Page> = runs.iter().step_by(2).flatten().copied().collect();
        let mut dense = DenseStream::new();
        let dictionary = Dictionary::train(&taught);
        dense.load(dictionary.as_ref());
        let mut try_dense = |page: &Page, _: &mut Stream| {
            *dense.page = *page;
            dense.compress().map_or(PAGE_SIZE, <[u8]>::len)
        };
        let tried: Vec<&Vec<Page>> = runs.iter().skip(1).step_by(2).collect();
        let all: Vec<&Vec<Page>> = runs.iter().collect();
        let tried = if tried.is_empty() { all.clone() } else { tried };
        vec![
            self.of("lz4", &taken(&all, &mut stream, lz4)),
            self.of("zstd", &taken(&all, &mut stream, zstd)),
            self.of("dense", &taken(&tried, &mut stream, &mut try_dense)),
        ]
    }

    /// All pages from bytes and pages of runs: a ratio estimate and its standard error (Cochran,
    /// Sampling Techniques, 1977, chapter 6).
    fn of(&self, codec: &'static str, runs: &[(f64, f64)]) -> Estimate {
        let n = runs.len() as f64;
        let (bytes, pages) = runs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        let mean = bytes / f64::max(pages, 1.0);
        let residuals: f64 = runs.iter().map(|(x, y)| (x - mean * y).powi(2)).sum();
        let left_out = 1.0 - (pages / self.pages.max(1) as f64).min(1.0);
        let variance = left_out * residuals / (n * f64::max(n - 1.0, 1.0)) / (pages / n).powi(2);
        let error_percent = if mean > 0.0 { 100.0 * Z_95 * variance.sqrt() / mean } else { 0.0 };
        Estimate { codec, bytes: (mean * self.pages as f64) as u64, error_percent }
    }
}

impl Run {
    fn pages(&self) -> u64 {
        match self {
            Self::Process(places) => places.len() as u64,
            Self::File { pages, .. } => *pages as u64,
        }
    }
}

/// Bytes that each run takes in RAM, and its pages.
fn taken(
    runs: &[&Vec<Page>],
    stream: &mut Stream,
    mut compress: impl FnMut(&Page, &mut Stream) -> usize,
) -> Vec<(f64, f64)> {
    let mut one = |page: &Page| -> usize {
        if same::word(page).is_some() {
            return SLOT_BYTES;
        }
        let len = compress(page, stream);
        SLOT_BYTES + object_bytes(if len > HUGE_BYTES { PAGE_SIZE } else { len })
    };
    runs.iter()
        .map(|run| (run.iter().map(&mut one).sum::<usize>() as f64, run.len() as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(pages: impl Iterator<Item = Page>) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        pages.for_each(|page| file.write_all(&page).expect("written"));
        file
    }

    fn noise(seed: u64) -> Page {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        std::array::from_fn(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
    }

    #[test]
    fn all_of_a_small_file_is_exact() {
        let file = file((0..64u64).map(|i| if i < 32 { [7; PAGE_SIZE] } else { noise(i) }));
        let mut sample = Sample::new(4096);
        sample.add_file(file.path()).expect("pages");
        let found = sample.estimate();
        let bytes = 64 * SLOT_BYTES + 32 * PAGE_SIZE;
        assert_eq!(found[0].bytes, bytes as u64);
        assert_eq!((sample.pages(), sample.sampled(), sample.runs()), (64, 64, 2));
        assert!(found[0].error_percent < 1e-9, "nothing was left out: {found:?}");
    }

    #[test]
    fn a_part_is_close_and_says_how_close() {
        // A third of the runs is noise, the rest text.
        let page = |i: u64| match i / RUN_PAGES as u64 % 3 {
            0 => noise(i),
            _ => std::array::from_fn(|at| b"swapped page of text, "[(at + i as usize) % 22]),
        };
        let file = file((0..12_000).map(page));
        let mut whole = Sample::new(20_000);
        whole.add_file(file.path()).expect("pages");
        let truth = whole.estimate();
        let mut part = Sample::new(2048);
        part.add_file(file.path()).expect("pages");
        let found = part.estimate();
        assert_eq!((part.runs(), part.pages()), (64, 12_000));
        for (found, truth) in found.iter().zip(&truth).take(2) {
            let off = 100.0 * (found.bytes as f64 / truth.bytes as f64 - 1.0).abs();
            assert!(found.error_percent > 1.0, "{found:?}");
            assert!(off < 2.0 * found.error_percent, "{off} % off: {found:?} {truth:?}");
        }
    }

    #[test]
    fn half_a_page_at_the_end_is_no_file_of_pages() {
        let mut file = file([noise(1)].into_iter());
        file.write_all(b"x").expect("written");
        let error = Sample::new(256).add_file(file.path()).expect_err("4097 bytes");
        assert!(error.to_string().contains("not whole pages"));
    }
}
