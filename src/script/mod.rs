//! Policies in a file: a script in Rhai that builds on a preset.
//!
//! A script is functions, each of them optional: `settings()`, `rank(page)`, `meet(page)`,
//! `idle(page)`, `state()` and `tick(view, plan)`; README.md ("A policy in a script") says what
//! each is for. Three decisions keep a script from doing harm:
//!
//! - **What is said of pages is asked before it is needed.** Functions see a page as the policy
//!   counts it (`uswap_policy::page_of`), not which it is, and Rhai's functions are pure; so all
//!   there is to say about 13056 kinds of pages is a table, made when the script is read. Whoever
//!   judges pages looks it up: without a call of the script, without memory, and it cannot fail. A
//!   script that fails for any kind of page is refused like one that does not compile.
//! - **A step's plan is asked for in the mover**, once a step and never while writes wait for room,
//!   in a bounded number of operations, with memory from a region of its own (`sys::region`), and
//!   what comes back is bounded by the policy (`uswap_policy::Adviser`).
//! - **Who fails is not asked again.** The base preset decides, whole, from that step on, and
//!   [`Script::broken`] says why.
//!
//! One [`Script`] gives any number of policies, to the daemon and the simulator alike; the same
//! views and pages, the same plans and verdicts.

mod advise;
mod engine;
mod tables;

use crate::error::{StartError, StartResult};
use advise::ScriptAdviser;
use engine::{Fault, Program};
use std::fmt::{self, Write};
use std::sync::{Arc, OnceLock};
use tables::{ScriptVictim, Tables};
use uswap_policy::{Guide, PRESETS, Policy, Settings, SettingsError};

/// How the name of a script's file ends.
pub const FILE_END: &str = ".rhai";
/// The preset below a script that names none.
const BASE: &str = "balanced";

/// A checked script. Copies are the same script.
#[derive(Clone)]
pub struct Script(Arc<Inner>);

struct Inner {
    program: Program,
    text: String,
    settings: Settings,
    base_name: String,
    base: Settings,
    tables: Arc<Tables>,
    broken: OnceLock<Words>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.program.place().fmt(f)
    }
}

/// Two scripts are the same if they say the same.
impl PartialEq for Script {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Script {}

impl Script {
    /// Reads a script, asks it about every kind of page, and tries its `tick`. `place` is for
    /// messages. Takes its time, bounded in operations, and memory: not for a thread that anybody
    /// waits for. Refused, with line and remedy: what does not compile, fails, or takes too long.
    pub fn compile(place: &str, text: &str) -> StartResult<Self> {
        let told = |fault: Fault| {
            let at = fault.line.map_or(String::new(), |line| format!(":{line}"));
            StartError::usage(format!("policy {place}{at}: {}", fault.what), fault.remedy)
        };
        let program = Program::compile(place, text).map_err(told)?;
        let (base_name, settings) = settings(&program).map_err(told)?;
        let base = Settings::named(&base_name).map_err(|e| told(refused(&program, &e)))?;
        let tables = Arc::new(Tables::of(&program).map_err(told)?);
        advise::try_out(&program, &settings).map_err(told)?;
        let (text, broken) = (text.to_owned(), OnceLock::new());
        Ok(Self(Arc::new(Inner { program, text, settings, base_name, base, tables, broken })))
    }

    /// A policy that the script guides. Takes memory, for `tick` from the region.
    pub fn policy(&self) -> Policy {
        self.policy_with(|_| {}).expect("both settings were checked when it was compiled")
    }

    /// The same with other numbers, its base's too. Refused: what they may not be.
    pub fn policy_with(&self, change: impl Fn(&mut Settings)) -> Result<Policy, SettingsError> {
        let inner = &self.0;
        let (mut settings, mut base) = (inner.settings.clone(), inner.base.clone());
        [&mut settings, &mut base].into_iter().for_each(change);
        let victim = ScriptVictim::new(Arc::clone(&inner.tables), &inner.settings);
        let adviser = ScriptAdviser::new(self).map(|adviser| Box::new(adviser) as _);
        Policy::guided(Guide { settings, victim: Some(Box::new(victim)), adviser, base })
    }

    /// The numbers that it decides with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The preset that it builds on, and that decides when it is broken.
    pub fn base(&self) -> &str {
        &self.0.base_name
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The numbers that decide now: its own, or those of its base once it is broken.
    pub fn in_force(&self) -> &Settings {
        if self.broken().is_some() { &self.0.base } else { &self.0.settings }
    }

    /// Who says which pages go first: the script, or whom the numbers name.
    pub fn victim(&self) -> &str {
        match self.broken() {
            None if self.0.tables.choose() => "the script",
            _ => &self.in_force().victim,
        }
    }

    /// Why it does not guide its policies any more; none while it does. Does not wait.
    pub fn broken(&self) -> Option<&str> {
        self.0.broken.get().map(Words::as_str)
    }

    /// Notes why it is given up. The first reason stays. Does not allocate.
    fn give_up(&self, why: &Fault) {
        let mut words = Words::default();
        let line = why.line.unwrap_or(0);
        // What does not fit is left out.
        let _ = write!(words, "{}:{line}: {}", self.0.program.place(), why.what);
        let _ = self.0.broken.set(words);
    }
}

/// What `settings()` says: the preset below, and the numbers.
fn settings(program: &Program) -> Result<(String, Settings), Fault> {
    let (base, text) = program.settings(BASE)?;
    if !PRESETS.iter().any(|(name, _)| *name == base) {
        let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
        let what = format!("settings: base: there is no preset \"{base}\"");
        let remedy = format!("name one of {}", names.join(", "));
        return Err(Fault { line: program.line_of("settings"), what, remedy });
    }
    let settings = Settings::parse(&text).map_err(|e| refused(program, &e))?;
    Ok((base, settings))
}

fn refused(program: &Program, error: &SettingsError) -> Fault {
    let SettingsError { key, what, remedy } = error;
    let what = format!("settings: {key}: {what}");
    Fault { line: program.line_of("settings"), what, remedy: remedy.clone() }
}

/// A line of text in place.
#[derive(Debug)]
struct Words {
    bytes: [u8; 400],
    len: usize,
}

impl Default for Words {
    fn default() -> Self {
        Self { bytes: [0; 400], len: 0 }
    }
}

impl Words {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or("its reason is not text")
    }
}

impl Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            let Some(room) = self.bytes[self.len..].get_mut(..c.len_utf8()) else {
                return Err(fmt::Error);
            };
            self.len += c.encode_utf8(room).len();
        }
        Ok(())
    }
}
