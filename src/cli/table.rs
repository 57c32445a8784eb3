//! Tables for people. On a terminal they fit its width.

use std::io::IsTerminal as _;

/// Between columns.
const GAP: &str = "  ";
/// A column is not cut to less.
const NARROWEST: usize = 12;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a heading.
pub(super) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&str, Align)]) -> Self {
        let heading = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { columns: columns.iter().map(|(_, align)| *align).collect(), rows: vec![heading] }
    }

    pub(super) fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The table, as wide as the terminal on standard output, if that is one.
    pub(super) fn text(&self) -> String {
        let stdout = std::io::stdout();
        let width = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
        self.fitting(width.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0))
    }

    fn fitting(&self, most: Option<usize>) -> String {
        let mut widths = vec![0; self.columns.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        while let Some(surplus) = most.map(|most| (widths.iter().sum::<usize>() + gaps).saturating_sub(most))
            && surplus > 0
            && let Some(widest) = widths.iter_mut().max()
            && *widest > NARROWEST
        {
            *widest = widest.saturating_sub(surplus).max(NARROWEST);
        }
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.columns).zip(&widths);
            let cells = cells.map(|((cell, align), width)| {
                let cell = cut(cell, *width);
                match align {
                    Align::Left => format!("{cell:width$}"),
                    Align::Right => format!("{cell:>width$}"),
                }
            });
            cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The beginning and the end of a text that is too long: both tell most.
fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let tail = width / 2;
    let head: String = text.chars().take(width - tail - 1).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_and_the_table_as_it_may() {
        let mut table = Table::new(&[("name", Align::Left), ("size", Align::Right)]);
        table.add(vec!["docker.io/library/a-long-name".to_owned(), "7".to_owned()]);
        table.add(vec!["x".to_owned(), "123 KiB".to_owned()]);
        let whole = "name                              size\ndocker.io/library/a-long-name        7\nx                              123 KiB";
        assert_eq!(table.fitting(None), whole);
        assert_eq!(table.fitting(Some(80)), whole);
        for line in table.fitting(Some(30)).lines() {
            assert!(line.chars().count() <= 30, "{line}");
        }
        assert!(table.fitting(Some(30)).contains("docker.io/…-long-name"), "{}", table.fitting(Some(30)));
        assert!(table.fitting(Some(3)).contains("123 KiB"), "what is narrow stays");
    }
}
