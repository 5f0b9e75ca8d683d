//! The pictures of README, from what a guest printed that ran `bench/screens.sh`: a frame of
//! `uswap top` as its terminal showed it, and the dashboard's panels, whose queries a real
//! Prometheus answers from the scrapes.

pub mod chart;
pub mod prometheus;
pub mod terminal;

use std::fmt::Write;

/// The lines of `output` with this mark, without it.
pub fn marked<'a>(output: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    output.lines().filter_map(move |line| {
        line.strip_prefix("SCREENS ")?.strip_prefix(mark)?.strip_prefix(' ').map(str::trim_end)
    })
}

/// `text` as it may stand in SVG.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A whole picture of this size with `body` in it.
fn svg(width: u32, height: u32, style: &str, body: &str) -> String {
    let mut all = String::new();
    let space = "xmlns=\"http://www.w3.org/2000/svg\"";
    let _ = writeln!(
        all,
        "<svg {space} width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    );
    let _ = writeln!(all, "<style>{style}</style>");
    all + body + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_marked_is_found_between_other_lines() {
        let output =
            "boot\nSCREENS frame ab\r\nx SCREENS frame no\nSCREENS scrapes z\nSCREENS frame cd\n";
        assert_eq!(marked(output, "frame").collect::<String>(), "abcd");
        assert_eq!(marked(output, "scrapes").collect::<String>(), "z");
    }
}
