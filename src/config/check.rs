//! Checks raw values into a [`Config`], and collects all problems.

use std::time::Duration;

use figment::value::Dict;
use tracing::level_filters::LevelFilter;

use crate::fill::FillLimits;
use crate::mirror::CompletionTimes;
use crate::telemetry::Format;

use super::lists::{coverage, warm};
use super::problems::Collected;
use super::section::Section;
use super::server::{access, check_server, who};
use super::{Config, LogSettings, Problems, storage, upstreams};

pub(super) fn check(values: &Dict, problems: Collected) -> Result<Config, Problems> {
    let config = {
        let root = Section::root(values, &problems);
        let upstreams = upstreams::check(&root);
        let server = root.section("server");
        let storage = storage::check(root.section("storage"), &upstreams.namespaces);
        let mut serving = check_server(&server, &upstreams.namespaces, &storage.path);
        serving.access = access::check(&root, &upstreams.namespaces, &serving.listeners);
        serving.who = who::check(&root);
        let config = Config {
            log: log(&server),
            shutdown_deadline: server.duration("shutdown_deadline").unwrap_or(Duration::from_secs(25)),
            server: serving,
            storage,
            fills: FillLimits {
                running: server.number("max_fills", 1).unwrap_or(256) as usize,
                waiting: server.number("max_waiting_fills", 1).unwrap_or(1024) as usize,
            },
            completion: CompletionTimes::default(),
            coverage: coverage::check(&root),
            warm: warm::check(&root),
            namespaces: upstreams.namespaces,
            upstreams: upstreams.registries,
            served: upstreams.served,
            doubts: Vec::new(),
        };
        server.finish();
        root.finish();
        config
    };
    let doubts = problems.take_doubts();
    problems.into_result(Config { doubts, ..config })
}

fn log(server: &Section<'_>) -> LogSettings {
    let format = match server.text("log_format").as_deref() {
        None | Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some(_) => {
            server.problem("log_format", "must be \"text\" or \"json\"");
            Format::Text
        }
    };
    let level = match server.text("log_level").as_deref() {
        None | Some("info") => LevelFilter::INFO,
        Some("error") => LevelFilter::ERROR,
        Some("warn") => LevelFilter::WARN,
        Some("debug") => LevelFilter::DEBUG,
        Some(_) => {
            server.problem("log_level", "must be \"error\", \"warn\", \"info\" or \"debug\"");
            LevelFilter::INFO
        }
    };
    LogSettings { format, level }
}
