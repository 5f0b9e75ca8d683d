//! Pages that know who they are.
//!
//! Page `i` of a working set is page `i mod n` of real, captured memory with a stamp (generation
//! and index) in its last eight bytes, so that it compresses like real memory and no two pages are
//! equal: a page that comes back from swap in another's place, or in an older state, is found out.

use crate::corpus::REMEDY;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;

/// Where the stamp is.
const STAMP: Range<usize> = PAGE_SIZE - 8..PAGE_SIZE;
/// The index takes the low bits of a stamp, the generation the rest: 2^40 pages are 4 PiB.
const GENERATION_SHIFT: u32 = 40;

/// Captured pages, as many as needed over and over.
#[derive(Debug)]
pub struct Source {
    bytes: Vec<u8>,
}

impl Source {
    /// Reads at most `mib` MiB of whole pages from a file or device. All-zero pages are left out:
    /// the kernel keeps those in its swap map and no swap device ever sees them.
    pub fn load(path: &Path, mib: u32) -> StartResult<Self> {
        let shown = path.display();
        let fail =
            |e: std::io::Error| StartError::failure(format!("cannot read {shown} ({e})"), REMEDY);
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|f| f.take(u64::from(mib) << 20).read_to_end(&mut bytes))
            .map_err(fail)?;
        let source = Self::from_bytes(&bytes);
        if source.pages() == 0 {
            let what = format!("{shown} holds no 4 KiB page that is not all zero");
            return Err(StartError::failure(what, REMEDY));
        }
        Ok(source)
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (pages, _) = bytes.as_chunks::<PAGE_SIZE>();
        let some = pages.iter().filter(|page| **page != [0; PAGE_SIZE]);
        Self { bytes: some.flatten().copied().collect() }
    }

    /// How many different pages there are.
    pub fn pages(&self) -> usize {
        self.bytes.len() / PAGE_SIZE
    }

    fn page(&self, index: usize) -> &[u8] {
        &self.bytes[index % self.pages() * PAGE_SIZE..][..PAGE_SIZE]
    }

    /// Makes `page` the page number `index` in this generation.
    pub fn fill(&self, page: &mut [u8], index: usize, generation: u32) {
        page.copy_from_slice(self.page(index));
        restamp(page, index, generation);
    }

    /// An error that says what is wrong with `page`, unless it is what was written.
    pub fn check(&self, page: &[u8], index: usize, generation: u32) -> StartResult<()> {
        match wrong_page(page, self.page(index), index, generation) {
            None => Ok(()),
            Some(wrong) => Err(StartError::failure(
                wrong,
                "swap returned wrong contents: keep the guest's output and report it",
            )),
        }
    }
}

/// Gives a page a new generation; the rest of it stays.
pub fn restamp(page: &mut [u8], index: usize, generation: u32) {
    page[STAMP].copy_from_slice(&stamp(index, generation));
}

fn stamp(index: usize, generation: u32) -> [u8; 8] {
    (u64::from(generation) << GENERATION_SHIFT | index as u64).to_le_bytes()
}

/// What differs from what was written, or nothing.
fn wrong_page(page: &[u8], source: &[u8], index: usize, generation: u32) -> Option<String> {
    if page[STAMP] != stamp(index, generation) {
        return Some(format!(
            "page {index}: stamp {:02x?}, wanted generation {generation} of page {index}",
            &page[STAMP]
        ));
    }
    let (page, source) = (&page[..STAMP.start], &source[..STAMP.start]);
    if page == source {
        return None;
    }
    let differs = page.iter().zip(source).position(|(a, b)| a != b)?;
    Some(format!("page {index}: byte {differs} differs from what was written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_a_wrong_page_and_an_old_page_are_found() {
        let source = Source { bytes: vec![7; PAGE_SIZE] };
        let mut page = vec![0; PAGE_SIZE];
        source.fill(&mut page, 5, 2);
        assert!(source.check(&page, 5, 2).is_ok());
        assert!(source.check(&page, 6, 2).is_err());
        assert!(source.check(&page, 5, 3).is_err());
        page[100] ^= 1;
        let wrong = source.check(&page, 5, 2).expect_err("found").to_string();
        assert!(wrong.contains("byte 100"), "{wrong}");
    }

    #[test]
    fn zero_pages_and_half_pages_are_left_out() {
        let mut bytes = vec![0; 3 * PAGE_SIZE + 5];
        bytes[PAGE_SIZE] = 1;
        let source = Source::from_bytes(&bytes);
        assert_eq!((source.pages(), source.page(7)[0]), (1, 1));
        assert_eq!(Source::from_bytes(&bytes[..PAGE_SIZE]).pages(), 0);
    }
}
