//! `roadstead client-config`: what is shipped is what it writes, it keeps what was there, and it writes nowhere else.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::program::stderr;
use crate::support::eventually;
use crate::support::mirror::files_below;

const MIRROR: &str = "http://127.0.0.1:5000";
const KEPT: &str = "var/lib/roadstead-clients";
/// As `deploy/clients/README.md` says it was made; the others name no registry.
const NAMED: &[&str] = &["docker.io", "ghcr.io", "quay.io", "registry.k8s.io"];
const BY_NAME: &[&str] = &["podman", "crio", "openshift", "buildkit", "kaniko"];
const OTHERS: &[&str] = &["containerd", "docker", "k3s", "rke2", "talos", "bottlerocket", "gitlab-runner"];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.arg("client-config").args(arguments).env_clear().stdin(Stdio::null()).current_dir("/");
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// With a mirror, below `root`.
fn write(client: &str, root: &Path, more: &[&str]) -> Output {
    let root = root.to_str().unwrap();
    run(&[&[client, "--mirror", MIRROR, "--write", root], more].concat())
}

fn undo(client: &str, root: &Path) -> Output {
    run(&[client, "--undo", root.to_str().unwrap()])
}

fn good(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

/// A file, where another system has it.
fn put(root: &Path, path: &str, text: &str) -> PathBuf {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

/// All files with their contents and rights, and all folders.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Option<String>)> {
    let mut tree = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_folder = path.is_dir();
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let text = (!is_folder).then(|| std::fs::read_to_string(&path).unwrap());
            tree.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, text));
            folders.extend(is_folder.then_some(path));
        }
    }
    tree
}

fn written(root: &Path) -> BTreeMap<PathBuf, String> {
    let files = tree(root).into_iter().filter(|(path, _)| !path.starts_with("var"));
    files.filter_map(|(path, (_, text))| Some((path, text?))).collect()
}

#[test]
fn what_is_shipped_is_what_the_command_writes() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/clients");
    for client in BY_NAME.iter().chain(OTHERS) {
        let root = tempfile::tempdir().unwrap();
        let names = if BY_NAME.contains(client) { NAMED } else { &[] };
        let names: Vec<_> = names.iter().flat_map(|name| ["--authority", name]).collect();
        good(&write(client, root.path(), &names));
        assert_eq!(written(root.path()), written(&shipped.join(client)), "deploy/clients/{client}");
    }
    let known = files_below(&shipped).len();
    assert!(known > OTHERS.len() + BY_NAME.len());
}

/// Each client's own file, with things in it that are nobody's business.
const THEIRS: &[(&str, &str, &str)] = &[
    ("docker", "etc/docker/daemon.json", "{\"data-root\": \"/data\", \"registry-mirrors\": [\"https://old.test\"]}"),
    ("containerd", "etc/containerd/config.toml", "version = 3 # theirs\nroot = \"/data\"\n"),
    ("containerd", "etc/containerd/certs.d/_default/hosts.toml", "server = \"https://old.test\"\n"),
    (
        "buildkit",
        "etc/buildkit/buildkitd.toml",
        "debug = true # theirs\n[registry.\"docker.io\"]\nmirrors = [\"old.test\"]\n",
    ),
    (
        "gitlab-runner",
        "etc/gitlab-runner/config.toml",
        "concurrent = 4 # theirs\n[[runners]]\ntoken = \"t\"\n[runners.docker]\nvolumes = [\"/cache\"]\n[[runners]]\nexecutor = \"shell\"\n",
    ),
    (
        "k3s",
        "etc/rancher/k3s/registries.yaml",
        "# theirs\nmirrors:\n    corp.test:\n        endpoint:\n            - https://old.test\nconfigs:\n  corp.test: {auth: {username: u, password: p}}\n",
    ),
];

#[test]
fn what_was_there_stays_and_comes_back_to_the_byte() {
    for client in BY_NAME.iter().chain(OTHERS) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        let theirs: Vec<_> = THEIRS.iter().filter(|(whose, _, _)| whose == client).collect();
        for (_, path, text) in &theirs {
            let file = put(root.path(), path, text);
            std::fs::set_permissions(file, PermissionsExt::from_mode(0o640)).unwrap();
        }
        std::fs::create_dir_all(root.path().join("var/lib")).unwrap();
        let before = tree(root.path());
        // Twice, and in two ways.
        for more in [&[][..], &["--authority", "docker.io"], &[]] {
            good(&write(client, root.path(), more));
        }
        for (path, text) in written(root.path()) {
            let merged = theirs.iter().find(|(_, theirs, _)| Path::new(theirs) == path);
            let lasts = ["/data", "old.test", "theirs", "/cache", "password: p"];
            for word in lasts.iter().filter(|word| {
                merged.is_some_and(|(_, path, theirs)| theirs.contains(**word) && !path.ends_with("hosts.toml"))
            }) {
                assert!(text.contains(word), "{client}: no {word} in {text}");
            }
            let is_told =
                text.contains("127.0.0.1:5000") || text.contains("roadstead/daemon.json") || text.contains("certs.d");
            assert!(is_told, "{client}: {} is not changed: {text}", path.display());
        }
        let kept = root.path().join(KEPT).join(client);
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let undone = undo(client, root.path());
        good(&undone);
        assert_eq!(tree(root.path()), before, "{client}");
        // Once more there is nothing to do.
        good(&undo(client, root.path()));
    }
}

#[test]
fn what_is_merged_is_what_the_client_reads() {
    let root = tempfile::tempdir().unwrap();
    let merged = |client: &str, path: &str| {
        good(&write(client, root.path(), &["--authority", "docker.io"]));
        std::fs::read_to_string(root.path().join(path)).unwrap()
    };
    for (_, path, text) in THEIRS {
        put(root.path(), path, text);
    }
    let docker: serde_json::Value = serde_json::from_str(&merged("docker", "etc/docker/daemon.json")).unwrap();
    assert_eq!(docker["registry-mirrors"], serde_json::json!([MIRROR, "https://old.test"]));
    assert_eq!(docker["data-root"], "/data");
    let containerd = merged("containerd", "etc/containerd/config.toml");
    assert!(
        containerd.contains("version = 3 # theirs")
            && containerd.contains("[plugins.\"io.containerd.cri.v1.images\".registry]"),
        "{containerd}"
    );
    let buildkit = merged("buildkit", "etc/buildkit/buildkitd.toml");
    assert!(buildkit.contains(r#"mirrors = ["127.0.0.1:5000","old.test"]"#), "{buildkit}");
    let runner = merged("gitlab-runner", "etc/gitlab-runner/config.toml");
    assert!(runner.contains("\"/cache\"") && runner.contains("/etc/docker/daemon.json:ro"), "{runner}");
    let k3s = merged("k3s", "etc/rancher/k3s/registries.yaml");
    let expected = "# theirs\nmirrors:\n    \"docker.io\":\n      endpoint:\n        - \"http://127.0.0.1:5000\"\n    corp.test:\n";
    assert!(k3s.starts_with(expected), "{k3s}");
}

#[test]
fn t88_what_somebody_changed_since_is_left_and_told() {
    let root = tempfile::tempdir().unwrap();
    let file = put(root.path(), "etc/docker/daemon.json", "{}");
    good(&write("docker", root.path(), &[]));
    std::fs::write(&file, "{\"debug\": true}").unwrap();
    let again = write("docker", root.path(), &[]);
    assert!(!again.status.success() && stderr(&again).contains("was changed since"), "{}", stderr(&again));
    let undone = undo("docker", root.path());
    assert!(!undone.status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"debug\": true}");
    let told = stderr(&undone);
    let copy = told.split("is in /").nth(1).unwrap().trim();
    assert_eq!(std::fs::read_to_string(root.path().join(copy)).unwrap(), "{}");
}

#[test]
fn t88_a_crash_between_the_copies_and_the_files_is_undone_and_gone_on_with() {
    for go_on in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let file = put(root.path(), "etc/docker/daemon.json", "{}");
        good(&write("docker", root.path(), &[]));
        // As if the file had not been reached.
        std::fs::write(&file, "{}").unwrap();
        if go_on {
            good(&write("docker", root.path(), &[]));
            assert!(std::fs::read_to_string(&file).unwrap().contains(MIRROR));
        }
        good(&undo("docker", root.path()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{}");
    }
}

#[test]
fn t88_a_file_that_cannot_be_merged_keeps_all_others_from_being_written() {
    for (client, path, text) in [
        ("docker", "etc/docker/daemon.json", "{"),
        (
            "containerd",
            "etc/containerd/config.toml",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors]\n",
        ),
        (
            "containerd",
            "etc/containerd/config.toml",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/other\"\n",
        ),
        ("k3s", "etc/rancher/k3s/registries.yaml", "mirrors: {}\n"),
        ("k3s", "etc/rancher/k3s/registries.yaml", "mirrors:\n  \"*\":\n    endpoint: []\n"),
        ("buildkit", "etc/buildkit/buildkitd.toml", "= nonsense"),
    ] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), path, text);
        let before = tree(root.path());
        let output = write(client, root.path(), &[]);
        assert!(!output.status.success() && stderr(&output).contains(path), "{text}: {}", stderr(&output));
        assert_eq!(tree(root.path()), before, "{text}");
    }
}

#[test]
fn t85_links_below_the_root_lead_nowhere_out_of_it() {
    let outside = tempfile::tempdir().unwrap();
    let victim = put(outside.path(), "daemon.json", "{\"theirs\": []}");
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    // For the machine whose root this is, the link leads to a folder of its own, which is made there.
    symlink(outside.path(), root.path().join("etc/docker")).unwrap();
    let inside = root.path().join(outside.path().strip_prefix("/").unwrap());
    std::fs::create_dir_all(&inside).unwrap();
    good(&write("docker", root.path(), &[]));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "{\"theirs\": []}");
    assert!(std::fs::read_to_string(inside.join("daemon.json")).unwrap().contains(MIRROR));
    good(&undo("docker", root.path()));
    assert!(!inside.join("daemon.json").exists() && victim.exists());

    // A file that is itself a link, and a link up and out.
    symlink(&victim, inside.join("daemon.json")).unwrap();
    let output = write("docker", root.path(), &[]);
    assert!(!output.status.success() && stderr(&output).contains("symbolic link"), "{}", stderr(&output));
    std::fs::create_dir_all(root.path().join("etc/buildkit-real")).unwrap();
    symlink("../../../../../../../../etc/buildkit-real", root.path().join("etc/buildkit")).unwrap();
    good(&write("buildkit", root.path(), &[]));
    assert!(root.path().join("etc/buildkit-real/buildkitd.toml").exists());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "{\"theirs\": []}");
}

#[test]
fn t86_no_text_of_the_command_line_breaks_out_of_a_file() {
    let root = tempfile::tempdir().unwrap();
    let file = put(root.path(), "no.pem", "nothing");
    let file = file.to_str().unwrap();
    for hostile in [
        &["--mirror", "http://a.test\"]\nskip_verify = true"][..],
        &["--mirror", "http://user:secret@a.test"],
        &["--mirror", "http://a.test/x\"y"],
        &["--mirror", "http://a.test/?x=1"],
        &["--mirror", "ftp://a.test"],
        &["--mirror", MIRROR, "--authority", "a.test\"]\n[x"],
        &["--mirror", MIRROR, "--authority", "../../../etc"],
        &["--mirror", MIRROR, "--header", "X-A: 1\r\nX-B: 2"],
        &["--mirror", MIRROR, "--header", "X A: 1"],
        &["--mirror", MIRROR, "--ca", file],
        &["--mirror", "https://a.test", "--ca", file],
    ] {
        for client in BY_NAME.iter().chain(OTHERS) {
            let output = run(&[&[*client], hostile].concat());
            assert!(!output.status.success(), "{client} {hostile:?}");
            assert!(!stderr(&output).contains("secret@"), "{}", stderr(&output));
        }
    }
    let output = run(&["containerd", "--mirror", MIRROR, "--header", "X-Quote: a\"b\\c # d"]);
    good(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(r#""x-quote" = "a\"b\\c # d""#), "{text}");
}

#[test]
fn t87_secrets_are_for_root_alone_and_on_no_screen() {
    let root = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["node".to_owned()]).unwrap();
    let certificate = put(root.path(), "in/node.pem", &made.cert.pem());
    let key = put(root.path(), "in/node.key", &made.signing_key.serialize_pem());
    let token = put(root.path(), "in/token", "s3cret-token\n");
    let header = format!("Authorization: @{}", token.display());
    let paths = [&certificate, &key].map(|path| path.to_str().unwrap());
    let more = ["--client-cert", paths[0], "--client-key", paths[1], "--ca", paths[0], "--header", &header];
    let arguments = [&["containerd", "--mirror", "https://m.test"], &more[..]].concat();
    let shown = run(&arguments);
    good(&shown);
    assert!(!String::from_utf8_lossy(&shown.stdout).contains("PRIVATE KEY"));
    good(&run(&[&arguments[..], &["--write", root.path().to_str().unwrap()]].concat()));
    let mut secrets = 0;
    for file in files_below(root.path()).into_iter().filter(|file| !file.starts_with(root.path().join("in"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        if text.contains("s3cret-token") || text.contains("PRIVATE KEY") {
            secrets += 1;
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", file.display());
        }
    }
    assert_eq!(secrets, 4, "hosts.toml and the key, and the copies of both");
    let docker = run(&["docker", "--mirror", MIRROR, "--header", "Authorization: s3cret-token"]);
    assert!(!docker.status.success() && !stderr(&docker).contains("s3cret-token"), "{}", stderr(&docker));
}

#[test]
fn strict_leaves_no_way_round_or_is_refused() {
    for client in ["bottlerocket", "buildkit", "gitlab-runner"] {
        let output = run(&[client, "--mirror", MIRROR, "--strict"]);
        assert!(!output.status.success() && stderr(&output).contains("always goes to the registry itself"));
    }
    for (client, only) in [
        ("containerd", "server = \"http://127.0.0.1:5000\""),
        ("docker", "server = \"http://127.0.0.1:5000\""),
        ("podman", "location = \"127.0.0.1:5000/quay.io\""),
        ("crio", "location = \"127.0.0.1:5000/quay.io\""),
        ("k3s", "disable-default-registry-endpoint: true"),
        ("rke2", "disable-default-registry-endpoint: true"),
        ("openshift", "mirrorSourcePolicy: NeverContactSource"),
        ("talos", "skipFallback: true"),
        ("kaniko", "--skip-default-registry-fallback"),
    ] {
        let output = run(&[client, "--mirror", MIRROR, "--strict", "--authority", "quay.io"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(only) && !text.contains("https://quay.io") && !text.contains("_default"),
            "{client}: {text}"
        );
    }
}

/// A pod that sets nodes up has no other way to tidy up than its end.
#[tokio::test]
async fn until_stopped_it_stays_and_then_gives_back_what_was_there() {
    let root: TempDir = tempfile::tempdir().unwrap();
    put(root.path(), "etc/containerd/config.toml", "version = 2\n");
    let before = tree(root.path());
    let path = root.path().to_str().unwrap();
    let arguments = ["containerd", "--mirror", MIRROR, "--write", path, "--until-stopped"];
    let mut child = command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let hosts = root.path().join("etc/containerd/certs.d/_default/hosts.toml");
    eventually("the files are there", async || hosts.exists()).await;
    let pid = rustix::process::Pid::from_child(&child);
    eventually("it waits", async || tree(root.path()).contains_key(&Path::new(KEPT).join("containerd/record.json")))
        .await;
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    eventually("it has ended", async || child.try_wait().unwrap().is_some()).await;
    let mut after = tree(root.path());
    after.retain(|path, _| !path.starts_with("var"));
    assert_eq!(after, before);
}

#[test]
fn completions_and_pages_are_made_of_the_command_line() {
    let roadstead =
        |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_roadstead")).args(arguments).output().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let made = roadstead(&["completions", shell]);
        good(&made);
        assert!(String::from_utf8_lossy(&made.stdout).contains("client-config"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    good(&roadstead(&["man", folder.path().to_str().unwrap()]));
    for page in ["roadstead.1", "roadstead-client-config.1", "roadstead-serve.1"] {
        assert!(std::fs::read_to_string(folder.path().join(page)).unwrap().contains(".TH"), "{page}");
    }
}
