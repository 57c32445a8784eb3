//! `roadstead doctor`: what is well is called so, what is not is named with what to do, and no secret is told.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::program::{Program, stderr};
use super::tls::write_identity;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn doctor(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = run(&[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}{}", stderr(&output)));
    (output.status.code(), told)
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.arg("doctor").args(arguments).env_clear().stdin(Stdio::null()).output().unwrap()
}

/// The findings about this, as `level: what`.
fn about(told: &Value, about: &str) -> Vec<String> {
    let findings = told["findings"].as_array().unwrap().iter().filter(|finding| finding["about"] == about);
    findings
        .map(|finding| {
            let (level, what) = (finding["level"].as_str().unwrap(), finding["what"].as_str().unwrap());
            assert_eq!(finding["remedy"].is_string(), level != "good", "{finding}");
            format!("{level}: {what}")
        })
        .collect()
}

fn holds(told: &Value, of: &str, what: &str) {
    assert!(about(told, of).iter().any(|finding| finding.contains(what)), "no {what:?} about {of} in {told:#}");
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A server with this registry, and its configuration.
async fn served(registry: &str, more: &str) -> (Program, String) {
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path().join("data");
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[storage]\npath = \"{}\"\nmax_size = \"1GiB\"\nmin_free = \"1MiB\"\n[upstreams.\"docker.io\"]\nurl = \"{registry}\"\n{more}",
        storage.display()
    );
    let program = Program::start(directory, Some(&toml), &[]).await;
    let file = program.directory.path().join("the.toml").display().to_string();
    (program, file)
}

#[tokio::test]
async fn a_mirror_that_works_is_called_well_and_what_is_used_up_is_told() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(100_000, 1)]));
    registry.publish("ratelimitpreview/test", "latest", &image(&[blob(1000, 2)]));
    registry.script(manifests().always().rate_limit("100;w=21600", "7;w=21600"));
    let (program, file) = served(&registry.url(), "").await;
    let before = off_the_runtime({
        let file = file.clone();
        move || doctor(&["--config", &file])
    })
    .await;
    holds(&before.1, "use", "doubt: nobody has pulled");
    assert_eq!(program.client().get("/v2/org/app/manifests/1").await.status, 200);
    let (code, told) = off_the_runtime(move || doctor(&["--config", &file])).await;
    assert_eq!((code, told["worst"].as_str()), (Some(0), Some("doubt")), "{told:#}");
    holds(&told, "server", "good: version");
    holds(&told, "upstream docker.io", "good: answers after");
    holds(&told, "upstream docker.io", "doubt: 7 pulls are left");
    holds(&told, "use", "good: 1 requests");
    holds(&told, "configuration", "doubt: only this machine can use the mirror");
    holds(&told, "disk", "are free of");
    let asked = registry.requests().into_iter().filter(|request| request.path.contains("ratelimitpreview/test"));
    assert!(asked.into_iter().all(|request| request.method == "HEAD"), "a registry counts no HEAD as a pull");
}

#[tokio::test]
async fn what_does_not_work_is_named_with_what_to_do_and_no_secret() {
    let auth = TokenAuth::new().user("robot", "right").login_required();
    let registry = Upstream::start().await;
    registry.token_auth(&auth);
    let secrets = tempfile::tempdir().unwrap();
    let password = secrets.path().join("password");
    std::fs::write(&password, "s3cret-wrong").unwrap();
    let more = format!(
        "username = \"robot\"\npassword_file = \"{}\"\npublic = true\n[upstreams.\"gone.test\"]\nurl = \"http://127.0.0.1:1\"\n",
        password.display()
    );
    let (program, file) = served(&registry.url(), &more).await;
    program.signal("TERM");
    let (_, _, directory) = program.ended().await;
    let (code, told) = off_the_runtime(move || doctor(&["--config", &file])).await;
    drop(directory);
    assert_eq!((code, told["worst"].as_str()), (Some(1), Some("bad")), "{told:#}");
    holds(&told, "server", "bad: none runs");
    holds(&told, "upstream docker.io", "bad: refuses the credentials from");
    holds(&told, "upstream gone.test", "bad: cannot be reached");
    holds(&told, "configuration", "public = true");
    assert!(!told.to_string().contains("s3cret-wrong"));
}

#[tokio::test]
async fn from_a_node_the_way_to_the_mirror_is_gone_step_by_step() {
    let (ca, directory) = (TestCa::new(), tempfile::tempdir().unwrap());
    let registry = Upstream::start().await;
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\n", registry.url());
    let mirror = Mirror::builder(toml).server(&write_identity(&ca, directory.path(), "server")).start().await;
    let pem = directory.path().join("ca.pem");
    ca.write_pem(&pem);
    let (url, pem) = (format!("https://{}", mirror.address), pem.display().to_string());
    let asked = url.clone();
    let (code, told) = off_the_runtime(move || doctor(&["--mirror", &asked, "--ca", &pem])).await;
    assert_eq!(code, Some(0), "{told:#}");
    for (of, what) in [
        ("name", "good"),
        ("connection", "good"),
        ("certificate", "lasts for"),
        ("mirror", "/v2/ is answered"),
        ("clock", "good"),
    ] {
        holds(&told, of, what);
    }
    holds(&told, "clients", "doubt: no file of a client here names");

    let (code, told) = off_the_runtime(move || doctor(&["--mirror", &url])).await;
    assert_eq!(code, Some(1), "{told:#}");
    holds(&told, "certificate", "bad: it is not accepted");
    let plain = format!("http://{}", mirror.address);
    let (code, told) = off_the_runtime(move || doctor(&["--mirror", &plain])).await;
    assert_eq!(code, Some(1), "{told:#}");
    holds(&told, "mirror", "bad: ");
    let (code, told) = off_the_runtime(|| doctor(&["--mirror", "http://127.0.0.1:1"])).await;
    assert_eq!(code, Some(1));
    holds(&told, "connection", "bad: 127.0.0.1:1");
}

#[tokio::test]
async fn a_server_elsewhere_is_asked_with_its_token_and_says_what_it_knows_itself() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(1000, 1)]));
    let (program, _) = served(&registry.url(), "").await;
    assert_eq!(program.client().get("/v2/org/app/manifests/1").await.status, 200);
    let url = format!("http://{}", program.admin);
    let (code, told) = off_the_runtime(move || doctor(&["--server", &url])).await;
    assert_eq!((code, told["worst"].as_str()), (Some(0), Some("good")), "{told:#}");
    holds(&told, "server", "good: version");
    holds(&told, "use", "good: 1 requests");
    assert!(about(&told, "disk").is_empty(), "this machine's disk is not the server's");

    let url = format!("http://{}", program.address);
    let (code, told) = off_the_runtime(move || doctor(&["--server", &url])).await;
    assert_eq!(code, Some(1), "{told:#}");
    holds(&told, "server", "bad: ");
}

/// Others' words move no cursor, and are cut.
#[tokio::test]
async fn t90_a_terminal_is_told_no_control_characters_of_others() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _request = stream.read(&mut [0; 1024]).await.unwrap();
        let _gone = stream.write_all(b"HTTP/1.1 200 \x1b[2J\r\ndate: \x1b]0;owned\x07\r\n\r\n").await;
    });
    let output = off_the_runtime(move || run(&["--mirror", &url])).await;
    answering.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("/v2/ is answered") && !text.contains(['\x1b', '\x07']), "{text:?}");
}
