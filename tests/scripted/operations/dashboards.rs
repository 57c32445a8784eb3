//! The dashboard and the alerts name only what a running server measures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use roadstead::metrics::{ByAuthority, ByEviction, ByImages, ByResult, ByTrouble};
use serde_json::Value;

use crate::support::client::Client;
use crate::support::image::image;
use crate::support::mirror::Mirror;
use crate::support::upstream::*;

fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// The name of each series that `# TYPE` promises, and its labels, as far as there are any yet.
fn measured(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut measured = BTreeMap::new();
    for line in text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else { continue };
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        for end in ends {
            let series = format!("{name}{end}");
            let lines =
                text.lines().filter_map(|line| line.strip_prefix(&series)?.strip_prefix('{')?.split('}').next());
            let labels = lines.flat_map(|labels| labels.split("\",")).filter_map(|label| label.split('=').next());
            measured.insert(series.clone(), labels.map(str::to_owned).collect());
        }
    }
    measured
}

fn words(expression: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression
        .split(move |c: char| !is_word(c))
        .filter(|word| word.starts_with("roadstead_") || word.starts_with("process_"))
}

/// The labels that an expression selects or groups by.
fn labels(expression: &str) -> BTreeSet<String> {
    let grouped = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let selected = expression.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let selected = selected.flat_map(|all| all.split("\",")).filter_map(|one| one.split(['=', '!']).next());
    grouped.flat_map(|all| all.split(',')).chain(selected).map(|label| label.trim().to_owned()).collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_str() {
                    Some(text) if ["expr", "definition", "query"].contains(&key.as_str()) => {
                        found.push(text.to_owned());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_the_alerts_is_measured_by_a_running_server() {
    let registry = Upstream::start().await;
    registry.publish("org/app", "1", &image(&[blob(100_000, 1)]));
    let mirror = Mirror::of("docker.io", registry.url()).await;
    mirror.pull_whole("org/app", "1").await;
    let authority = || "docker.io".to_owned();
    let (metrics, by) = (mirror.metrics(), ByAuthority::of("docker.io"));
    // What has labels is there from its first event on: these have not happened.
    drop([metrics.joined_readers.get_or_create(&by), metrics.stale_serves.get_or_create(&by)]);
    drop(metrics.upstream_second_tries.get_or_create(&by));
    drop(metrics.rate_limit_remaining.get_or_create(&by));
    drop(metrics.used_bytes.get_or_create(&by));
    drop(metrics.revalidations.get_or_create(&ByResult { authority: authority(), result: "changed" }));
    drop(metrics.evicted_bytes.get_or_create(&ByEviction { authority: authority(), reason: "space" }));
    drop(metrics.images.get_or_create(&ByImages { authority: authority(), state: "whole" }));
    let trouble = ByTrouble { authority: authority(), endpoint: registry.url(), trouble: "failing" };
    drop(metrics.upstream_trouble.get_or_create(&trouble));
    let text = Client::new(mirror.admin).get("/metrics").await.text();
    let measured = measured(&text);

    let dashboard: Value = serde_json::from_str(&shipped("grafana/roadstead.json")).unwrap();
    let mut named = Vec::new();
    expressions(&dashboard, &mut named);
    let panels = named.len();
    assert!(panels > 30, "the dashboard was understood: {named:?}");
    named.extend(shipped("prometheus/roadstead.rules.yml").split("expr:").skip(1).map(|rule| {
        let lines =
            rule.lines().take_while(|line| !["for:", "labels:"].contains(&line.trim().split(' ').next().unwrap()));
        lines.collect::<Vec<_>>().join(" ")
    }));
    assert!(named.len() > panels + 8, "the rules were understood: {named:?}");

    // Prometheus adds these; `le` is that of a histogram.
    let added = ["instance", "job", "le"];
    for expression in &named {
        let metrics: Vec<_> = words(expression).collect();
        let mut known = BTreeSet::new();
        let mut is_whole = true;
        for metric in metrics {
            let labels =
                measured.get(metric).unwrap_or_else(|| panic!("{metric} is not measured: {expression}\n{text}"));
            is_whole &= !labels.is_empty();
            known.extend(labels.clone());
        }
        for label in labels(expression).iter().filter(|label| is_whole && !added.contains(&label.as_str())) {
            assert!(known.contains(label), "no label {label}: {expression}\nknown are {known:?}");
        }
    }
}
