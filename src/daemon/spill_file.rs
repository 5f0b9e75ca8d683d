//! The file or device that pages are spilled to: made if it is not there, refused if it will not
//! do.
//!
//! What is in it means nothing after the service has ended, since the key is gone; so a file is
//! used again as it is, and only its size and its blocks matter. It must have all its blocks,
//! written once: otherwise the file system would allocate, or convert, when the machine is out of
//! memory.

use super::notify::Progress;
use super::{Tell, backing};
use crate::config::size::format as human;
use crate::config::{Settings, Target};
use crate::error::{StartError, StartResult};
use crate::limits::{SPILL_BYTES_MAX, SPILL_BYTES_MIN};
use crate::sys::spill;
use crate::units::PAGE_SIZE;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What decides how much of a spill is used.
const SIZE_FLAG: &str = "--spill-size";

/// An open spill of the swap target.
#[derive(Debug)]
pub struct SpillFile {
    /// Read and write, around the page cache where that is possible.
    pub file: File,
    /// What it was opened by.
    pub path: PathBuf,
    /// Bytes of it that are used.
    pub bytes: u64,
}

impl SpillFile {
    /// Opens what the settings name, which [`make`] has made. `None` if no spill was asked for.
    pub fn open(settings: &Settings, tell: Tell<'_>) -> StartResult<Option<Self>> {
        let Some(path) = spill_of(settings) else { return Ok(None) };
        Self::examine(settings, path, tell).map(Some)
    }

    /// Opens what a running server has open: without the lock that makes it that server's
    /// alone, which it takes when that server is gone. Its own open file, never a descriptor that
    /// is passed on: the lock
    /// tells when the last transfer of the dead server has ended only because nobody else holds it.
    /// `None` if the settings name no spill.
    pub fn open_beside(settings: &Settings) -> StartResult<Option<Self>> {
        let Some(path) = spill_of(settings) else { return Ok(None) };
        let spill = spill::Spill::open_beside(path).map_err(|e| backing::explain(path, &e))?;
        let bytes = match settings.spill_size {
            0 => usable(path, spill.bytes)?,
            bytes => bytes,
        };
        Ok(Some(Self { file: spill.file, path: path.clone(), bytes }))
    }

    fn examine(settings: &Settings, path: &Path, tell: Tell<'_>) -> StartResult<Self> {
        let bytes = settings.spill_size;
        let spill = backing::open_unused(Path::new("/"), path, bytes, SIZE_FLAG)?;
        let bytes = if bytes == 0 { usable(path, spill.bytes)? } else { bytes };
        for objection in backing::objections_to(path, &spill, bytes)? {
            if !settings.unsafe_spill {
                return Err(objection);
            }
            tell(&objection.to_string());
        }
        if spill.is_shared() {
            tell(&format!(
                "{} can be written by others, who could make pages unreadable; run `chmod 600 {}`",
                path.display(),
                path.display()
            ));
        }
        Ok(Self { file: spill.file, path: path.to_owned(), bytes })
    }
}

/// The path of the swap target's spill.
fn spill_of(settings: &Settings) -> Option<&PathBuf> {
    settings.spill.as_ref().filter(|_| settings.target == Target::Swap)
}

/// Makes the swap target's spill if it is to be made and is not there, which takes as long as
/// writing all of it. What will not do is not left behind.
pub fn make(settings: &Settings, tell: Tell<'_>) -> StartResult<()> {
    let Some(path) = spill_of(settings) else { return Ok(()) };
    if !make_if_missing(path, settings.spill_size, tell)? {
        return Ok(());
    }
    SpillFile::examine(settings, path, &|_| ()).map(drop).inspect_err(|_| {
        // It is of no use as it is, and nobody else's.
        let _ = std::fs::remove_file(path);
    })
}

/// Whether the swap target's spill will do, before a server is started for it. One that is still to
/// be made will.
pub fn check(settings: &Settings) -> StartResult<()> {
    let Some(path) = spill_of(settings) else { return Ok(()) };
    let bytes = settings.spill_size;
    if bytes > 0 && std::fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let spill = backing::open_unused(Path::new("/"), path, bytes, SIZE_FLAG)?;
    let bytes = if bytes == 0 { usable(path, spill.bytes)? } else { bytes };
    let found = backing::objections_to(path, &spill, bytes)?;
    found.into_iter().find(|_| !settings.unsafe_spill).map_or(Ok(()), Err)
}

/// All of a file or device, as far as it can be used.
fn usable(path: &Path, have: u64) -> StartResult<u64> {
    let bytes = (have - have % PAGE_SIZE as u64).min(SPILL_BYTES_MAX);
    if bytes >= SPILL_BYTES_MIN {
        return Ok(bytes);
    }
    Err(StartError::usage(
        format!("spill: {} is too small ({})", path.display(), human(have)),
        format!("make it at least {}", human(SPILL_BYTES_MIN)),
    ))
}

/// Makes a file of `bytes`, every block of it written. False if something is there already.
fn make_if_missing(path: &Path, bytes: u64, tell: Tell<'_>) -> StartResult<bool> {
    if bytes == 0 || std::fs::symlink_metadata(path).is_ok() {
        return Ok(false);
    }
    tell(&format!("writing {} of zeros to {}, once", human(bytes), path.display()));
    let mut progress = Progress::of(format!("writing {}", path.display()));
    spill::make(path, bytes, &mut |done| progress.tell(done, bytes, "")).map(|()| true).map_err(
        |e| {
            let remedy = match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "use a smaller --spill-size, or make room on that file system"
                }
                io::ErrorKind::NotFound => "make its directory first",
                io::ErrorKind::PermissionDenied => "run as root",
                io::ErrorKind::ReadOnlyFilesystem => {
                    "name a file on a file system that can be written"
                }
                _ => "name a file on ext4 or xfs, or a block device",
            };
            StartError::failure(format!("spill: cannot make {} ({e})", path.display()), remedy)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spill::Spill;

    #[test]
    fn a_file_is_made_with_every_block_written_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("spill");
        assert!(!make_if_missing(&path, 0, &|_| ()).expect("nothing to do"));
        assert!(make_if_missing(&path, (1 << 20) + 4096, &|_| ()).expect("room"));
        let metadata = std::fs::metadata(&path).expect("made");
        assert_eq!(
            (metadata.len(), metadata.permissions().mode() & 0o777),
            (1 << 20 | 4096, 0o600)
        );
        let spill = Spill::open(&path).expect("nobody has it");
        assert_eq!(spill.first_hole((1 << 20) + 4096).expect("seekable"), None);
        assert!(!spill.is_shared());
        assert!(!make_if_missing(&path, 1 << 20, &|_| ()).expect("there"), "it is left alone");
        let none = dir.path().join("none/spill");
        let error = make_if_missing(&none, 1 << 20, &|_| ()).expect_err("no directory").to_string();
        assert!(error.contains("make its directory first"), "{error}");
        assert!(usable(&path, 1 << 20).expect_err("short").to_string().contains("at least 16M"));
    }
}
