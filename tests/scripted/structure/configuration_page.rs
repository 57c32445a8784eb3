//! `docs/configuration.md` is `config/roadstead.toml` as a page: what is said of a key is written once.

use std::fmt::Write as _;

use super::source::root;

const HEAD: &str = "# Configuration\n\n\
    Made of [`config/roadstead.toml`](../config/roadstead.toml) by a test; change that file, then run\n\
    `ROADSTEAD_WRITE_PAGES=1 cargo test --test scripted -- the_page_of_the_configuration`.\n";

/// What stands in a line of the example.
enum Line<'a> {
    Blank,
    Said(&'a str),
    /// A table, or one that is only shown.
    Table(&'a str),
    /// A key with its value; whether that is only shown.
    Key(&'a str, &'a str, bool),
    /// Of a value over several lines.
    Rest(&'a str),
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        if line.is_empty() {
            return Self::Blank;
        }
        if let Some(said) = line.strip_prefix("# ") {
            return Self::Said(said);
        }
        let (setting, is_shown) = line.strip_prefix('#').map_or((line, false), |setting| (setting, true));
        if setting.starts_with('[') {
            return Self::Table(setting);
        }
        match setting.split_once(" = ") {
            Some((key, value)) if !setting.starts_with(' ') => Self::Key(key, value, is_shown),
            _ => Self::Rest(setting.trim()),
        }
    }
}

/// Text that cannot end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn page(example: &str) -> String {
    // How to read the example is of no use to those who read the page.
    let (_, example) = example.split_once("\n#\n").unwrap();
    let mut page = HEAD.to_owned();
    let mut said = Vec::new();
    let mut in_rows = false;
    let mut end = String::new();
    for line in example.lines().map(Line::of).chain([Line::Blank]) {
        if !matches!(line, Line::Rest(_)) {
            page.push_str(&std::mem::take(&mut end));
        }
        match line {
            Line::Blank => {
                if !said.is_empty() {
                    write!(page, "\n{}\n", said.join("\n")).unwrap();
                    in_rows = false;
                }
                said.clear();
            }
            Line::Said(text) => said.push(text),
            Line::Table(name) => {
                write!(page, "\n## `{name}`\n").unwrap();
                if !said.is_empty() {
                    write!(page, "\n{}\n", said.join("\n")).unwrap();
                }
                said.clear();
                in_rows = false;
            }
            Line::Key(key, value, is_shown) => {
                if !in_rows {
                    page.push_str("\n| key | default | |\n|---|---|---|\n");
                    in_rows = true;
                }
                let how = if is_shown { "none; as in " } else { "" };
                write!(page, "| `{}` | {how}`{}", cell(key), cell(value)).unwrap();
                end = format!("` | {} |\n", cell(&said.join(" ")));
                said.clear();
            }
            Line::Rest(text) => {
                let space = if text == "]" { "" } else { " " };
                write!(page, "{space}{}", cell(text)).unwrap();
            }
        }
    }
    page
}

#[test]
fn the_page_of_the_configuration_is_the_example() {
    let example = std::fs::read_to_string(root().join("config/roadstead.toml")).unwrap();
    let (made, file) = (page(&example), root().join("docs/configuration.md"));
    if std::env::var_os("ROADSTEAD_WRITE_PAGES").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let shipped = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(made == shipped, "docs/configuration.md is out of date: its first lines say how to make it");
    let keys = made.lines().filter(|line| line.starts_with("| `")).count();
    assert!(keys > 80, "{keys} keys were found");
}
