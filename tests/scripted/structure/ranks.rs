//! Imports go down: a module names only modules of a lower rank, and two of one rank never name each other.

use std::path::Path;

use crate::support::mirror::files_below;

const RANKS: &[(&str, u8)] = &[
    ("main", 10),
    ("cli", 9),
    ("app", 8),
    ("config", 7),
    ("server", 6),
    ("jobs", 5),
    ("mirror", 4),
    ("fill", 3),
    ("cache", 2),
    ("upstream", 1),
    ("store", 1),
    ("index", 1),
    ("recent", 1),
    ("oci", 0),
    ("clock", 0),
    ("coalesce", 0),
    ("file_blocks", 0),
    ("shared_bytes", 0),
    ("secret", 0),
    ("quote", 0),
    ("metrics", 0),
    ("health", 0),
    ("telemetry", 0),
];

/// Crates that have one home each.
const HOMES: &[(&str, &str)] = &[
    ("redb::", "index"),
    ("reqwest::", "upstream"),
    ("figment::", "config"),
    ("hyper::", "server"),
    ("sha2::", "oci"),
];

fn rank(module: &str) -> u8 {
    RANKS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no rank")).1
}

fn sources() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files_below(&root);
    assert!(files.len() > 50, "the source was found");
    files
        .into_iter()
        .map(|file| {
            let relative = file.strip_prefix(&root).unwrap().display().to_string();
            let module = relative.split(['/', '.']).next().unwrap().to_owned();
            (relative, module, std::fs::read_to_string(&file).unwrap())
        })
        .filter(|(_, module, _)| module != "lib")
        .collect()
}

#[test]
fn modules_name_lower_ranks_only() {
    for (file, module, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for prefix in ["crate::", "roadstead::"] {
                for (at, _) in line.match_indices(prefix) {
                    let rest = &line[at + prefix.len()..];
                    let named: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                    assert!(!named.is_empty(), "{file}: grouped imports hide ranks: {line}");
                    let inner = named == module && prefix == "crate::";
                    assert!(inner || rank(&named) < rank(&module), "{file} names {named}: {line}");
                }
            }
        }
    }
}

#[test]
fn each_third_party_engine_has_one_home() {
    for (file, module, text) in sources() {
        for (engine, home) in HOMES {
            let named = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("use {engine}")));
            assert!(!named || module == *home, "{file} uses {engine}, whose home is {home}");
        }
    }
}
