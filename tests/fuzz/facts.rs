//! Facts outlive the index, whatever they are: an index made anew from the journal knows what the lost one knew.

use roadstead::clock::Timestamp;
use roadstead::health::Health;
use roadstead::index::{
    Aging, BlobRow, Change, DropGrants, DropLists, GrantBlob, GrantManifest, Index, ListRow, PutBlob, PutChildren,
    PutList, PutReferrer, PutTag, ReferrerRow, Scope, TagRow, UseGrant,
};
use roadstead::oci::{Algorithm, Digest, MediaType, Tag};

use arbtest::arbitrary::{Result, Unstructured};

use crate::fuzz;

fn digest(u: &mut Unstructured<'_>) -> Result<Digest> {
    Ok(Digest::of(Algorithm::Sha256, &[u.int_in_range(0..=5_u8)?]))
}

fn change(u: &mut Unstructured<'_>) -> Result<Change> {
    let scope = Scope {
        domain: u.int_in_range(0..=1)?,
        authority: u.choose(&["docker.io", "quay.io"])?.parse().unwrap(),
        repository: u.choose(&["org/a", "org/b"])?.parse().unwrap(),
    };
    let tag: Tag = u.choose(&["1", "2"])?.parse().unwrap();
    let checked = Timestamp::from_millis(u.int_in_range(0..=1000)?);
    let whole_authority = u.ratio(1_u8, 3_u8)?;
    let day = u.int_in_range(0..=9)?;
    Ok(match u.int_in_range(0..=11)? {
        0 | 1 => Change::from(PutTag { scope, tag, row: TagRow::moved_to(None, digest(u)?, checked) }),
        2 => {
            let row = TagRow {
                digest: None,
                checked,
                hold_until: checked,
                history: Vec::new(),
                is_pinned: false,
                alias: None,
                waiting: None,
            };
            Change::from(PutTag { scope, tag, row })
        }
        3 => {
            let row = ListRow { content: "[\"a\\n\"]".into(), next: None, checked, hold_until: checked };
            Change::from(PutList { scope, list: format!("tags {tag}"), row })
        }
        4 => {
            let media_type = MediaType::parse(u.choose(&["application/a+json", "application/b+json"])?).unwrap();
            Change::from(GrantManifest { scope, whole_authority, digest: digest(u)?, media_type, day })
        }
        5 => Change::from(GrantBlob { scope, whole_authority, digest: digest(u)?, day }),
        6 => Change::from(DropLists { scope, family: "tags 1".to_owned() }),
        7 => Change::from(DropGrants { scope }),
        8 => Change::from(UseGrant { scope, whole_authority, digest: digest(u)?, table: Aging::BlobGrants, day }),
        9 => Change::from(PutChildren { manifest: digest(u)?, children: vec![digest(u)?] }),
        10 => {
            let row = ReferrerRow { descriptor: serde_json::json!({"a": day}) };
            Change::from(PutReferrer { scope, subject: digest(u)?, referrer: digest(u)?, row })
        }
        _ => {
            let row = BlobRow { size_bytes: 7, origin: Some(scope.authority), stored: checked };
            Change::from(PutBlob { digest: digest(u)?, row })
        }
    })
}

#[derive(Clone, Default)]
struct Out(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_index_made_anew_knows_what_the_lost_one_knew() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut compared = 0;
    let all = |index: &Index| {
        let out = Out::default();
        runtime.block_on(roadstead::index::back_up(index, out.clone())).unwrap();
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    };
    fuzz(|u| {
        let directory = tempfile::tempdir().unwrap();
        let stored: Vec<_> = (0..=5_u8).map(|n| Digest::of(Algorithm::Sha256, &[n])).collect();
        let open = || {
            let walk = |each: &mut dyn FnMut(Digest, u64)| {
                for digest in &stored {
                    each(*digest, 7);
                }
                Ok(())
            };
            Index::open(directory.path(), Health::default(), Timestamp::default(), &walk).unwrap().0
        };
        let mut index = open();
        // All that is stored is known, as ever.
        let row = BlobRow { size_bytes: 7, origin: None, stored: Timestamp::default() };
        let known = stored.iter().map(|digest| Change::from(PutBlob { digest: *digest, row: row.clone() })).collect();
        runtime.block_on(index.apply(known)).unwrap();
        for _ in 0..u.int_in_range(1..=4)? {
            let count = u.int_in_range(1..=60)?;
            let changes = (0..count).map(|_| change(u)).collect::<Result<Vec<_>>>()?;
            runtime.block_on(index.apply(changes)).unwrap();
            if u.ratio(1_u8, 4_u8)? {
                runtime.block_on(index.close());
                drop(index);
                index = open();
            }
        }
        let before = all(&index);
        runtime.block_on(index.close());
        drop(index);
        std::fs::remove_file(directory.path().join("index.redb")).unwrap();
        let index = open();
        assert_eq!(all(&index), before);
        runtime.block_on(index.close());
        compared += 1;
        Ok(())
    });
    assert!(compared > 0, "there was something to compare");
}
