//! T11: the configuration is taken whole or refused with reasons, none of which repeats a value.

use arbtest::arbitrary::{Result, Unstructured};
use roadstead::config::Config;

use crate::fuzz;
use crate::text::{one, text};

const SECTIONS: &[&str] = &[
    "[server]",
    "[storage]",
    "[defaults]",
    "[upstreams.\"docker.io\"]",
    "[upstreams.\"*\"]",
    "[upstreams.\"*.corp\"]",
    "[[upstreams.\"quay.io\".credentials]]",
    "[[upstreams.\"quay.io\".freshness]]",
    "[[server.listeners]]",
    "[upstreams.\"\"]",
    "[upstreams.\"QUAY.io:443\"]",
    "[server.tls]",
    "[nonsense]",
    "[upstreams]",
];
const KEYS: &[&str] = &[
    "listen",
    "admin_listen",
    "default_authority",
    "tls",
    "mount",
    "hostnames",
    "max_requests",
    "max_connections",
    "path",
    "max_size",
    "min_free",
    "tag_ttl",
    "negative_ttl",
    "keep_deleted",
    "offline",
    "public",
    "on_denied",
    "max_stale",
    "url",
    "endpoints",
    "aliases",
    "prefix",
    "username",
    "password_file",
    "docker_config",
    "credential_helper",
    "allow",
    "deny",
    "token_hosts",
    "private_hosts",
    "ca",
    "client_certificate",
    "client_key",
    "insecure_skip_verify",
    "proxy",
    "proxy_username",
    "proxy_password_file",
    "match",
    "tag",
    "immutable",
    "max_connections",
    "connect_timeout",
    "forward_ns",
    "presets",
    "password",
    "nonsense",
    "log_level",
    "admin_token_file",
    "max_page",
];
const VALUES: &[&str] = &[
    "true",
    "0",
    "-1",
    "30",
    "1e9",
    "99999999999999999999",
    "\"\"",
    "\"1m\"",
    "\"100GiB\"",
    "\"127.0.0.1:0\"",
    "[]",
    "{}",
    "[\"a\", 1]",
    "\"https://registry.test\"",
    "\"https://u:SECRETS@registry.test\"",
    "\"SECRETS\"",
    "[\"SECRETS\"]",
    "{ certificate = \"SECRETS\", key = \"SECRETS\" }",
    "\"docker.io\"",
    "\"library/**\"",
    "\"a**\"",
    "\"(\"",
    "\"refuse\"",
    "[{ url = \"SECRETS\" }]",
    "1979-05-27",
    "\"off\"",
    "nan",
];

fn toml(u: &mut Unstructured<'_>) -> Result<String> {
    let mut toml = String::new();
    for _ in 0..u.int_in_range(0..=4)? {
        toml.push_str(one(u, SECTIONS)?);
        toml.push('\n');
        for _ in 0..u.int_in_range(0..=5)? {
            toml.extend([one(u, KEYS)?, " = ", one(u, VALUES)?, "\n"]);
        }
        if u.ratio(1, 10)? {
            toml.push_str(&text(u, &["=", "[", "]", "\"", "\n", "a", "SECRETS"], 4)?);
            toml.push('\n');
        }
    }
    Ok(toml)
}

#[test]
fn t11_a_configuration_is_taken_or_refused_with_keys_and_without_values() {
    fuzz(|u| {
        let toml = toml(u)?;
        let Err(problems) = Config::read(Some(&toml), Vec::new()) else { return Ok(()) };
        assert!(!problems.0.is_empty(), "{toml}");
        for problem in &problems.0 {
            assert!(!problem.key.is_empty() && !problem.message.is_empty(), "{toml}");
            assert!(!problem.message.contains("SECRETS"), "{toml}\n{problem:?}");
            assert!(!problem.message.contains('\n'), "{problem:?}");
        }
        Ok(())
    });
}
