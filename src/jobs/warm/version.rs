//! Versions as tags have them, and ranges of them: `1.27`, `v2.0.1-rc1`, `>=1.20, <2`, `^1.2`, `~1.2.3`.

use std::cmp::Ordering;

/// Numbers, and what follows a dash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u64; 3],
    /// How many of the numbers are written.
    written: usize,
    pre: Option<String>,
}

impl Version {
    /// `None` if the text is no version: `latest`, `bookworm`, a hash.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split('+').next()?;
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre.to_owned())),
            None => (text, None),
        };
        let mut version = Self { numbers: [0; 3], written: 0, pre };
        for part in numbers.split('.') {
            let is_number = !part.is_empty() && part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
            *version.numbers.get_mut(version.written)? = part.parse().ok().filter(|_| is_number)?;
            version.written += 1;
        }
        Some(version)
    }
}

impl Ord for Version {
    /// What has a remark behind a dash is older than the same without it.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_pre = || match (&self.pre, &other.pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => natural(one, other),
        };
        self.numbers.cmp(&other.numbers).then_with(by_pre).then(self.written.cmp(&other.written))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares texts, their numbers by value: `rc2` before `rc10`.
fn natural(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| {
        let mut parts: Vec<(u64, String)> = vec![(0, String::new())];
        for c in text.chars() {
            let Some((number, word)) = parts.last_mut() else { break };
            match c.to_digit(10) {
                Some(digit) if word.is_empty() => *number = number.saturating_mul(10).saturating_add(u64::from(digit)),
                Some(digit) => parts.push((u64::from(digit), String::new())),
                None => word.push(c),
            }
        }
        parts
    };
    parts(one).cmp(&parts(other))
}

/// A range of versions. Pre-releases are in it only if it names one.
#[derive(Debug, Clone)]
pub(super) struct Range(Vec<(Relation, Version)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The first number that is not zero stays.
    Caret,
    /// All but the last written number stay.
    Tilde,
}

impl Range {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let comparators = text.split([',', ' ']).filter(|part| !part.is_empty());
        let comparators = comparators.map(|part| {
            let relations = [
                (">=", Relation::GreaterOrEqual),
                ("<=", Relation::LessOrEqual),
                (">", Relation::Greater),
                ("<", Relation::Less),
                ("=", Relation::Equal),
                ("^", Relation::Caret),
                ("~", Relation::Tilde),
            ];
            let found = relations.iter().find_map(|(sign, relation)| Some((*relation, part.strip_prefix(sign)?)));
            let (relation, version) = found.unwrap_or((Relation::Caret, part));
            Some((relation, Version::parse(version)?))
        });
        let comparators: Vec<_> = comparators.collect::<Option<_>>()?;
        (!comparators.is_empty()).then_some(Self(comparators))
    }

    pub(super) fn contains(&self, version: &Version) -> bool {
        let names_pre = self.0.iter().any(|(_, bound)| bound.pre.is_some());
        (version.pre.is_none() || names_pre)
            && self.0.iter().all(|(relation, bound)| is_within(*relation, bound, version))
    }
}

fn is_within(relation: Relation, bound: &Version, version: &Version) -> bool {
    let order = (version.numbers, version.pre.is_none()).cmp(&(bound.numbers, bound.pre.is_none()));
    let order = if order == Ordering::Equal { version.pre.cmp(&bound.pre) } else { order };
    let stays = |count: usize| version.numbers.iter().zip(&bound.numbers).take(count).all(|(one, other)| one == other);
    match relation {
        // What is not written is any: `=1.2` has 1.2.7.
        Relation::Equal => stays(bound.written) && version.pre == bound.pre,
        Relation::Less => order == Ordering::Less,
        Relation::LessOrEqual => order != Ordering::Greater || (bound.written < 3 && stays(bound.written)),
        Relation::Greater => order == Ordering::Greater && !(bound.written < 3 && stays(bound.written)),
        Relation::GreaterOrEqual => order != Ordering::Less,
        Relation::Caret => {
            let first = bound.numbers.iter().position(|number| *number != 0).map_or(bound.written, |first| first + 1);
            order != Ordering::Less && stays(first.min(bound.written))
        }
        Relation::Tilde => order != Ordering::Less && stays(bound.written.saturating_sub(1).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(range: &str, version: &str) -> bool {
        Range::parse(range).unwrap().contains(&Version::parse(version).unwrap())
    }

    #[test]
    fn ranges_are_those_of_semver() {
        for (range, inside, outside) in [
            (">=1.20, <2", &["1.20", "1.20.1", "v1.99"][..], &["1.19.9", "2", "2.0.0", "1.21-rc1"][..]),
            ("^1.2", &["1.2.0", "1.9"], &["1.1", "2.0", "0.9"]),
            ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0", "0.2.2"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.3.0", "1.2.2"]),
            ("~1.2", &["1.2", "1.9"], &["2.0"]),
            ("=1.2", &["1.2", "1.2.7"], &["1.3", "1.2-rc1"]),
            (">1.2", &["1.3"], &["1.2.7", "1.2"]),
            (">=1.2-rc1", &["1.2-rc1", "1.2-rc2", "1.2"], &["1.2-rc0"]),
        ] {
            for version in inside {
                assert!(fits(range, version), "{version} in {range}");
            }
            for version in outside {
                assert!(!fits(range, version), "{version} in {range}");
            }
        }
        for bad in ["", "x", ">=", "1.2.3.4", ">=1.2 y"] {
            assert!(Range::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn versions_are_ordered_and_words_are_none() {
        let mut versions: Vec<_> = ["1.10", "1.9", "v2.0", "1.9-rc10", "1.9-rc2", "1.9.1"].map(Version::parse).to_vec();
        versions.sort();
        let expected = ["1.9-rc2", "1.9-rc10", "1.9", "1.9.1", "1.10", "v2.0"].map(Version::parse).to_vec();
        assert_eq!(versions, expected);
        for word in ["latest", "", "1.x", "bookworm", "1..2", "deadbeef"] {
            assert_eq!(Version::parse(word), None, "{word}");
        }
    }
}
