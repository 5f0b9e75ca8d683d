//! The file or device behind a loop target: whether it will do, and how it is used.
//!
//! A file that has all its blocks keeps them: discards are not offered, because a hole would have
//! to be allocated again when the machine is out of memory. A file with holes is a thin one:
//! discards give its blocks back, and it is not for swap.

use super::{Tell, spill_file, usage};
use crate::config::size::format as human;
use crate::config::spill::remedy;
use crate::config::{CopyChoice, Settings, Target};
use crate::error::{StartError, StartResult};
use crate::sys::spill::{Kind, Spill};
use crate::sys::ublk_abi::CopyMode;
use crate::ublk::Features;
use crate::ublk::ctrl::Abilities;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// File systems that must not be under swap, by their `statfs` number, and why.
const UNFIT: [(u64, &str, &str); 11] = [
    (0x9123_683e, "btrfs", "copies on write, so every write allocates"),
    (0x2fc1_2fc1, "zfs", "copies on write, so every write allocates"),
    (0xca45_1a4e, "bcachefs", "copies on write, so every write allocates"),
    (0x794c_7630, "overlayfs", "may copy the whole file at the first write"),
    (0x0102_1994, "tmpfs", "is memory that is itself swapped"),
    (0x8584_58f6, "ramfs", "is memory"),
    (0x6573_5546, "fuse", "needs a process that can be swapped"),
    (0x6969, "nfs", "needs memory for the network"),
    (0xff53_4d42, "cifs", "needs memory for the network"),
    (0xfe53_4d42, "smb", "needs memory for the network"),
    (0x0102_1997, "9p", "needs memory for its transport"),
];
/// Devices whose driver waits for a process, or is memory: beginnings of their names.
const UNFIT_DEVICES: [(&str, &str); 4] = [
    ("ublkb", "is served by a process"),
    ("nbd", "needs a process and the network"),
    ("zram", "is memory; use it as swap itself"),
    ("ram", "is memory"),
];

/// How discards reach the backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// They do not: none are offered.
    No,
    /// As discards of the device.
    Discard,
    /// As holes punched into the file.
    Punch,
}

/// What requests of a loop target go to.
#[derive(Debug)]
pub struct Backing {
    /// Open, and nobody else's.
    pub file: File,
    /// How data moves.
    pub copy: CopyMode,
    /// Whether the page cache is left out.
    pub direct: bool,
    /// How discards reach it.
    pub forget: Forget,
    /// Whether zeros can be written without data.
    pub zeroes: bool,
}

impl Backing {
    /// Opens what the settings name. `None` for other targets. Refuses what is in use, too small,
    /// or, for swap, unsafe when memory is short. `beside`: a server that runs has it open.
    pub fn open(
        settings: &Settings,
        features: Features,
        beside: bool,
        tell: Tell<'_>,
    ) -> StartResult<Option<Self>> {
        let Some(path) = loop_path(settings) else { return Ok(None) };
        let copy = choose(settings.copy, features)?;
        let spill = match beside {
            true => Spill::open_beside(path).map_err(|e| explain(path, &e))?,
            false => open_unused(Path::new("/"), path, settings.size, "--size")?,
        };
        let thin = is_thin(&spill, settings.size)?;
        for objection in objections(Path::new("/"), path, &spill, thin, settings.size)? {
            if settings.swapon && !settings.unsafe_spill {
                return Err(objection);
            }
            tell(&objection.to_string());
        }
        let limit = |name| spill.kind == Kind::Block && device_limit(Path::new("/"), &spill, name);
        let forget = match (thin, limit("discard_max_bytes")) {
            (true, _) => Forget::Punch,
            (false, true) => Forget::Discard,
            (false, false) => Forget::No,
        };
        let zeroes = thin || limit("write_zeroes_max_bytes");
        Ok(Some(Self { copy, direct: spill.direct, forget, zeroes, file: spill.file }))
    }

    /// What the device can do with this behind it.
    pub const fn abilities(&self) -> Abilities {
        let discard = !matches!(self.forget, Forget::No);
        Abilities { discard, write_zeroes: self.zeroes, volatile_cache: true }
    }
}

/// Whether the settings' spill will do for swap, before a server is started for it.
pub fn check_for_swap(settings: &Settings) -> StartResult<()> {
    spill_file::check(settings)?;
    let Some(path) = loop_path(settings).filter(|_| !settings.unsafe_spill) else {
        return Ok(());
    };
    let spill = open_unused(Path::new("/"), path, settings.size, "--size")?;
    let thin = is_thin(&spill, settings.size)?;
    let found = objections(Path::new("/"), path, &spill, thin, settings.size)?;
    found.into_iter().next().map_or(Ok(()), Err)
}

/// The copy mode that was asked for, if the driver has it, or the best it has. Zero copy is best:
/// see bench/NOTES.md, "Loop target". User copy is never: it makes two more system calls than it
/// saves copies.
fn choose(choice: CopyChoice, features: Features) -> StartResult<CopyMode> {
    let asked = match choice {
        CopyChoice::Auto => return Ok(best(features)),
        CopyChoice::Copy => CopyMode::Copy,
        CopyChoice::User => CopyMode::User,
        CopyChoice::Zero => CopyMode::Zero,
    };
    if features.has(asked.flags()) {
        return Ok(asked);
    }
    let missing = Features(asked.flags() & !features.0).names().join(" and ");
    Err(StartError::failure(
        format!("copy: this kernel's ublk driver has no {missing}, which {} needs", asked.name()),
        format!("use --copy {} or --copy auto", best(features).name()),
    ))
}

/// The copy mode that a driver with these features is used with.
pub fn best(features: Features) -> CopyMode {
    let zero = features.has(CopyMode::Zero.flags());
    if zero { CopyMode::Zero } else { CopyMode::Copy }
}

/// The path of the loop target's file.
fn loop_path(settings: &Settings) -> Option<&PathBuf> {
    settings.spill.as_ref().filter(|_| settings.target == Target::Loop)
}

/// Why the first `size` bytes of a spill must not be written when memory is short.
pub(super) fn objections_to(path: &Path, spill: &Spill, size: u64) -> StartResult<Vec<StartError>> {
    let thin = is_thin(spill, size)?;
    objections(Path::new("/"), path, spill, thin, size)
}

/// Opens a file or device that is to have `size` bytes, as `flag` says, and checks what holds for
/// any use.
pub(super) fn open_unused(root: &Path, path: &Path, size: u64, flag: &str) -> StartResult<Spill> {
    let spill = Spill::open(path).map_err(|e| explain(path, &e))?;
    if spill.bytes < size {
        let (have, want) = (human(spill.bytes), human(size));
        return Err(StartError::usage(
            format!("spill: {} has {have}, but {want} are to be used", path.display()),
            format!("use a smaller {flag}, or none for all of it"),
        ));
    }
    // It can be opened for writing all the same, and then no write succeeds.
    if spill.kind == Kind::Block && is_read_only(root, &spill) {
        return Err(StartError::failure(
            format!("spill: {} is read-only", path.display()),
            "make it writable (`blockdev --setrw`), or use another one",
        ));
    }
    let own = spill.identity().ok();
    let same = |area: &usage::SwapArea| {
        let other = fs::metadata(&area.path).map(|m| (m.dev(), m.ino())).ok();
        own.is_some() && other == own
    };
    let areas = usage::swap_areas(root).map_err(|e| explain(path, &e))?;
    match areas.iter().find(|area| same(area)) {
        None => Ok(spill),
        Some(area) => Err(StartError::failure(
            format!("spill: {} is in use as swap itself", path.display()),
            format!("run `swapoff {}` first", area.path.display()),
        )),
    }
}

pub(super) fn explain(path: &Path, e: &io::Error) -> StartError {
    StartError::failure(format!("spill: cannot use {} ({e})", path.display()), remedy(e))
}

/// Why it must not be under swap. `thin`: it has holes among its first `size` bytes.
fn objections(
    root: &Path,
    path: &Path,
    spill: &Spill,
    thin: bool,
    size: u64,
) -> StartResult<Vec<StartError>> {
    let told = |e: io::Error| {
        StartError::failure(format!("spill: cannot examine it ({e})"), "see the kernel log (dmesg)")
    };
    let unfit = match spill.kind {
        Kind::Regular => unfit_file_system(spill.file_system().map_err(told)?),
        Kind::Block => {
            let name = device_dir(root, spill).map_err(told)?;
            let name = fs::canonicalize(name).unwrap_or_default();
            unfit_device(&name.file_name().unwrap_or_default().to_string_lossy())
        }
    };
    let other = "use a block device or a file on ext4 or xfs, or --unsafe-spill to try it";
    let mib = size >> 20;
    let fill =
        format!("fill it: `dd if=/dev/zero of=FILE bs=1M count={mib} conv=notrunc oflag=direct`");
    let holes = "it has holes, or was never written: blocks would be allocated under memory \
                 pressure";
    let cached = "it cannot be used around the page cache (O_DIRECT), so writes would take memory";
    let found = [
        unfit.map(|what| (what, other)),
        thin.then(|| (holes.into(), &*fill)),
        (!spill.direct).then(|| (cached.into(), other)),
    ];
    let refusal = |(what, remedy): (String, &str)| {
        StartError::failure(format!("{} is not safe for swap: {what}", path.display()), remedy)
    };
    Ok(found.into_iter().flatten().map(refusal).collect())
}

fn unfit_file_system(number: u64) -> Option<String> {
    let (_, name, why) = UNFIT.iter().find(|(known, ..)| *known == number)?;
    Some(format!("{name} {why}"))
}

fn unfit_device(name: &str) -> Option<String> {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let found =
        UNFIT_DEVICES.iter().find(|(prefix, _)| name.strip_prefix(prefix).is_some_and(numbered));
    found.map(|(_, why)| format!("{name} {why}"))
}

/// Whether it is a file that does not have all blocks of its first `size` bytes.
fn is_thin(spill: &Spill, size: u64) -> StartResult<bool> {
    if spill.kind == Kind::Block {
        return Ok(false);
    }
    let hole = spill.first_hole(size).map_err(|e| {
        StartError::failure(format!("spill: cannot look for holes ({e})"), "use another file")
    })?;
    Ok(hole.is_some())
}

fn device_dir(root: &Path, spill: &Spill) -> io::Result<PathBuf> {
    let (major, minor) = spill.device_number()?;
    Ok(root.join(format!("sys/dev/block/{major}:{minor}")))
}

fn is_read_only(root: &Path, spill: &Spill) -> bool {
    let text = device_dir(root, spill).and_then(|dir| fs::read_to_string(dir.join("ro")));
    text.is_ok_and(|text| text.trim() == "1")
}

/// Whether a limit of the device's queue is not 0. A partition's queue is its disk's.
fn device_limit(root: &Path, spill: &Spill, name: &str) -> bool {
    let Ok(dir) = device_dir(root, spill) else { return false };
    let paths = [dir.join("queue").join(name), dir.join("../queue").join(name)];
    let text = paths.iter().find_map(|path| fs::read_to_string(path).ok());
    text.and_then(|text| text.trim().parse::<u64>().ok()).is_some_and(|most| most > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ublk_abi as abi;

    #[test]
    fn the_probe_prefers_zero_copy_and_a_forced_mode_needs_its_features() {
        let old = Features(abi::F_USER_COPY);
        let new = Features(abi::F_USER_COPY | abi::F_AUTO_BUF_REG | abi::F_SUPPORT_ZERO_COPY);
        assert_eq!(choose(CopyChoice::Auto, old).expect("always"), CopyMode::Copy);
        assert_eq!(choose(CopyChoice::Auto, new).expect("always"), CopyMode::Zero);
        assert_eq!(choose(CopyChoice::Copy, new).expect("always"), CopyMode::Copy);
        assert_eq!(choose(CopyChoice::User, old).expect("there"), CopyMode::User);
        let error = choose(CopyChoice::Zero, old).expect_err("missing").to_string();
        assert!(error.contains("no SUPPORT_ZERO_COPY and AUTO_BUF_REG"), "{error}");
        assert!(error.ends_with("use --copy copy or --copy auto"), "{error}");
    }

    #[test]
    fn unfit_file_systems_and_devices_are_named() {
        let name = |number| unfit_file_system(number);
        assert!(name(0x0102_1994).expect("tmpfs").starts_with("tmpfs is memory"));
        assert_eq!(name(0xef53), None, "ext4");
        assert_eq!(name(0x5846_5342), None, "xfs");
        assert!(unfit_device("ublkb12").is_some());
        assert!(unfit_device("ram0").is_some());
        for fit in ["sda", "nvme0n1", "vdb1", "dm-3", "rampart", "nullb0"] {
            assert_eq!(unfit_device(fit), None);
        }
    }

    #[test]
    fn a_file_with_a_hole_is_told_how_to_be_filled() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("spill");
        std::fs::write(&path, [1; 4096]).expect("file");
        let spill = Spill::open(&path).expect("file");
        spill.file.set_len(4 << 20).expect("longer");
        let hole = |size| {
            let thin = is_thin(&spill, size).expect("readable");
            let found = objections(Path::new("/"), &path, &spill, thin, size).expect("readable");
            found.iter().map(StartError::to_string).find(|o| o.contains("holes"))
        };
        let said = hole(4 << 20).expect("one");
        assert!(said.contains("spill is not safe for swap: it has holes"), "{said}");
        assert!(said.contains("count=4 conv=notrunc"), "{said}");
        assert_eq!(hole(4096), None);
    }
}
