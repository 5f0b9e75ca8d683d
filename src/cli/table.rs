//! Tables for terminals: columns padded to their widest cell, no lines, no colour.

/// `rows` below `head`, if there is to be one. Columns named in `right` are numbers and stand
/// right-aligned.
pub fn render(head: Option<&[&str]>, rows: &[Vec<String>], right: &[usize]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let head = head.map_or(0, |head| head[column].len());
        cells.chain([head]).max().unwrap_or(0)
    };
    let columns = rows.iter().map(Vec::len).chain(head.map(<[_]>::len)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
            if right.contains(&i) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned() + "\n"
    };
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    head.map_or_else(String::new, |head| line(head.to_vec())) + body.collect::<String>().as_str()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "10".into()], vec!["long".into(), "5".into()]];
        let text = super::render(Some(&["NAME", "N"]), &rows, &[1]);
        assert_eq!(text, "NAME   N\na     10\nlong   5\n");
        assert_eq!(super::render(None, &rows, &[1]), "a     10\nlong   5\n");
        assert_eq!(super::render(None, &[], &[]), "");
    }
}
