//! Bottlerocket: settings, given as user data or through its API.

use std::fmt::Write as _;

use super::{OPEN, Plan, Wanted, base64, names, quoted};

pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    wanted.refuse_headers("Bottlerocket")?;
    wanted.refuse_identity("Bottlerocket")?;
    wanted.refuse_strict("Bottlerocket", "keep its nodes from the registries by the network")?;
    let names = names(wanted);
    let mut text = String::from("# Made by `roadstead client-config`: settings of Bottlerocket.\n");
    for name in names {
        let _ = write!(
            text,
            "\n[[settings.container-registry.mirrors]]\nregistry = {}\nendpoint = [{}]\n",
            quoted(&name),
            quoted(&wanted.mirror.url())
        );
    }
    if let Some(ca) = &wanted.ca {
        let _ = write!(text, "\n[settings.pki.roadstead]\ntrusted = true\ndata = {}\n", quoted(&base64(ca)));
    }
    let mut plan = Plan::default();
    plan.file("roadstead-bottlerocket.toml", text, OPEN);
    plan.then("as user data of new nodes; on a running one: apiclient apply < roadstead-bottlerocket.toml");
    plan.then("the list of mirrors is replaced as a whole: add the ones that you have");
    Ok(plan)
}
