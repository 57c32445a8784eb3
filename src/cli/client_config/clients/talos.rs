//! Talos: a patch of the machine configuration.

use std::fmt::Write as _;

use super::{OPEN, Plan, SECRET, Wanted, base64, names, quoted};

pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    wanted.refuse_headers("Talos")?;
    let mut text = String::from(
        "# Made by `roadstead client-config`: a patch of the machine configuration.\nmachine:\n  registries:\n    mirrors:\n",
    );
    let names = names(wanted);
    for name in names {
        let _ = write!(
            text,
            "      {}:\n        endpoints:\n          - {}\n",
            quoted(&name),
            quoted(&wanted.mirror.url())
        );
        if wanted.strict {
            text.push_str("        skipFallback: true\n");
        }
    }
    if wanted.ca.is_some() || wanted.identity.is_some() {
        let _ = write!(text, "    config:\n      {}:\n        tls:\n", quoted(&wanted.mirror.address));
        if let Some(ca) = &wanted.ca {
            let _ = writeln!(text, "          ca: {}", base64(ca));
        }
        if let Some((certificate, key)) = &wanted.identity {
            let _ = write!(
                text,
                "          clientIdentity:\n            crt: {}\n            key: {}\n",
                base64(certificate),
                base64(key)
            );
        }
    }
    let mut plan = Plan::default();
    plan.file("roadstead-talos.yaml", text, if wanted.identity.is_some() { SECRET } else { OPEN });
    plan.then("talosctl patch machineconfig --nodes NODES --patch @roadstead-talos.yaml; no reboot");
    if wanted.strict {
        plan.then("strict needs Talos 1.9 or later, which knows skipFallback");
    }
    Ok(plan)
}
