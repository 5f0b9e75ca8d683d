//! The private tmpfs that holds a service's state: slot table, arena, request buffers.
//!
//! Mounted `noswap`, its pages are unevictable even while no process maps them (Linux mm/shmem.c),
//! so the state outlives the server and is never swapped to the server. Mode 0700: it holds other
//! people's memory.

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Room for what is not counted: programs, the control page, inodes. Only a limit.
const OTHER_BYTES_MAX: u64 = 64 << 20;

/// A mounted state directory. Unmounted and removed when dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Makes `path` and mounts a tmpfs for `bytes` of files there, and for programs beside them. If
    /// one is mounted there already it is made to have that room. Nothing is left behind on
    /// failure.
    pub fn mount(path: &Path, bytes: u64) -> io::Result<Self> {
        let size = format!("size={}", bytes + OTHER_BYTES_MAX);
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        if Self::is_mounted(path) {
            let options = CString::new(size).expect("no NUL in mount options");
            rustix::mount::mount_remount(path, flags, options.as_c_str())?;
            return Ok(Self { path: path.to_owned() });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let options = format!("noswap,mode=0700,{size}");
        let options = CString::new(options).expect("no NUL in mount options");
        let result = rustix::mount::mount("uswap", path, "tmpfs", flags, options.as_c_str());
        if let Err(e) = result {
            let _ = fs::remove_dir(path);
            return Err(e.into());
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Whether something is mounted at `path`: the state of a service that runs, or of one that
    /// died.
    pub fn is_mounted(path: &Path) -> bool {
        let device = |p: &Path| fs::metadata(p).map(|m| m.dev());
        match (device(path), path.parent().map(device)) {
            (Ok(own), Some(Ok(parent))) => own != parent,
            _ => false,
        }
    }

    /// Makes a file of `len` bytes. Its pages come into being when it is mapped.
    pub fn file(&self, name: &str, len: u64) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        file.set_len(len)?;
        Ok(file)
    }

    /// Leaves the directory as it is, for others.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    /// A file of `len` bytes that goes with the last process that has it: for what nobody else is
    /// to find.
    pub fn scratch(dir: &Path, len: u64) -> io::Result<File> {
        let fd = rustix::fs::open(
            dir,
            OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        let file = File::from(fd);
        file.set_len(len)?;
        Ok(file)
    }

    /// Opens a file that a server made, which must have `len` bytes.
    pub fn existing(dir: &Path, name: &str, len: u64) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(dir.join(name))?;
        match file.metadata()?.len() {
            found if found == len => Ok(file),
            found => {
                let what = format!("{name} has {found} bytes, not {len}");
                Err(io::Error::new(io::ErrorKind::InvalidData, what))
            }
        }
    }

    /// The directory of a service whose server is dead, mounted already, for whoever serves it now.
    pub fn adopt(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts and removes the directory. Memory goes back once the last mapping is gone.
    pub fn remove(path: &Path) -> io::Result<()> {
        if Self::is_mounted(path) {
            rustix::mount::unmount(path, UnmountFlags::DETACH)?;
        }
        match fs::remove_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // Nobody is left to tell; what stays is an empty or busy directory that the next start
        // names.
        let _ = Self::remove(&self.path);
    }
}

/// Takes memory for all of a file, so that no page of it is missing when it is touched. Blocks while
/// the kernel finds it.
pub fn reserve(file: &File, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)?)
}

/// A memory file without a name, for development where mounting is not allowed. It can be swapped
/// unless it is locked.
pub fn anonymous_file(name: &str, len: u64) -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(len)?;
    Ok(file)
}
