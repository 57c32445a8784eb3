//! The sections `[server]`, `[access]` and `[who]`.

pub(super) mod access;
mod oidc;
pub(super) mod who;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::rules::{certificate_problem, require_file};
use crate::config::section::Section;
use crate::mirror::{DOCKER_HUB, Namespaces};
use crate::oci::Authority;
use crate::server::{ClientCertificates, ListenerSettings, ServerSettings, TlsSettings, check_certificates};

const DEFAULT_LISTEN: &str = "127.0.0.1:5000";
const DEFAULT_ADMIN: &str = "127.0.0.1:5001";
/// Longest path of a unix socket in bytes, without the zero at its end (unix(7)).
const LONGEST_SOCKET: usize = 107;

pub(super) fn check_server(server: &Section<'_>, namespaces: &Namespaces, storage: &Path) -> ServerSettings {
    let listeners = check_listeners(server, namespaces);
    let admin_listen = match server.text("admin_listen").as_deref() {
        None => DEFAULT_ADMIN.parse().ok(),
        Some("" | "off") => None,
        Some(address) => address_of(server, "admin_listen", address),
    };
    let mut taken: Vec<SocketAddr> = admin_listen.into_iter().collect();
    for listener in &listeners {
        if listener.address.port() != 0 && taken.contains(&listener.address) {
            server.problem("listen", format!("{} is used twice, by listeners or `admin_listen`", listener.address));
        }
        taken.push(listener.address);
    }
    let admin_token_file = server.text("admin_token_file").map(PathBuf::from);
    if let Some(file) = &admin_token_file {
        require_file(server, "admin_token_file", file);
    }
    let webhook_token_file = server.text("webhook_token_file").map(PathBuf::from);
    if let Some(file) = &webhook_token_file {
        require_file(server, "webhook_token_file", file);
    }
    ServerSettings {
        listeners,
        admin_listen,
        admin_socket: admin_socket(server, storage),
        admin_token_file,
        webhook_token_file,
        hostnames: server.parsed_list("hostnames").unwrap_or_default(),
        max_requests: server.number("max_requests", 1).unwrap_or(4096) as usize,
        max_connections: server.number("max_connections", 1).unwrap_or(16_384) as usize,
        stall_timeout: server.duration("stall_timeout").unwrap_or(Duration::from_mins(1)),
        access: None,
        who: None,
    }
}

/// The addresses in `listen` share the section's own keys; a `[[server.listeners]]` overrides them.
fn check_listeners(server: &Section<'_>, namespaces: &Namespaces) -> Vec<ListenerSettings> {
    let default_authority = read_default_authority(server, namespaces)
        .or_else(|| DOCKER_HUB.parse().ok())
        .expect("the name of Docker Hub is an authority");
    let (tls, mounts) = (check_tls(server), read_mounts(server).unwrap_or_else(|| vec![String::new()]));
    let shared = |address| ListenerSettings {
        address,
        tls: tls.clone(),
        default_authority: default_authority.clone(),
        mounts: mounts.clone(),
    };
    let listed = server.sections("listeners");
    let addresses = match server.texts("listen") {
        Some(addresses) => addresses,
        None if listed.is_empty() => vec![DEFAULT_LISTEN.to_owned()],
        None => Vec::new(),
    };
    let addresses = addresses.iter().filter_map(|address| address_of(server, "listen", address));
    let mut listeners: Vec<_> = addresses.map(shared).collect();
    for listener in listed {
        let address = listener.text("listen");
        if address.is_none() && !listener.has("listen") {
            listener.problem("listen", "is missing: the address of this listener");
        }
        let address = address.and_then(|address| address_of(&listener, "listen", &address));
        let own_authority = read_default_authority(&listener, namespaces);
        let (own_tls, own_mounts) = (check_tls(&listener), read_mounts(&listener));
        listeners.extend(address.map(shared).map(|shared| ListenerSettings {
            address: shared.address,
            tls: own_tls.or(shared.tls),
            default_authority: own_authority.unwrap_or(shared.default_authority),
            mounts: own_mounts.unwrap_or(shared.mounts),
        }));
        listener.finish();
    }
    listeners
}

fn admin_socket(server: &Section<'_>, storage: &Path) -> Option<PathBuf> {
    let path = match server.text("admin_socket").as_deref() {
        None => storage.join("admin.sock"),
        Some("" | "off") => return None,
        Some(path) => path.into(),
    };
    if path.as_os_str().len() > LONGEST_SOCKET {
        server.problem(
            "admin_socket",
            format!("a socket's path has at most {LONGEST_SOCKET} bytes, and this one more; by default it is in `storage.path`"),
        );
    }
    Some(path)
}

fn address_of(section: &Section<'_>, key: &str, text: &str) -> Option<SocketAddr> {
    // Addresses need a number, but people write `localhost:5000`.
    let address = text.replace("localhost:", "127.0.0.1:").parse().ok();
    if address.is_none() {
        section.problem(key, "must be an address and a port, as in \"127.0.0.1:5000\" or \"[::]:5000\"");
    }
    address
}

fn read_default_authority(section: &Section<'_>, namespaces: &Namespaces) -> Option<Authority> {
    let named: Authority = section.parsed("default_authority")?;
    let configured = namespaces.configured(&named).cloned();
    if configured.is_none() {
        section.problem("default_authority", "is not among the upstreams");
    }
    configured
}

fn read_mounts(section: &Section<'_>) -> Option<Vec<String>> {
    let mounts = section.texts("mount")?;
    let read = |mount: &String| {
        let trimmed = mount.trim_end_matches('/');
        let valid = trimmed.is_empty()
            || trimmed.starts_with('/')
                && trimmed.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
                && !trimmed.contains("//");
        if !valid {
            section.problem("mount", "must be a path, as in \"/mirror\", or a list of paths");
        }
        trimmed.to_owned()
    };
    if mounts.is_empty() {
        section.problem("mount", "names no path; \"\" is the path of the server itself");
    }
    Some(mounts.iter().map(read).collect())
}

fn check_tls(section: &Section<'_>) -> Option<TlsSettings> {
    if !section.has("tls") {
        // Marks the key as known.
        section.section("tls").finish();
        return None;
    }
    let tls = section.section("tls");
    let (certificate, key) = (tls.text("certificate"), tls.text("key"));
    for (name, value) in [("certificate", &certificate), ("key", &key)] {
        if value.is_none() && !tls.has(name) {
            tls.problem(name, "is missing: a PEM file");
        }
    }
    let clients = client_certificates(&tls);
    let settings =
        certificate.zip(key).map(|(certificate, key)| TlsSettings { clients, ..TlsSettings::new(certificate, key) });
    if let Some(Err(err)) = settings.as_ref().filter(|_| tls.reads_secrets()).map(check_certificates) {
        let is_of_clients = settings.as_ref().and_then(|settings| settings.clients.as_ref()).map(|clients| &clients.ca);
        let key = if err.file().is_some_and(|file| Some(file) == is_of_clients) { "client_ca" } else { "certificate" };
        tls.problem(key, certificate_problem(&err));
    }
    tls.finish();
    settings
}

fn client_certificates(tls: &Section<'_>) -> Option<ClientCertificates> {
    let ca = tls.text("client_ca").map(PathBuf::from);
    let required = match tls.text("client_certificates").as_deref() {
        None | Some("required") => true,
        Some("optional") => false,
        Some(_) => {
            tls.problem("client_certificates", "must be \"required\" or \"optional\"");
            true
        }
    };
    if ca.is_none() && tls.has("client_certificates") && !tls.has("client_ca") {
        tls.problem("client_certificates", "goes with `client_ca`, the PEM file of the authorities that sign them");
    }
    Some(ClientCertificates { ca: ca?, required })
}
