//! Blobs that are not stored, with the manifests that list them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::index::Scope;
use crate::oci::{Authority, Digest};

/// Blobs of manifests, all together and of one registry. The census finds what was left out.
const MAX: usize = 100_000;
const MAX_OF_ONE: usize = MAX / 4;
/// Manifests that one stored blob has looked at again.
const MAX_WOKEN: usize = 1000;

/// A manifest in a scope.
pub(super) type Subject = (Scope, Digest);

/// Which manifests wait for which blobs.
#[derive(Default)]
pub(super) struct Lacked {
    /// By blob, then by the number of the manifest.
    entries: BTreeSet<(Digest, u64)>,
    numbers: HashMap<Arc<Subject>, u64>,
    /// With the count of its entries.
    subjects: HashMap<u64, (Arc<Subject>, usize)>,
    by_authority: HashMap<Authority, usize>,
    next_number: u64,
}

impl Lacked {
    /// A manifest lists these blobs, and they are not stored.
    pub(super) fn add(&mut self, subject: &Subject, blobs: &[Digest]) {
        let authority = &subject.0.authority;
        let of_one = self.by_authority.get(authority).copied().unwrap_or(0);
        let room = MAX.saturating_sub(self.entries.len()).min(MAX_OF_ONE.saturating_sub(of_one));
        if room == 0 || blobs.is_empty() {
            return;
        }
        let number = self.numbers.get(subject).copied().unwrap_or(self.next_number);
        let mut added = 0;
        for blob in blobs {
            if added == room {
                break;
            }
            added += usize::from(self.entries.insert((*blob, number)));
        }
        if added == 0 {
            return;
        }
        *self.by_authority.entry(authority.clone()).or_default() += added;
        if number == self.next_number {
            self.next_number += 1;
            let subject = Arc::new(subject.clone());
            self.numbers.insert(Arc::clone(&subject), number);
            self.subjects.insert(number, (subject, 0));
        }
        if let Some((_, entries)) = self.subjects.get_mut(&number) {
            *entries += added;
        }
    }

    /// The blob is stored: the manifests that waited for it.
    pub(super) fn take(&mut self, blob: Digest) -> Vec<Arc<Subject>> {
        let numbers: Vec<u64> = self.entries.range((blob, 0)..=(blob, u64::MAX)).map(|(_, number)| *number).collect();
        let mut woken = Vec::new();
        for number in numbers {
            self.entries.remove(&(blob, number));
            let Some((subject, entries)) = self.subjects.get_mut(&number) else { continue };
            *entries -= 1;
            let (subject, is_last) = (Arc::clone(subject), *entries == 0);
            if is_last {
                self.subjects.remove(&number);
                self.numbers.remove(&subject);
            }
            if let Some(of_one) = self.by_authority.get_mut(&subject.0.authority) {
                *of_one -= 1;
                if *of_one == 0 {
                    self.by_authority.remove(&subject.0.authority);
                }
            }
            if woken.len() < MAX_WOKEN {
                woken.push(subject);
            }
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn digest(nth: usize) -> Digest {
        Digest::of(Algorithm::Sha256, &nth.to_le_bytes())
    }

    fn subject(authority: &str, nth: usize) -> Subject {
        let scope = Scope { domain: 0, authority: authority.parse().unwrap(), repository: "x".parse().unwrap() };
        (scope, digest(1_000_000 + nth))
    }

    #[test]
    fn t94_what_manifests_lack_is_bounded_in_sum_and_for_each_registry() {
        let mut lacked = Lacked::default();
        let blobs: Vec<Digest> = (0..1000).map(digest).collect();
        for nth in 0..100 {
            lacked.add(&subject("hostile.test", nth), &blobs);
        }
        assert_eq!(lacked.entries.len(), MAX_OF_ONE);
        for registry in 0..9 {
            for nth in 0..30 {
                lacked.add(&subject(&format!("r{registry}.test"), nth), &blobs);
            }
        }
        assert_eq!(lacked.entries.len(), MAX);
        for blob in blobs {
            lacked.take(blob);
        }
        assert!(lacked.entries.is_empty() && lacked.numbers.is_empty() && lacked.subjects.is_empty());
        assert!(lacked.by_authority.is_empty());
    }

    #[test]
    fn each_manifest_is_woken_once_for_each_blob() {
        let mut lacked = Lacked::default();
        let (first, second) = (subject("a.test", 1), subject("a.test", 2));
        lacked.add(&first, &[digest(1), digest(2)]);
        lacked.add(&first, &[digest(1)]);
        lacked.add(&second, &[digest(1)]);
        assert_eq!(lacked.take(digest(1)).len(), 2);
        assert!(lacked.take(digest(1)).is_empty());
        assert_eq!(*lacked.take(digest(2))[0], first);
    }
}
