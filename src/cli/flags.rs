//! Flags of `run`, shared with `up`, and the run directory that all other commands take.

use crate::config::load::{self, Bytes, Keys};
use crate::config::{CodecChoice, CopyChoice, RUN_DIR_DEFAULT, Settings, Target, check};
use crate::error::StartResult;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Everything a service can be asked to be. The same words are keys of the configuration file.
#[derive(Args, Clone, Debug)]
pub struct RunFlags {
    /// Read settings from FILE (TOML; keys are the names of these flags) [default:
    /// /etc/uswap/NAME.toml if it exists]. Drop-ins in FILE.d/*.toml go over it, flags over both
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Number of the device, /dev/ublkbN [default: the first free one]
    #[arg(long, value_name = "N")]
    id: Option<u32>,
    /// Size of the device: bytes, a number with K, M, G or T, a part of RAM such as 50%, or an
    /// expression such as min(ram/2, 8G). When the pool is full, writes fail and the kernel keeps
    /// pages in RAM [default: 3 x pool and spill, as program memory usually stores 2.5 to 3 to one]
    #[arg(long, value_parser = bytes, allow_hyphen_values = true)]
    size: Option<Bytes>,
    /// Most RAM for stored pages; taken ahead of need, 32M at start [default: a quarter of RAM, at
    /// most 4G]
    #[arg(long, value_parser = bytes, value_name = "SIZE", allow_hyphen_values = true)]
    pool: Option<Bytes>,
    /// Hardware queues, a thread each [default: what suits the kernel and the CPUs]
    #[arg(long, value_name = "N")]
    queues: Option<u16>,
    /// Requests a queue can have in flight, 8 to 128 [default: 64]
    #[arg(long, value_name = "N")]
    depth: Option<u16>,
    /// RAM for pages that are committed and not yet compressed, of all queues together; 0
    /// compresses before each commit [default: 8M]
    #[arg(long, value_parser = bytes, value_name = "SIZE", allow_hyphen_values = true)]
    staging: Option<Bytes>,
    /// Threads that compress for the queues, 1 to 16 [default: one less than CPUs, 1 to 3]
    #[arg(long, value_name = "N")]
    helpers: Option<u16>,
    /// Microseconds that a queue thread may poll for the next request before it sleeps; 0 for
    /// never [default: 200; 0 with one CPU]
    #[arg(long, value_name = "N")]
    poll_us: Option<u32>,
    /// How pages are compressed: lz4, zstd (fewer bytes, more time) or none [default: lz4]
    #[arg(long, value_parser = codec)]
    codec: Option<CodecChoice>,
    /// What becomes of pages that stay: a preset (balanced, dense, low-latency, spill-early), who
    /// goes first (fifo, clock, lru, sieve, s3-fifo, size-aware, swap-aware), PRESET/VICTIM, or a
    /// .toml or .rhai (script) file [default: balanced]
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// What is served: swap; loop, which hands every page on to --spill; or null, which stores
    /// nothing and is for measuring [default: swap]
    #[arg(long, value_parser = target)]
    target: Option<Target>,
    /// File or block device for pages that leave RAM when the pool is nearly full, sealed with a
    /// key that is never stored. With the loop target: its file, which is not created
    #[arg(long, value_name = "PATH")]
    spill: Option<PathBuf>,
    /// How much of --spill to use; a file that does not exist is made that large, every block
    /// written [default: all of a file or device that exists]
    #[arg(long, value_parser = bytes, value_name = "SIZE", allow_hyphen_values = true)]
    spill_size: Option<Bytes>,
    /// How the loop target moves data: copy (the driver does), user (the server does), zero (no
    /// copies), or auto, the best that the kernel has [default: auto]
    #[arg(long, value_name = "MODE", value_parser = copy)]
    copy: Option<CopyChoice>,
    /// Swap to --spill although its file system or holes can stop the machine when memory is short
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    unsafe_spill: Option<bool>,
    /// Control socket [default: RUN_DIR/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serve metrics for Prometheus over HTTP at ADDR, such as 127.0.0.1:10847, or off. Whoever can
    /// connect can read them [default: 127.0.0.1:10847, unless it is taken]
    #[arg(long, value_name = "ADDR|off")]
    metrics: Option<String>,
    /// State of all services [default: /run/uswap]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Do mkswap and swapon once I/O is served (always on with `up`)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    swapon: Option<bool>,
    /// Priority of the swap area, 0 to 32767; higher is used first [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// swapon with discards, so that freed pages make room for others at once [default: true
    /// with swapon]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    discard: Option<bool>,
    /// Keep a standby process that takes over within milliseconds when the server dies [default:
    /// true; false with the null target and --unsafe-no-lock]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    standby: Option<bool>,
    /// For development only: go on although memory cannot be locked or the process protected. As
    /// swap such a server can stop the machine
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", hide_possible_values = true)]
    unsafe_no_lock: Option<bool>,
}

impl RunFlags {
    /// Flags over the file, with the name settled; and the flags alone.
    fn keys(&self, root: &Path, name: Option<&str>) -> StartResult<(Keys, Keys)> {
        let flags = Keys {
            name: name.map(str::to_owned),
            id: self.id,
            size: self.size.clone(),
            pool: self.pool.clone(),
            queues: self.queues,
            depth: self.depth,
            staging: self.staging.clone(),
            helpers: self.helpers,
            poll_us: self.poll_us,
            codec: self.codec,
            policy: self.policy.clone(),
            target: self.target,
            spill: self.spill.clone(),
            spill_size: self.spill_size.clone(),
            copy: self.copy,
            unsafe_spill: self.unsafe_spill,
            socket: self.socket.clone(),
            metrics: self.metrics.clone(),
            run_dir: self.run_dir.clone(),
            swapon: self.swapon,
            priority: self.priority,
            discard: self.discard,
            standby: self.standby,
            unsafe_no_lock: self.unsafe_no_lock,
        };
        Ok((load::keys(root, self.config.as_deref(), flags.clone())?, flags))
    }

    /// The checked settings; `change` has the last word before the check. What is wrong in a file
    /// is an error with the line.
    pub fn settings(
        &self,
        root: &Path,
        name: Option<&str>,
        change: impl FnOnce(&mut Keys),
    ) -> StartResult<Settings> {
        let (mut keys, flags) = self.keys(root, name)?;
        change(&mut keys);
        let file = load::file_of(self.config.as_deref(), name);
        check::settings(root, keys).map_err(|e| load::located(root, &file, &flags, e))
    }

    /// The file these settings come from, if one was named.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

fn bytes(text: &str) -> Result<Bytes, String> {
    Bytes::parse(text)
}

fn codec(text: &str) -> Result<CodecChoice, String> {
    [CodecChoice::Lz4, CodecChoice::Zstd, CodecChoice::None]
        .into_iter()
        .find(|c| c.name() == text)
        .ok_or_else(|| "not a codec; use lz4, zstd or none".into())
}

fn target(text: &str) -> Result<Target, String> {
    [Target::Swap, Target::Null, Target::Loop]
        .into_iter()
        .find(|t| t.name() == text)
        .ok_or_else(|| "not a target; use swap, loop or null".into())
}

fn copy(text: &str) -> Result<CopyChoice, String> {
    [CopyChoice::Auto, CopyChoice::Copy, CopyChoice::User, CopyChoice::Zero]
        .into_iter()
        .find(|c| c.name() == text)
        .ok_or_else(|| "not a copy mode; use auto, copy, user or zero".into())
}

/// Words for the command line of a `run` that is to have exactly these settings.
pub fn to_args(settings: &Settings) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut push = |flag: &str, value: OsString| args.extend([flag.into(), value]);
    // An empty file, or the service's default one would fill in what is not said here.
    push("--config", "/dev/null".into());
    push("--name", (&settings.name).into());
    push("--size", settings.size.to_string().into());
    if settings.target == Target::Swap {
        push("--pool", settings.pool.to_string().into());
        push("--staging", settings.staging.to_string().into());
        push("--helpers", settings.helpers.to_string().into());
        push("--policy", (&settings.policy.name).into());
    }
    push("--depth", settings.depth.to_string().into());
    push("--poll-us", settings.poll_us.to_string().into());
    push("--codec", settings.codec.name().into());
    push("--target", settings.target.name().into());
    if let Some(spill) = &settings.spill {
        push("--spill", spill.into());
        if settings.spill_size > 0 {
            push("--spill-size", settings.spill_size.to_string().into());
        }
    }
    push("--copy", settings.copy.name().into());
    push("--socket", settings.socket.clone().into());
    push("--run-dir", settings.run_dir.clone().into());
    if settings.metrics.asked {
        push("--metrics", settings.metrics.to_string().into());
    }
    if let Some(id) = settings.id {
        push("--id", id.to_string().into());
    }
    if let Some(queues) = settings.queues {
        push("--queues", queues.to_string().into());
    }
    if let Some(priority) = settings.priority {
        push("--priority", priority.to_string().into());
    }
    args.push(format!("--swapon={}", settings.swapon).into());
    args.push(format!("--discard={}", settings.discard).into());
    args.push(format!("--unsafe-spill={}", settings.unsafe_spill).into());
    args.push(format!("--standby={}", settings.standby).into());
    args.push(format!("--unsafe-no-lock={}", settings.unsafe_no_lock).into());
    args
}

/// Where to look for services.
#[derive(Args, Clone, Debug)]
pub struct RunDir {
    /// State of all services [default: /run/uswap]
    #[arg(long = "run-dir", value_name = "DIR")]
    pub given: Option<PathBuf>,
}

impl RunDir {
    /// The directory given, or the usual one.
    pub fn path(&self) -> &Path {
        self.given.as_deref().unwrap_or(Path::new(RUN_DIR_DEFAULT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        flags: RunFlags,
    }

    #[test]
    fn the_server_gets_exactly_these_settings_and_no_default_file() {
        let root = tempfile::tempdir().expect("directory");
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("directory");
            std::fs::write(path, text).expect("file");
        };
        file("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 8388608 kB\n");
        file("dev/null", "");
        file("etc/uswap/x.toml", "id = 5\nqueues = 2\nsocket = \"/other\"\n");
        file(
            "mine.toml",
            "name = \"x\"\ndepth = 16\nswapon = true\npriority = 7\ndiscard = true\n",
        );
        let settings = |words: Vec<OsString>| {
            let words = Words::try_parse_from(words).expect("words");
            let name = words.name.as_deref();
            words.flags.settings(root.path(), name, |_| {}).expect("settings")
        };
        let wanted = settings(["up", "--config", "/mine.toml"].map(OsString::from).to_vec());
        assert_eq!((wanted.id, wanted.queues, wanted.depth), (None, None, 16));
        // Without it the server would take a file that is not for swap.
        assert!(wanted.swapon);
        let args = std::iter::once("run".into()).chain(to_args(&wanted)).collect();
        assert_eq!(settings(args), wanted);
    }
}
