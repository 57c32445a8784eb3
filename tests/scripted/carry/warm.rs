//! Images are pulled before somebody asks for them.

use super::{app, assert_served, at, lines, text};
use crate::facts::backup::said;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::image::{artifact, image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

async fn offline(mirror: Mirror) -> Mirror {
    mirror.stop().await.start_with("[upstreams.\"docker.io\"]\nurl = \"http://127.0.0.1:9\"\noffline = true\n").await
}

#[tokio::test]
async fn what_is_warmed_survives_an_outage_and_each_item_is_told() {
    let registry = Upstream::start().await;
    let (one, arm) = (app(1), app(5));
    let multi = index(&[&one, &arm]);
    let signature = artifact(&multi, "application/vnd.test.signature", blob(10, 3));
    registry.publish("org/multi", "1", &multi);
    registry.put_referrer("org/multi", &signature);
    registry.publish("org/app", "1", &app(9));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let arguments =
        ["warm", "--json", "--referrers", "org/multi:1", "org/app:1", "org/none:1", "a b", "no.example/x:1"];
    let done = at(&mirror, &arguments).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    let (mut items, last) = lines(&done);
    items.sort_by_key(|item| item["item"].to_string());
    let outcomes: Vec<_> =
        items.iter().map(|item| (item["item"].as_str().unwrap(), item["outcome"].as_str().unwrap())).collect();
    let expected = [
        ("a b", "refused"),
        ("docker.io/org/app:1", "done"),
        ("docker.io/org/multi:1", "done"),
        ("docker.io/org/none:1", "missing"),
        ("no.example/x:1", "refused"),
    ];
    assert_eq!(outcomes, expected, "{items:?}");
    assert_eq!((&last["items"], &last["failed"]), (&5.into(), &3.into()));
    let done = at(&mirror, &["warm", "--json", "org/multi:1"]).await;
    assert_eq!(lines(&done).0[0]["outcome"], "held");

    let mirror = offline(mirror).await;
    assert_served(&mirror, "org/multi", &one.digest, &one).await;
    assert_served(&mirror, "org/multi", &arm.digest, &arm).await;
    assert_served(&mirror, "org/app", "1", &app(9)).await;
    let referrers = mirror.client().get(&format!("/v2/org/multi/referrers/{}", multi.digest)).await.json();
    assert_eq!(referrers["manifests"][0]["digest"], signature.digest.as_str());
}

#[tokio::test]
async fn tags_are_selected_and_images_are_read_out_of_manifests() {
    let registry = Upstream::start().await;
    for (seed, tag) in ["1.9", "1.10", "2.0", "latest"].into_iter().enumerate() {
        registry.publish("org/app", tag, &image(&[blob(1000, seed as u64)]));
    }
    registry.publish("org/web", "1", &app(50));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pod.yaml");
    std::fs::write(&file, "spec:\n  containers:\n  - name: web\n    image: org/web:1\n").unwrap();
    let done = at(&mirror, &["warm", "--json", "-f", text(&file), "org/app{semver=<2; newest=1}"]).await;
    assert!(done.status.success(), "{}", said(&done));
    let mut names: Vec<_> = lines(&done).0.iter().map(|item| item["item"].as_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["docker.io/org/app:1.10", "docker.io/org/web:1"]);
    let done = at(&mirror, &["warm", "org/app{newest=}"]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert_eq!(at(&mirror, &["warm"]).await.status.code(), Some(64));
}

#[tokio::test]
async fn a_platform_is_pulled_alone() {
    let registry = Upstream::start().await;
    let (one, other) = (app(1), app(5));
    registry.publish("org/multi", "1", &index(&[&one, &other]));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let done = at(&mirror, &["warm", "--json", "--platform", "linux/s390x", "org/multi:1"]).await;
    assert_eq!(lines(&done).0[0]["outcome"], "missing", "{}", said(&done));
    let manifest: serde_json::Value = mirror.client().get("/v2/org/multi/manifests/1").await.json();
    let platform = &manifest["manifests"][0]["platform"];
    let platform = format!("linux/{}", platform["architecture"].as_str().unwrap());
    let done = at(&mirror, &["warm", "--platform", &platform, "org/multi:1"]).await;
    assert!(done.status.success(), "{}", said(&done));
    let mirror = offline(mirror).await;
    assert_served(&mirror, "org/multi", &one.digest, &one).await;
    super::assert_nothing_of(&mirror, "org/multi", &other).await;
}

#[tokio::test]
async fn while_pulls_are_limited_it_waits_and_tells_when() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &app(1));
    registry.script(blobs().once().too_many_requests("2"));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let client = Client::new(mirror.admin);
    let warming = at(&mirror, &["warm", "--json", "org/app:1"]);
    let looking = async {
        eventually("the job tells that it waits", async || {
            let jobs = client.get("/api/v1/jobs").await.json();
            let note = jobs["jobs"][0]["note"].as_str().unwrap_or_default().to_owned();
            note.contains("limits pulls; goes on at")
        })
        .await;
    };
    let (done, ()) = tokio::join!(warming, looking);
    assert!(done.status.success(), "{}", said(&done));
    assert_served(&offline(mirror).await, "org/app", "1", &app(1)).await;
}

#[tokio::test]
async fn a_job_outlives_its_command_and_the_process_and_can_be_cancelled() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &app(1));
    let gate = Gate::closed();
    let stalled = registry.script(blobs().always().stall_before_headers(&gate));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let (client, body) = (Client::new(mirror.admin), r#"{"references": ["org/app:1"]}"#);
    let (socket, path) = (mirror.storage().join("admin.sock"), "/api/v1/warm");
    let start = async || {
        let (socket, body) = (socket.clone(), body.to_owned());
        tokio::task::spawn_blocking(move || super::post(&socket, path, &body)).await.unwrap()
    };
    let started = start().await;
    let id = started["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!(client.get(&format!("/api/v1/jobs/{id}")).await.json()["job"]["state"], "running");
    assert_eq!(client.get("/api/v1/jobs/none").await.status, 404);
    assert!(mirror.storage().join(format!("jobs/{id}.json")).exists());

    let mirror = mirror.restart().await;
    stalled.revoke();
    let client = Client::new(mirror.admin);
    eventually("it went on at the next start", async || {
        let jobs = client.get("/api/v1/jobs").await.json();
        jobs["jobs"][0]["state"] == "done"
    })
    .await;
    let written = mirror.storage().join(format!("jobs/{id}.json"));
    eventually("it is forgotten", async || !written.exists()).await;
    assert_served(&offline(mirror).await, "org/app", "1", &app(1)).await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_ends_and_does_not_come_back() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &app(1));
    let gate = Gate::closed();
    let _stalled = registry.script(blobs().always().stall_before_headers(&gate));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let socket = mirror.storage().join("admin.sock");
    let ask = async |method: &'static str, path: String, body: &'static str| {
        let socket = socket.clone();
        tokio::task::spawn_blocking(move || super::request(&socket, method, &path, body)).await.unwrap()
    };
    let started = ask("POST", "/api/v1/warm".to_owned(), r#"{"references": ["org/app:1"]}"#).await;
    let path = format!("/api/v1/jobs/{}", started["job"]["id"].as_str().unwrap());
    gate.arrived().await;
    ask("POST", format!("{path}/cancel"), "").await;
    eventually("it has ended", async || ask("GET", path.clone(), "").await["job"]["state"] == "stopped").await;
    gate.open();
    let jobs = mirror.storage().join("jobs");
    eventually("it is forgotten", async || crate::support::mirror::files_below(&jobs).is_empty()).await;
    // Without the socket nobody cancels anything.
    let client = Client::new(mirror.admin);
    assert_eq!(client.send(http::Method::POST, &format!("{path}/cancel"), &[]).await.status, 401);
}

#[tokio::test]
async fn lists_of_the_configuration_are_kept_fresh() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &app(1));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("more.txt");
    std::fs::write(&file, "org/none:1 # gone\n").unwrap();
    let toml = format!(
        "[upstreams.\"docker.io\"]\nurl = \"{}\"\n[[warm]]\nname = \"base\"\nimages = [\"org/app:1\"]\nfile = \"{}\"\nevery = \"1h\"\n",
        registry.url(),
        file.display()
    );
    let mirror = Mirror::start(toml).await;
    let client = Client::new(mirror.admin);
    eventually("the first round has ended", async || {
        let status = client.get("/api/v1/status").await.json();
        status["warm"][0]["state"] == "done"
    })
    .await;
    let status = client.get("/api/v1/status").await.json();
    assert_eq!((&status["warm"][0]["items"], &status["warm"][0]["failed"]), (&2.into(), &1.into()));
    assert!(status["warm"][0]["last_good"].is_null(), "one was missing");
    eventually("it is counted", async || mirror.metric("roadstead_warm_failed_images{list=\"base\"}") == 1.0).await;
    assert!(said(&at(&mirror, &["status"]).await).contains("warm base: done, 2 images, 1 failed"));
    assert_served(&offline(mirror).await, "org/app", "1", &app(1)).await;
}
