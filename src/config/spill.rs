//! Rules of the loop target's keys: which go together, and how large the file makes the device.

use super::load::{Bytes, Keys};
use super::size::format as human;
use super::{CopyChoice, Target};
use crate::error::{StartError, StartResult};
use crate::limits::{DEVICE_BYTES_MAX, DEVICE_BYTES_MIN};
use crate::sys::errno;
use crate::sys::spill::measure;
use crate::units::PAGE_SIZE;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const PAGE: u64 = PAGE_SIZE as u64;

/// What the keys say of the loop target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// File or block device behind the device.
    pub path: PathBuf,
    /// Its size in whole pages.
    pub bytes: u64,
}

/// Checks the keys against the target. `None` for targets without a file.
pub fn of(keys: &Keys, target: Target) -> StartResult<Option<Spill>> {
    let refuse = |what: &str, remedy: &str| Err(StartError::usage(what, remedy));
    if target != Target::Loop {
        let copies = keys.copy.is_some_and(|copy| copy != CopyChoice::Auto);
        return match (&keys.spill, copies) {
            (Some(_), _) => refuse(
                "spill: only the loop target uses a file",
                "add --target loop, or drop spill",
            ),
            (None, true) => {
                refuse("copy: only the loop target has a choice", "add --target loop, or drop copy")
            }
            (None, false) => Ok(None),
        };
    }
    if keys.pool.is_some() {
        return refuse("pool: the loop target keeps no pages in RAM", "drop pool");
    }
    let Some(path) = &keys.spill else {
        return refuse("spill: the loop target needs a file", "name one with --spill PATH");
    };
    let path = std::path::absolute(path)
        .map_err(|e| StartError::usage(format!("spill: {path:?}: {e}"), "give an absolute path"))?;
    let bytes = size_of(&path)?;
    if let Some(Bytes(size)) = keys.size.filter(|size| size.0 > bytes) {
        let what =
            format!("size: {} is more than {} has ({})", human(size), path.display(), human(bytes));
        return refuse(&what, "use a smaller --size, or none for all of the file");
    }
    Ok(Some(Spill { path, bytes }))
}

/// What to do about a file that cannot be opened or looked at.
pub fn remedy(e: &io::Error) -> &'static str {
    match (e.kind(), e.raw_os_error()) {
        (ErrorKind::NotFound, _) => {
            "make it first: `dd if=/dev/zero of=FILE bs=1M count=MIB oflag=direct`"
        }
        (ErrorKind::PermissionDenied, _) => "run as root",
        (_, Some(errno::EBUSY)) => {
            "end whoever uses it: a mount, a swap area, another device, another uswap"
        }
        _ => "name a regular file or a block device that can be read and written",
    }
}

fn size_of(path: &Path) -> StartResult<u64> {
    let (_, bytes) = measure(path).map_err(|e| {
        StartError::usage(format!("spill: cannot use {} ({e})", path.display()), remedy(&e))
    })?;
    let bytes = (bytes - bytes % PAGE).min(DEVICE_BYTES_MAX);
    if bytes >= DEVICE_BYTES_MIN {
        return Ok(bytes);
    }
    Err(StartError::usage(
        format!("spill: {} is too small ({})", path.display(), human(bytes)),
        format!("make it at least {}", human(DEVICE_BYTES_MIN)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(keys: Keys, target: Target) -> String {
        let error = of(&keys, target).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused() {
        let spill = || Keys { spill: Some("/x".into()), ..Keys::default() };
        let text = refusal(spill(), Target::Swap);
        assert!(text.contains("--target loop"), "{text}");
        let copy = Keys { copy: Some(CopyChoice::Zero), ..Keys::default() };
        assert!(refusal(copy, Target::Null).starts_with("copy: only the loop target"));
        assert!(refusal(Keys::default(), Target::Loop).contains("--spill PATH"));
        let pool = Keys { pool: Some(Bytes(1 << 30)), ..spill() };
        assert!(refusal(pool, Target::Loop).starts_with("pool: "));
        assert_eq!(of(&Keys::default(), Target::Swap).expect("nothing to say"), None);
    }

    #[test]
    fn the_file_decides_the_size() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("spill");
        let keys = |size| Keys { spill: Some(path.clone()), size, ..Keys::default() };
        let text = refusal(keys(None), Target::Loop);
        assert!(text.contains("No such file") && text.contains("dd if=/dev/zero"), "{text}");
        let file = std::fs::File::create(&path).expect("file");
        file.set_len(4096).expect("size");
        assert!(refusal(keys(None), Target::Loop).contains("too small (4K); make it at least 2M"));
        file.set_len((8 << 20) + 5000).expect("size");
        let spill = of(&keys(None), Target::Loop).expect("fits").expect("there");
        assert_eq!(spill.bytes, (8 << 20) + 4096);
        of(&keys(Some(Bytes(4 << 20))), Target::Loop).expect("a part of it");
        let text = refusal(keys(Some(Bytes(16 << 20))), Target::Loop);
        assert!(text.contains("size: 16M is more than"), "{text}");
        let directory = Keys { spill: Some(dir.path().to_owned()), ..Keys::default() };
        assert!(refusal(directory, Target::Loop).contains("neither a regular file nor a block"));
    }
}
