//! The chart and what is made of it, held by helm and by the types of those who read it.

use std::fs;
use std::path::Path;

use crate::support::certificate::Certificate;
use crate::support::machine::Machine;
use crate::support::{process, program, work_folder};

const KUBERNETES: &str = "1.30.0";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn helm(machine: &Machine, arguments: &[&str]) -> String {
    let mut command = process::command(program::find("helm"));
    command.args(arguments).current_dir(root()).env("HOME", machine.folder());
    process::run("helm", machine.folder(), &mut command)
}

fn template(machine: &Machine, values: &[&str]) -> String {
    let values = values.iter().flat_map(|value| ["--set", value]);
    let fixed = ["template", "roadstead", "deploy/helm/roadstead", "--kube-version", KUBERNETES];
    helm(machine, &fixed.into_iter().chain(values).collect::<Vec<_>>())
}

const EVERYTHING: &[&str] = &[
    "nodes.enabled=true",
    "nodes.strict=true",
    "nodes.authorities={quay.io,registry.corp:5000}",
    "nodes.caConfigMap=ca",
    "nodes.nodeSelector.a=b",
    "secrets={hub,quay.robot}",
    "adminTokenSecret=admin",
    "tlsSecret=tls",
    "hostnames={mirror.corp}",
    "imagePullSecrets[0].name=pull",
    "service.type=NodePort",
    "service.nodePort=30500",
    "networkPolicy.clients[0].ipBlock.cidr=10.0.0.0/8",
    "networkPolicy.monitoring[0].namespaceSelector.matchLabels.team=ops",
    "persistence.storageClass=fast",
    "priorityClassName=high",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=disk",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
];

#[test]
fn helm_finds_nothing_in_the_chart_and_its_schema_refuses_wrong_values() {
    let folder = work_folder();
    let machine = Machine::new(folder.path(), "m1");
    helm(&machine, &["lint", "--strict", "deploy/helm/roadstead"]);
    for wrong in
        ["nodes.client=windows", "nodes.mirror=ftp://a", "persistence.size=big", "imag.tag=1", "secrets={../x}"]
    {
        let mut command = process::command(program::find("helm"));
        command.args(["template", "deploy/helm/roadstead", "--set", wrong]).current_dir(root());
        assert!(process::try_run("helm", machine.folder(), &mut command).is_none(), "{wrong} is accepted");
    }
}

#[test]
fn the_plain_manifests_are_the_chart_with_its_own_values() {
    let folder = work_folder();
    let machine = Machine::new(folder.path(), "m1");
    for (file, values, only) in [("roadstead", &[][..], ""), ("nodes", &["nodes.enabled=true"], "templates/nodes.yaml")]
    {
        let file = root().join(format!("deploy/kubernetes/{file}.yaml"));
        let shipped = fs::read_to_string(&file).expect("it is shipped");
        let made = template(&machine, values);
        let parts = made.split_inclusive("---\n").filter(|part| part.contains(only)).collect::<String>();
        let plain =
            |text: &str| text.lines().filter(|line| !line.starts_with(['#', '-'])).collect::<Vec<_>>().join("\n");
        assert_eq!(
            plain(&parts).trim(),
            plain(&shipped).trim(),
            "{} is out of date: see its first lines",
            file.display()
        );
    }
}

/// By the source of Kubernetes, `OpenShift`, k3s, Talos and buildkit themselves.
#[test]
fn those_who_read_the_files_know_every_field() {
    let folder = work_folder();
    let machine = Machine::new(folder.path(), "m1");
    machine.write("everything.yaml", &template(&machine, EVERYTHING));
    let certificate = Certificate::new(folder.path(), &["mirror.corp"]);
    let [ca, chain, key] =
        [&certificate.authority, &certificate.chain, &certificate.key].map(|file| file.display().to_string());
    let lay_out = |client: &str, more: &[&str]| {
        let root = machine.path(client);
        fs::create_dir(&root).expect("a machine's folder is writable");
        let mut command = process::command(env!("CARGO_BIN_EXE_roadstead"));
        command.args(["client-config", client, "--mirror", "https://mirror.corp:5000", "--ca", &ca, "--write", &root]);
        process::run("client-config", machine.folder(), command.args(more));
    };
    let identity = ["--client-cert", &chain, "--client-key", &key];
    let strictly = [&identity[..], &["--strict"]].concat();
    for client in ["k3s", "rke2", "talos"] {
        lay_out(client, &strictly);
    }
    lay_out("openshift", &["--strict"]);
    lay_out("buildkit", &identity);
    let files = [
        ("openshift", "roadstead-openshift.yaml"),
        ("k3s", "etc/rancher/k3s/registries.yaml"),
        ("rke2", "etc/rancher/rke2/registries.yaml"),
        ("talos", "roadstead-talos.yaml"),
        ("buildkit", "etc/buildkit/buildkitd.toml"),
    ];
    let mut check = process::command(program::find("roadstead-schemas"));
    check.args(["kubernetes/roadstead.yaml", "kubernetes/nodes.yaml"].map(|file| root().join("deploy").join(file)));
    check.arg(machine.path("everything.yaml"));
    for (client, file) in files {
        check.arg(root().join("deploy/clients").join(client).join(file));
        check.arg(machine.folder().join(client).join(file));
    }
    process::run("schemas", machine.folder(), &mut check);
    machine.write("wrong-talos.yaml", "machine:\n  registries:\n    mirrorz: {}\n");
    let mut wrong = process::command(program::find("roadstead-schemas"));
    wrong.arg(machine.path("wrong-talos.yaml"));
    assert!(process::try_run("schemas", machine.folder(), &mut wrong).is_none(), "it looks at nothing");
}
