//! `uswap top`: one service, live: tiers, rates, latencies, and who is swapped out.

mod frame;
mod processes;

use super::flags::RunDir;
use super::say;
use super::service::Service;
use crate::daemon::protocol::{Status, TimeUse};
use crate::error::{StartError, StartResult};
use crate::sys::wake::{Signals, wait_readable};
use clap::Args;
use processes::Process;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two looks for a signal.
const SIGNAL_POLL: Duration = Duration::from_millis(200);
/// Columns of a frame that is printed.
const PRINTED_COLUMNS: u16 = 100;
/// Processes in it at most.
const PRINTED_PROCESSES: usize = 15;

#[derive(Args, Debug)]
#[command(after_help = "q or Esc ends it. Without a terminal, use --once.")]
pub struct Top {
    /// Name of the service [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Seconds between two looks
    #[arg(long, short, value_name = "SECONDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    interval: u32,
    /// Print one frame after one interval, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    run_dir: RunDir,
}

/// What a frame shows: the service now and before, and how long that is apart.
#[derive(Debug)]
struct View {
    now: Status,
    before: Option<(Status, Duration)>,
    processes: Vec<Process>,
    /// Why there was no answer the last time: `now` is what was so before.
    silence: Option<String>,
}

impl View {
    /// Takes the next answer, `time` after the last. None comes while a standby takes over: then
    /// what was so stays, and nothing has a rate.
    fn hear(&mut self, answer: StartResult<Box<Status>>, time: Duration) {
        match answer {
            Ok(now) => {
                let before = std::mem::replace(&mut self.now, *now);
                self.before = self.silence.take().is_none().then_some((before, time));
            }
            Err(e) => (self.before, self.silence) = (None, Some(e.to_string())),
        }
    }

    /// How often a counter went up, per second; none at the first look.
    fn rate(&self, names: &[&str]) -> Option<f64> {
        let (before, time) = self.before.as_ref()?;
        let sum = |status: &Status| -> u64 {
            names.iter().filter_map(|name| status.counters.get(*name)).sum()
        };
        // A server that was started anew begins at zero.
        Some(sum(&self.now).saturating_sub(sum(before)) as f64 / time.as_secs_f64().max(0.001))
    }

    /// How long things took since the look before: times a second, half, 99 of 100, nanoseconds.
    fn times(&self, name: &str) -> Option<(f64, u64, u64)> {
        let (before, time) = self.before.as_ref()?;
        let now = self.now.times.get(name)?;
        let none = TimeUse::default();
        let recent = since(now, before.times.get(name).unwrap_or(&none));
        let count: u64 = recent.iter().map(|(_, n)| n).sum();
        let each = count as f64 / time.as_secs_f64().max(0.001);
        (count > 0).then(|| (each, quantile(&recent, 0.5), quantile(&recent, 0.99)))
    }
}

/// Buckets of what was counted after `before`.
fn since(now: &TimeUse, before: &TimeUse) -> Vec<(u64, u64)> {
    let old = |end| before.buckets.iter().find(|(e, _)| *e == end).map_or(0, |(_, n)| *n);
    now.buckets.iter().map(|&(end, n)| (end, n.saturating_sub(old(end)))).collect()
}

/// The end of the bucket that `share` of all lie in or below.
fn quantile(buckets: &[(u64, u64)], share: f64) -> u64 {
    let all: u64 = buckets.iter().map(|(_, n)| n).sum();
    let mut seen = 0;
    let mut ends = buckets.iter().filter(|(_, n)| *n > 0);
    let found = ends.find(|(_, n)| {
        seen += n;
        seen as f64 >= all as f64 * share
    });
    found.map_or(0, |(end, _)| *end)
}

impl Top {
    /// Shows frames until it is told to end.
    pub fn execute(&self) -> StartResult<()> {
        let service = Service::chosen(self.name.as_deref(), &self.run_dir)?;
        let terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        if !self.once && !terminal {
            let what = "top needs a terminal";
            return Err(StartError::usage(what, "use --once for one frame as text"));
        }
        let first =
            View { now: *service.status()?, before: None, processes: Vec::new(), silence: None };
        if self.once {
            let asked = Instant::now();
            std::thread::sleep(Duration::from_secs(self.interval.into()));
            let before = Some((first.now, asked.elapsed()));
            let (now, processes) = (*service.status()?, processes::swapped(Path::new("/")));
            let view = View { now, before, processes, silence: None };
            return say(&printed(&view, io::stdout().is_terminal()));
        }
        // The terminal is put back whoever ends it.
        let signals = Signals::open_ends().map_err(|e| {
            StartError::failure(format!("cannot watch for signals ({e})"), "use --once")
        })?;
        let mut terminal = ratatui::init();
        let ended = self.run(&service, &mut terminal, &signals, first);
        ratatui::restore();
        ended
    }

    fn run(
        &self,
        service: &Service,
        terminal: &mut ratatui::DefaultTerminal,
        signals: &Signals,
        mut view: View,
    ) -> StartResult<()> {
        let fail = |e: io::Error| {
            StartError::failure(format!("cannot use the terminal ({e})"), "use --once")
        };
        let interval = Duration::from_secs(self.interval.into());
        loop {
            view.processes = processes::swapped(Path::new("/"));
            let asked = Instant::now();
            terminal.draw(|frame| frame::draw(frame, &view)).map_err(fail)?;
            loop {
                let left = interval.saturating_sub(asked.elapsed());
                if wait_readable([signals.as_fd()], Duration::ZERO).map_err(fail)? == [true] {
                    return Ok(());
                }
                if left.is_zero() {
                    break;
                }
                if !event::poll(left.min(SIGNAL_POLL)).map_err(fail)? {
                    continue;
                }
                match event::read().map_err(fail)? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        let control = key.modifiers.contains(KeyModifiers::CONTROL);
                        match key.code {
                            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                            KeyCode::Char('c') if control => return Ok(()),
                            _ => {}
                        }
                    }
                    Event::Resize(..) => {
                        terminal.draw(|frame| frame::draw(frame, &view)).map_err(fail)?;
                    }
                    _ => {}
                }
            }
            view.hear(service.status(), asked.elapsed());
        }
    }
}

/// One frame as text, with colours where it goes to a terminal.
fn printed(view: &View, colored: bool) -> String {
    let processes = view.processes.len().clamp(frame::PROCESSES_MIN, PRINTED_PROCESSES);
    let height = frame::LINES + processes as u16;
    let Ok(mut terminal) = Terminal::new(TestBackend::new(PRINTED_COLUMNS, height));
    let Ok(_) = terminal.draw(|frame| frame::draw(frame, view));
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(PRINTED_COLUMNS.into());
    let plain = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
    lines.map(|cells| if colored { styled(cells) } else { plain(cells) } + "\n").collect()
}

/// Cells with what a terminal is told about their looks, wherever these change.
fn styled(cells: &[Cell]) -> String {
    // Those that frames use.
    let color = |color, base: u8| match color {
        Color::Red => base + 1,
        Color::Cyan => base + 6,
        _ => base + 9,
    };
    let (mut line, mut last) = (String::new(), String::new());
    for cell in cells {
        let bold = if cell.modifier.contains(Modifier::BOLD) { ";1" } else { "" };
        let looks = format!("\x1b[0{bold};{};{}m", color(cell.fg, 30), color(cell.bg, 40));
        if looks != last {
            line.push_str(&looks);
            last = looks;
        }
        line.push_str(cell.symbol());
    }
    line + "\x1b[0m"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(buckets: &[(u64, u64)]) -> TimeUse {
        TimeUse { buckets: buckets.to_vec(), ..TimeUse::default() }
    }

    #[test]
    fn a_terminal_hears_of_looks_where_they_change() {
        let mut cells = vec![Cell::new("a"), Cell::new("b"), Cell::new("c")];
        cells[1].set_fg(Color::Red);
        cells[1].modifier = Modifier::BOLD;
        cells[2].set_bg(Color::Cyan);
        let told = "\x1b[0;39;49ma\x1b[0;1;31;49mb\x1b[0;39;46mc\x1b[0m";
        assert_eq!(styled(&cells), told);
    }

    #[test]
    fn only_what_is_new_counts() {
        let now = time(&[(1024, 100), (4096, 10), (u64::MAX, 1)]);
        let recent = since(&now, &time(&[(1024, 100), (4096, 8)]));
        assert_eq!(recent, [(1024, 0), (4096, 2), (u64::MAX, 1)]);
        assert_eq!((quantile(&recent, 0.5), quantile(&recent, 0.99)), (4096, u64::MAX));
        assert_eq!(quantile(&[], 0.5), 0);
        let anew = since(&time(&[(1024, 3)]), &now);
        assert_eq!(anew, [(1024, 0)], "a server that was started anew");
    }
}
