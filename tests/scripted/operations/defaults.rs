//! Without a file: the embedded defaults.

use roadstead::config::Config;

use super::program::Program;

const PRESETS: [&str; 10] = [
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "public.ecr.aws",
    "quay.io",
    "registry.access.redhat.com",
    "registry.gitlab.com",
    "registry.k8s.io",
];

#[tokio::test]
async fn one_command_in_an_empty_directory_serves_the_well_known_registries_with_all_of_them_down() {
    // Whatever is asked of an upstream goes to a proxy that is not there.
    let program = Program::serve(&[("ROADSTEAD__DEFAULTS__PROXY", "http://127.0.0.1:9")]).await;
    let serving = program.line("serving ").await;
    assert!(serving.contains(&PRESETS.join(", ")), "{serving}");
    assert!(serving.contains("./roadstead-data"), "{serving}");
    assert!(program.directory.path().join("roadstead-data").is_dir());
    assert!(program.log().contains(&format!("listening on http://{}", program.address)));
    assert_eq!(program.client().get("/v2/").await.status, 200);
    assert_eq!(program.admin_client().get("/readyz").await.status, 200);
    for authority in PRESETS {
        let answer = program.client().get(&format!("/v2/org/app/manifests/1?ns={authority}")).await;
        assert_eq!((answer.status, answer.header("oci-namespace")), (502, authority), "{}", answer.text());
    }
    program.signal("TERM");
    let (code, log, _) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_told_not_to_be_used() {
    let program = Program::serve(&[("HTTPS_PROXY", "http://user:hunter2-marker@127.0.0.1:9")]).await;
    let told = program.line("HTTPS_PROXY").await;
    assert!(told.contains("WARN") && told.contains("`proxy`"), "{told}");
    assert!(!program.log().contains("hunter2-marker"));
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let config = Config::read(None, Vec::new()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.served, PRESETS);
    let addresses: Vec<_> = config.server.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:5000"]);
    assert_eq!(config.server.admin_listen.unwrap().to_string(), "127.0.0.1:5001");
    assert_eq!(config.server.listeners[0].default_authority.as_str(), "docker.io");
    assert_eq!(config.storage.path.to_str(), Some("./roadstead-data"));
    assert_eq!(config.shutdown_deadline.as_secs(), 25);
    for upstream in &config.upstreams {
        let policy = &upstream.policy;
        assert_eq!((policy.tag_ttl.as_secs(), policy.negative_ttl.as_secs()), (60, 10));
        assert_eq!(policy.check_timeout.as_secs(), 3);
        assert!(!policy.keep_deleted && !policy.offline && !policy.public && policy.max_stale.is_none());
        assert_eq!(upstream.upstream.max_manifest_size, 4 * 1024 * 1024);
    }
}

#[test]
fn lists_are_added_to_those_of_the_preset() {
    let config = |toml: &str| Config::read(Some(toml), Vec::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let names = |config: &Config, names: &[&str]| {
        let owner = |name: &&str| config.namespaces.configured(&name.parse().unwrap()).map(ToString::to_string);
        names.iter().map(owner).map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    let of_the_preset = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
    let written = config("[upstreams.\"docker.io\"]\naliases = [\"hub.corp\"]\ntoken_hosts = [\"sso.corp\"]\n");
    assert_eq!(names(&written, &of_the_preset), ["docker.io"; 3]);
    assert_eq!(names(&written, &["hub.corp"]), ["docker.io"]);
    assert_eq!(written.upstreams[0].upstream.token_hosts, ["sso.corp", "auth.docker.io"]);

    let without = "use_preset = false\nurl = \"https://hub.corp\"\ntoken_hosts = []\n";
    let without = config(&format!("[upstreams.\"docker.io\"]\naliases = [\"hub.corp\"]\n{without}"));
    assert_eq!(names(&without, &of_the_preset), [""; 3]);
    assert_eq!(names(&without, &["hub.corp"]), ["docker.io"]);
    assert!(without.upstreams[0].upstream.token_hosts.is_empty());
    assert!(!without.upstreams[0].upstream.counts_pulls);

    let none = Config::read(Some("[upstreams.\"docker.io\"]\nuse_preset = false\n"), Vec::new());
    assert!(none.err().unwrap().to_string().contains("url"), "its URL is the preset's too");
    let all = config("");
    assert_eq!(names(&all, &["lscr.io", "k8s.gcr.io"]), ["ghcr.io", "registry.k8s.io"]);
}

#[test]
fn what_is_written_wins_over_the_names_of_a_preset() {
    let config = |toml: &str| Config::read(Some(toml), Vec::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let owner = |config: &Config, name: &str| config.namespaces.configured(&name.parse().unwrap()).unwrap().to_string();
    let toml = "presets = true\n[upstreams.\"lscr.io\"]\nurl = \"https://lscr.io\"\n\
                [upstreams.\"z.test\"]\nurl = \"https://z.test\"\naliases = [\"index.docker.io\"]\n";
    let config = config(toml);
    assert_eq!(owner(&config, "lscr.io"), "lscr.io");
    assert_eq!(owner(&config, "index.docker.io"), "z.test");
    assert_eq!(owner(&config, "registry-1.docker.io"), "docker.io");
    let problems = Config::read(Some("[upstreams.\"index.docker.io\"]\n"), Vec::new()).err().unwrap();
    assert!(problems.to_string().contains("another name of docker.io"), "{problems}");
}

#[test]
fn with_upstreams_exactly_those_are_served_and_presets_fill_them_or_join_them() {
    let served = |toml: &str| Config::read(Some(toml), Vec::new()).unwrap_or_else(|p| panic!("{p}")).served;
    assert_eq!(served("[upstreams.\"quay.io\"]\n"), ["quay.io"]);
    assert_eq!(
        served("[upstreams.\"QUAY.io:443\"]\n[upstreams.\"a.test\"]\nurl = \"http://a\"\n"),
        ["a.test", "quay.io"]
    );
    assert_eq!(served("[defaults]\ntag_ttl = \"1h\"\n"), PRESETS);
    assert_eq!(served("presets = true\n[upstreams.\"quay.io\"]\n"), PRESETS);
    assert_eq!(served("presets = true\n[upstreams.\"a.test\"]\nurl = \"http://a\"\n").len(), 11);
    // As an alias, a preset's name was given to another.
    let toml = "presets = true\n[upstreams.\"a.test\"]\nurl = \"http://a\"\naliases = [\"quay.io\"]\n";
    assert!(!served(toml).contains(&"quay.io".to_owned()));
}

#[test]
fn the_environment_overrides_the_file() {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let toml = "[server]\nlisten = \"127.0.0.1:1\"\n[defaults]\ntag_ttl = \"1h\"\nnegative_ttl = \"1h\"\n\
                [upstreams.\"quay.io\"]\nnegative_ttl = \"2h\"\n";
    let environment = [
        set("ROADSTEAD__SERVER__LISTEN", "127.0.0.1:7, [::1]:8"),
        set("ROADSTEAD__SERVER__DEFAULT_AUTHORITY", "quay.io"),
        set("ROADSTEAD__SERVER__SHUTDOWN_DEADLINE", "3s"),
        set("ROADSTEAD__STORAGE__MAX_SIZE", "7GiB"),
        set("ROADSTEAD__DEFAULTS__TAG_TTL", "5s"),
        set("ROADSTEAD__DEFAULTS__NEGATIVE_TTL", "5s"),
        set("ROADSTEAD__DEFAULTS__KEEP_DELETED", "true"),
        set("ELSEWHERE__SERVER__LISTEN", "x"),
    ];
    let config = Config::read(Some(toml), environment).unwrap_or_else(|problems| panic!("{problems}"));
    let addresses: Vec<_> = config.server.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:7", "[::1]:8"]);
    assert_eq!(config.server.listeners[0].default_authority.as_str(), "quay.io");
    assert_eq!(config.shutdown_deadline.as_secs(), 3);
    assert_eq!(config.storage.limits.max_size, Some(7 << 30));
    let policy = &config.upstreams[0].policy;
    assert_eq!((policy.tag_ttl.as_secs(), policy.negative_ttl.as_secs()), (5, 7200), "an upstream's own goes first");
    assert!(policy.keep_deleted);
}
