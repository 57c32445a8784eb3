//! The admin API is what its description says: a program that reads it and tries to prove it wrong finds nothing.

use std::fs;
use std::time::Duration;

use crate::support::process::{self, Process};
use crate::support::{curl, port, program, work_folder};

/// Tries for each call. More by hand: with 500 it takes some minutes.
const TRIES: &str = "20";
const READY_LIMIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "a-token-of-the-tests";

#[test]
fn schemathesis_finds_nothing_in_the_admin_api() {
    let folder = work_folder();
    let path = |name: &str| folder.path().join(name);
    let (file, token) = (path("roadstead.toml"), path("token"));
    fs::write(&token, format!("{TOKEN}\n")).expect("a work folder is writable");
    let mut serving = None;
    let mut admin = 0;
    port::take("roadstead", |port| {
        admin = port;
        let configuration = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:{admin}\"\nadmin_token_file = \"{}\"\n\
             [storage]\npath = \"{}\"\n[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n",
            token.display(),
            path("storage").display(),
        );
        fs::write(&file, configuration).expect("a work folder is writable");
        let mut command = process::command(env!("CARGO_BIN_EXE_roadstead"));
        command.arg("serve").arg("--config").arg(&file).current_dir(folder.path());
        let mut process = Process::start("roadstead", folder.path(), &mut command);
        let url = format!("http://127.0.0.1:{admin}/readyz");
        let is_ready = process.becomes_ready(READY_LIMIT, || {
            curl::ask(folder.path(), &[&url]).is_some_and(|answer| answer.status == 200)
        });
        serving = Some(process);
        is_ready
    });
    let mut schemathesis = process::command(program::find("schemathesis"));
    schemathesis
        .args(["run", &format!("http://127.0.0.1:{admin}/api/v1/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--seed", "1", "--max-examples", TRIES, "--no-shrink", "--continue-on-failure"])
        .env("NO_COLOR", "1")
        .current_dir(folder.path());
    let told = process::run("schemathesis", folder.path(), &mut schemathesis);
    assert!(told.contains("Tested: ") && !told.contains("Tested: 0"), "{told}");
}
