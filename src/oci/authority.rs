use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use super::text::{reads_from_text, writes_as_text};

/// The registry that owns a name, as users write it: `docker.io`, `registry.corp:5000`, `[::1]:5000`.
///
/// In lower case, without `:443`, IPv6 canonical in brackets. It is a key, and never by itself an address to dial.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority(Arc<str>);

/// The text is no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an authority is `host` or `host:port`, without scheme, user, path or trailing dot")]
pub struct InvalidAuthority;

impl Authority {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, with the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        split_port(&self.0).map_or(&*self.0, |(host, _)| host)
    }

    /// Whether Docker would read the text as a registry: it has a dot or a port, or is `localhost`.
    pub fn looks_like_a_host(text: &str) -> bool {
        text.contains(['.', ':']) || text == "localhost"
    }
}

writes_as_text!(Authority);
reads_from_text!(Authority);

impl FromStr for Authority {
    type Err = InvalidAuthority;

    fn from_str(text: &str) -> Result<Self, InvalidAuthority> {
        let text = text.to_ascii_lowercase();
        let (host, port) = match split_port(&text) {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text.as_str(), None),
        };
        let host = canonical_host(host)?;
        Ok(Self(match port {
            None | Some(443) => host.into(),
            Some(port) => format!("{host}:{port}").into(),
        }))
    }
}

/// Splits at the colon before a port; colons inside brackets belong to the address.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    (!port.contains(']')).then_some((host, port))
}

fn parse_port(text: &str) -> Result<u16, InvalidAuthority> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(InvalidAuthority),
    }
}

fn canonical_host(host: &str) -> Result<String, InvalidAuthority> {
    if let Some(inside) = host.strip_prefix('[') {
        let address: Ipv6Addr =
            inside.strip_suffix(']').ok_or(InvalidAuthority)?.parse().map_err(|_not_an_address| InvalidAuthority)?;
        return Ok(format!("[{address}]"));
    }
    let label_is_valid = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label_is_valid) {
        return Err(InvalidAuthority);
    }
    // URL parsers read a host whose last label is a number as an IPv4 address in one of its odd forms
    // (`127.1`, `0x7f.1`, `2130706433`): only the plain form may pass.
    let last = host.rsplit('.').next().unwrap_or(host);
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(InvalidAuthority);
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_canonical() {
        for (text, canonical) in [
            ("Docker.IO", "docker.io"),
            ("quay.io:443", "quay.io"),
            ("registry.corp:5000", "registry.corp:5000"),
            ("localhost", "localhost"),
            ("[0:0::1]:5000", "[::1]:5000"),
            ("[::1]:443", "[::1]"),
            ("10.0.0.1:5000", "10.0.0.1:5000"),
        ] {
            assert_eq!(text.parse::<Authority>().unwrap().as_str(), canonical);
        }
        assert_eq!("[::1]:5000".parse::<Authority>().unwrap().host(), "[::1]");
        assert_eq!("[::1]".parse::<Authority>().unwrap().host(), "[::1]");
    }

    #[test]
    fn t1_what_is_not_a_plain_host_and_port_is_no_authority() {
        for bad in [
            "",
            ".",
            "a..b",
            "docker.io.",
            ".docker.io",
            "http://docker.io",
            "docker.io/library",
            "user@docker.io",
            "docker.io:",
            "docker.io:0",
            "docker.io:65536",
            "docker.io:+80",
            "docker.io:8a",
            "::1",
            "[::1",
            "[::g]",
            "a b",
            "a\r\nb",
            "docker.io#x",
            "docker.io?x",
            "dock\u{e9}r.io",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "-a",
            "a-",
            "1.2.3.4.5",
            "[::1]x",
            "[::1]:0",
        ] {
            assert_eq!(bad.parse::<Authority>(), Err(InvalidAuthority), "{bad:?}");
        }
    }
}
