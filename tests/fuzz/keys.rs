//! T6: what is known of one (authority, repository, tag) is never found under another.

use std::cell::RefCell;
use std::collections::BTreeMap;

use arbtest::arbitrary::Unstructured;
use roadstead::clock::Timestamp;
use roadstead::health::Health;
use roadstead::index::{Change, Index, PutTag, Scope, TagRow};
use roadstead::oci::{Algorithm, Digest, Tag};

use crate::fuzz;
use crate::text::text;

#[test]
fn t6_distinct_keys_never_collide() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let _inside = runtime.enter();
    let (index, _) = Index::open(directory.path(), Health::default(), Timestamp::default(), &|_| Ok(())).unwrap();
    let model: RefCell<BTreeMap<(u32, String, String, String), Digest>> = RefCell::default();
    let mut property = |u: &mut Unstructured<'_>| {
        let mut model = model.borrow_mut();
        let mut changes = Vec::new();
        for _ in 0..u.int_in_range(1..=20)? {
            let authority = text(u, &["a", "b", ".", ":5000", "-", "1"], 4)?;
            let repository = text(u, &["a", "b", ".", "/", "-", "1", "_"], 5)?;
            let tag = text(u, &["a", "b", ".", "-", "1", "_"], 4)?;
            let (Ok(authority), Ok(repository), Ok(tag)) = (authority.parse(), repository.parse(), tag.parse::<Tag>())
            else {
                continue;
            };
            let scope = Scope { domain: u.int_in_range(0..=1)?, authority, repository };
            let key = (scope.domain, scope.authority.to_string(), scope.repository.to_string(), tag.to_string());
            let digest = Digest::of(Algorithm::Sha256, format!("{key:?}").as_bytes());
            let row = TagRow::moved_to(None, digest, Timestamp::default());
            changes.push(Change::from(PutTag { scope, tag, row }));
            model.insert(key, digest);
        }
        runtime.block_on(index.apply(changes)).unwrap();
        let some = u.choose_index(model.len().max(1))?;
        for ((domain, authority, repository, tag), digest) in model.iter().skip(some).take(20) {
            let scope = Scope {
                domain: *domain,
                authority: authority.parse().unwrap(),
                repository: repository.parse().unwrap(),
            };
            let held = runtime.block_on(index.tag(&scope, &tag.parse().unwrap(), false)).unwrap().unwrap();
            assert_eq!(held.row.digest, Some(*digest), "{scope:?}:{tag}");
        }
        Ok(())
    };
    // A busy machine may not get far within one budget.
    for _round in 0..10 {
        fuzz(&mut property);
        if model.borrow().len() > 20 {
            return;
        }
    }
    panic!("there was nothing to compare");
}
