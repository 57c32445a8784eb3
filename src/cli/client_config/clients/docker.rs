//! dockerd: `daemon.json` for Docker Hub; for others, with the containerd image store of Docker 28 and later, containerd's own
//! `hosts.toml`.

use serde_json::json;

use super::merge::Merge;
use super::{OPEN, Plan, Wanted, certificates, containerd};

const HUB: &str = "docker.io";

pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    let mut plan = Plan::default();
    let address = &wanted.mirror.address;
    if wanted.strict {
        containerd::hosts(&mut plan, wanted, "etc/docker/certs.d", true);
        plan.then("strict needs Docker 28 or later with the containerd image store; an older one goes to the registries themselves");
        plan.then("no restart: it is read at each pull");
        return Ok(plan);
    }
    wanted.refuse_headers("Docker's daemon.json")?;
    if wanted.authorities.iter().any(|authority| authority.as_str() == HUB) {
        plan.merged("etc/docker/daemon.json", daemon_json(wanted), OPEN, Merge::DaemonJson);
        plan.then("systemctl restart docker; or, if only lists of registries have changed, systemctl reload docker");
    }
    let folder = format!("etc/docker/certs.d/{address}");
    certificates(
        &mut plan,
        wanted,
        &format!("{folder}/ca.crt"),
        &format!("{folder}/client.cert"),
        &format!("{folder}/client.key"),
    );
    if wanted.named {
        let others: Vec<_> = wanted.authorities.iter().filter(|authority| authority.as_str() != HUB).cloned().collect();
        if !others.is_empty() {
            containerd::each(&mut plan, wanted, "etc/docker/certs.d", &others);
        }
        plan.then("registries other than Docker Hub need Docker 28 or later with the containerd image store");
    }
    plan.then(format!("registries other than Docker Hub, with any Docker: docker pull {address}/quay.io/NAME"));
    Ok(plan)
}

/// Docker's own settings, which keep what others there are.
pub(super) fn daemon_json(wanted: &Wanted) -> String {
    let mut settings = json!({ "registry-mirrors": [wanted.mirror.url()] });
    if let (false, Some(settings)) = (wanted.mirror.is_tls, settings.as_object_mut()) {
        settings.insert("insecure-registries".to_owned(), json!([wanted.mirror.address]));
    }
    serde_json::to_string_pretty(&settings).unwrap_or_default() + "\n"
}
