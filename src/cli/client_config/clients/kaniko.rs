//! kaniko: arguments of its executor, one on each line.

use std::fmt::Write as _;

use super::{OPEN, Plan, Wanted, certificates};

pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    wanted.refuse_headers("kaniko")?;
    let address = wanted.mirror.bare("kaniko")?;
    let mut text = String::new();
    for authority in &wanted.authorities {
        let name = if authority.as_str() == "docker.io" { "index.docker.io" } else { authority.as_str() };
        let _ = writeln!(text, "--registry-map={name}={address}/{authority}");
    }
    if wanted.strict {
        text.push_str("--skip-default-registry-fallback\n");
    }
    if !wanted.mirror.is_tls {
        let _ = writeln!(text, "--insecure-registry={address}");
    }
    if wanted.ca.is_some() {
        let _ = writeln!(text, "--registry-certificate={address}=/kaniko/roadstead/ca.crt");
    }
    if wanted.identity.is_some() {
        let _ = writeln!(
            text,
            "--registry-client-cert={address}=/kaniko/roadstead/client.crt,/kaniko/roadstead/client.key"
        );
    }
    let mut plan = Plan::default();
    plan.file("kaniko/roadstead/arguments", text, OPEN);
    let [ca, certificate, key] = ["ca.crt", "client.crt", "client.key"].map(|name| format!("kaniko/roadstead/{name}"));
    certificates(&mut plan, wanted, &ca, &certificate, &key);
    plan.then("give these arguments to the executor, and mount the files, if there are any, at /kaniko/roadstead");
    Ok(plan)
}
