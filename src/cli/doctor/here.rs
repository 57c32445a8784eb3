//! The mirror of this machine: its configuration, its certificates, and the one that runs.

use roadstead::config::Config;

use super::certificate;
use super::finding::Findings;
use super::running;
use crate::cli::reach::server::Server;

pub(super) fn look(config: &Config, findings: &mut Findings) {
    configuration(config, findings);
    for tls in config.server.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        match std::fs::read(&tls.certificate) {
            Ok(pem) => certificate::look_at_pem("certificate of the mirror", &pem, findings),
            Err(err) => findings.bad(
                "certificate of the mirror",
                format!("{}: {err}", tls.certificate.display()),
                "let the server read it",
            ),
        }
    }
    let Some(socket) = &config.server.admin_socket else {
        findings.doubt("server", "it has no admin socket: nobody here can ask it", "set server.admin_socket");
        return;
    };
    match Server::behind(socket) {
        Ok(Some(server)) => running::look(&server, findings),
        Ok(None) => findings.bad(
            "server",
            "none runs with this configuration",
            "start it: roadstead serve, or systemctl start roadstead",
        ),
        Err(err) => findings.bad(
            "server",
            format!("it cannot be asked at {}: {err}", socket.display()),
            "run this as root, or as the user who owns the storage",
        ),
    }
}

fn configuration(config: &Config, findings: &mut Findings) {
    const ABOUT: &str = "configuration";
    for doubt in &config.doubts {
        findings.doubt(ABOUT, format!("{}: {}", doubt.key, doubt.message), "see config/roadstead.toml for this key");
    }
    let listeners = &config.server.listeners;
    if listeners.iter().all(|listener| listener.address.ip().is_loopback()) {
        findings.doubt(
            ABOUT,
            "only this machine can use the mirror: it listens on loopback alone",
            "set server.listen, if others are to use it",
        );
    }
    if config.storage.limits.max_size.is_none() {
        findings.doubt(
            ABOUT,
            "there is no storage.max_size: the cache grows until storage.min_free",
            "set storage.max_size",
        );
    }
    let exposed = listeners.iter().any(|listener| !listener.address.ip().is_loopback());
    for registry in &config.upstreams {
        let upstream = &registry.upstream;
        let has_login = !upstream.credentials.is_empty();
        if has_login && registry.policy.public {
            findings.doubt(
                ABOUT,
                format!(
                    "{}: it has credentials, and public = true opens what they read to every repository",
                    upstream.name
                ),
                "leave public out, or the credentials",
            );
        }
        if has_login && exposed && config.server.access.is_none() && registry.policy.allow.is_empty() {
            findings.doubt(
                ABOUT,
                format!("{}: everybody who reaches the mirror can pull what its credentials can", upstream.name),
                "say who may pull with [access], or restrict it with allow, or with a firewall",
            );
        }
        if upstream.skip_verify {
            findings.doubt(
                ABOUT,
                format!("{}: skip_verify takes any certificate, and gives it the credentials", upstream.name),
                "name the authority with ca",
            );
        }
    }
}
