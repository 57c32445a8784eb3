//! `[access]` with mistakes: all of them at once, by their keys.

use roadstead::config::Config;

use super::{both, rule, write_files};

fn problems(toml: &str) -> Vec<(String, String)> {
    let problems = Config::read(Some(toml), Vec::new()).err().map(|problems| problems.0).unwrap_or_default();
    assert!(problems.iter().all(|problem| !problem.message.contains("marker")), "no value is shown: {problems:?}");
    problems.into_iter().map(|problem| (problem.key, problem.message)).collect()
}

#[test]
fn a_rule_file_with_typos_is_told_all_of_them_at_once() {
    let toml = r#"
[access]
htpasswd = "/nonexistent/secret-marker"
header = { name = "bad name", keyz = "secret-marker" }
anonymous = "perhaps"
token_sever = true
password = "secret-marker"
[[access.rules]]
who = ["usr:secret-marker", "user:a", "network:10.0.0.0/40", "group:"]
what = ["docker.io/a**b", "unknown.test", "docker.io/nginx", "docker.io/library/**"]
alow = true
[[access.rules]]
who = []
what = "docker.io/**"
allow = "yes"
[[access.rules]]
"#;
    let found = problems(toml);
    for key in [
        "access.htpasswd",
        "access.header.name",
        "access.header.keys",
        "access.header.keyz",
        "access.anonymous",
        "access.token_sever",
        "access.password",
        "access.rules[0].who[0]",
        "access.rules[0].who[2]",
        "access.rules[0].who[3]",
        "access.rules[0].what[0]",
        "access.rules[0].what[1]",
        "access.rules[0].what[2]",
        "access.rules[0].allow",
        "access.rules[0].alow",
        "access.rules[1].who",
        "access.rules[1].allow",
        "access.rules[2].who",
        "access.rules[2].what",
        "access.rules[2].allow",
    ] {
        assert!(found.iter().any(|(found, _)| found == key), "{key} in {found:?}");
    }
    assert!(found.iter().any(|(_, message)| message.contains("did you mean `token_server`?")), "{found:?}");
    for toml in ["access = 1", "[access]\nrules = \"x\"", "[[access.oidc]]\nissuer = \"https://x.test\""] {
        assert_eq!(problems(toml).len(), 1, "{toml}: {:?}", problems(toml));
    }
}

#[test]
fn an_htpasswd_and_keys_with_broken_lines_name_the_lines() {
    let files = tempfile::tempdir().unwrap();
    write_files(files.path());
    let path = |name: &str| files.path().join(name);
    let good = std::fs::read_to_string(path("htpasswd")).unwrap();
    std::fs::write(path("htpasswd"), format!("{good}secret-marker\nc:{{SHA}}secret-marker\n")).unwrap();
    std::fs::write(path("keys"), "node secret-marker\nsecret-marker\n").unwrap();
    let found = problems(&format!("[access]\n{}", both(files.path())));
    let of = |key: &str| found.iter().filter(|(k, _)| k == key).map(|(_, m)| m.as_str()).collect::<Vec<_>>();
    let [third, fourth] = of("access.htpasswd")[..] else { panic!("{found:?}") };
    assert!(third.contains("htpasswd: line 3 has no colon") && fourth.contains("line 4 "), "{found:?}");
    assert!(fourth.contains("htpasswd -B"), "what would be right: {fourth}");
    let [second] = of("access.header.keys")[..] else { panic!("{found:?}") };
    assert!(second.contains("keys: line 2 "), "{second}");
    std::fs::write(path("htpasswd"), vec![b'#'; 9 * 1024 * 1024]).unwrap();
    let found = problems(&format!("[access]\nhtpasswd = \"{}\"", path("htpasswd").display()));
    assert!(found[0].1.contains("more than 8 MiB"), "{found:?}");
}

#[test]
fn two_rules_that_contradict_and_what_shuts_everybody_out_are_told() {
    let files = tempfile::tempdir().unwrap();
    write_files(files.path());
    let toml = format!("[access]\n{}", both(files.path()))
        + &rule("[\"user:a\", \"anonymous\"]", "[\"docker.io/**\"]", true)
        + &rule("[\"user:a\"]", "[\"docker.io/**\"]", false)
        + &rule("[\"user:b\"]", "[\"docker.io/**\"]", false);
    let config = Config::read(Some(&toml), Vec::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let doubts: Vec<_> = config.doubts.iter().map(|doubt| (doubt.key.as_str(), doubt.message.as_str())).collect();
    assert_eq!(doubts.iter().filter(|(key, _)| key.starts_with("access.rules")).count(), 1, "{doubts:?}");
    assert!(
        doubts
            .iter()
            .any(|(key, message)| *key == "access.rules[1].allow"
                && message.contains("access.rules[0] says the opposite"))
    );
    let open = toml.replace("[access]", "[server]\nlisten = \"0.0.0.0:0\"\n[access]");
    let config = Config::read(Some(&open), Vec::new()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.doubts.iter().any(|doubt| doubt.key == "access.htpasswd" && doubt.message.contains("in the clear")));
    // What is about nothing is told; it must not be in a rule that refuses.
    let void = rule("[\"group:team-a\", \"certificate:*.nodes.corp\"]", "[\"unknown.test/**\"]", true);
    let config =
        Config::read(Some(&format!("[access]\n{void}")), Vec::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let keys = ["access.rules[0].who[0]", "access.rules[0].who[1]", "access.rules[0].what[0]"];
    assert_eq!(config.doubts.iter().map(|doubt| doubt.key.as_str()).collect::<Vec<_>>(), keys);
    let refusing = problems(&format!("[access]\n{}", void.replace("true", "false")));
    assert_eq!(refusing.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), keys);
    let shut = problems("[access]\nanonymous = false\n");
    assert_eq!(shut.len(), 1, "{shut:?}");
    assert_eq!(shut[0].0, "access.anonymous");
    assert!(problems("[access]\nanonymous = true\n").is_empty());
}
