//! Host names of this server itself. A `Host` header with one of them names no registry. Where only its own machine reaches
//! it, a page in a browser there must not reach it under a name of its own (DNS rebinding).

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::oci::Authority;

/// The `Host` of a request, unless it is this server itself.
pub(in crate::server) fn foreign_host<'a>(
    host: Option<&'a str>,
    local: SocketAddr,
    hostnames: &[Authority],
) -> Option<&'a str> {
    let named: Authority = host?.parse().ok()?;
    let is_own = |own: String| own.parse::<Authority>().is_ok_and(|own| own == named);
    let port = local.port();
    let own = hostnames.contains(&named)
        || is_own(local.to_string())
        || is_own(format!("localhost:{port}"))
        || (matches!(port, 80 | 443) && (is_own("localhost".to_owned()) || is_own(bracketed(local))));
    if own { None } else { host }
}

/// Whether a request to a listener on loopback may say this `Host`: a name of loopback or of this server, with any port, or
/// a registry. Browsers always send a `Host`.
pub(in crate::server) fn may_name_loopback(
    host: Option<&str>,
    hostnames: &[Authority],
    is_registry: impl FnOnce(&Authority) -> bool,
) -> bool {
    let Some(host) = host else { return true };
    let Ok(named) = host.parse::<Authority>() else { return false };
    is_loopback(&named) || is_listed(&named, hostnames) || is_registry(&named)
}

/// Whether a `Host` is the name of a registry, and none of loopback or of this server.
pub(in crate::server) fn names_a_registry(
    host: Option<&str>,
    hostnames: &[Authority],
    is_registry: impl FnOnce(&Authority) -> bool,
) -> bool {
    let named = host.and_then(|host| host.parse::<Authority>().ok());
    named.is_some_and(|named| !is_loopback(&named) && !is_listed(&named, hostnames) && is_registry(&named))
}

/// Whether a request to the admin side may say this `Host`: an address, which no page can name, a name of loopback, or a
/// name of this server, with any port.
pub(in crate::server) fn may_name_admin_side(host: Option<&str>, hostnames: &[Authority]) -> bool {
    let Some(host) = host else { return true };
    let Ok(named) = host.parse::<Authority>() else { return false };
    address_of(&named).is_some() || is_loopback(&named) || is_listed(&named, hostnames)
}

/// Whether a browser says that a page of another site sends this (T70): by the page's `Origin`, which has to be the very server
/// that is asked, or by `Sec-Fetch-Site`. Programs send neither.
pub(in crate::server) fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text("host").and_then(|host| host.parse::<Authority>().ok());
    let is_own = |origin: &str| {
        let named = origin.split_once("://").and_then(|(_, named)| named.parse::<Authority>().ok());
        named.is_some() && named == host
    };
    text("origin").is_some_and(|origin| !is_own(origin))
        || text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

/// Whether a browser says that a page of this very server sends this (T132). Programs say so only if they mean to.
pub(in crate::server) fn is_sent_by_own_page(headers: &HeaderMap) -> bool {
    let says_where = headers.contains_key("origin") || headers.contains_key("sec-fetch-site");
    let is_typed = headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"none");
    says_where && !is_typed && !is_of_another_site(headers)
}

fn address_of(named: &Authority) -> Option<IpAddr> {
    named.host().trim_matches(['[', ']']).parse().ok()
}

fn is_loopback(named: &Authority) -> bool {
    let host = named.host();
    host == "localhost"
        || host.ends_with(".localhost")
        || address_of(named).is_some_and(|address| address.is_loopback())
}

fn is_listed(named: &Authority, hostnames: &[Authority]) -> bool {
    hostnames.iter().any(|own| own.host() == named.host())
}

fn bracketed(local: SocketAddr) -> String {
    match local {
        SocketAddr::V4(local) => local.ip().to_string(),
        SocketAddr::V6(local) => format!("[{}]", local.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listeners_own_names_are_no_registry() {
        let local = "127.0.0.1:5000".parse().unwrap();
        let hostnames = ["mirror.corp".parse().unwrap()];
        for own in ["127.0.0.1:5000", "localhost:5000", "mirror.corp", "MIRROR.corp:443"] {
            assert_eq!(foreign_host(Some(own), local, &hostnames), None, "{own}");
        }
        assert_eq!(foreign_host(Some("quay.io"), local, &hostnames), Some("quay.io"));
        assert_eq!(foreign_host(Some("127.0.0.1"), "127.0.0.1:80".parse().unwrap(), &[]), None);
        assert_eq!(foreign_host(None, local, &[]), None);
    }

    #[test]
    fn t57_a_foreign_name_is_none_of_this_servers() {
        let hostnames = ["mirror.corp".parse().unwrap()];
        let is_registry = |named: &Authority| named.as_str() == "quay.io";
        for (host, on_loopback, on_admin_side) in [
            ("localhost:5000", true, true),
            ("a.localhost", true, true),
            ("127.0.0.1:6000", true, true),
            ("[::1]:5000", true, true),
            ("MIRROR.corp:5000", true, true),
            ("quay.io", true, false),
            ("quay.io:444", false, false),
            ("10.0.0.1:5001", false, true),
            ("evil.test", false, false),
            ("localhost.evil.test", false, false),
            ("evil.test.", false, false),
            ("127.0.0.1.evil.test:5000", false, false),
            ("", false, false),
        ] {
            assert_eq!(may_name_loopback(Some(host), &hostnames, is_registry), on_loopback, "{host}");
            assert_eq!(may_name_admin_side(Some(host), &hostnames), on_admin_side, "{host}");
        }
        assert!(may_name_loopback(None, &[], is_registry) && may_name_admin_side(None, &[]));
    }
}
