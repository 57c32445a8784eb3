//! No two files of `src/` import each other, directly or over others. A file may use items of the modules that it is in:
//! those are no imports.

use std::collections::BTreeSet;

use super::graph::{Source, loops};
use super::source::File;

#[test]
fn files_do_not_import_each_other_in_a_loop() {
    let source = Source::read();
    let imports = source.imports();
    let told = |group: &BTreeSet<&str>| {
        let of = |file: &&str| {
            let within: Vec<_> = imports[file].intersection(group).copied().collect();
            format!("  {file} imports {}", within.join(", "))
        };
        group.iter().map(of).collect::<Vec<_>>().join("\n")
    };
    let loops = loops(&imports);
    assert!(loops.is_empty(), "{}", loops.iter().map(told).collect::<Vec<_>>().join("\n\n"));
}

fn of(files: &[(&str, &str)]) -> Source {
    Source::new(files.iter().map(|(path, text)| File::new(path, text)).collect())
}

#[test]
fn an_import_leads_to_the_file_that_defines_the_item() {
    let source = of(&[
        ("a/mod.rs", "mod b;\nmod c;\npub use b::Thing;\nuse crate::oci::Digest;\nfn own() {}\n"),
        ("a/b.rs", "use super::{Digest, own};\npub struct Thing(Digest);\nfn f() { own() }\n"),
        ("a/c.rs", "use super::Thing;\nuse crate::a;\nfn f(_: Thing) { a::own() }\n// super::b::Thing\n"),
        ("oci/mod.rs", "mod digest;\npub use digest::*;\n"),
        (
            "oci/digest.rs",
            "pub struct Digest;\n#[cfg(test)]\nmod tests {\n    use crate::a::Thing;\n    fn f(_: Thing) {}\n}\n",
        ),
    ]);
    let imports = source.imports();
    assert_eq!(imports["a/mod.rs"], BTreeSet::new(), "it re-exports, and uses nothing");
    assert_eq!(imports["a/b.rs"], BTreeSet::from(["oci/digest.rs"]), "its own module is no import");
    assert_eq!(imports["a/c.rs"], BTreeSet::from(["a/b.rs"]));
    assert_eq!(imports["oci/digest.rs"], BTreeSet::new(), "tests may name what they like");
    assert_eq!(loops(&imports).len(), 0);
}

#[test]
fn a_loop_over_several_files_is_found() {
    let source = of(&[
        ("a/mod.rs", "mod b;\nmod c;\nmod d;\n"),
        ("a/b.rs", "use super::{\n    c::{C, Other},\n};\npub struct B(C);\n"),
        ("a/c.rs", "pub struct C;\npub struct Other;\nfn f() { super::d::go() }\n"),
        ("a/d.rs", "use crate::a::b::B as Renamed;\npub fn go() { Renamed::go() }\n"),
        ("e.rs", "use crate::a::b::B;\nfn f(_: B) {}\n"),
    ]);
    assert_eq!(loops(&source.imports()), [BTreeSet::from(["a/b.rs", "a/c.rs", "a/d.rs"])]);
}
