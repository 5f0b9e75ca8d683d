//! Rules of the keys about a file or device: which go with which target, and what sizes follow.

use super::amount::Given;
use super::load::Keys;
use super::size::format as human;
use super::{CopyChoice, Target};
use crate::error::{StartError, StartResult};
use crate::limits::{DEVICE_BYTES_MAX, DEVICE_BYTES_MIN, SPILL_BYTES_MAX, SPILL_BYTES_MIN};
use crate::sys::errno;
use crate::sys::spill::{Kind, measure};
use crate::units::PAGE_SIZE;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const PAGE: u64 = PAGE_SIZE as u64;

/// What the keys say of a file or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// File or block device behind the device.
    pub path: PathBuf,
    /// Its size in whole pages; of the swap target, what of it is used.
    pub bytes: u64,
    /// What the swap target was told to use of it; 0 for all of it.
    pub pages_bytes: u64,
}

/// Checks the keys against the target. `None` for targets without a file.
pub fn of(keys: &Keys, given: &Given, target: Target) -> StartResult<Option<Spill>> {
    let refuse = |what: &str, remedy: &str| Err(StartError::usage(what, remedy));
    if target != Target::Loop {
        if keys.copy.is_some_and(|copy| copy != CopyChoice::Auto) {
            let remedy = "add --target loop, or drop copy";
            return refuse("copy: only the loop target has a choice", remedy);
        }
        return match (&keys.spill, given.spill_size) {
            (Some(_), _) if target == Target::Null => {
                refuse("spill: the null target stores nothing", "drop spill")
            }
            (Some(path), size) => for_pages(path, size).map(Some),
            (None, Some(_)) => refuse("spill-size: of what?", "name a file with --spill PATH"),
            (None, None) => Ok(None),
        };
    }
    if given.spill_size.is_some() {
        let remedy = "use --size, or drop spill-size";
        return refuse("spill-size: the loop target uses the whole file", remedy);
    }
    if given.pool.is_some() {
        return refuse("pool: the loop target keeps no pages in RAM", "drop pool");
    }
    let Some(path) = &keys.spill else {
        return refuse("spill: the loop target needs a file", "name one with --spill PATH");
    };
    let path = super::check::absolute("spill", path)?;
    let bytes = size_of(&path)?;
    if let Some(size) = given.size.filter(|size| *size > bytes) {
        let what =
            format!("size: {} is more than {} has ({})", human(size), path.display(), human(bytes));
        return refuse(&what, "use a smaller --size, or none for all of the file");
    }
    Ok(Some(Spill { path, bytes, pages_bytes: 0 }))
}

/// The swap target's spill: a file that is there, or one that will be made if its size is told.
fn for_pages(path: &Path, size: Option<u64>) -> StartResult<Spill> {
    let path = super::check::absolute("spill", path)?;
    let wanted = size.map_or(Ok(0), |n| {
        super::check::bytes_between("spill-size", n, SPILL_BYTES_MIN, SPILL_BYTES_MAX)
    })?;
    let (kind, there) = match measure(&path) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound && wanted > 0 => (Kind::Regular, wanted),
        Err(e) => {
            let what = format!("spill: cannot use {} ({e})", path.display());
            let remedy = match e.kind() {
                ErrorKind::NotFound => "give --spill-size to have it made",
                _ => remedy(&e),
            };
            return Err(StartError::usage(what, remedy));
        }
    };
    if there < wanted.max(SPILL_BYTES_MIN) {
        let (have, want) = (human(there), human(wanted.max(SPILL_BYTES_MIN)));
        return Err(StartError::usage(
            format!("spill: {} is too small: {have} of {want}", path.display()),
            match kind {
                Kind::Regular => {
                    "use a smaller --spill-size, or remove the file to have it made anew"
                }
                Kind::Block => "use a smaller --spill-size, or a larger device",
            },
        ));
    }
    let bytes = if wanted > 0 { wanted } else { (there - there % PAGE).min(SPILL_BYTES_MAX) };
    Ok(Spill { path, bytes, pages_bytes: wanted })
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

    fn keys(path: &Path) -> Keys {
        Keys { spill: Some(path.to_owned()), ..Keys::default() }
    }

    fn size(size: u64) -> Given {
        Given { size: Some(size), ..Given::default() }
    }

    fn spill_size(size: u64) -> Given {
        Given { spill_size: Some(size), ..Given::default() }
    }

    #[track_caller]
    fn refusal(keys: &Keys, given: Given, target: Target) -> String {
        let error = of(keys, &given, target).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused() {
        let none = Given::default();
        let spill = keys(Path::new("/x"));
        assert!(refusal(&spill, none, Target::Null).contains("stores nothing"));
        let text = refusal(&spill, none, Target::Swap);
        assert!(text.contains("give --spill-size to have it made"), "{text}");
        let text = refusal(&Keys::default(), spill_size(1 << 30), Target::Swap);
        assert!(text.contains("--spill PATH"), "{text}");
        let text = refusal(&spill, spill_size(1 << 30), Target::Loop);
        assert!(text.contains("use --size"), "{text}");
        let copy = Keys { copy: Some(CopyChoice::Zero), ..Keys::default() };
        assert!(refusal(&copy, none, Target::Null).starts_with("copy: only the loop target"));
        assert!(refusal(&Keys::default(), none, Target::Loop).contains("--spill PATH"));
        let pool = Given { pool: Some(1 << 30), ..none };
        assert!(refusal(&spill, pool, Target::Loop).starts_with("pool: "));
        assert_eq!(of(&Keys::default(), &none, Target::Swap).expect("nothing to say"), None);
    }

    #[test]
    fn a_spill_is_made_or_must_be_large_enough() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("spill");
        let keys = keys(&path);
        let made =
            of(&keys, &spill_size(1 << 30), Target::Swap).expect("will be made").expect("one");
        assert_eq!((made.bytes, made.pages_bytes), (1 << 30, 1 << 30));
        let text = refusal(&keys, spill_size(1 << 20), Target::Swap);
        assert!(text.contains("use at least 16M"), "{text}");
        std::fs::File::create(&path).expect("file").set_len((32 << 20) + 5).expect("size");
        let text = refusal(&keys, spill_size(1 << 30), Target::Swap);
        assert!(text.contains("too small: 32M of 1G"), "{text}");
        let all = of(&keys, &Given::default(), Target::Swap).expect("there").expect("one");
        assert_eq!((all.bytes, all.pages_bytes), (32 << 20, 0));
        let directory = Keys { spill: Some(dir.path().to_owned()), ..Keys::default() };
        let text = refusal(&directory, Given::default(), Target::Swap);
        assert!(text.contains("neither a regular file nor a block"), "{text}");
    }

    #[test]
    fn the_file_decides_the_size() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("spill");
        let (keys, none) = (keys(&path), Given::default());
        let text = refusal(&keys, none, Target::Loop);
        assert!(text.contains("No such file") && text.contains("dd if=/dev/zero"), "{text}");
        let file = std::fs::File::create(&path).expect("file");
        file.set_len(4096).expect("size");
        let text = refusal(&keys, none, Target::Loop);
        assert!(text.contains("too small (4K); make it at least 2M"), "{text}");
        file.set_len((8 << 20) + 5000).expect("size");
        let spill = of(&keys, &none, Target::Loop).expect("fits").expect("there");
        assert_eq!(spill.bytes, (8 << 20) + 4096);
        of(&keys, &size(4 << 20), Target::Loop).expect("a part of it");
        let text = refusal(&keys, size(16 << 20), Target::Loop);
        assert!(text.contains("size: 16M is more than"), "{text}");
        let directory = Keys { spill: Some(dir.path().to_owned()), ..Keys::default() };
        let text = refusal(&directory, none, Target::Loop);
        assert!(text.contains("neither a regular file nor a block"), "{text}");
    }
}
