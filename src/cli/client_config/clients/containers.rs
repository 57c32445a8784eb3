//! containers/image: podman, buildah, skopeo, CRI-O. They do not tell the mirror which registry they want, so it is in the path.

use std::fmt::Write as _;

use super::{OPEN, Plan, Wanted, certificates, quoted};

pub(super) fn plan(wanted: &Wanted, client: &str, then: &str) -> Result<Plan, String> {
    wanted.refuse_headers(client)?;
    let address = wanted.mirror.bare(client)?;
    let mut text = format!("# Made by `roadstead client-config`: for {client}.\n");
    for authority in &wanted.authorities {
        let [name, through] = [authority.to_string(), format!("{address}/{authority}")].map(|text| quoted(&text));
        let insecure = !wanted.mirror.is_tls;
        let _ = write!(text, "\n[[registry]]\nprefix = {name}\n");
        let _ = if wanted.strict {
            write!(text, "location = {through}\ninsecure = {insecure}\n")
        } else {
            write!(text, "location = {name}\n\n[[registry.mirror]]\nlocation = {through}\ninsecure = {insecure}\n")
        };
    }
    let mut plan = Plan::default();
    plan.file("etc/containers/registries.conf.d/roadstead.conf", text, OPEN);
    let folder = format!("etc/containers/certs.d/{address}");
    certificates(
        &mut plan,
        wanted,
        &format!("{folder}/ca.crt"),
        &format!("{folder}/client.cert"),
        &format!("{folder}/client.key"),
    );
    plan.then(then);
    Ok(plan)
}
