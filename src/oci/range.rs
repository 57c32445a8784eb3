use std::ops::Range;

/// The value of a `Range` header (RFC 9110 section 14), by the way this server answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeHeader {
    /// Absent, of another unit, or invalid: ignored.
    Ignored,
    One(ByteRange),
    /// More than one range: refused, so that clients ask for one.
    Several,
}

/// One range of bytes, before the size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From this position to the end.
    From(u64),
    /// Both ends inclusive. `first > last` is kept, and cannot be satisfied.
    FromTo(u64, u64),
    /// So many bytes at the end.
    Last(u64),
}

/// The range lies outside the content: 416.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsatisfiable;

impl RangeHeader {
    /// Reads the value of the header. It never fails: RFC 9110 lets a server ignore `Range`.
    pub fn parse(value: &str) -> Self {
        let Some((unit, ranges)) = value.split_once('=') else { return Self::Ignored };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Ignored;
        }
        let mut parsed = None;
        for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            let Some(range) = ByteRange::parse(range) else { return Self::Ignored };
            if parsed.replace(range).is_some() {
                return Self::Several;
            }
        }
        parsed.map_or(Self::Ignored, Self::One)
    }
}

impl ByteRange {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            // A number beyond u64 is a position beyond any blob.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (first.trim(), last.trim()) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => Some(Self::FromTo(number(first)?, number(last)?)),
        }
    }

    /// The positions within `size_bytes`, clamped to it; end exclusive.
    pub fn within(self, size_bytes: u64) -> Result<Range<u64>, Unsatisfiable> {
        let range = match self {
            Self::From(first) => first..size_bytes,
            Self::FromTo(first, last) if first <= last => first..size_bytes.min(last.saturating_add(1)),
            Self::FromTo(..) => return Err(Unsatisfiable),
            Self::Last(count) => size_bytes.saturating_sub(count)..size_bytes,
        };
        if range.is_empty() { Err(Unsatisfiable) } else { Ok(range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Result<Range<u64>, Unsatisfiable> {
        match RangeHeader::parse(value) {
            RangeHeader::One(range) => range.within(2048),
            RangeHeader::Ignored | RangeHeader::Several => panic!("{value} is one range"),
        }
    }

    #[test]
    fn ranges_of_a_blob_of_2048_bytes_are_those_of_the_spec() {
        assert_eq!(one("bytes=500-1499"), Ok(500..1500));
        assert_eq!(one("bytes=500-"), Ok(500..2048));
        assert_eq!(one("bytes=-500"), Ok(1548..2048));
        assert_eq!(one("bytes=-5000"), Ok(0..2048));
        assert_eq!(one("bytes=2000-5000"), Ok(2000..2048));
        assert_eq!(one("Bytes = 0 - 0"), Ok(0..1));
        for outside in ["bytes=5000-10000", "bytes=2048-", "bytes=500-0", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(one(outside), Err(Unsatisfiable), "{outside}");
        }
        assert_eq!(ByteRange::From(0).within(0), Err(Unsatisfiable));
    }

    #[test]
    fn several_ranges_are_told_from_unparsable_ones() {
        assert_eq!(RangeHeader::parse("bytes=0-1,5-6"), RangeHeader::Several);
        for ignored in
            ["", "bytes", "bytes=", "bytes=,", "bytes=a-b", "bytes=1", "items=0-1", "bytes=--1", "bytes=1-2-3"]
        {
            assert_eq!(RangeHeader::parse(ignored), RangeHeader::Ignored, "{ignored}");
        }
    }
}
