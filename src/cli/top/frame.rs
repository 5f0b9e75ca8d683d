//! One frame of `uswap top`.

use super::View;
use crate::cli::columns::{data_bytes, ratio};
use crate::config::size::format as human;
use crate::units::PAGE_SIZE;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Cell, Gauge, Paragraph, Row, Table};

/// Rows of the tiers' table: name, counter of pages, counters of reads, histogram.
const TIERS: [(&str, &str, &str, &str); 7] = [
    ("staged", "slots_staged", "read_staged_pages", "read_staged"),
    ("same-filled", "slots_same", "read_same_pages", "read_same"),
    ("lz4", "slots_lz4", "read_lz4_pages", "read_lz4"),
    ("zstd", "slots_zstd", "read_zstd_pages", "read_zstd"),
    ("dense", "slots_dense", "read_dense_pages", "read_dense"),
    ("uncompressed", "slots_huge", "read_huge_pages", "read_huge"),
    ("spill", "slots_spilled", "read_spill_pages", "read_spill"),
];

/// Rows of the rates: name and counters.
const RATES: [(&str, &[&str]); 6] = [
    (
        "pages in",
        &[
            "read_empty_pages",
            "read_staged_pages",
            "read_same_pages",
            "read_lz4_pages",
            "read_zstd_pages",
            "read_dense_pages",
            "read_huge_pages",
            "read_spill_pages",
        ],
    ),
    ("pages out", &["write_staged_pages", "write_direct_pages"]),
    ("discarded", &["discard_pages"]),
    ("made denser", &["recompressed_pages"]),
    ("to the spill", &["spilled_pages"]),
    ("refused", &["write_full_pages"]),
];

/// Lines of a frame without processes.
pub const LINES: u16 = 4 + 3 + TIERS.len() as u16 + 4 + 3;
/// Processes that there is always room for.
pub const PROCESSES_MIN: usize = 2;

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let tiers = TIERS.len() as u16 + 4;
    let rows = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(3),
        Constraint::Length(tiers),
        Constraint::Min(5),
    ])
    .split(frame.area());
    frame.render_widget(head(view), rows[0]);
    let gauges = Layout::horizontal([Constraint::Percentage(50); 2]).split(rows[1]);
    let swap = view.now.swap.as_ref();
    let (used, size) = swap.map_or((0, 0), |swap| (swap.used_bytes, swap.size_bytes));
    frame.render_widget(gauge("swap", used, size), gauges[0]);
    let memory = &view.now.memory;
    frame.render_widget(gauge("pool", memory.pool_used_bytes, memory.pool_bytes), gauges[1]);
    let middle =
        Layout::horizontal([Constraint::Percentage(66), Constraint::Percentage(34)]).split(rows[2]);
    frame.render_widget(tier_table(view), middle[0]);
    frame.render_widget(rate_table(view), middle[1]);
    frame.render_widget(process_table(view), rows[3]);
}

fn head(view: &View) -> Paragraph<'static> {
    let now = &view.now;
    let memory = &now.memory;
    let title = format!("uswap {} {} up {} s", now.name, now.device, now.uptime_seconds);
    let title = match &view.silence {
        Some(_) => format!("{title}: NO ANSWER"),
        None => title,
    };
    let ratio = ratio(data_bytes(now), memory.pool_used_bytes);
    let policy = now.policy.as_ref();
    let pressure = policy.map_or("-", |policy| &policy.pressure);
    let policy = policy.map_or("-", |policy| &policy.name);
    let spill = now.spill.as_ref().map_or("none".into(), |spill| {
        format!("{} of {}, {}", human(spill.used_bytes), human(spill.size_bytes), spill.health)
    });
    let safety = &now.safety;
    let safe = safety.memory_locked && safety.io_flusher && safety.state_noswap;
    let lines = vec![
        Line::from(format!(
            "{} in RAM as {} (ratio {ratio}), server {} in all, codec {}, spill {spill}",
            human(data_bytes(now)),
            human(memory.pool_used_bytes),
            human(memory.resident_bytes),
            now.codec,
        )),
        Line::from(format!(
            "policy {policy}, memory {pressure}, room {}, {}",
            memory.pool_level,
            if safe { "safe" } else { "NOT SAFE: see uswap doctor" },
        ))
        .style(if safe { Style::new() } else { warning() }),
    ];
    // What it was is all there is to see until it answers again.
    let lines = match &view.silence {
        Some(why) => vec![lines[0].clone(), Line::from(why.clone()).style(warning())],
        None => lines,
    };
    Paragraph::new(Text::from(lines)).block(block(title))
}

fn block(title: impl Into<String>) -> Block<'static> {
    Block::default().borders(Borders::ALL).title(title.into())
}

fn warning() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

fn gauge(what: &str, used: u64, size: u64) -> Gauge<'static> {
    let share = if size == 0 { 0.0 } else { (used as f64 / size as f64).min(1.0) };
    let color = if share > 0.9 { Color::Red } else { Color::Cyan };
    let label = match size {
        0 => "not in use".to_owned(),
        _ => format!("{} of {} ({:.0} %)", human(used), human(size), 100.0 * share),
    };
    Gauge::default().block(block(what)).gauge_style(color).ratio(share).label(label)
}

fn number(text: String) -> Cell<'static> {
    Cell::new(Text::from(text).alignment(Alignment::Right))
}

fn table(
    head: &'static [&'static str],
    rows: Vec<Row<'static>>,
    widths: Vec<Constraint>,
) -> Table<'static> {
    let cells = head.iter().enumerate().map(|(i, word)| match i {
        0 => Cell::new(*word),
        _ => number((*word).to_owned()),
    });
    let head = Row::new(cells).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(rows, widths).header(head)
}

fn tier_table(view: &View) -> Table<'static> {
    let count = |name: &str| view.now.counters.get(name).copied().unwrap_or(0);
    let rows = TIERS.iter().map(|(name, slots, reads, times)| {
        let (half, most) = view.times(times).map_or(("-".into(), "-".into()), |(_, half, most)| {
            (microseconds(half), microseconds(most))
        });
        Row::new(vec![
            Cell::new(*name),
            number(human(count(slots) * PAGE_SIZE as u64)),
            number(rate(view.rate(&[reads]))),
            number(half),
            number(most),
        ])
    });
    let commit = view.times("commit").map_or(["-".to_owned(), "-".into(), "-".into()], |times| {
        [rate(Some(times.0)), microseconds(times.1), microseconds(times.2)]
    });
    let [each, half, most] = commit;
    let last = Row::new(vec![
        Cell::new("requests"),
        number(String::new()),
        number(each),
        number(half),
        number(most),
    ]);
    let widths = [14, 9, 10, 10, 10].map(Constraint::Length).to_vec();
    let head = &["TIER", "DATA", "READS/s", "HALF us", "99 % us"];
    table(head, rows.chain([last]).collect(), widths).block(block("tiers"))
}

fn rate_table(view: &View) -> Table<'static> {
    let rows = RATES.iter().map(|(name, counters)| {
        let each = view.rate(counters);
        let bad = *name == "refused" && each.is_some_and(|each| each > 0.0);
        let row = Row::new(vec![Cell::new(*name), number(rate(each))]);
        if bad { row.style(warning()) } else { row }
    });
    let widths = [14, 12].map(Constraint::Length).to_vec();
    table(&["PAGES", "A SECOND"], rows.collect(), widths).block(block("rates"))
}

fn process_table(view: &View) -> Table<'static> {
    let all: u64 = view.processes.iter().map(|process| process.swapped).sum();
    let rows = view.processes.iter().map(|process| {
        Row::new(vec![
            Cell::new(process.name.clone()),
            number(process.pid.to_string()),
            number(human(process.swapped)),
            number(human(process.resident)),
        ])
    });
    let widths = [24, 9, 10, 10].map(Constraint::Length).to_vec();
    let title = format!("{} processes, {} in swap", view.processes.len(), human(all));
    table(&["PROCESS", "PID", "SWAPPED", "IN RAM"], rows.collect(), widths).block(block(title))
}

fn rate(each: Option<f64>) -> String {
    each.map_or("-".into(), |each| match each {
        each if each >= 10.0 || each == 0.0 => format!("{each:.0}"),
        each => format!("{each:.1}"),
    })
}

fn microseconds(ns: u64) -> String {
    if ns == u64::MAX { "> 17 s".into() } else { format!("{:.1}", ns as f64 / 1000.0) }
}
