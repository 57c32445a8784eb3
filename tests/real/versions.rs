//! The versions that were tested: `cargo test --test real versions -- --nocapture`.

use crate::support::machine::Machine;
use crate::support::{process, work_folder};

#[test]
fn every_program_in_these_tests_tells_its_version() {
    let folder = work_folder();
    let machine = Machine::new(folder.path(), "m1");
    for (program, argument) in [
        ("containerd", "--version"),
        ("ctr", "--version"),
        ("dockerd", "--version"),
        ("docker", "--version"),
        ("podman", "--version"),
        ("buildah", "--version"),
        ("skopeo", "--version"),
        ("docker-registry", "--version"),
        ("curl", "--version"),
        ("chromium", "--version"),
    ] {
        let told = process::run(program, machine.folder(), machine.command(program).arg(argument));
        let line = told.lines().next().unwrap_or_default();
        assert!(line.chars().any(|character| character.is_ascii_digit()), "{program} told no version: {told:?}");
        println!("{program}: {line}");
    }
}
