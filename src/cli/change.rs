//! `uswap set` and `uswap reload`: changes to a service that runs.

use super::service::{Service, refused};
use super::{note, say};
use crate::cli::flags::RunDir;
use crate::config::load::{self, Keys};
use crate::config::{Settings, check};
use crate::daemon::protocol::{Reply, Request, Status, ask};
use crate::daemon::{LIVE_KEYS, protocol};
use crate::error::StartResult;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
Keys that can change: policy, poll-us, metrics. It holds until the service ends; to keep it, set
it in /etc/uswap/NAME.toml as well.")]
pub struct Set {
    /// Key, as in the configuration file
    #[arg(value_name = "KEY")]
    key: String,
    /// Its new value
    #[arg(value_name = "VALUE")]
    value: String,
    /// Name of the service [default: the only one]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Set {
    /// Changes it.
    pub fn execute(&self) -> StartResult<()> {
        let service = Service::chosen(self.name.as_deref(), &self.run_dir)?;
        say(&format!("{}\n", change(&service, &self.key, &self.value)?))
    }
}

fn change(service: &Service, key: &str, value: &str) -> StartResult<String> {
    let request = Request::Set { key: key.into(), value: value.into() };
    match ask(&service.socket, &request)? {
        Reply::Done { message } => Ok(message),
        Reply::Refused { message } => Err(refused(&message)),
        Reply::Status(_) | Reply::Stopping => Err(refused("an answer to another question")),
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Only what the file and its drop-ins say is looked at; what they do not mention stays as it is.")]
pub struct Reload {
    /// Name of the service [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The file to read [default: /etc/uswap/NAME.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Reload {
    /// Reads the service's file again and does what of it can be done; says what cannot.
    pub fn execute(&self) -> StartResult<()> {
        let root = Path::new("/");
        let service = Service::chosen(self.name.as_deref(), &self.run_dir)?;
        let status = service.status()?;
        let flags = Keys { name: Some(service.name.clone()), ..Keys::default() };
        let file = load::file_of(self.config.as_deref(), Some(&service.name));
        let keys = load::keys(root, self.config.as_deref(), flags.clone())?;
        let settings = check::settings(root, keys.clone())
            .map_err(|e| load::located(root, &file, &flags, e))?;
        let mut changed = false;
        for (key, wanted, now) in differences(&keys, &settings, &status) {
            if LIVE_KEYS.contains(&key) {
                say(&format!("{} (was {now})\n", change(&service, key, &wanted)?))?;
                changed = true;
            } else {
                note(&format!(
                    "{key} is {now} and stays so until the service is started anew; to make it \
                     {wanted}: `uswap down {0}` and `uswap up {0}`",
                    service.name
                ));
            }
        }
        if changed { Ok(()) } else { say("nothing to change\n") }
    }
}

/// Keys that are given and not as the service runs: the key, its value, and the running one.
fn differences(
    keys: &Keys,
    wanted: &Settings,
    status: &Status,
) -> Vec<(&'static str, String, String)> {
    let words = |spill: Option<&PathBuf>| spill.map_or("none".into(), |p| p.display().to_string());
    let spill = status.spill.as_ref().map(|spill| &spill.path);
    let spill = spill.or(status.backing.as_ref().map(|backing| &backing.path));
    let policy = status.policy.as_ref().map_or("none", |policy: &protocol::PolicyUse| &policy.name);
    let metrics = status.metrics.clone().unwrap_or_else(|| "off".into());
    let optional = |n: Option<String>, now: String| n.unwrap_or(now);
    let all = [
        (
            "id",
            optional(wanted.id.map(|n| n.to_string()), status.id.to_string()),
            status.id.to_string(),
        ),
        ("size", wanted.size.to_string(), status.size_bytes.to_string()),
        ("pool", wanted.pool.to_string(), status.memory.pool_bytes.to_string()),
        (
            "queues",
            optional(wanted.queues.map(|n| n.to_string()), status.queues.to_string()),
            status.queues.to_string(),
        ),
        ("depth", wanted.depth.to_string(), status.depth.to_string()),
        ("staging", wanted.staging.to_string(), status.staging_bytes.to_string()),
        ("helpers", wanted.helpers.to_string(), status.helpers.to_string()),
        ("poll-us", wanted.poll_us.to_string(), status.poll_us.to_string()),
        ("codec", wanted.codec.name().into(), status.codec.clone()),
        ("target", wanted.target.name().into(), status.target.clone()),
        ("policy", wanted.policy.name.clone(), policy.to_owned()),
        ("metrics", wanted.metrics.to_string(), metrics),
        ("spill", words(wanted.spill.as_ref()), spill.cloned().unwrap_or("none".into())),
    ];
    all.into_iter().filter(|(key, wanted, now)| keys.says(key) && wanted != now).collect()
}
