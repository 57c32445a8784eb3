//! The example files are the documentation of the configuration: they load, and they are complete.

use std::path::{Path, PathBuf};

use roadstead::config::Config;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn load(text: &str) -> Config {
    Config::read(Some(text), Vec::new()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn the_example_files_load() {
    let all = load(&file("config/roadstead.toml"));
    assert_eq!(all.served, ["docker.io", "mirrored.corp", "registry.corp:5000"]);
    assert_eq!(load(&file("config/minimal.toml")).served, ["docker.io", "registry.corp"]);
}

#[test]
fn the_example_shows_the_defaults() {
    let (shown, embedded) = (load(&file("config/roadstead.toml")), load(""));
    assert_eq!(format!("{:?}", shown.server), format!("{:?}", embedded.server));
    assert_eq!(format!("{:?}", shown.storage), format!("{:?}", embedded.storage));
    assert_eq!(shown.shutdown_deadline, embedded.shutdown_deadline);
    assert_eq!((shown.fills, format!("{:?}", shown.log)), (embedded.fills, format!("{:?}", embedded.log)));
    let hub = |config: &Config| {
        let hub = config.upstreams.iter().find(|upstream| upstream.upstream.name == "docker.io").unwrap();
        format!("{:?} {:?}", hub.upstream, hub.policy)
    };
    assert_eq!(hub(&shown), hub(&embedded));
}

/// The example with every setting that it only shows switched on, and its files in place.
fn with_everything_on(directory: &Path) -> String {
    let identity = rcgen::generate_simple_self_signed(["roadstead.test".to_owned()]).unwrap();
    let certificate = directory.join("certificate.pem");
    let key = directory.join("key.pem");
    let secret = directory.join("secret");
    std::fs::write(&certificate, identity.cert.pem()).unwrap();
    std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    std::fs::write(&secret, "{}").unwrap();
    let (htpasswd, keys) = (directory.join("htpasswd"), directory.join("keys"));
    std::fs::write(&htpasswd, format!("ci-a:{}\n", bcrypt::hash("password", 4).unwrap())).unwrap();
    std::fs::write(&keys, "node-1 a-key-of-sensible-length\n").unwrap();
    let example = file("config/roadstead.toml");
    let lines = example.lines().map(|line| {
        let setting =
            line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        setting.unwrap_or(line).to_owned()
    });
    let in_place = |line: String| {
        let path = |file: &PathBuf| file.display().to_string();
        let line = ["tls.crt", "client.crt", "corp-ca.pem"]
            .iter()
            .fold(line, |line, name| line.replace(&format!("/etc/roadstead/{name}"), &path(&certificate)));
        let line = ["tls.key", "client.key"]
            .iter()
            .fold(line, |line, name| line.replace(&format!("/etc/roadstead/{name}"), &path(&key)));
        let line =
            line.replace("/etc/roadstead/htpasswd", &path(&htpasswd)).replace("/etc/roadstead/keys", &path(&keys));
        let line = line.replace("/root/.docker/config.json", &path(&secret));
        ["roadstead-admin", "roadstead-webhook", "hub", "issuer", "proxy", "team-a"]
            .iter()
            .fold(line, |line, name| line.replace(&format!("/run/secrets/{name}"), &path(&secret)))
    };
    lines.map(in_place).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_setting_that_is_only_shown_is_valid_too() {
    let directory = tempfile::tempdir().unwrap();
    let all = load(&with_everything_on(directory.path()));
    assert_eq!(all.server.listeners.len(), 2);
    let access = all.server.access.unwrap();
    assert_eq!((access.rules.len(), access.header.unwrap().keys.len()), (1, 1));
    assert_eq!((access.oidc.len(), access.groups.len()), (1, 1));
    assert!(all.served.contains(&"*.example.com".to_owned()));
}

#[test]
fn every_key_that_the_program_reads_is_in_the_example() {
    let readers =
        ["text", "texts", "flag", "number", "duration", "size", "parsed", "parsed_list", "section", "sections"];
    let example = file("config/roadstead.toml");
    let mut keys = 0;
    for source in [
        "check",
        "completion",
        "cooldown",
        "endpoints",
        "identity",
        "lists/coverage",
        "lists/mod",
        "lists/warm",
        "server/access",
        "server/mod",
        "server/oidc",
        "server/who",
        "storage",
        "upstreams/cloud",
        "upstreams/mod",
    ]
    .map(|name| format!("src/config/{name}.rs"))
    {
        let text = file(&source);
        for piece in text.split('.').skip(1) {
            let Some((reader, rest)) = piece.split_once(['(', ':']) else { continue };
            let Some((_, quoted)) =
                rest.split_once('"').filter(|(before, _)| before.is_empty() || before.contains('<'))
            else {
                continue;
            };
            let key = quoted.split('"').next().unwrap();
            if readers.contains(&reader) {
                keys += 1;
                let shown = example.contains(&format!("{key} = ")) || example.contains(&format!("{key}]"));
                assert!(shown || key == "upstreams", "`{key}` of {source} is not in config/roadstead.toml");
            }
        }
    }
    assert!(keys > 40, "the keys were found");
}
