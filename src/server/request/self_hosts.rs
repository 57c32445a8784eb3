//! Host names of this server itself. A `Host` header with one of them names no registry.

use std::net::SocketAddr;

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
}
