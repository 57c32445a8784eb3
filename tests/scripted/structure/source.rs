//! The source as text: its files without comments and tests, and what their `use` lines name.
//!
//! A scan, not a parser: it relies on `cargo fmt`, and on each file's tests being in `mod tests`.

use std::path::Path;

use crate::support::mirror::files_below;

pub(super) struct File {
    /// Below `src/`.
    pub(super) path: String,
    /// As in `["store", "partial", "open"]`; `lib.rs` and `main.rs` are the root.
    pub(super) module: Vec<String>,
    pub(super) uses: Vec<Use>,
    /// Without comments, tests and `use` lines.
    pub(super) code: String,
}

/// One name that a `use` brings in; `*` and `_` are names.
pub(super) struct Use {
    pub(super) name: String,
    pub(super) path: Vec<String>,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of `src/` but those that are tests as a whole.
pub(super) fn files() -> Vec<File> {
    let source = root().join("src");
    let mut files: Vec<_> = files_below(&source)
        .into_iter()
        .filter(|file| !file.ends_with("tests.rs"))
        .map(|file| File::new(&file.strip_prefix(&source).unwrap().display().to_string(), &read(&file)))
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 50, "the source was found");
    files
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            module.pop();
        }
        let (uses, code) = without_uses(&without_tests(text));
        Self { path: path.to_owned(), module, uses, code }
    }

    /// Whether an item of this name is defined here.
    pub(super) fn defines(&self, name: &str) -> bool {
        let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "mod", "macro_rules!"];
        kinds.iter().any(|kind| has_words(&self.code, &format!("{kind} {name}")))
    }

    pub(super) fn mentions(&self, name: &str) -> bool {
        has_words(&self.code, name)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn has_words(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + words.len()..].chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Without comments, and without items under `#[cfg(test)]`.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code == "#[cfg(test)]" {
            let indent = line.len() - code.len();
            // Up to the end of the item: `;` on its first line, or the bracket at its own depth.
            let mut first = true;
            for line in lines.by_ref() {
                let depth = line.len() - line.trim_start().len();
                let is_end = depth == indent && line.trim_start().starts_with('}');
                if is_end || (first && line.ends_with(';')) {
                    break;
                }
                first = first && line.trim_start().starts_with("#[");
            }
        } else if !code.starts_with("//") {
            kept.push_str(code.split(" // ").next().unwrap());
            kept.push('\n');
        }
    }
    kept
}

fn without_uses(text: &str) -> (Vec<Use>, String) {
    let (mut uses, mut code) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(tree) = tree_of(line) else {
            code.push_str(line);
            code.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.ends_with(';') {
            tree.push_str(lines.next().expect("a use ends").trim());
        }
        expand(&[], tree.trim_end_matches(';'), &mut uses);
    }
    (uses, code)
}

/// The rest of a line that begins with `use`, `pub use` or `pub(…) use`.
fn tree_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |rest| {
        rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest).trim_start()
    });
    line.strip_prefix("use ")
}

fn expand(before: &[String], tree: &str, into: &mut Vec<Use>) {
    let tree = tree.trim();
    let bracket = tree.find('{');
    let own = &tree[..bracket.unwrap_or(tree.len())];
    let (own, alias) = own.split_once(" as ").map_or((own, None), |(own, alias)| (own, Some(alias)));
    let mut path = before.to_vec();
    path.extend(own.split("::").filter(|segment| !segment.is_empty()).map(|segment| segment.trim().to_owned()));
    if let Some(open) = bracket {
        let inner = tree[open + 1..].trim_end().trim_end_matches('}');
        let closed = tree[open + 1..].trim_end().len() - inner.len();
        // `trim_end_matches` takes the brackets of the last branch, too.
        let inner = format!("{inner}{}", "}".repeat(closed.saturating_sub(1)));
        for branch in branches(&inner) {
            expand(&path, branch, into);
        }
        return;
    }
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    let name = alias.unwrap_or(path.last().expect("a path has segments")).to_owned();
    into.push(Use { name, path });
}

fn branches(tree: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tree[start..]);
    found.retain(|branch| !branch.trim().is_empty());
    found
}
