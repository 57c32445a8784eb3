//! Documents and comments cite only what is here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::source::root;
use crate::support::mirror::files_below;

/// All that people read, by their paths in the repository.
pub(super) fn texts() -> Vec<(String, String)> {
    let folders = ["src", "tests", "benches", "docs", "config", "deploy", "examples", ".ci", ".github"];
    let below = folders.iter().flat_map(|folder| files_below(&root().join(folder)));
    let above = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut texts: Vec<_> = below
        .chain(above)
        .filter(|file| !file.ends_with("Cargo.lock") && !file.ends_with("structure/documents.rs"))
        .filter_map(|file| {
            let path = file.strip_prefix(root()).unwrap().display().to_string();
            Some((path, std::fs::read_to_string(&file).ok()?))
        })
        .collect();
    texts.sort();
    assert!(texts.len() > 300, "the repository was found");
    texts
}

fn is_document(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "md")
}

/// From this file, or from the root.
fn found(from: &str, path: &str) -> Option<PathBuf> {
    let beside = root().join(from).parent().unwrap().join(path);
    [beside, root().join(path)].into_iter().find(|path| path.exists())
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut links = 0;
    for (path, text) in texts().iter().filter(|(path, _)| is_document(path)) {
        for target in targets(text) {
            links += 1;
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let beside = root().join(path).parent().unwrap().join(file);
            let file = if file.is_empty() { root().join(path) } else { beside };
            assert!(file.exists(), "{path} links to {target}, which is not there");
            if let Some(anchor) = anchor {
                let headings = headings(&std::fs::read_to_string(&file).unwrap());
                assert!(headings.contains(anchor), "{path} links to {target}; its headings are {headings:?}");
            }
        }
    }
    assert!(links > 5, "the links were found");
}

/// The targets of `[text](target)` and `[name]: target` within the repository.
fn targets(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let inline = prose.flat_map(|prose| prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()));
    let named =
        text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).map(|(_, target)| target.trim());
    inline.chain(named).filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// As anchors: small letters, without punctuation, with hyphens for spaces.
fn headings(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    for heading in prose.filter_map(|line| line.strip_prefix('#')) {
        let plain = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = plain.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let nth = (1..).map(|nth| format!("{anchor}-{nth}"));
        let free = [anchor.clone()].into_iter().chain(nth).find(|anchor| !seen.contains(anchor)).unwrap();
        seen.insert(free);
    }
    seen
}

#[test]
fn documents_that_are_cited_are_here() {
    for (path, text) in texts() {
        for (nth, line) in text.lines().enumerate() {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
            for word in line.split(|c: char| !is_path(c)).map(|word| word.trim_end_matches('.')) {
                // A document of a specification says so: `image-spec, descriptor.md`.
                let is_foreign = line.contains("-spec, ") || line.contains("(distribution, ") || line.contains("://");
                if is_document(word) && word.len() > ".md".len() && !is_foreign {
                    let here = found(&path, word.trim_start_matches('/'));
                    assert!(here.is_some(), "{path}:{}: {word} is not here", nth + 1);
                }
            }
            let private = ["design §", "security T", "§"].into_iter().find(|cited| line.contains(cited));
            assert!(private.is_none(), "{path}:{}: cites a document by {private:?}: {line}", nth + 1);
        }
    }
}
