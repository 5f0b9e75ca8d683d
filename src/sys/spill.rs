//! The file or block device behind a loop target or for spilled pages: opening it for one owner,
//! and what the kernel says of it.

use memmap2::MmapMut;
use rustix::fs::{
    CWD, FallocateFlags, RenameFlags, SeekFrom, fallocate, fstatfs, renameat_with, seek,
};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary file.
    Regular,
    /// A block device.
    Block,
}

/// An open file or device, nobody else's.
#[derive(Debug)]
pub struct Spill {
    /// Read and write.
    pub file: File,
    /// File or device.
    pub kind: Kind,
    /// Whether the page cache is left out.
    pub direct: bool,
    /// Size in bytes.
    pub bytes: u64,
}

/// Bytes written at a time when a file is made.
const MAKE_BYTES: usize = 1 << 20;

/// Makes a file of `bytes` (whole pages) that nobody else may read, with every block allocated and
/// written, and on the disk. Takes as long as writing that much; `written` hears how many bytes
/// are. Until then it has another name, so that nobody takes one for it whose making was ended
/// half way; the next try replaces that. What was made is removed again when it fails.
pub fn make(path: &Path, bytes: u64, written: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    match std::fs::remove_file(part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let named = make_part(part, bytes, written)
        .and_then(|()| Ok(renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE)?));
    if named.is_err() {
        let _ = std::fs::remove_file(part);
    }
    named
}

fn make_part(path: &Path, bytes: u64, written: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut open = OpenOptions::new();
    open.read(true).write(true).create_new(true).mode(0o600);
    let file = match open.clone().custom_flags(libc::O_DIRECT).open(path) {
        // The file system cannot do that; whoever opens it again finds out and says so. On some
        // the file is there nevertheless.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            let _ = std::fs::remove_file(path);
            open.open(path)?
        }
        file => file?,
    };
    fill(&file, bytes, written)
}

fn fill(file: &File, bytes: u64, written: &mut dyn FnMut(u64)) -> io::Result<()> {
    // In one piece, and if there is no room that shows before everything is written.
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        result => result?,
    }
    let zeros = MmapMut::map_anon(MAKE_BYTES)?;
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(MAKE_BYTES as u64) as usize;
        file.write_all_at(&zeros[..len], at)?;
        at += len as u64;
        written(at);
    }
    file.sync_all()
}

/// What `path` leads to and its size in bytes.
pub fn measure(path: &Path) -> io::Result<(Kind, u64)> {
    let kind = kind_of(path)?;
    let bytes = size(&File::open(path)?)?;
    Ok((kind, bytes))
}

fn kind_of(path: &Path) -> io::Result<Kind> {
    let kind = std::fs::metadata(path)?.file_type();
    match (kind.is_file(), kind.is_block_device()) {
        (true, _) => Ok(Kind::Regular),
        (_, true) => Ok(Kind::Block),
        _ => Err(io::Error::other("neither a regular file nor a block device")),
    }
}

fn size(file: &File) -> io::Result<u64> {
    // A block device has no length; its end is where a seek to it leads.
    Ok(seek(file, SeekFrom::End(0))?)
}

/// Takes the lock of an open file if nobody else has it; whoever has it may take it again. The
/// kernel lets go of a dead process's lock when its last transfer has ended, since that keeps the
/// file open. Does not wait.
pub fn take_lock(file: &File) -> bool {
    file.try_lock().is_ok()
}

/// What names an open file whatever path leads to it: device and inode, or a block device's own
/// number and 0.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    let block = metadata.file_type().is_block_device();
    Ok(if block { (metadata.rdev(), 0) } else { (metadata.dev(), metadata.ino()) })
}

impl Spill {
    /// Opens `path` for this process alone: a file by a lock, a device by the exclusive claim that
    /// mounts and swap areas take too (EBUSY if somebody has it). Around the page cache where the
    /// file system can do that.
    pub fn open(path: &Path) -> io::Result<Self> {
        let kind = kind_of(path)?;
        let claim = if kind == Kind::Block { libc::O_EXCL } else { 0 };
        let spill = Self::open_with(path, kind, claim)?;
        match take_lock(&spill.file) {
            true => Ok(spill),
            false => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        }
    }

    /// The same while another process has it open: takes neither lock nor claim. The lock is taken
    /// later ([`take_lock`]); a device's claim is not, so from then on the lock alone keeps others
    /// out, and only those who ask for one.
    pub fn open_beside(path: &Path) -> io::Result<Self> {
        Self::open_with(path, kind_of(path)?, 0)
    }

    fn open_with(path: &Path, kind: Kind, claim: i32) -> io::Result<Self> {
        let open =
            |flags: i32| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let (file, direct) = match open(claim | libc::O_DIRECT) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => (open(claim)?, false),
            file => (file?, true),
        };
        let bytes = size(&file)?;
        Ok(Self { file, kind, direct, bytes })
    }

    /// Type number of the file system that a regular file is on (`statfs`).
    pub fn file_system(&self) -> io::Result<u64> {
        Ok(fstatfs(&self.file)?.f_type as u64)
    }

    /// First byte below `end` that has no block of its own. What was allocated but never written
    /// counts as such too where the file system tells.
    pub fn first_hole(&self, end: u64) -> io::Result<Option<u64>> {
        let hole = seek(&self.file, SeekFrom::Hole(0))?;
        Ok(Some(hole).filter(|&hole| hole < end))
    }

    /// Whether others than the owner may write a regular file.
    pub fn is_shared(&self) -> bool {
        let mode = self.file.metadata().map_or(0, |metadata| metadata.mode());
        self.kind == Kind::Regular && mode & 0o022 != 0
    }

    /// Device and inode, which name a file whatever path leads to it.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Major and minor number of a block device.
    pub fn device_number(&self) -> io::Result<(u32, u32)> {
        let number = self.file.metadata()?.rdev();
        Ok((rustix::fs::major(number), rustix::fs::minor(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_owner_and_says_where_its_first_hole_is() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("spill");
        std::fs::write(&path, vec![1; 1 << 16]).expect("file");
        assert_eq!(measure(&path).expect("file"), (Kind::Regular, 1 << 16));
        let spill = Spill::open(&path).expect("first");
        assert_eq!((spill.bytes, spill.kind), (1 << 16, Kind::Regular));
        let taken = Spill::open(&path).expect_err("taken");
        assert_eq!(taken.raw_os_error(), Some(libc::EBUSY));
        assert_eq!(spill.first_hole(1 << 16).expect("seekable"), None);
        spill.file.set_len(1 << 20).expect("longer");
        let hole = spill.first_hole(1 << 20).expect("seekable").expect("one");
        assert!((1 << 16..1 << 20).contains(&hole), "{hole}");
    }

    #[test]
    fn what_is_neither_file_nor_device_is_refused() {
        let error = Spill::open(Path::new("/")).expect_err("directory").to_string();
        assert!(error.contains("neither"), "{error}");
        assert!(measure(Path::new("/dev/null")).is_err());
    }
}
