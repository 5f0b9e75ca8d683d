//! Claims that end with the process: a lock file for a name, exclusive use of a block device.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A locked file. The lock goes with the process, however that ends; the file goes with this value.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Makes and locks the file at `path`; `None` if somebody else has it locked. Does not wait.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // A former owner may have removed the file between our opening and our locking it.
            let inode = |m: io::Result<fs::Metadata>| m.map(|m| (m.dev(), m.ino())).ok();
            let ours = inode(file.metadata());
            if ours.is_some() && ours == inode(fs::metadata(path)) {
                return Ok(Some(Self { path: path.to_owned(), file }));
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Removed while it is locked, so that nobody else's file goes.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// Opens a block device for nobody else: fails with EBUSY while it is mounted, in use as swap, or
/// part of another device, and they fail while this is open.
pub fn claim(device: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_owner_and_leaves_no_file() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("x.lock");
        let first = LockFile::take(&path).expect("file").expect("free");
        assert!(LockFile::take(&path).expect("file").is_none());
        drop(first);
        assert!(!path.exists());
        assert!(LockFile::take(&path).expect("file").is_some());
    }
}
