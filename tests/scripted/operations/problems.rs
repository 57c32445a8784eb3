//! A configuration with mistakes: all of them, by their keys, exit 64, nothing bound, nothing shown that may be secret.

use roadstead::config::Config;

use super::program::{run, stderr};

const WRONG: &str = r#"
typo = 1
[server]
listen = "somewhere"
admin_listen = "127.0.0.1"
default_authority = "nobody.test"
shutdown_deadline = "soon"
max_requests = 0
max_connections = 0
log_format = "xml"
log_level = "loud"
mount = "no-slash"
hostnames = ["a b"]
admin_token_file = "/nonexistent/token"
tls = { certificate = "/nonexistent/cert.pem" }
lisen = "127.0.0.1:1"
[[server.listeners]]
default_authority = "nobody.test"
tls = { certificate = "/nonexistent/cert.pem", key = "/nonexistent/key.pem" }
[storage]
max_size = "big"
min_free = -1
[defaults]
tag_ttl = 60
negative_ttl = "x"
keep_deleted = "perhaps"
url = "https://a"
[upstreams."docker.io"]
url = "ftp://hub"
allow = ["a***"]
on_denied = "shrug"
username = "robot"
password = "hunter2-marker"
max_page = 0
[upstreams."quay.io"]
url = "https://user:hunter2-marker@quay.io"
endpoints = ["https://quay.io/v2"]
password_file = "/nonexistent/password"
ca = "/nonexistent/ca.pem"
client_certificate = "/nonexistent/c.pem"
proxy = "gopher://p"
prefix = "not.short"
aliases = ["docker.io", "trailing.dot."]
[[upstreams."quay.io".credentials]]
username = "x"
[[upstreams."quay.io".freshness]]
tag = "("
[upstreams."bad name"]
url = "nowhere"
[upstreams."a.test"]
[upstreams."*"]
url = "https://a"
[upstreams."*x"]
"#;

const KEYS: [&str; 52] = [
    "typo",
    "server.listen",
    "server.admin_listen",
    "server.default_authority",
    "server.shutdown_deadline",
    "server.max_requests",
    "server.max_connections",
    "server.log_format",
    "server.log_level",
    "server.mount",
    "server.hostnames[0]",
    "server.admin_token_file",
    "server.tls.key",
    "server.lisen",
    "server.listeners[0].listen",
    "server.listeners[0].default_authority",
    "server.listeners[0].tls.certificate",
    "storage.max_size",
    "storage.min_free",
    "defaults.tag_ttl",
    "defaults.negative_ttl",
    "defaults.keep_deleted",
    "defaults.url",
    "upstreams.\"docker.io\".url",
    "upstreams.\"docker.io\".allow[0]",
    "upstreams.\"docker.io\".on_denied",
    "upstreams.\"docker.io\".password_file",
    "upstreams.\"docker.io\".password",
    "upstreams.\"docker.io\".max_page",
    "upstreams.\"quay.io\".url",
    "upstreams.\"quay.io\".endpoints",
    "upstreams.\"quay.io\".username",
    "upstreams.\"quay.io\".ca",
    "upstreams.\"quay.io\".client_certificate",
    "upstreams.\"quay.io\".proxy",
    "upstreams.\"quay.io\".prefix",
    "upstreams.\"quay.io\".aliases",
    "upstreams.\"quay.io\".credentials[0].match",
    "upstreams.\"quay.io\".credentials[0].password_file",
    "upstreams.\"quay.io\".freshness[0].tag",
    "upstreams.\"quay.io\".freshness[0].tag_ttl",
    "upstreams",
    "upstreams.\"bad name\".url",
    "upstreams.\"a.test\".url",
    "upstreams.\"*\".url",
    "ROADSTEAD__SERVER__TLS__KEY",
    "ROADSTEAD__UPSTREAMS__X",
    "ROADSTEAD__LISTEN",
    "server.stall_timeout",
    "server.not_a_key",
    "defaults.check_timeout",
    "storage.not_a_key",
];

const ENVIRONMENT: [(&str, &str); 7] = [
    ("ROADSTEAD__SERVER__TLS__KEY", "hunter2-marker"),
    ("ROADSTEAD__UPSTREAMS__X", "hunter2-marker"),
    ("ROADSTEAD__LISTEN", "hunter2-marker"),
    ("ROADSTEAD__SERVER__STALL_TIMEOUT", "hunter2-marker"),
    ("ROADSTEAD__SERVER__NOT_A_KEY", "hunter2-marker"),
    ("ROADSTEAD__DEFAULTS__CHECK_TIMEOUT", "hunter2-marker"),
    ("ROADSTEAD__STORAGE__NOT_A_KEY", "hunter2-marker"),
];

#[test]
fn every_problem_is_listed_once_with_its_key_and_exit_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    std::fs::write(&file, WRONG).unwrap();
    for command in ["serve", "check-config"] {
        let output = run(&[command, "--config", file.to_str().unwrap()], &ENVIRONMENT);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{command}: {text}");
        for key in KEYS {
            assert!(text.lines().any(|line| line.trim().starts_with(&format!("{key}: "))), "{key} in\n{text}");
        }
        let mut lines: Vec<_> = text.lines().collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), all, "each once:\n{text}");
        assert!(text.contains("wrong.toml"), "which file");
        assert!(!text.contains("hunter2-marker"), "t11 no value is shown:\n{text}");
        assert!(!text.contains("listening on"), "before a port is bound");
    }
}

#[test]
fn a_value_from_the_environment_is_told_with_its_variable_and_an_entry_with_its_place() {
    let text = "[server]\nstall_timeout = \"soon\"\n[upstreams.\"docker.io\"]\nallow = [\"library/**\", \"a**b\"]";
    let set = [("ROADSTEAD__STORAGE__MAX_SIZE", "much"), ("ROADSTEAD__STORAGE__PINS", "docker.io/app,nowhere")];
    let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let problems = Config::read(Some(text), set).err().unwrap();
    let of = |key: &str| {
        let problem = problems.0.iter().find(|problem| problem.key == key);
        &problem.unwrap_or_else(|| panic!("{key} in\n{problems}")).message
    };
    assert!(of("storage.max_size").ends_with("; it is set by ROADSTEAD__STORAGE__MAX_SIZE"), "{problems}");
    assert!(of("storage.pins[1]").ends_with("; it is set by ROADSTEAD__STORAGE__PINS"), "{problems}");
    assert!(!of("server.stall_timeout").contains("ROADSTEAD"), "{problems}");
    assert!(!of("upstreams.\"docker.io\".allow[1]").is_empty());
}

#[test]
fn only_what_is_wrong_is_listed() {
    let problems = Config::read(Some(WRONG), Vec::new()).err().unwrap();
    for fine in ["upstreams.\"*x\".", "upstreams.\"docker.io\".username", "defaults.unknown"] {
        assert!(!problems.0.iter().any(|problem| problem.key.starts_with(fine)), "{fine}: {problems}");
    }
    assert!(!problems.to_string().contains("\"bad name\".url: unknown key"), "its keys are known ones");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_problem_too_and_is_not_quoted() {
    let output = run(&["serve", "--config", "/nonexistent/roadstead.toml"], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--config") && stderr(&output).contains("/nonexistent/roadstead.toml"));
    for broken in [
        "password = \"hunter2-marker",
        "= hunter2-marker",
        "[a\nkey = \"hunter2-marker\"",
        "a = 1\na = \"hunter2-marker\"",
    ] {
        let problems = Config::read(Some(broken), Vec::new()).err().unwrap();
        assert!(!problems.to_string().contains("hunter2-marker"), "{problems}");
    }
    let both = Config::read(Some("= x"), [("ROADSTEAD__X".to_owned(), "y".to_owned())]).err().unwrap();
    assert_eq!(both.0.len(), 2, "{both}");
}

#[test]
fn one_registry_under_two_spellings_or_two_under_one_name_is_a_problem() {
    for (toml, told) in [
        ("[upstreams.\"quay.io\"]\n[upstreams.\"QUAY.IO\"]\n", "quay.io is there under another spelling too"),
        ("[upstreams.\"quay.io\"]\n[upstreams.\"quay.io:443\"]\n", "another spelling"),
        ("[upstreams.\"quay.io\"]\n[upstreams.\"ghcr.io\"]\naliases = [\"quay.io\"]\n", "alias"),
        (
            "[upstreams.\"quay.io\"]\naliases = [\"a.test\"]\n[upstreams.\"ghcr.io\"]\naliases = [\"a.test\"]\n",
            "another",
        ),
        ("[upstreams.\"quay.io\"]\nprefix = \"x\"\n[upstreams.\"ghcr.io\"]\nprefix = \"x\"\n", "another"),
        ("[upstreams]\n", "names no registry"),
        ("upstreams = 1\n", "must be a table"),
        ("[defaults]\ntag_ttl = \"1m\"\n[upstreams]\n", "names no registry"),
    ] {
        let problems = Config::read(Some(toml), Vec::new()).err().unwrap_or_else(|| panic!("{toml}"));
        assert!(problems.to_string().contains(told), "{toml}: {problems}");
        assert!(!problems.to_string().contains("unknown key"), "{toml}: {problems}");
    }
}

#[test]
fn a_typing_error_is_answered_with_what_was_meant() {
    for (toml, meant) in [
        ("[server]\nlisen = \"127.0.0.1:1\"\n", "did you mean `listen`?"),
        ("[defaults]\ntagttl = \"1m\"\n", "did you mean `tag_ttl`?"),
        ("[upstreams.\"quay.io\"]\npassword = \"x\"\n", "use `password_file`"),
        ("[upstreams.\"quay.io\"]\nremoteurl = \"https://quay.io\"\n", "use `url`"),
    ] {
        let problems = Config::read(Some(toml), Vec::new()).err().unwrap();
        assert!(problems.to_string().contains(meant), "{problems}");
    }
}

#[test]
fn a_file_of_authorities_is_read_as_when_serving() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
    let right = crate::support::upstream::TestCa::new().pem().to_owned();
    for (text, is_good) in [(nonsense.to_owned(), false), (format!("{nonsense}{right}"), false), (right, true)] {
        std::fs::write(&file, text).unwrap();
        let toml = format!("[upstreams.\"a.test\"]\nurl = \"https://a.test\"\nca = \"{}\"\n", file.display());
        let problems = Config::read(Some(&toml), Vec::new()).err();
        let told = problems.as_ref().map(|problems| problems.0[0].key.as_str());
        assert_eq!(told, (!is_good).then_some("upstreams.\"a.test\".ca"), "{problems:?}");
    }
}

#[test]
fn a_certificate_with_the_key_of_another_is_told_before_serving() {
    let directory = tempfile::tempdir().unwrap();
    let ca = crate::support::upstream::TestCa::new();
    let (own, other) = (ca.client("own"), ca.client("other"));
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let certificate = file("own.pem", &own.certificate);
    for (key, is_good) in [(file("own.key", &own.key), true), (file("other.key", &other.key), false)] {
        let client = format!("client_certificate = \"{certificate}\"\nclient_key = \"{key}\"\n");
        for (toml, told) in [
            (format!("[server.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n"), "server.tls.certificate"),
            (
                format!("[upstreams.\"a.test\"]\nurl = \"https://a.test\"\n{client}"),
                "upstreams.\"a.test\".client_certificate",
            ),
        ] {
            let problems = Config::read(Some(&toml), Vec::new()).err();
            let first = problems.as_ref().map(|problems| problems.0[0].key.as_str());
            assert_eq!(first, (!is_good).then_some(told), "{problems:?}");
        }
    }
}
