//! Tests that need root have a lane of their own, which `just test` leaves out by the name of their modules.

use std::path::Path;

use crate::support::mirror::files_below;

/// Names of things that take root.
const PRIVILEGED: &[&str] = &["FaultyDisk", "Tmpfs", "unshare", "fs::chown"];

#[test]
fn what_needs_root_is_in_a_module_that_says_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripted");
    let mut privileged = 0;
    for file in files_below(&root) {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if name.starts_with("support/") || name == "structure/lanes.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        // A value that is only handed on needs nothing; the `mod.rs` above both lanes names the type for its helpers.
        let words = text.lines().filter(|line| !line.starts_with("use ") && !line.contains("disk: &FaultyDisk"));
        let needs = |word: &&&str| words.clone().any(|line| line.contains(**word));
        let found: Vec<_> = PRIVILEGED.iter().filter(needs).collect();
        privileged += usize::from(!found.is_empty());
        assert!(found.is_empty() || name.contains("as_root"), "{name} needs root for {found:?}: move it to `as_root`");
    }
    assert!(privileged > 5, "those modules were found");
}
