//! `OpenShift` 4.13 and later: mirror sets, which the machine configuration operator turns into `registries.conf` on each node.

use std::fmt::Write as _;

use super::{OPEN, Plan, Wanted, quoted};

pub(super) fn plan(wanted: &Wanted) -> Result<Plan, String> {
    wanted.refuse_headers("OpenShift")?;
    wanted.refuse_identity("OpenShift")?;
    let address = wanted.mirror.bare("OpenShift")?;
    let policy = if wanted.strict { "NeverContactSource" } else { "AllowContactingSource" };
    let mut text = String::from("# Made by `roadstead client-config`: for `oc apply -f`.\n");
    for (kind, key) in [("ImageDigestMirrorSet", "imageDigestMirrors"), ("ImageTagMirrorSet", "imageTagMirrors")] {
        let _ = write!(
            text,
            "---\napiVersion: config.openshift.io/v1\nkind: {kind}\nmetadata:\n  name: roadstead\nspec:\n  {key}:\n"
        );
        for authority in &wanted.authorities {
            let _ = writeln!(text, "    - source: {}", quoted(authority.as_str()));
            let _ = writeln!(text, "      mirrors:\n        - {}", quoted(&format!("{address}/{authority}")));
            let _ = writeln!(text, "      mirrorSourcePolicy: {policy}");
        }
    }
    let mut plan = Plan::default();
    if let Some(ca) = &wanted.ca {
        // In a key of a ConfigMap, two dots stand for the colon before a port.
        let key = address.replace(':', "..");
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: roadstead-ca\n  namespace: openshift-config\ndata:\n  {}: |\n",
            quoted(&key)
        );
        for line in ca.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    plan.file("roadstead-openshift.yaml", text, OPEN);
    plan.then("oc apply -f roadstead-openshift.yaml; the nodes take the change one by one");
    if wanted.ca.is_some() {
        plan.then(r#"oc patch image.config/cluster --type merge -p '{"spec":{"additionalTrustedCA":{"name":"roadstead-ca"}}}'"#);
    }
    if !wanted.mirror.is_tls {
        plan.then(format!(
            "oc patch image.config/cluster --type merge -p '{}'   (this replaces the list: add what it has)",
            serde_json::json!({ "spec": { "registrySources": { "insecureRegistries": [address] } } })
        ));
    }
    Ok(plan)
}
