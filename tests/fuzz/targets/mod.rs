//! The fuzzers. Each takes any bytes and panics when something is wrong.
//!
//! Not among them: what the kernel says (/proc, /sys), which is believed; sealed objects, which
//! nobody can make without the key.

mod shared;
mod state;
mod text;
mod trace;
mod wire;

/// A fuzzer.
pub type Fuzzer = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const ALL: &[(&str, Fuzzer)] = &[
    ("control-page", shared::control_page),
    ("format", shared::format),
    ("segments", shared::segments),
    ("state", state::state),
    ("command-line", text::command_line),
    ("config", text::config),
    ("policy", text::policy),
    ("size", text::size),
    ("zram-generator", text::zram_generator),
    ("trace", trace::trace),
    ("control-line", wire::control_line),
    ("http", wire::http),
    ("iod", wire::iod),
];

/// The text in some bytes, if it is one.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
