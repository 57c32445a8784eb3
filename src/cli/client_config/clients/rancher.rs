//! k3s and RKE2: `registries.yaml`, from which they make containerd's `hosts.toml`.

use std::fmt::Write as _;

use super::merge::Merge;
use super::{OPEN, Plan, SECRET, Wanted, certificates, names, quoted};

pub(super) fn plan(wanted: &Wanted, client: &str, then: &str) -> Result<Plan, String> {
    wanted.refuse_headers(client)?;
    let folder = format!("etc/rancher/{client}");
    let mut text = format!("# Made by `roadstead client-config`: for {client}.\nmirrors:\n");
    let names = names(wanted);
    for name in names {
        let _ = write!(text, "  {}:\n    endpoint:\n      - {}\n", quoted(&name), quoted(&wanted.mirror.url()));
    }
    if wanted.ca.is_some() || wanted.identity.is_some() {
        let _ = write!(text, "configs:\n  {}:\n    tls:\n", quoted(&wanted.mirror.address));
        if wanted.ca.is_some() {
            let _ = writeln!(text, "      ca_file: /{folder}/roadstead-ca.crt");
        }
        if wanted.identity.is_some() {
            let _ = writeln!(text, "      cert_file: /{folder}/roadstead-client.crt");
            let _ = writeln!(text, "      key_file: /{folder}/roadstead-client.key");
        }
    }
    let mut plan = Plan::default();
    // It may hold passwords of registries.
    plan.merged(format!("{folder}/registries.yaml"), text, SECRET, Merge::Yaml);
    if wanted.strict {
        let config =
            "# Made by `roadstead client-config`: no way round the mirror.\ndisable-default-registry-endpoint: true\n";
        plan.file(format!("{folder}/config.yaml.d/roadstead.yaml"), config.to_owned(), OPEN);
        plan.then("strict needs a release of 2024 or later, which knows disable-default-registry-endpoint");
    }
    let [ca, certificate, key] =
        ["ca.crt", "client.crt", "client.key"].map(|name| format!("{folder}/roadstead-{name}"));
    certificates(&mut plan, wanted, &ca, &certificate, &key);
    plan.then(then);
    Ok(plan)
}
