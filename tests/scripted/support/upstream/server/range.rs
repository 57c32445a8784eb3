//! `Range` as a registry of good conduct reads it.

/// A `Range` header, for a representation of known size. `end` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Whole,
    Part { first: u64, end: u64 },
    Unsatisfiable,
}

/// Other units, several ranges and nonsense count as no range; `500-0` is unsatisfiable, as in Go's file server.
pub(crate) fn parse(header: Option<&str>, size: u64) -> Asked {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else { return Asked::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Asked::Whole };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last || first >= size => Asked::Unsatisfiable,
        (Ok(first), Ok(last)) => Asked::Part { first, end: size.min(last.saturating_add(1)) },
        (Ok(first), Err(_)) if last.is_empty() && first >= size => Asked::Unsatisfiable,
        (Ok(first), Err(_)) if last.is_empty() => Asked::Part { first, end: size },
        (Err(_), Ok(suffix)) if first.is_empty() && (suffix == 0 || size == 0) => Asked::Unsatisfiable,
        (Err(_), Ok(suffix)) if first.is_empty() => Asked::Part { first: size.saturating_sub(suffix), end: size },
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_rfc() {
        let part = |first, end| Asked::Part { first, end };
        for (header, want) in [
            ("bytes=500-1499", part(500, 1500)),
            ("bytes=500-", part(500, 2048)),
            ("bytes=-500", part(1548, 2048)),
            ("bytes=-5000", part(0, 2048)),
            ("bytes=2000-5000", part(2000, 2048)),
            ("bytes=0-0", part(0, 1)),
            ("bytes=2048-", Asked::Unsatisfiable),
            ("bytes=5000-10000", Asked::Unsatisfiable),
            ("bytes=500-0", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=0-1,5-6", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("lines=0-1", Asked::Whole),
        ] {
            assert_eq!(parse(Some(header), 2048), want, "{header}");
        }
        assert_eq!(parse(Some("bytes=0-"), 0), Asked::Unsatisfiable);
        assert_eq!(parse(None, 2048), Asked::Whole);
    }
}
