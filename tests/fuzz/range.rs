//! `Range`, against the arithmetic of RFC 9110 in numbers that cannot overflow.

use std::collections::BTreeSet;

use roadstead::oci::{ByteRange, RangeHeader};

use crate::fuzz;
use crate::text::text;

#[test]
fn a_range_lies_within_the_size_and_is_what_the_rfc_says() {
    fuzz(|u| {
        let size: u64 = if u.arbitrary()? { u.int_in_range(0..=300)? } else { u.arbitrary()? };
        let mut number = || -> arbtest::arbitrary::Result<u64> {
            if u.arbitrary()? { u.int_in_range(0..=300) } else { u.arbitrary() }
        };
        let (first, last) = (number()?, number()?);
        let (from, upto, wide) = (u128::from(first), u128::from(last), u128::from(size));
        let cases = [
            (format!("bytes={first}-{last}"), (from <= upto && from < wide).then(|| (from, (upto + 1).min(wide)))),
            (format!("bytes={first}-"), (from < wide).then_some((from, wide))),
            (format!("bytes=-{last}"), (upto > 0 && wide > 0).then(|| (wide.saturating_sub(upto), wide))),
        ];
        for (header, expected) in cases {
            let RangeHeader::One(range) = RangeHeader::parse(&header) else { panic!("{header}") };
            let within = range.within(size).ok().map(|range| (u128::from(range.start), u128::from(range.end)));
            assert_eq!(within, expected, "{header} of {size}");
        }
        Ok(())
    });
}

#[test]
fn t55_whatever_stands_in_a_range_header_stays_within_the_size() {
    fuzz(|u| {
        let pieces =
            ["bytes", "=", "-", ",", " ", "0", "1", "99999999999999999999", "Bytes=", "items=", "\t", "--", "+1"];
        let header = text(u, &pieces, 10)?;
        let size = u.int_in_range(0..=10_u64)?;
        match RangeHeader::parse(&header) {
            RangeHeader::One(range) => {
                if let Ok(range) = range.within(size) {
                    assert!(range.start < range.end && range.end <= size, "{header:?} of {size}");
                }
                assert!(matches!(range, ByteRange::From(_) | ByteRange::FromTo(..) | ByteRange::Last(_)));
            }
            RangeHeader::Several(ranges) => {
                assert!(header.contains(','), "{header:?}");
                let all = ByteRange::all_within(&ranges, size).unwrap_or_default();
                for range in &all {
                    assert!(range.start < range.end && range.end <= size, "{header:?} of {size}");
                }
                for pair in all.windows(2) {
                    assert!(pair[0].end <= pair[1].start, "{header:?}: {all:?}");
                }
                let each = ranges.iter().filter_map(|range| range.within(size).ok()).flatten();
                let (each, all): (BTreeSet<u64>, BTreeSet<u64>) = (each.collect(), all.into_iter().flatten().collect());
                assert_eq!(each, all, "{header:?}: the same bytes");
            }
            RangeHeader::Ignored => {}
        }
        Ok(())
    });
}
