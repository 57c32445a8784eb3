//! Files, folders and types stay small enough to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::graph::Source;
use super::source::{File, root};
use crate::support::mirror::files_below;

const MOST_LINES: usize = 400;
const MOST_ENTRIES: usize = 15;
const MOST_FILES_OF_A_TYPE: usize = 4;

#[test]
fn no_file_is_longer_than_four_hundred_lines() {
    for folder in ["src", "tests", "benches"] {
        for file in files_below(&root().join(folder)).iter().filter(|file| file.extension().is_some_and(|e| e == "rs"))
        {
            let lines = std::fs::read_to_string(file).unwrap().lines().count();
            assert!(lines <= MOST_LINES, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn no_folder_of_a_module_has_more_than_fifteen_entries() {
    let large = |folder: &str, with_itself: bool| {
        let above = root().join(folder);
        let mut folders = folders_below(&above);
        folders.retain(|folder| with_itself || *folder != above);
        let counted = folders.into_iter().map(|folder| (std::fs::read_dir(&folder).unwrap().count(), folder));
        let large = counted.filter(|(entries, _)| *entries > MOST_ENTRIES);
        large.map(|(_, folder)| folder.strip_prefix(root()).unwrap().display().to_string()).collect::<BTreeSet<_>>()
    };
    // `src/` itself holds the modules that have ranks.
    let mut found = large("src", false);
    found.extend(large("tests/scripted/support", true));
    assert_eq!(found, BTreeSet::new());
}

fn folders_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let files = files_below(folder);
    let above = files.iter().flat_map(|file| file.ancestors().skip(1));
    let folders: BTreeSet<_> = above.filter(|above| above.starts_with(folder)).map(Path::to_owned).collect();
    folders.into_iter().collect()
}

#[test]
fn no_type_is_implemented_in_more_than_four_files() {
    let source = Source::read();
    let mut places: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
    for file in &source.files {
        for path in implemented(file) {
            let Some(definer) = source.definer(file, &path) else { continue };
            let name = path.rsplit("::").next().unwrap().to_owned();
            places.entry((definer, name)).or_default().insert(&file.path);
        }
    }
    assert!(places.len() > 100, "the types were found");
    places.retain(|_, files| files.len() > MOST_FILES_OF_A_TYPE);
    assert!(places.is_empty(), "{places:#?}");
}

/// The types of all `impl` blocks, as they are written.
fn implemented(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for block in file.code.split("\nimpl").skip(1).filter(|block| block.starts_with([' ', '<'])) {
        let header = block.split(['{', ';']).next().unwrap().replace('\n', " ");
        let header = without_generics(header.trim());
        let of = header.split(" where ").next().unwrap().split(" for ").last().unwrap();
        let path = of.trim_start_matches('&').trim_start_matches("mut ").trim();
        found.push(path.chars().take_while(|c| c.is_ascii_alphanumeric() || "_:".contains(*c)).collect());
    }
    found
}

/// The rest of a header behind the parameters of `impl<…>`.
fn without_generics(header: &str) -> &str {
    let mut depth = 0;
    for (at, c) in header.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !header[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &header[if c == '>' { at + 1 } else { at }..];
        }
    }
    header
}
