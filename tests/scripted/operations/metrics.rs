//! Everything that the issue wants counted, after traffic of each kind.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::image::{image, index};
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

async fn scraped(mirror: &Mirror, line: &str) -> f64 {
    let text = Client::new(mirror.admin).get("/metrics").await.text();
    let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{line} in\n{text}"))
}

#[tokio::test]
async fn each_kind_of_traffic_moves_its_counter() {
    let registry = Upstream::start().await;
    let app = image(&[blob(500_000, 1)]);
    registry.publish("org/app", "1", &app);
    registry.publish("org/app", "list", &index(&[]));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let client = mirror.client();
    let layer = &app.layers()[0];
    let blob_path = format!("/v2/org/app/blobs/{}", layer.digest);

    let gate = Gate::closed();
    registry.script(blobs().get().once().stall_after(100_000, &gate));
    let pull = || {
        let (client, path) = (client.clone(), blob_path.clone());
        tokio::spawn(async move { client.get(&path).await })
    };
    let first = pull();
    gate.arrived().await;
    assert_eq!(scraped(&mirror, "roadstead_fills_running{authority=\"docker.io\"}").await, 1.0);
    let joined = client.open(http::Method::GET, &blob_path, &[]).await.unwrap();
    assert_eq!(scraped(&mirror, "roadstead_requests_in_flight").await, 2.0);
    gate.open();
    assert_eq!(first.await.unwrap().body.len(), 500_000);
    assert_eq!(joined.bytes().await.unwrap().len(), 500_000);
    mirror.pull_whole("org/app", "1").await;
    client.get("/v2/org/app/manifests/list").await;
    registry.script(manifests().up_to(1).rate_limit("100;w=21600", "76;w=21600"));
    mirror.advance(Duration::from_mins(2));
    client.get("/v2/org/app/manifests/list").await;
    assert_eq!(scraped(&mirror, "roadstead_rate_limit_remaining{authority=\"docker.io\"}").await, 76.0);
    mirror.advance(Duration::from_mins(2));
    registry.script(manifests().always().too_many_requests("60"));
    client.get("/v2/org/app/manifests/list").await;

    let of = "{authority=\"docker.io\"}";
    for (name, at_least) in [
        (format!("roadstead_hits_total{of}"), 1.0),
        (format!("roadstead_misses_total{of}"), 3.0),
        (format!("roadstead_joined_readers_total{of}"), 1.0),
        (format!("roadstead_stale_serves_total{of}"), 1.0),
        ("roadstead_revalidations_total{authority=\"docker.io\",result=\"unchanged\"}".to_owned(), 1.0),
        ("roadstead_revalidations_total{authority=\"docker.io\",result=\"failed\"}".to_owned(), 1.0),
        (format!("roadstead_upstream_received_bytes_total{of}"), 500_000.0),
        (format!("roadstead_served_bytes_total{of}"), 1_000_000.0),
        ("roadstead_stored_bytes".to_owned(), 500_000.0),
        ("roadstead_time_to_first_byte_seconds_count{kind=\"blob\",outcome=\"fill\"}".to_owned(), 1.0),
        (
            "roadstead_time_to_first_byte_seconds_bucket{le=\"+Inf\",kind=\"manifest\",outcome=\"stale\"}".to_owned(),
            1.0,
        ),
        (upstream_requests("manifest", "HEAD", "429"), 1.0),
        (upstream_requests("manifest", "HEAD", "200"), 2.0),
        (upstream_requests("blob", "GET", "200"), 1.0),
        (requests("manifest", "stale", 200), 1.0),
        (requests("blob", "fill", 200), 1.0),
    ] {
        let value = scraped(&mirror, &name).await;
        assert!(value >= at_least, "{name}: {value}");
    }
    let breaker = |lane| {
        format!("roadstead_breaker_open{{authority=\"docker.io\",endpoint=\"{}\",lane=\"{lane}\"}}", registry.host())
    };
    assert_eq!(scraped(&mirror, &breaker("manifests")).await, 1.0);
    assert_eq!(scraped(&mirror, &breaker("blobs")).await, 0.0, "a ration of manifests leaves blobs alone");
    assert_eq!(scraped(&mirror, "roadstead_fills_running{authority=\"docker.io\"}").await, 0.0);
    assert_eq!(scraped(&mirror, "roadstead_requests_in_flight").await, 0.0);
}

fn upstream_requests(kind: &str, method: &str, status: &str) -> String {
    let labels = format!("authority=\"docker.io\",kind=\"{kind}\",method=\"{method}\",status=\"{status}\"");
    format!("roadstead_upstream_requests_total{{{labels}}}")
}

fn requests(kind: &str, outcome: &str, status: u16) -> String {
    let labels = format!("authority=\"docker.io\",kind=\"{kind}\",outcome=\"{outcome}\",status=\"{status}\"");
    format!("roadstead_requests_total{{{labels}}}")
}

#[tokio::test]
async fn what_clients_ask_makes_no_new_labels() {
    let registry = Upstream::start().await;
    let mirror = Mirror::of("docker.io", registry.url()).await;
    let lines = async || Client::new(mirror.admin).get("/metrics").await.text().lines().count();
    let ask = async |at: usize| {
        for path in [
            format!("/v2/org/app{at}/manifests/t{at}"),
            format!("/v2/host{at}.test/app/manifests/1"),
            format!("/v2/org/app/manifests/1?ns=host{at}.test"),
            format!("/elsewhere{at}"),
        ] {
            mirror.client().get(&path).await;
        }
        let method = http::Method::from_bytes(format!("M{at}").as_bytes()).unwrap();
        mirror.client().send(method, "/v2/", &[]).await;
    };
    ask(0).await;
    let before = lines().await;
    for at in 1..20 {
        ask(at).await;
    }
    assert_eq!(lines().await, before, "t29 labels are bounded");
}

#[tokio::test]
async fn build_process_limits_and_waits_for_upstream_are_shown() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[]));
    let toml = format!("[upstreams.\"docker.io\"]\nurl = \"{}\"\nmax_size = \"1GiB\"\n", registry.url());
    let mirror = Mirror::builder(toml).storage("max_size = \"2GiB\"").start().await;
    assert_eq!(mirror.client().get("/v2/org/app/manifests/1").await.status, 200);
    for (line, least) in [
        (concat!("roadstead_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
        ("process_cpu_seconds_total", 0.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_virtual_memory_bytes", 1e6),
        ("process_threads", 1.0),
        ("process_open_fds", 3.0),
        ("process_max_fds", 3.0),
        ("process_start_time_seconds", 1.7e9),
        ("roadstead_max_size_bytes", 2.0 * 1024.0 * 1024.0 * 1024.0),
        ("roadstead_quota_bytes{authority=\"docker.io\"}", 1024.0 * 1024.0 * 1024.0),
        ("roadstead_upstream_response_seconds_count{authority=\"docker.io\",kind=\"manifest\"}", 1.0),
    ] {
        let value = scraped(&mirror, line).await;
        assert!(value >= least, "{line}: {value}");
    }
    assert!(Client::new(mirror.admin).get("/metrics").await.text().ends_with("# EOF\n"));
}
