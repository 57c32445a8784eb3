//! The proxies that a request came through.

use http::HeaderMap;
use http::header::VIA;

/// Whether a request has been here before: `own` is the value of our own `Via`.
pub(super) fn is_looped(hops: &str, own: &str) -> bool {
    hops.split(',').any(|hop| hop.trim() == own)
}

/// All values of `Via`. A list longer than any sensible chain loses its oldest hops, which come first.
pub(super) fn hops(headers: &HeaderMap) -> Option<String> {
    const MAX_HOPS: usize = 32;
    const MAX_HOPS_BYTES: usize = 1024;
    let values = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> =
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|hop| !hop.is_empty()).collect();
    let mut kept = hops.get(hops.len().saturating_sub(MAX_HOPS)..).unwrap_or_default();
    // Clients share upstream requests: one client's header must not get the shared request refused.
    while kept.iter().map(|hop| hop.len() + 2).sum::<usize>() > MAX_HOPS_BYTES {
        kept = kept.get(1..).unwrap_or_default();
    }
    (!kept.is_empty()).then(|| kept.join(", "))
}
