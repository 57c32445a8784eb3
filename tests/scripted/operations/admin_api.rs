//! The admin socket, and the API that is on it and on the admin address.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use http::Method;
use roadstead::app::App;
use roadstead::clock::Clock;
use roadstead::config::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

const NOWHERE: &str = "[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\n";

async fn over_socket(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_opens_everything() {
    let mirror = Mirror::start(NOWHERE).await;
    let socket = mirror.storage().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let status = over_socket(&socket, "GET /api/v1/status").await;
    assert!(status.contains("200 OK") && status.contains(r#""degraded": []"#), "{status}");
    let backup = over_socket(&socket, "GET /api/v1/backup").await;
    assert!(backup.contains(r#"{"roadstead_facts":1}"#) && backup.ends_with("{\"end\":{\"facts\":0}}\n"), "{backup}");
    assert!(over_socket(&socket, "POST /api/v1/status").await.contains("405"));
    assert!(over_socket(&socket, "GET /v2/").await.contains("404"), "registries are not for commands");
    mirror.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_backup_over_the_network_needs_the_token_and_the_status_does_off_loopback() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "right-token\n").unwrap();
    let lines = format!("admin_token_file = \"{}\"", file.display());
    for (address, status_without) in [("127.0.0.1:0", 200), ("0.0.0.0:0", 403)] {
        let mirror = Mirror::builder(NOWHERE).admin_listen(address).server(&lines).start().await;
        let admin = Client::new(([127, 0, 0, 1], mirror.admin.port()).into());
        let get = async |path: &str, token: &str| {
            admin.send(Method::GET, path, &[("authorization", &format!("Bearer {token}"))]).await.status
        };
        let (status, backup) = ("/api/v1/status", "/api/v1/backup");
        assert_eq!((get(status, "wrong").await, get(backup, "wrong").await), (status_without, 403));
        assert_eq!((get(status, "right-token").await, get(backup, "right-token").await), (200, 200));
        assert_eq!(get("/api/v1/other", "right-token").await, 404);
    }
    let without = Mirror::start(NOWHERE).await;
    let refused = Client::new(without.admin).get("/api/v1/backup").await;
    assert_eq!(refused.status, 401);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("admin_token_file"));
}

/// The JSON of an answer over the socket, and its status.
async fn asked(mirror: &Mirror, request: &str) -> (u16, Value) {
    let answer = over_socket(&mirror.storage().join("admin.sock"), request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn pins_are_added_and_taken_back_all_or_none_and_those_of_the_configuration_stay() {
    let configured = "pins = [\"docker.io/library/**\"]";
    let mirror = Mirror::builder(NOWHERE).storage(configured).start().await;
    let pin = |pattern: &str, configured: bool| json!({ "pattern": pattern, "configured": configured, "digest": null });
    let of_file = pin("docker.io/library/**", true);
    assert_eq!(asked(&mirror, "GET /api/v1/pins").await, (200, json!({ "pins": [of_file] })));
    let two = "?pin=index.docker.io%2Forg%2Fapp%3Av1*&pin=docker.io/org/base";
    let (status, pins) = asked(&mirror, &format!("POST /api/v1/pins{two}")).await;
    let added = json!({ "pins": [of_file, pin("docker.io/org/app:v1*", false), pin("docker.io/org/base", false)] });
    assert_eq!((status, &pins), (200, &added), "aliases are folded");
    for (query, expected, why) in [
        ("", 400, "no pattern"),
        ("?pin=docker.io", 400, "a pin is"),
        ("?pin=docker.io/new&pin=ghcr.io/org/app", 404, "not among the upstreams"),
    ] {
        let (status, refused) = asked(&mirror, &format!("POST /api/v1/pins{query}")).await;
        assert!(
            status == expected && refused["error"]["message"].as_str().unwrap().contains(why),
            "{query}: {refused}"
        );
    }
    for (query, expected) in [("?pin=docker.io/org/base&pin=docker.io/x", 404), ("?pin=docker.io/library/**", 409)] {
        assert_eq!(asked(&mirror, &format!("DELETE /api/v1/pins{query}")).await.0, expected, "{query}");
    }
    assert_eq!(asked(&mirror, "GET /api/v1/pins").await.1, added, "what was refused has changed nothing");
    assert_eq!(asked(&mirror, "GET /api/v1/status").await.1["pins"], 3);
    let (status, left) = asked(&mirror, "DELETE /api/v1/pins?pin=docker.io/org/app:v1*").await;
    assert_eq!((status, left), (200, json!({ "pins": [of_file, pin("docker.io/org/base", false)] })));
    let mirror = mirror.restart().await;
    assert_eq!(asked(&mirror, "GET /api/v1/status").await.1["pins"], 2);
}

#[tokio::test]
async fn what_changes_something_needs_the_token_and_reading_does_not_on_loopback() {
    let mirror = Mirror::start(NOWHERE).await;
    let admin = Client::new(mirror.admin);
    for path in ["pins", "verify", "lost"] {
        assert_eq!(admin.get(&format!("/api/v1/{path}")).await.status, 200, "{path}");
    }
    for (method, path) in [(Method::POST, "pins?pin=docker.io/a"), (Method::DELETE, "pins"), (Method::POST, "verify")] {
        assert_eq!(admin.send(method, &format!("/api/v1/{path}"), &[]).await.status, 401, "{path}");
    }
    let refused = admin.send(Method::DELETE, "/api/v1/verify", &[]).await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, POST"));
    assert_eq!(asked(&mirror, "GET /api/v1/verify").await, (200, json!({ "job": null })), "nothing was started");
}

#[tokio::test]
async fn one_verify_runs_at_a_time_and_goes_on_without_who_asked_until_shutdown() {
    let upstream = Upstream::start().await;
    let image = image(&[blob(400_000, 1)]);
    upstream.publish("org/app", "1", &image);
    let mirror = Mirror::of("docker.io", upstream.url()).await;
    mirror.pull_whole("org/app", "1").await;
    assert_eq!(asked(&mirror, "POST /api/v1/verify?rate=fast").await.0, 400);
    // Slow enough not to end by itself.
    let (status, first) = asked(&mirror, "POST /api/v1/verify?rate=1B/s").await;
    assert_eq!((status, &first["started"], &first["job"]["state"]), (202, &true.into(), &"running".into()));
    let (status, second) = asked(&mirror, "POST /api/v1/verify?rate=unlimited").await;
    assert_eq!((status, &second["started"]), (200, &false.into()));
    assert_eq!((&second["job"]["id"], &second["job"]["rate"]), (&first["job"]["id"], &1.into()));
    assert_eq!(asked(&mirror, "GET /api/v1/verify").await.1["job"]["state"], "running");
    let mirror = mirror.restart().await;
    let (status, again) = asked(&mirror, "POST /api/v1/verify?rate=unlimited").await;
    assert!(status == 202 && again["job"]["id"] != first["job"]["id"], "{again}");
    let mut job = Value::Null;
    eventually("it ends", async || {
        job = asked(&mirror, "GET /api/v1/verify").await.1["job"].take();
        job["state"] != "running"
    })
    .await;
    assert_eq!((&job["state"], &job["report"]["blobs"]), (&"done".into(), &3.into()), "{job}");
    assert_eq!(job["bytes"], job["bytes_total"]);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_anything_else_in_its_place_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let config = || {
        let (socket, data) = (socket.display(), directory.path().join("data"));
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"off\"\nadmin_socket = \"{socket}\"\n[storage]\npath = \"{}\"\n{NOWHERE}",
            data.display()
        );
        Config::read(Some(&toml), Vec::new()).unwrap()
    };
    let start = async || App::start(config(), Clock::default()).await.map_err(|err| err.to_string());
    // As kill -9 leaves it.
    drop(UnixListener::bind(&socket).unwrap());
    let app = start().await.unwrap();
    assert!(over_socket(&socket, "GET /livez").await.contains("alive"));
    app.stop().await;
    assert!(!socket.exists());
    let living = UnixListener::bind(&socket).unwrap();
    let refused = start().await.err().expect("another process has it");
    assert!(refused.contains("another process answers") && refused.contains("server.admin_socket"), "{refused}");
    drop(living);
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "mine").unwrap();
    let refused = start().await.err().expect("it is a file");
    assert!(refused.contains("no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_told_with_its_key() {
    let long = "a-long-name/".repeat(9);
    let read = |toml: &str| Config::read(Some(toml), Vec::new()).map_err(|problems| problems.to_string());
    for toml in [format!("[server]\nadmin_socket = \"/{long}\"\n"), format!("[storage]\npath = \"/{long}\"\n")] {
        let problems = read(&toml).err().expect("it is too long");
        assert!(problems.contains("server.admin_socket: a socket's path has at most 107 bytes"), "{problems}");
    }
    let off = read(&format!("[server]\nadmin_socket = \"off\"\n[storage]\npath = \"/{long}\"\n")).unwrap();
    assert_eq!(off.server.admin_socket, None);
    let default = read("[storage]\npath = \"/srv/cache\"\n").unwrap();
    assert_eq!(default.server.admin_socket.unwrap().to_str(), Some("/srv/cache/admin.sock"));
}
