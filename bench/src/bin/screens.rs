//! `screens`: the pictures of README from what a guest printed that ran bench/screens.sh.

use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use uswap::error::{StartError, StartResult};
use uswap::metrics::dashboard::dashboard;
use uswap_bench::screens::prometheus::Prometheus;
use uswap_bench::screens::{chart, marked, terminal};

/// Draws `uswap top` and the dashboard as a guest's service showed them.
#[derive(Debug, Parser)]
#[command(name = "screens")]
struct Arguments {
    /// What the guest printed
    log: PathBuf,
    /// Directory with promtool and prometheus [default: where tests/vm/setup puts them]
    #[arg(long)]
    tools: Option<PathBuf>,
    /// Directory for work, made anew
    #[arg(long)]
    work: PathBuf,
    /// Directory for top.svg and dashboard.svg
    #[arg(long)]
    out: PathBuf,
}

fn fail(what: &dyn std::fmt::Display, e: &dyn std::fmt::Display) -> StartError {
    StartError::failure(format!("{what}: {e}"), "run `cargo xtask screens`")
}

/// Where tests/vm/place.sh has them.
fn tools() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")));
    let dir = of("USWAP_VM_DIR").or_else(|| Some(cache()?.join("uswap-vm")));
    dir.unwrap_or_default().join("tools")
}

/// Has the shell unpack what is marked so in `log` into `file`.
fn unpack(text: &str, mark: &str, file: &Path) -> StartResult<()> {
    let packed = file.with_extension("base64");
    let lines: String = marked(text, mark).flat_map(|line| [line, "\n"]).collect();
    fs::write(&packed, lines).map_err(|e| fail(&packed.display(), &e))?;
    let mut command = Command::new("sh");
    command.args(["-c", "base64 -d <\"$1\" | gzip -d >\"$2\"", "sh"]).arg(&packed).arg(file);
    let status = command.stdin(Stdio::null()).status().map_err(|e| fail(&"sh", &e))?;
    if status.success() { Ok(()) } else { Err(fail(&format!("unpacking {mark}"), &status)) }
}

/// The scrapes, each with when it was, in order of that.
fn scrapes(text: &str, work: &Path) -> StartResult<Vec<(f64, String)>> {
    let tar = work.join("scrapes.tar");
    unpack(text, "scrapes", &tar)?;
    let status = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(work).status();
    let status = status.map_err(|e| fail(&"tar", &e))?;
    let dir = work.join("scrapes");
    let entries = fs::read_dir(&dir).map_err(|e| fail(&format!("tar ({status})"), &e))?;
    let booted = marked(text, "booted").next().and_then(|word| word.parse::<f64>().ok());
    let booted = booted.ok_or_else(|| fail(&"the guest's output", &"not when it booted"))?;
    let read = |path: PathBuf| {
        let ms: f64 = path.file_name()?.to_str()?.parse().ok()?;
        Some((booted + ms / 1000.0, fs::read_to_string(&path).ok()?))
    };
    let mut found: Vec<_> = entries.flatten().filter_map(|entry| read(entry.path())).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(found)
}

fn run(arguments: &Arguments) -> StartResult<()> {
    let Arguments { log, work, out, .. } = arguments;
    let text = fs::read(log).map_err(|e| fail(&log.display(), &e))?;
    let text = String::from_utf8_lossy(&text);
    let _ = fs::remove_dir_all(work);
    fs::create_dir_all(work).map_err(|e| fail(&work.display(), &e))?;
    let frame = work.join("frame");
    unpack(&text, "frame", &frame)?;
    let frame = fs::read_to_string(&frame).map_err(|e| fail(&frame.display(), &e))?;
    let scrapes = scrapes(&text, work)?;
    let tools = arguments.tools.clone().unwrap_or_else(tools);
    let prometheus = Prometheus::start(&tools, &work.join("prometheus"), &scrapes)?;
    let panels = prometheus.panels(&dashboard())?;
    let write = |name: &str, svg: String| {
        let path = out.join(name);
        let bytes = svg.len();
        fs::write(&path, svg).map_err(|e| fail(&path.display(), &e))?;
        println!("wrote {}, {bytes} bytes", path.display());
        Ok(())
    };
    println!("{} scrapes of {:.0} s", scrapes.len(), prometheus.seconds());
    write("top.svg", terminal::picture(&frame))?;
    write("dashboard.svg", chart::picture(&panels, (0.0, prometheus.seconds())))
}

fn main() -> ExitCode {
    uswap_bench::exit("screens", run(&Arguments::parse()))
}
