//! A separate buildkitd. It tells the mirror by `ns` which registry it wants.

use std::fmt::Write as _;

use super::merge::Merge;
use super::{OPEN, Plan, Wanted, certificates, quoted};

pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    wanted.refuse_headers("buildkit")?;
    wanted.refuse_strict("buildkit", "keep it from the registries by the network")?;
    let address = wanted.mirror.bare("buildkit")?;
    let mut text = String::from("# Made by `roadstead client-config`: FROM images through Roadstead.\n");
    for authority in &wanted.authorities {
        let _ = write!(text, "\n[registry.{}]\nmirrors = [{}]\n", quoted(authority.as_str()), quoted(address));
    }
    // Without it, buildkit speaks plain HTTP to a name on loopback.
    let _ = write!(text, "\n[registry.{}]\nhttp = {}\n", quoted(address), !wanted.mirror.is_tls);
    if wanted.ca.is_some() {
        text.push_str("ca = [\"/etc/buildkit/roadstead-ca.crt\"]\n");
    }
    if wanted.identity.is_some() {
        let _ = write!(
            text,
            "\n[[registry.{}.keypair]]\ncert = \"/etc/buildkit/roadstead-client.crt\"\nkey = \"/etc/buildkit/roadstead-client.key\"\n",
            quoted(address)
        );
    }
    let mut plan = Plan::default();
    plan.merged("etc/buildkit/buildkitd.toml", text, OPEN, Merge::Buildkit);
    let [ca, certificate, key] =
        ["ca.crt", "client.crt", "client.key"].map(|name| format!("etc/buildkit/roadstead-{name}"));
    certificates(&mut plan, wanted, &ca, &certificate, &key);
    plan.then("systemctl restart buildkit; or docker buildx create --buildkitd-config FILE");
    Ok(plan)
}
