//! Every metric is documented, and nothing else is.

use std::collections::BTreeSet;
use std::path::Path;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_metric_is_on_the_page_and_every_one_on_the_page_exists() {
    let source = file("src/metrics/mod.rs");
    let made = source.split(": made").skip(1).map(|after| after.split('"').nth(1).unwrap().to_owned());
    let made: BTreeSet<String> = made.collect();
    assert!(made.len() > 20, "the source was understood: {made:?}");
    let page = file("docs/metrics.md");
    let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = words.filter_map(|word| word.strip_prefix("roadstead_"));
    let named: BTreeSet<String> = named.map(|name| without_suffixes(name).to_owned()).collect();
    assert_eq!(made, named);
}

fn without_suffixes(name: &str) -> &str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    ["_bytes", "_seconds"].iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name)
}
