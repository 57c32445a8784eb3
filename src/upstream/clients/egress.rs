//! Decides which addresses may be dialled.
//!
//! The addresses that were resolved and checked are the ones that are dialled, so that a name cannot change its meaning
//! between check and connect. Address literals pass no resolver and are checked separately.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::quote::quoted;

/// The addresses that a client may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Reach {
    /// All addresses. For the endpoint itself, which the operator configured.
    Anywhere,
    /// All except link-local ones. For redirect targets and token servers of private endpoints.
    NotLinkLocal,
    /// Public ones only. For redirect targets and token servers of public endpoints, and all hosts under a wildcard.
    PublicOnly,
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is a private address; `private_hosts` lists hosts that may be at one")]
pub(in crate::upstream) struct Blocked(String);

impl Reach {
    pub(in crate::upstream) fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::NotLinkLocal => !is_link_local(address),
            Self::PublicOnly => is_public(address),
        }
    }

    /// Checks the host of a URL if it is an address literal. The error names the address.
    pub(in crate::upstream) fn check_literal(self, url: &Url) -> Result<(), Blocked> {
        let literal: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        match literal {
            Some(address) if !self.allows(address) => Err(Blocked(address.to_string())),
            _ => Ok(()),
        }
    }
}

/// A resolver that drops addresses outside `reach`.
#[derive(Debug)]
pub(in crate::upstream) struct Resolver {
    pub(in crate::upstream) reach: Reach,
    /// The egress proxy's host, which the operator configured; any address is allowed.
    pub(in crate::upstream) proxy: Option<String>,
}

/// Limits look-ups. Each blocks a thread of the pool that also reads the disk: a hanging name server must not take all.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = if self.proxy.as_deref() == Some(name.as_str()) { Reach::Anywhere } else { self.reach };
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let permit = LOOKUPS.acquire().await?;
            // A task, because a cancelled caller does not stop the thread, which must keep its permit.
            let lookup = tokio::spawn(async move {
                let found = tokio::net::lookup_host((host, 0)).await.map(Iterator::collect::<Vec<SocketAddr>>);
                drop(permit);
                found
            });
            let found = lookup.await??;
            let allowed: Vec<SocketAddr> = found.iter().copied().filter(|found| reach.allows(found.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(Blocked(format!("the address of {}", quoted(name.as_str()))).into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

/// Converts an IPv6 form of an IPv4 address to that address.
fn unmapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.segments() {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into()
        }
        _ => address,
    }
}

/// Link-local addresses, where cloud metadata services give out credentials. AWS also uses a unique local address.
fn is_link_local(address: IpAddr) -> bool {
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match unmapped(address) {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == AWS_METADATA,
    }
}

/// Whether the address is globally reachable, by the special-purpose registries of RFC 6890.
pub fn is_public(address: IpAddr) -> bool {
    match unmapped(address) {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a >= 224
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3; inside it, 2001::/23 is for protocols, 2001:db8::/32 and 3fff::/20 for documents.
    let [first, second, ..] = address.segments();
    let special = (first == 0x2001 && (second < 0x200 || second == 0xdb8)) || (first == 0x3fff && second < 0x1000);
    first & 0xe000 == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_t4_only_global_addresses_are_public() {
        for public in ["1.1.1.1", "142.250.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "3fff::1",
            "::ffff:169.254.169.254",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        assert!(!Reach::NotLinkLocal.allows("169.254.169.254".parse().unwrap()));
        assert!(!Reach::NotLinkLocal.allows("::ffff:169.254.1.1".parse().unwrap()));
        assert!(!Reach::NotLinkLocal.allows("fd00:ec2::254".parse().unwrap()));
        assert!(Reach::NotLinkLocal.allows("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn t4_odd_spellings_of_an_address_are_seen_through() {
        for url in ["https://0x7f.1/", "https://2130706433/", "https://[::ffff:7f00:1]/"] {
            assert!(Reach::PublicOnly.check_literal(&url.parse().unwrap()).is_err(), "{url}");
        }
        assert!(Reach::PublicOnly.check_literal(&"https://quay.io/".parse().unwrap()).is_ok());
    }

    #[tokio::test]
    async fn t4_a_name_that_leads_to_a_private_address_is_not_dialled() {
        let resolver = Resolver { reach: Reach::PublicOnly, proxy: None };
        let refused = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(refused.downcast_ref::<Blocked>().is_some(), "{refused}");
        let resolver = Resolver { reach: Reach::PublicOnly, proxy: Some("localhost".to_owned()) };
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
