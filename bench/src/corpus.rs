//! Files of captured pages.

use std::io;
use std::path::Path;
use uswap::units::{PAGE_SIZE, Page};

/// Reads a file of raw 4 KiB pages (uncompressed; `zstd -d` makes one from a `.pages.zst`).
pub fn read(path: &Path) -> io::Result<Vec<Page>> {
    let bytes = std::fs::read(path)?;
    let (pages, rest) = bytes.as_chunks::<PAGE_SIZE>();
    if pages.is_empty() || !rest.is_empty() {
        let what = format!("{} is not a file of whole 4 KiB pages", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(pages.to_vec())
}
