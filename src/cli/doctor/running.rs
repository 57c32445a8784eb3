//! A running server: what it says of itself, and whether clients come.

use serde_json::Value;

use super::finding::Findings;
use crate::cli::output::{list, number, plain, size};
use crate::cli::reach::server::Server;

pub(super) fn look(server: &Server, findings: &mut Findings) {
    let text = match server.try_text("/api/v1/status") {
        Ok(text) => text,
        Err(why) => {
            findings.bad("server", why, "is it one, and is --token-file right? Else look at its own log");
            return;
        }
    };
    let Ok(status) = serde_json::from_str::<Value>(&text) else {
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
    let max = status.get("max_size").and_then(Value::as_u64);
    let full = max.map_or_else(String::new, |max| format!(" of {}", size(max)));
    findings.good("storage", format!("{}{full} are used", size(used)));
    hits(server, findings);
}

/// Whether clients come at all.
fn hits(server: &Server, findings: &mut Findings) {
    let Ok(text) = server.try_text("/metrics") else { return };
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
