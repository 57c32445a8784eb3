use std::ops::Range;

/// Most ranges in one request. podman asks for at most as many. A longer set is ignored: its answer is the whole content.
const MAX_RANGES: usize = 1024;

/// The value of a `Range` header (RFC 9110 section 14), by the way this server answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeHeader {
    /// Absent, of another unit, invalid, or of more than [`MAX_RANGES`] ranges: ignored.
    Ignored,
    One(ByteRange),
    /// At least two ranges, as they were written.
    Several(Vec<ByteRange>),
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
        let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
        let Some(first) = ranges.next() else { return Self::Ignored };
        let Some(first) = ByteRange::parse(first) else { return Self::Ignored };
        let Some(second) = ranges.next() else { return Self::One(first) };
        let mut all = vec![first];
        for range in std::iter::once(second).chain(ranges) {
            match ByteRange::parse(range) {
                Some(range) if all.len() < MAX_RANGES => all.push(range),
                Some(_) | None => return Self::Ignored,
            }
        }
        Self::Several(all)
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

    /// The positions of several ranges within `size_bytes`, ascending and disjoint: what overlaps is merged, and what lies
    /// outside is left out. Neighbours that only touch stay apart, because podman counts the parts of the answer.
    pub fn all_within(ranges: &[Self], size_bytes: u64) -> Result<Vec<Range<u64>>, Unsatisfiable> {
        let mut sorted: Vec<Range<u64>> = ranges.iter().filter_map(|range| range.within(size_bytes).ok()).collect();
        sorted.sort_unstable_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        if merged.is_empty() { Err(Unsatisfiable) } else { Ok(merged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Result<Range<u64>, Unsatisfiable> {
        match RangeHeader::parse(value) {
            RangeHeader::One(range) => range.within(2048),
            RangeHeader::Ignored | RangeHeader::Several(_) => panic!("{value} is one range"),
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
        let several = vec![ByteRange::FromTo(0, 1), ByteRange::From(5)];
        assert_eq!(RangeHeader::parse("bytes=0-1, ,5-"), RangeHeader::Several(several));
        let many = |count| format!("bytes={}", vec!["1-2"; count].join(","));
        assert!(matches!(RangeHeader::parse(&many(MAX_RANGES)), RangeHeader::Several(all) if all.len() == MAX_RANGES));
        assert_eq!(RangeHeader::parse(&many(MAX_RANGES + 1)), RangeHeader::Ignored);
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=a-b",
            "bytes=1",
            "items=0-1",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes=0-1,x",
        ] {
            assert_eq!(RangeHeader::parse(ignored), RangeHeader::Ignored, "{ignored}");
        }
    }

    #[test]
    fn several_ranges_are_sorted_and_what_overlaps_is_merged() {
        let within = |value: &str| -> Result<Vec<(u64, u64)>, Unsatisfiable> {
            match RangeHeader::parse(value) {
                RangeHeader::Several(ranges) => ByteRange::all_within(&ranges, 100)
                    .map(|all| all.iter().map(|range| (range.start, range.end)).collect()),
                RangeHeader::Ignored | RangeHeader::One(_) => panic!("{value} is several ranges"),
            }
        };
        assert_eq!(within("bytes=0-9,20-29"), Ok(vec![(0, 10), (20, 30)]));
        assert_eq!(within("bytes=20-29,0-9"), Ok(vec![(0, 10), (20, 30)]));
        assert_eq!(within("bytes=0-9,10-19"), Ok(vec![(0, 10), (10, 20)]), "neighbours stay apart");
        assert_eq!(within("bytes=0-9,5-19,7-8"), Ok(vec![(0, 20)]));
        assert_eq!(within("bytes=50-,-10,0-0"), Ok(vec![(0, 1), (50, 100)]));
        assert_eq!(within("bytes=0-9,200-300"), Ok(vec![(0, 10)]));
        assert_eq!(within("bytes=100-,200-300"), Err(Unsatisfiable));
    }
}
