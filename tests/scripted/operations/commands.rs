//! Commands that end: help, version, check-config.

use super::program::{run, stderr};
use crate::support::upstream::Canary;

#[test]
fn help_and_version_are_told() {
    let help = run(&["--help"], &[]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success());
    assert!(text.contains("serve") && text.contains("check-config") && text.contains("--version"), "{text}");
    for command in ["serve", "check-config"] {
        let help = run(&[command, "--help"], &[]);
        assert!(String::from_utf8_lossy(&help.stdout).contains("--config <FILE>"));
    }
    let version = run(&["--version"], &[]);
    let expected = concat!("roadstead ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
    assert!(version.status.success());
}

#[test]
fn what_is_no_command_is_refused_with_the_usage() {
    for arguments in [&[][..], &["pull"], &["serve", "--prot", "1"]] {
        let output = run(arguments, &[]);
        assert!(!output.status.success() && stderr(&output).contains("Usage"), "{arguments:?}");
    }
}

#[tokio::test]
async fn check_config_checks_and_does_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::listen();
    let file = directory.path().join("good.toml");
    let (data, taken) = (directory.path().join("data"), canary.address());
    let toml = format!(
        "[server]\nlisten = \"{taken}\"\n[storage]\npath = \"{}\"\n[upstreams.\"quay.io\"]\nurl = \"{}\"\n",
        data.display(),
        canary.url()
    );
    std::fs::write(&file, toml).unwrap();
    let output = run(&["check-config", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "a taken port is no matter of the configuration: {}", stderr(&output));
    assert!(stderr(&output).contains("quay.io") && !stderr(&output).contains("docker.io"));
    assert!(!data.exists());
    canary.assert_untouched();
    // The embedded defaults are good too.
    assert_eq!(run(&["check-config"], &[]).status.code(), Some(0));
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_by_its_address() {
    let canary = Canary::listen();
    let data = tempfile::tempdir().unwrap();
    let (taken, path) = (canary.address().to_string(), data.path().join("data"));
    for key in ["ROADSTEAD__SERVER__LISTEN", "ROADSTEAD__SERVER__ADMIN_LISTEN"] {
        let environment = [
            ("ROADSTEAD__SERVER__LISTEN", "127.0.0.1:0"),
            ("ROADSTEAD__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
            ("ROADSTEAD__STORAGE__PATH", path.to_str().unwrap()),
            (key, &taken),
        ];
        let output = run(&["serve"], &environment);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("cannot listen on {taken}")), "{}", stderr(&output));
        assert!(!stderr(&output).contains("listening on"), "all or none");
    }
}
