//! The table of threats and the tests that try them name each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::documents::texts;
use super::source::root;

const TABLE: &str = "docs/SECURITY-THREATS.md";

/// What a row of the table names.
struct Row {
    /// Files and folders where the threat is prevented.
    places: Vec<String>,
    /// Files of tests.
    tests: BTreeSet<String>,
}

/// The rows by their numbers.
fn table() -> BTreeMap<u32, Row> {
    let mut rows = BTreeMap::new();
    for line in std::fs::read_to_string(root().join(TABLE)).unwrap().lines().filter(|line| line.starts_with("| T")) {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
        let [number, _threat, _prevented, places, tests] = cells[..] else { panic!("a row has five cells: {line}") };
        let number = number.trim_start_matches('T').parse().unwrap();
        let row = Row { places: quoted(places).collect(), tests: quoted(tests).collect() };
        assert!(rows.insert(number, row).is_none(), "T{number} has one row");
    }
    assert!(rows.len() > 30, "the table was found");
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

#[test]
fn threats_that_are_cited_are_in_the_table() {
    let rows: BTreeSet<u32> = table().into_keys().collect();
    let mut cited = BTreeSet::new();
    for (path, text) in texts().iter().filter(|(path, _)| path != TABLE) {
        for number in text.lines().flat_map(|line| in_words(path, line).chain(tried_by(line))) {
            assert!(rows.contains(&number), "{path} cites T{number}, which is not in {TABLE}");
            cited.insert(number);
        }
    }
    assert_eq!(cited, rows, "each threat has a test, or a comment where it is prevented");
}

#[test]
fn rows_of_the_table_name_places_and_tests_that_are_there() {
    let (rows, texts) = (table(), texts());
    for (number, row) in &rows {
        for place in &row.places {
            assert!(root().join(place).exists(), "T{number} is prevented in {place}, which is not there");
        }
        assert!(!row.tests.is_empty(), "T{number} names no tests");
        for file in &row.tests {
            let text = texts.iter().find(|(path, _)| path == file).map(|(_, text)| text);
            let text = text.unwrap_or_else(|| panic!("T{number} is tried in {file}, which is not there"));
            let tries = text.lines().flat_map(tried_by).any(|tried| tried == *number);
            assert!(tries, "T{number} names {file}, which has no test named t{number}_…");
        }
    }
    for (path, text) in &texts {
        for number in text.lines().flat_map(tried_by) {
            let row = rows.get(&number).unwrap_or_else(|| panic!("{path} tries T{number}, which is not in {TABLE}"));
            assert!(row.tests.contains(path), "{path} has a test of T{number}, whose row does not name it");
        }
    }
}

/// `T12` in documents and comments.
fn in_words<'a>(path: &str, line: &'a str) -> impl Iterator<Item = u32> + use<'a> {
    let is_source = Path::new(path).extension().is_some_and(|extension| extension == "rs");
    let comment = if is_source { line.split_once("//").map_or("", |(_, comment)| comment) } else { line };
    let words = comment.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.strip_prefix('T')?.parse().ok())
}

/// The threats that the test on this line tries, as `fn t12_t13_…` does.
fn tried_by(line: &str) -> impl Iterator<Item = u32> + use<'_> {
    let name = line.trim_start().trim_start_matches("async ").strip_prefix("fn ").unwrap_or("");
    name.split('_').map_while(|word| word.strip_prefix('t')?.parse().ok())
}
