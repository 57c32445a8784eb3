//! `roadstead explain` says which rule decides, without any secret.

use std::process::{Command, Stdio};

const RULES: &str = r#"
[server]
listen = "127.0.0.1:0"
tls = { certificate = "/nonexistent/a", key = "/nonexistent/b", client_ca = "/nonexistent/c" }
[access]
htpasswd = "/nonexistent/htpasswd"
anonymous = false
[access.groups]
nodes = ["ops-*"]
[[access.rules]]
who = ["user:ci-bad"]
what = ["docker.io/**"]
allow = false
[[access.rules]]
who = ["certificate:*.nodes.corp", "group:nodes"]
what = ["docker.io/nodes/*"]
allow = true
[[access.rules]]
who = ["user:ci-*", "network:10.0.0.0/8"]
what = ["docker.io/library/**", "quay.io/org/app:v*"]
allow = true
[upstreams."docker.io"]
deny = ["library/secret"]
[upstreams."quay.io"]
"#;

fn explain(arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("the.toml");
    std::fs::write(&file, RULES).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.env_clear().stdin(Stdio::null()).arg("explain").arg("--config").arg(&file).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn explain_names_the_rule_that_decides_and_why_those_before_did_not() {
    let digest = format!("quay.io/org/app@sha256:{}", "0".repeat(64));
    for (arguments, code, told) in [
        (vec!["--as", "ci-a", "nginx:1"], 0, "ci-a is allowed docker.io/library/nginx:1"),
        (vec!["--as", "ci-a", "docker.io/library/nginx:1"], 0, "access.rules[0]: `who` does not match"),
        (
            vec!["--as", "ci-a", "docker.io/library/nginx:1"],
            0,
            "access.rules[2] decides: user:ci-*, docker.io/library/**, allow = true",
        ),
        (
            vec!["--as", "ci-bad", "docker.io/library/nginx:1"],
            1,
            "access.rules[0] decides: user:ci-bad, docker.io/**, allow = false",
        ),
        (vec!["--as", "anonymous", "--from", "10.1.2.3", "nginx:1"], 0, "access.rules[2] decides: network:10.0.0.0/8"),
        (vec!["--as", "anonymous", "nginx:1"], 1, "a client that shows nothing is not let in"),
        (
            vec!["--as", "certificate:n.nodes.corp", "docker.io/nodes/app:1"],
            0,
            "access.rules[1] decides: certificate:*.nodes.corp",
        ),
        (vec!["--as", "jo", "--group", "nodes", "docker.io/nodes/app:1"], 0, "access.rules[1] decides: group:nodes"),
        (vec!["--as", "ops-1", "docker.io/nodes/app:1"], 0, "access.rules[1] decides: group:nodes"),
        (vec!["--as", "certificate:n.corp", "docker.io/nodes/app:1"], 1, "no rule matches"),
        (vec!["--as", "bob", "nginx:1"], 1, "no rule matches"),
        (vec!["--as", "ci-a", "quay.io/org/app:v1"], 0, "quay.io/org/app:v*"),
        (vec!["--as", "ci-a", "quay.io/org/app:w1"], 1, "access.rules[2]: `what` does not match"),
        (vec!["--as", "ci-a", digest.as_str()], 0, "content of quay.io/org/app by its digest"),
        (vec!["--as", "ci-a", "quay.io/org/app"], 1, "the tags of quay.io/org/app"),
        (vec!["--as", "ci-a", "docker.io/library/secret:1"], 1, "`allow`, `deny` of upstreams.\"docker.io\" refuse"),
        (vec!["--as", "ci-a", "unknown.test/app:1"], 1, "not mirrored here"),
    ] {
        let (status, text) = explain(&arguments);
        assert_eq!(status, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(told), "{arguments:?}: {text}");
    }
}
