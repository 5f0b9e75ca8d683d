//! `cargo xtask deb`: the Debian package, with everything that the program generates in it.

use crate::{Outcome, cargo, run, target};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Shells with completions in the package.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Builds the package; says where it is.
pub fn deb() -> Outcome {
    let path = make()?;
    println!("{}", path.display());
    Ok(())
}

/// Where the package is, once it is made.
pub fn path() -> PathBuf {
    target().join("uswap.deb")
}

/// Builds the package.
pub fn make() -> Result<PathBuf, String> {
    let out = path();
    // What cannot be made anew must not be tested as if it had been.
    let _ = fs::remove_file(&out);
    run(cargo().args(["build", "--quiet", "--release", "-p", "uswap"]))?;
    generate()?;
    let mut command = cargo_deb()?;
    command.args(["--quiet", "--no-build", "--dbgsym", "--package", "uswap", "--output"]).arg(&out);
    run(&mut command)?;
    Ok(out)
}

/// What the new program generates, where Cargo.toml has it from.
fn generate() -> Outcome {
    let uswap = target().join("release/uswap");
    let dir = target().join("release/packaging");
    let fail = |e: std::io::Error| format!("{}: {e}", dir.display());
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).map_err(fail)?;
    run(Command::new(&uswap).args(["generate", "man"]).arg(dir.join("man")))?;
    // As Debian has them. -n: the same bytes every time.
    let pages = fs::read_dir(dir.join("man")).map_err(fail)?.flatten().map(|entry| entry.path());
    run(Command::new("gzip").args(["-9", "-n"]).args(pages))?;
    let print = |words: &[&str], file: &str| -> Outcome {
        let output = Command::new(&uswap).arg("generate").args(words).output().map_err(fail)?;
        if !output.status.success() {
            return Err(format!("uswap generate {}: {}", words.join(" "), output.status));
        }
        fs::write(dir.join(file), output.stdout).map_err(fail)
    };
    print(&["config"], "default.toml")?;
    print(&["dashboard"], "dashboard.json")?;
    print(&["alerts"], "alerts.yml")?;
    SHELLS.iter().try_for_each(|shell| print(&["completions", shell], shell))
}

/// cargo-deb: installed, or made here once.
fn cargo_deb() -> Result<Command, String> {
    let there = cargo().args(["deb", "--version"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        let mut command = cargo();
        command.arg("deb");
        return Ok(command);
    }
    let tools = target().join("tools");
    let program = tools.join("bin/cargo-deb");
    if !program.exists() {
        eprintln!("xtask: installing cargo-deb below {}", tools.display());
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", "cargo-deb", "--root"]).arg(&tools);
        // It runs for a second; it need not be fast.
        let quick = [("LTO", "off"), ("OPT_LEVEL", "0")];
        install.envs(quick.map(|(key, value)| (format!("CARGO_PROFILE_RELEASE_{key}"), value)));
        run(install.env_remove("CARGO_TARGET_DIR"))?;
    }
    let mut command = Command::new(program);
    command.current_dir(crate::root());
    Ok(command)
}
