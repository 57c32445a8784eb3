//! The alerts and the dashboard, read by a real Prometheus that scrapes a real Roadstead.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::clients::{Client as _, Containerd};
use crate::support::machine::Machine;
use crate::support::mirror::{Mirror, Transport};
use crate::support::process::{self, Process};
use crate::support::upstreams::{HUB, Upstreams};
use crate::support::{curl, port, wait, work_folder};

const LIMIT: Duration = Duration::from_secs(30);

fn shipped(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    fs::read_to_string(file).expect("the file is shipped")
}

#[test]
fn promtool_finds_nothing_in_the_alerts() {
    let folder = work_folder();
    let machine = Machine::new(folder.path(), "m1");
    machine.write("roadstead.rules.yml", &shipped("prometheus/roadstead.rules.yml"));
    let mut command = machine.command("promtool");
    let told = process::run("promtool", machine.folder(), command.args(["check", "rules", "roadstead.rules.yml"]));
    assert!(told.contains("SUCCESS"), "{told}");
}

#[test]
fn a_real_prometheus_scrapes_it_and_answers_every_query_of_the_dashboard() {
    let folder = work_folder();
    let upstreams = Upstreams::start(folder.path());
    let mirror = Mirror::start(folder.path(), Transport::Plain, &upstreams.configuration());
    let node = Containerd::set_up(folder.path(), "m1", &mirror);
    let image = &upstreams.hub.images[0];
    assert_eq!(node.pull(HUB, image), image.digest());

    let machine = Machine::new(folder.path(), "m2");
    machine.write("roadstead.rules.yml", &shipped("prometheus/roadstead.rules.yml"));
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [roadstead.rules.yml]\n\
         scrape_configs: [{{job_name: roadstead, static_configs: [{{targets: [\"127.0.0.1:{}\"]}}]}}]\n",
        mirror.admin_port()
    );
    machine.write("prometheus.yml", &config);
    let port = port::free();
    let mut command = machine.command("prometheus");
    command
        .arg(format!("--config.file={}", machine.path("prometheus.yml")))
        .arg(format!("--storage.tsdb.path={}", machine.path("data")))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut prometheus = Process::start("prometheus", machine.folder(), &mut command);
    let ask = |path: &str, query: Option<&str>| -> Option<Value> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let encoded = query.map(|query| format!("query={query}"));
        let mut arguments = vec![url.as_str()];
        if let Some(encoded) = &encoded {
            arguments.extend(["--get", "--data-urlencode", encoded]);
        }
        serde_json::from_str(&curl::body(machine.folder(), &arguments)?).ok()
    };
    let ready = prometheus.becomes_ready(LIMIT, || ask("/api/v1/status/buildinfo", None).is_some());
    assert!(ready, "prometheus ended at once");
    wait::until("Prometheus to have scraped Roadstead", LIMIT, || {
        let scraped = ask("/api/v1/query", Some("sum(roadstead_requests_total) > 0"))?;
        scraped["data"]["result"][0].is_object().then_some(())
    });

    let dashboard: Value = serde_json::from_str(&shipped("grafana/roadstead.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    let mut asked = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
        let expression = target["expr"].as_str().expect("each query is a text");
        let expression = ["$__rate_interval", "$__range"].iter().fold(expression.to_owned(), |e, v| e.replace(v, "1m"));
        let expression = ["$instance", "$authority", "$job"].iter().fold(expression, |e, v| e.replace(v, ".*"));
        let answer = ask("/api/v1/query", Some(&expression)).expect("Prometheus answers");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        asked += 1;
    }
    assert!(asked > 30, "the dashboard was understood");
    wait::until("Prometheus to have looked at each alert", LIMIT, || {
        let rules = ask("/api/v1/rules", None)?;
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
}
