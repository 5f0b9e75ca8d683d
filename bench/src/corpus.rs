//! Files of captured pages.

use std::path::Path;
use uswap::error::{StartError, StartResult};
use uswap::units::{PAGE_SIZE, Page};

/// What to do about a file that will not do.
pub const REMEDY: &str = "give a file of captured pages (bench: `capture`)";

/// Reads a file of raw 4 KiB pages (uncompressed; `zstd -d` makes one from a `.pages.zst`).
pub fn read(path: &Path) -> StartResult<Vec<Page>> {
    let shown = path.display();
    let bytes = std::fs::read(path)
        .map_err(|e| StartError::failure(format!("cannot read {shown} ({e})"), REMEDY))?;
    let (pages, rest) = bytes.as_chunks::<PAGE_SIZE>();
    if pages.is_empty() || !rest.is_empty() {
        let what = format!("{shown} is not a file of whole 4 KiB pages");
        return Err(StartError::failure(what, REMEDY));
    }
    Ok(pages.to_vec())
}
