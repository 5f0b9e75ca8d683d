//! What a terminal shows of lines with colours, as SVG.

use super::{escaped, svg};
use std::fmt::Write;

/// Size of a cell, of its letters, and of the rim around all of them.
const CELL: (u32, u32) = (8, 17);
const RIM: u32 = 8;
const STYLE: &str = "text{font:13px 'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d8dee9;\
                     white-space:pre}.b{font-weight:bold}.r{fill:#ef6b73}.c{fill:#56b6c2}";

/// How cells look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Looks {
    bold: bool,
    /// Colours by their number, 0 to 7, where they are not the usual ones.
    front: Option<u8>,
    back: Option<u8>,
}

impl Looks {
    /// After the numbers of a sequence `ESC [ ... m`.
    fn after(mut self, numbers: &str) -> Self {
        for number in numbers.split(';') {
            match number.parse::<u8>().unwrap_or(0) {
                0 => self = Self::default(),
                1 => self.bold = true,
                number @ 30..=37 => self.front = Some(number - 30),
                39 => self.front = None,
                number @ 40..=47 => self.back = Some(number - 40),
                49 => self.back = None,
                _ => {}
            }
        }
        self
    }
}

const fn color(number: u8) -> &'static str {
    match number {
        1 => "#8c2f39",
        6 => "#2b6f77",
        _ => "#4c566a",
    }
}

/// Pieces of a line that look alike: column, looks, text.
fn pieces(line: &str) -> Vec<(u32, Looks, String)> {
    let (mut found, mut looks, mut column) = (Vec::new(), Looks::default(), 0);
    for (i, part) in line.split("\x1b[").enumerate() {
        let text = match part.split_once('m') {
            Some((numbers, text)) if i > 0 => {
                looks = looks.after(numbers);
                text
            }
            _ => part,
        };
        if !text.is_empty() {
            found.push((column, looks, text.to_owned()));
            column += text.chars().count() as u32;
        }
    }
    found
}

/// One piece: its ground, bars as rectangles (fonts do not agree about them), letters.
fn draw(body: &mut String, row: u32, (column, looks, text): &(u32, Looks, String)) {
    let (x, y) = (RIM + column * CELL.0, RIM + row * CELL.1);
    let len = text.chars().count() as u32;
    let bar = text.chars().all(|c| c == '█');
    let ground = if bar { Some(looks.front.unwrap_or(7)) } else { looks.back };
    if let Some(ground) = ground {
        let (width, height) = (len * CELL.0, CELL.1);
        let fill = color(ground);
        let _ = writeln!(
            body,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>"
        );
    }
    if bar || text.trim().is_empty() {
        return;
    }
    let classes = [(looks.bold, "b"), (looks.front == Some(1), "r"), (looks.front == Some(6), "c")];
    let class: Vec<&str> = classes.iter().filter(|(is, _)| *is).map(|(_, c)| *c).collect();
    let class =
        if class.is_empty() { String::new() } else { format!(" class=\"{}\"", class.join(" ")) };
    // Every letter where its cell is, however wide a font has it.
    let text = text.trim_end();
    let places: Vec<String> =
        (0..text.chars().count() as u32).map(|letter| (x + letter * CELL.0).to_string()).collect();
    let (places, y, text) = (places.join(" "), y + 13, escaped(text));
    let _ = writeln!(body, "<text x=\"{places}\" y=\"{y}\"{class}>{text}</text>");
}

/// The picture of these lines, which may have colours.
pub fn picture(text: &str) -> String {
    let lines: Vec<Vec<_>> = text.lines().map(|line| pieces(line.trim_end())).collect();
    let end = |line: &Vec<(u32, Looks, String)>| {
        line.last().map_or(0, |(column, _, text)| column + text.chars().count() as u32)
    };
    let columns = lines.iter().map(end).max().unwrap_or(0);
    let (width, height) = (2 * RIM + columns * CELL.0, 2 * RIM + lines.len() as u32 * CELL.1);
    let mut body =
        format!("<rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#1e222a\"/>\n");
    for (line, row) in lines.iter().zip(0..) {
        line.iter().for_each(|piece| draw(&mut body, row, piece));
    }
    svg(width, height, STYLE, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_falls_into_pieces_by_looks() {
        let line = "┌\x1b[0;1;31;49mno <\x1b[0;39;46m5 %\x1b[0m";
        let red = Looks { bold: true, front: Some(1), back: None };
        let cyan = Looks { back: Some(6), ..Looks::default() };
        let piece = |column, looks, text: &str| (column, looks, text.to_owned());
        let wanted =
            [piece(0, Looks::default(), "┌"), piece(1, red, "no <"), piece(5, cyan, "5 %")];
        assert_eq!(pieces(line), wanted);
    }

    #[test]
    fn every_letter_is_in_the_picture_and_bars_are_rectangles() {
        let svg = picture("a \x1b[0;36;49m███\x1b[0;1;31;49m<b>\x1b[0m\r\nsecond\r\n");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(
            svg.contains("x=\"8\" y=\"21\">a</text>") && svg.contains(">second</text>"),
            "{svg}"
        );
        assert!(svg.contains("x=\"48 56 64\" y=\"21\" class=\"b r\">&lt;b&gt;</text>"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(!svg.contains('█') && svg.contains("width=\"24\" height=\"17\" fill=\"#2b6f77\""));
    }
}
