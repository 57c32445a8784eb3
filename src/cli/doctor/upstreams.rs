//! Each registry is asked for one tag by HEAD, which none counts as a pull: name, connection, certificate, login and ration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roadstead::clock::Clock;
use roadstead::health::Health;
use roadstead::metrics::Metrics;
use roadstead::mirror::{RegistryKey, RegistrySettings};
use roadstead::oci::Authority;
use roadstead::upstream::{Context, Failure, RegistryClient, Troubles, UpstreamClients};
use tokio_util::task::TaskTracker;

use super::finding::Findings;

/// Docker's own repository for questions about the ration.
const HUB: (&str, &str) = ("docker.io", "ratelimitpreview/test");
/// It need not be there: `not found` is an answer.
const ANY: &str = "roadstead/doctor";
const SLOW: Duration = Duration::from_secs(1);
const LOW_RATION: i64 = 20;

pub(super) async fn look(registries: &[RegistrySettings], findings: &mut Findings) {
    let (clock, metrics) = (Clock::default(), Metrics::default());
    let context = Context {
        troubles: Troubles::new(clock.clone(), metrics.clone()),
        clock,
        metrics,
        health: Health::default(),
        tasks: TaskTracker::new(),
        via: "1.1 roadstead-doctor".into(),
    };
    // All at one time: those that do not answer take their whole deadline.
    let asked = registries.iter().filter_map(|registry| match &registry.key {
        RegistryKey::Authority(authority) => Some(ask(authority.clone(), registry, &context)),
        RegistryKey::Wildcard(_) => None,
    });
    for one in futures_util::future::join_all(asked).await {
        findings.extend(one);
    }
}

async fn ask(authority: Authority, registry: &RegistrySettings, context: &Context) -> Findings {
    let mut findings = Findings::default();
    let about = format!("upstream {authority}");
    if registry.policy.offline {
        findings.good(&about, "is offline by configuration");
        return findings;
    }
    let client = UpstreamClients::new(&registry.upstream, context).map_err(|err| err.to_string()).and_then(|clients| {
        RegistryClient::new(authority.clone(), Arc::clone(&registry.upstream), &clients, context)
            .map_err(|err| err.to_string())
    });
    let client = match client {
        Ok(client) => client,
        Err(why) => {
            findings.bad(&about, why, "roadstead check-config names the key");
            return findings;
        }
    };
    let repository = if authority.as_str() == HUB.0 { HUB.1 } else { ANY };
    let (Ok(repository), Ok(reference)) = (repository.parse(), "latest".parse()) else { return findings };
    let started = Instant::now();
    let answer = client.head_manifest(&repository, &reference, client.answer_deadline()).await;
    let took = started.elapsed();
    let failure = answer.err().map(|err| err.failure);
    if let Some(refused) = client.login_refused() {
        findings.bad(
            &about,
            format!("refuses the credentials from {}", refused.source),
            "put the right ones there; the server reads them again by itself",
        );
    } else {
        judge(&about, failure.as_ref(), took, !registry.upstream.credentials.is_empty(), &mut findings);
    }
    ration(&about, &authority, &context.metrics, &mut findings);
    findings
}

fn judge(about: &str, failure: Option<&Failure>, took: Duration, has_login: bool, findings: &mut Findings) {
    let millis = took.as_millis();
    match failure {
        // A registry says one of these of what is not there.
        None
        | Some(
            Failure::NotFound
            | Failure::DeniedAnonymous
            | Failure::DeniedCredentials
            | Failure::HeadRefused
            | Failure::UnexpectedStatus(_),
        ) => {
            let login = if has_login { ", and takes the credentials" } else { "" };
            if took > SLOW {
                findings.doubt(
                    about,
                    format!("answers after {millis} ms{login}"),
                    "each pull of a tag that has grown old waits as long: a longer tag_ttl spares that",
                );
            } else {
                findings.good(about, format!("answers after {millis} ms{login}"));
            }
        }
        Some(failure @ Failure::RateLimited { .. }) => {
            findings.bad(about, failure.to_string(), "wait, or configure credentials for it");
        }
        Some(failure @ Failure::Unreachable(_)) => {
            findings.bad(
                about,
                failure.to_string(),
                "look at DNS, firewall, proxy and ca for it; see config/roadstead.toml",
            );
        }
        Some(failure) => findings.bad(about, failure.to_string(), "see docs/operations.md, Upstreams in trouble"),
    }
}

fn ration(about: &str, authority: &Authority, metrics: &Metrics, findings: &mut Findings) {
    let line = format!("roadstead_rate_limit_remaining{{authority=\"{authority}\"}} ");
    let text = metrics.encode();
    let Some(left) = text.lines().find_map(|text| text.strip_prefix(&line)?.parse::<i64>().ok()) else { return };
    if left < LOW_RATION {
        findings.doubt(
            about,
            format!("{left} pulls are left of its ration"),
            "configure credentials for it, or a longer tag_ttl",
        );
    } else {
        findings.good(about, format!("{left} pulls are left of its ration"));
    }
}
