//! Claims that end with the process: a lock file for a name, exclusive use of a block device.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
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

    /// Gives the calling thread a table of descriptors of its own that lacks this one: when the
    /// rest of the process ends, so does the lock, even if this thread cannot end yet. Descriptors
    /// that others open from now on are not this thread's.
    pub fn disown(&self) -> io::Result<()> {
        // SAFETY: the thread only keeps using descriptors that it has now, which stay open in its
        // table whatever others do to theirs.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES)? };
        // SAFETY: closes it in this thread's table alone; the value's owner has another table. This
        // thread uses the value no more.
        match unsafe { libc::close(self.file.as_raw_fd()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
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

    #[test]
    fn a_thread_that_disowns_a_lock_neither_ends_nor_keeps_it() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("x.lock");
        let lock = LockFile::take(&path).expect("file").expect("free");
        let (end, ended) = std::sync::mpsc::sync_channel::<()>(0);
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::sync_channel(0);
            let lock = &lock;
            scope.spawn(move || {
                tell.send(lock.disown()).expect("heard");
                let _ = ended.recv();
            });
            told.recv().expect("said").expect("own descriptors");
            assert!(LockFile::take(&path).expect("file").is_none(), "the lock went");
            // What the end of a process does.
            // SAFETY: nobody uses the descriptor of `lock` any more.
            assert_eq!(unsafe { libc::close(lock.file.as_raw_fd()) }, 0);
            assert!(LockFile::take(&path).expect("file").is_some(), "the thread keeps the lock");
            drop(end);
        });
        std::mem::forget(lock);
    }
}
