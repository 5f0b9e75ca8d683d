//! Device life cycle through `/dev/ublk-control`.
//!
//! Order for a new device: [`Controller::open`], [`Controller::add`], open the char device,
//! [`Controller::set_params`], fetch every tag of every queue, [`Controller::start`]. To end it:
//! nobody uses the disk, [`Controller::stop`], close the char device, [`Controller::delete`].

use crate::error::{StartError, StartResult};
use crate::sys::errno;
use crate::sys::ublk_abi::{self as abi, CopyMode, CtrlCmd, DevInfo, Params};
use crate::sys::uring::ControlRing;
use crate::units::QueueId;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The control device.
pub const CONTROL_PATH: &str = "/dev/ublk-control";
/// How long a device node may take to appear: devtmpfs makes it at once, a slow udev may still be
/// at it.
const NODE_WAIT_MAX: Duration = Duration::from_secs(5);
const NO_QUEUE: u16 = u16::MAX;
const NO_DEVICE: u32 = u32::MAX;

/// What the driver can do, as it says itself. Kernel versions are never compared: distributions
/// backport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Whether all of these bits are there.
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Names of the features, unknown bits by number.
    pub fn names(self) -> Vec<String> {
        let name = |bit: usize| match abi::FEATURE_NAMES.get(bit) {
            Some(name) => (*name).to_owned(),
            None => format!("bit {bit}"),
        };
        (0..u64::BITS as usize).filter(|&bit| self.has(1 << bit)).map(name).collect()
    }

    /// The features with these names; names that nobody knows are passed over.
    pub fn named(names: &[String]) -> Self {
        let bit = |name: &String| abi::FEATURE_NAMES.iter().position(|known| known == name);
        Self(names.iter().filter_map(bit).fold(0, |bits, bit| bits | 1 << bit))
    }

    /// Whether the driver aborts a dead server's requests as soon as the char device is closed.
    /// Drivers before QUIESCE (6.16) notice a death with all tags in flight only when the request
    /// timer fires.
    pub const fn notices_death(self) -> bool {
        self.has(abi::F_QUIESCE)
    }
}

/// Shape of a device to add.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Number, or the first free one.
    pub id: Option<u32>,
    /// Hardware queues.
    pub queues: u16,
    /// Tags per queue.
    pub depth: u16,
    /// Size in sectors.
    pub sectors: u64,
    /// How data moves.
    pub copy: CopyMode,
    /// A number by which it is known again.
    pub cookie: u64,
}

/// What a device can do beside reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Forget pages.
    pub discard: bool,
    /// Make pages zero without data.
    pub write_zeroes: bool,
    /// What is written is safe only after a flush.
    pub volatile_cache: bool,
}

/// How a device stands, as far as whoever cleans up has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// There is no such device.
    None,
    /// It has no disk: never started, or stopped.
    NeverStarted,
    /// It has a server, or the driver has not noticed yet that it died; its process.
    Live(i32),
    /// It has a disk and no server.
    Orphaned,
}

/// A session with the control device.
#[derive(Debug)]
pub struct Controller {
    ring: ControlRing,
    features: Features,
}

impl Controller {
    /// Opens the control device and asks what the driver can do.
    pub fn open() -> StartResult<Self> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL_PATH);
        let control = control.map_err(|e| explain_control(&e))?;
        let ring = ControlRing::new(&control).map_err(|e| explain_ring(&e))?;
        let mut controller = Self { ring, features: Features(0) };
        let mut bits = [0; 8];
        controller.run(abi::GET_FEATURES, NO_DEVICE, NO_QUEUE, 0, &mut bits).map_err(|e| {
            StartError::failure(
                format!("the ublk driver does not tell its features ({e})"),
                "run Linux 6.12 or newer",
            )
        })?;
        controller.features = Features(u64::from_ne_bytes(bits));
        if !controller.features.has(abi::F_CMD_IOCTL_ENCODE) {
            return Err(StartError::failure(
                "the ublk driver is too old: no ioctl-encoded commands",
                "run Linux 6.12 or newer",
            ));
        }
        Ok(controller)
    }

    /// What the driver can do.
    pub const fn features(&self) -> Features {
        self.features
    }

    fn run(
        &mut self,
        op: u32,
        dev_id: u32,
        queue_id: u16,
        data: u64,
        buffer: &mut [u8],
    ) -> io::Result<i32> {
        self.ring.command(op, CtrlCmd { dev_id, queue_id, data }, buffer)
    }

    /// Adds a device that outlives its server: in-flight requests of a dead server wait for the
    /// next one. Returns what the driver granted.
    pub fn add(&mut self, shape: Geometry) -> StartResult<DevInfo> {
        let wanted = shape.copy.flags()
            | abi::F_USER_RECOVERY
            | abi::F_USER_RECOVERY_REISSUE
            | abi::F_CMD_IOCTL_ENCODE;
        let quiesce = self.features.0 & abi::F_QUIESCE;
        let dev_id = shape.id.unwrap_or(NO_DEVICE);
        let info = DevInfo {
            queues: shape.queues,
            depth: shape.depth,
            max_io_buf_bytes: crate::limits::REQUEST_BYTES_MAX as u32,
            dev_id,
            flags: wanted | quiesce,
            cookie: shape.cookie,
            ..DevInfo::default()
        };
        let mut bytes = info.pack();
        self.run(abi::ADD_DEV, dev_id, NO_QUEUE, 0, &mut bytes)
            .map_err(|e| explain_add(&e, shape.id))?;
        let granted = DevInfo::unpack(&bytes);
        if let Err(e) = check_grant(&granted, &info) {
            // The refusal is the news; a device that cannot be deleted either is reported by
            // `list`.
            let _ = self.delete(granted.dev_id);
            return Err(e);
        }
        Ok(granted)
    }

    /// Sets size, block size and limits. Before start only.
    pub fn set_params(&mut self, id: u32, sectors: u64, can: Abilities) -> StartResult<()> {
        let most = (crate::limits::DISCARD_BYTES_MAX >> crate::units::SECTOR_SHIFT) as u32;
        let params = Params {
            dev_sectors: sectors,
            max_sectors: crate::limits::REQUEST_SECTORS_MAX,
            max_discard_sectors: if can.discard { most } else { 0 },
            max_write_zeroes_sectors: if can.write_zeroes { most } else { 0 },
            volatile_cache: can.volatile_cache,
            block_shift: crate::units::PAGE_SHIFT as u8,
        };
        let result = self.run(abi::SET_PARAMS, id, NO_QUEUE, 0, &mut params.pack());
        result.map(drop).map_err(|e| explain(&format!("device {id}: parameters refused"), &e))
    }

    /// Makes the block device. Blocks until every tag of every queue is fetched.
    pub fn start(&mut self, id: u32) -> StartResult<()> {
        let pid = u64::from(std::process::id());
        let result = self.run(abi::START_DEV, id, NO_QUEUE, pid, &mut []);
        result.map(drop).map_err(|e| explain(&format!("device {id} does not start"), &e))
    }

    /// Takes the block device away. On drivers that can tell, refuses with EBUSY while anybody has
    /// it open; on older ones the caller must know that nobody does.
    pub fn stop(&mut self, id: u32) -> io::Result<()> {
        let safe = self.features.has(abi::F_SAFE_STOP_DEV);
        let op = if safe { abi::TRY_STOP_DEV } else { abi::STOP_DEV };
        self.run(op, id, NO_QUEUE, 0, &mut []).map(drop)
    }

    /// Takes the block device away whoever has it open: for a device that never served anybody.
    pub fn stop_unused(&mut self, id: u32) -> io::Result<()> {
        self.run(abi::STOP_DEV, id, NO_QUEUE, 0, &mut []).map(drop)
    }

    /// Whether [`Controller::stop`] refuses by itself while anybody has the device open.
    pub const fn stops_safely(&self) -> bool {
        self.features.has(abi::F_SAFE_STOP_DEV)
    }

    /// What a device has become, for whoever wants to take it over; none if there is none.
    pub fn info(&mut self, id: u32) -> io::Result<Option<DevInfo>> {
        let mut bytes = [0; DevInfo::BYTES];
        match self.run(abi::GET_DEV_INFO, id, NO_QUEUE, 0, &mut bytes) {
            Ok(_) => Ok(Some(DevInfo::unpack(&bytes))),
            Err(e) if e.raw_os_error() == Some(errno::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Begins to take over a device whose server is dead; false while the driver is not done with
    /// that one. On drivers before 6.16 nothing may fail from here to
    /// [`Controller::end_recovery`]: half-taken, the device could only be stopped.
    pub fn begin_recovery(&mut self, id: u32) -> io::Result<bool> {
        match self.run(abi::START_USER_RECOVERY, id, NO_QUEUE, 0, &mut []) {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(errno::EBUSY) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Ends taking over: requests that the dead server had, and those that waited, arrive. Every
    /// tag of every queue must be fetched.
    pub fn end_recovery(&mut self, id: u32) -> io::Result<()> {
        let pid = u64::from(std::process::id());
        self.run(abi::END_USER_RECOVERY, id, NO_QUEUE, pid, &mut []).map(drop)
    }

    /// Holds new requests back, until somebody takes the device over: there is no way back. Tags
    /// that are with the driver come back; it does not wait for those that are with us.
    pub fn quiesce(&mut self, id: u32) -> io::Result<()> {
        /// 0 would wait for ever.
        const TIMEOUT_MS: u64 = 1000;
        self.run(abi::QUIESCE_DEV, id, NO_QUEUE, TIMEOUT_MS, &mut []).map(drop)
    }

    /// Forgets a stopped device, and waits a little until it is gone. Somebody who still has it
    /// open keeps its number from being used again, but does not keep us.
    pub fn delete(&mut self, id: u32) -> io::Result<()> {
        self.run(abi::DEL_DEV_ASYNC, id, NO_QUEUE, 0, &mut [])?;
        let deadline = Instant::now() + NODE_WAIT_MAX;
        while self.info(id)?.is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// How a device stands.
    pub fn state(&mut self, id: u32) -> io::Result<DeviceState> {
        Ok(match self.info(id)? {
            None => DeviceState::None,
            Some(info) => match info.state {
                0 => DeviceState::NeverStarted,
                1 => DeviceState::Live(info.server_pid),
                _ => DeviceState::Orphaned,
            },
        })
    }

    /// CPUs whose submissions go to a queue.
    pub fn queue_cpus(&mut self, id: u32, queue: QueueId) -> io::Result<Vec<usize>> {
        // Room for 8192 CPUs, the most Linux can be built for on x86.
        let mut mask = [0u8; 1024];
        let result = self.run(abi::GET_QUEUE_AFFINITY, id, queue.0, u64::from(queue.0), &mut mask);
        result?;
        let set = |cpu: &usize| mask[cpu / 8] & (1 << (cpu % 8)) != 0;
        Ok((0..mask.len() * 8).filter(set).collect())
    }
}

/// Block device path of a device number.
pub fn block_path(id: u32) -> PathBuf {
    PathBuf::from(format!("/dev/ublkb{id}"))
}

fn char_path(id: u32) -> PathBuf {
    PathBuf::from(format!("/dev/ublkc{id}"))
}

/// Opens the char device through which queues are served: EBUSY while somebody else has it open.
pub fn try_open_char_device(id: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(char_path(id))
}

/// Opens the char device through which queues are served, waiting a little for its node.
pub fn open_char_device(id: u32) -> StartResult<File> {
    let deadline = Instant::now() + NODE_WAIT_MAX;
    loop {
        match try_open_char_device(id) {
            Ok(file) => return Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => {
                let what = format!("cannot open {} ({e})", char_path(id).display());
                return Err(StartError::failure(what, "check that devtmpfs is mounted on /dev"));
            }
        }
    }
}

/// The driver drops what it does not know without an error, so what it granted is compared with
/// what we need.
fn check_grant(granted: &DevInfo, wanted: &DevInfo) -> StartResult<()> {
    if granted.flags & wanted.flags != wanted.flags {
        let missing = Features(wanted.flags & !granted.flags).names().join(", ");
        return Err(StartError::failure(
            format!("the ublk driver did not grant {missing}"),
            "run Linux 6.12 or newer",
        ));
    }
    if (granted.queues, granted.depth) != (wanted.queues, wanted.depth)
        || granted.max_io_buf_bytes < wanted.max_io_buf_bytes
    {
        let what = format!(
            "the ublk driver changed the geometry to {} queues of {} x {} bytes",
            granted.queues, granted.depth, granted.max_io_buf_bytes
        );
        return Err(StartError::failure(what, "give --queues and --depth that it accepts"));
    }
    Ok(())
}

fn explain(what: &str, e: &io::Error) -> StartError {
    StartError::failure(format!("{what} ({e})"), "see `dmesg` and `uswap doctor`")
}

fn explain_control(e: &io::Error) -> StartError {
    let what = format!("cannot open {CONTROL_PATH} ({e})");
    let module_dir = Path::new("/sys/module/ublk_drv");
    match e.kind() {
        io::ErrorKind::NotFound if module_dir.exists() => StartError::failure(
            what,
            "ublk_drv is loaded, so check that devtmpfs is mounted on /dev",
        ),
        io::ErrorKind::NotFound => StartError::failure(
            what,
            "load the driver with `modprobe ublk_drv`, or run a kernel with CONFIG_BLK_DEV_UBLK",
        ),
        io::ErrorKind::PermissionDenied => StartError::failure(what, "run as root"),
        _ => StartError::failure(what, "see `uswap doctor`"),
    }
}

fn explain_ring(e: &io::Error) -> StartError {
    let what = format!("cannot make an io_uring ({e})");
    match e.raw_os_error() {
        Some(errno::EPERM) => StartError::failure(
            what,
            "allow it: `sysctl kernel.io_uring_disabled=0`, and in a container its seccomp filter",
        ),
        Some(errno::ENOSYS) => StartError::failure(what, "run a kernel with CONFIG_IO_URING"),
        Some(errno::ENOMEM) => {
            StartError::failure(what, "raise the limit on locked memory (`ulimit -l unlimited`)")
        }
        _ => StartError::failure(what, "see `uswap doctor`"),
    }
}

fn explain_add(e: &io::Error, id: Option<u32>) -> StartError {
    match (e.raw_os_error(), id) {
        (Some(errno::EEXIST), Some(id)) => StartError::failure(
            format!("device number {id} is taken"),
            "leave --id away for the first free one, or see `uswap list`",
        ),
        (Some(errno::EPERM), _) => StartError::failure(
            "not allowed to add a ublk device",
            "run as root (the driver asks for CAP_SYS_ADMIN)",
        ),
        (Some(errno::EACCES), _) => StartError::failure(
            "the ublk driver allows no more devices",
            "raise /sys/module/ublk_drv/parameters/ublks_max",
        ),
        _ => explain("the ublk driver adds no device", e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_features_are_named_by_number() {
        let names = Features(1 << 3 | 1 << 40).names();
        assert_eq!(names, ["USER_RECOVERY", "bit 40"]);
        assert_eq!(Features::named(&names), Features(1 << 3));
    }

    #[test]
    fn a_silently_dropped_flag_is_an_error() {
        let wanted = DevInfo { flags: abi::F_USER_RECOVERY_REISSUE, ..DevInfo::default() };
        let error = check_grant(&DevInfo::default(), &wanted).expect_err("flag is missing");
        assert!(error.to_string().contains("USER_RECOVERY_REISSUE"));
    }
}
