//! The mirror of this machine: its configuration, and the one that runs.

use roadstead::config::Config;
use serde_json::Value;

use super::certificate;
use super::finding::Findings;
use crate::cli::output::{list, number, plain, size};
use crate::cli::reach::server;

pub(super) fn look(config: &Config, findings: &mut Findings) {
    configuration(config, findings);
    for tls in config.server.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        match std::fs::read(&tls.certificate) {
            Ok(pem) => certificate::look_at_pem("certificate of the mirror", &pem, findings),
            Err(err) => findings.bad(
                "certificate of the mirror",
                format!("{}: {err}", tls.certificate.display()),
                "let the server read it",
            ),
        }
    }
    match server::try_ask(config, "/api/v1/status") {
        Ok(Some(text)) => running(config, &text, findings),
        Ok(None) => findings.bad(
            "server",
            "none runs with this configuration",
            "start it: roadstead serve, or systemctl start roadstead",
        ),
        Err(why) => findings.bad("server", why, "run this as root, or as the user who owns the storage"),
    }
}

fn configuration(config: &Config, findings: &mut Findings) {
    const ABOUT: &str = "configuration";
    for doubt in &config.doubts {
        findings.doubt(ABOUT, format!("{}: {}", doubt.key, doubt.message), "see config/roadstead.toml for this key");
    }
    let listeners = &config.server.listeners;
    if listeners.iter().all(|listener| listener.address.ip().is_loopback()) {
        findings.doubt(
            ABOUT,
            "only this machine can use the mirror: it listens on loopback alone",
            "set server.listen, if others are to use it",
        );
    }
    if config.storage.limits.max_size.is_none() {
        findings.doubt(
            ABOUT,
            "there is no storage.max_size: the cache grows until storage.min_free",
            "set storage.max_size",
        );
    }
    let exposed = listeners.iter().any(|listener| !listener.address.ip().is_loopback());
    for registry in &config.upstreams {
        let upstream = &registry.upstream;
        let has_login = !upstream.credentials.is_empty();
        if has_login && registry.policy.public {
            findings.doubt(
                ABOUT,
                format!(
                    "{}: it has credentials, and public = true opens what they read to every repository",
                    upstream.name
                ),
                "leave public out, or the credentials",
            );
        }
        if has_login && exposed && registry.policy.allow.is_empty() {
            findings.doubt(
                ABOUT,
                format!("{}: everybody who reaches the mirror can pull what its credentials can", upstream.name),
                "restrict it with allow, or with a firewall",
            );
        }
        if upstream.skip_verify {
            findings.doubt(
                ABOUT,
                format!("{}: skip_verify takes any certificate, and gives it the credentials", upstream.name),
                "name the authority with ca",
            );
        }
    }
}

fn running(config: &Config, status: &str, findings: &mut Findings) {
    let Ok(status) = serde_json::from_str::<Value>(status) else {
        findings.bad("server", "its status cannot be read", "update this command and the server to one version");
        return;
    };
    let version = plain(&status, "version");
    if version == env!("CARGO_PKG_VERSION") {
        findings.good("server", format!("version {version} runs"));
    } else {
        findings.doubt(
            "server",
            format!("version {version} runs, and this command is {}", env!("CARGO_PKG_VERSION")),
            "restart the server after an update",
        );
    }
    for part in list(&status, "degraded").iter().filter(|part| plain(part, "part") != "upstream") {
        findings.bad(
            &format!("storage: {}", plain(part, "part")),
            plain(part, "why"),
            "see docs/operations.md, Health",
        );
    }
    for trouble in list(&status, "upstream_troubles") {
        let [upstream, kind, why, remedy] = ["upstream", "trouble", "why", "remedy"].map(|key| plain(trouble, key));
        findings.bad(&format!("upstream {upstream}"), format!("{kind}, as pulls have shown: {why}"), remedy);
    }
    match number(&status, "lost") {
        0 => {}
        lost => findings.doubt(
            "storage",
            format!("{lost} blobs are lost: no registry has them"),
            "roadstead lost lists them; roadstead restore does not bring blobs back",
        ),
    }
    let used = number(&status, "used_bytes");
    let full = config.storage.limits.max_size.map_or_else(String::new, |max| format!(" of {}", size(max)));
    findings.good("storage", format!("{}{full} are used", size(used)));
    hits(config, findings);
}

/// Whether clients come at all.
fn hits(config: &Config, findings: &mut Findings) {
    let Ok(Some(text)) = server::try_ask(config, "/metrics") else { return };
    let of = |name: &str| -> Vec<(String, f64)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        lines.filter_map(|(labels, value)| Some((labels.to_owned(), value.trim().parse().ok()?))).collect()
    };
    let requests = of("roadstead_requests_total");
    let sum =
        |word: &str| requests.iter().filter(|(labels, _)| labels.contains(word)).map(|(_, value)| value).sum::<f64>();
    let pulls = sum("kind=\"manifest\"") + sum("kind=\"blob\"");
    if pulls == 0.0 {
        findings.doubt(
            "use",
            "nobody has pulled through this mirror since it started",
            "on a client: roadstead doctor --mirror URL, and roadstead client-config",
        );
        return;
    }
    let errors = sum("outcome=\"error\"");
    let share = |value: f64| (value / pulls * 100.0).round();
    let hits = sum("outcome=\"hit\"");
    findings.good(
        "use",
        format!(
            "{pulls} requests of pulls since it started: {} % hits, {} % errors; the lines of the log say by whom",
            share(hits),
            share(errors)
        ),
    );
}
