use super::*;

fn space(max_size: Option<u64>, min_free: u64) -> Arc<Space> {
    let limits = SpaceLimits { max_size, min_free, high_mark: max_size, low_mark: max_size.map(|max| max / 2) };
    Arc::new(Space::new(PathBuf::from("/"), limits))
}

fn partial() -> &'static Path {
    Path::new("/partial/a.test/sha256-0")
}

fn digest() -> Digest {
    Digest::of(crate::oci::Algorithm::Sha256, b"")
}

#[test]
fn reservations_and_stored_bytes_stay_below_the_limit_together() {
    let space = space(Some(100), 0);
    let first = space.reserve(partial(), 60).unwrap();
    assert!(space.reserve(partial(), 41).is_none());
    first.becomes_stored(digest(), 60);
    assert_eq!((space.used(), space.used_by("a.test")), (60, 60));
    space.record([("a.test", 60)], &[digest()], &[]);
    assert_eq!((space.used(), space.used_by("a.test"), space.promised()), (60, 60, 0));
    assert!(space.reserve(partial(), 41).is_none() && space.reserve(partial(), 40).is_some());
    assert_eq!((space.shortage(41), space.shortage(40)), (1, 0));
    space.remove_file(digest(), 60);
    assert_eq!(space.used(), 0);
    space.record([], &[], &[digest()]);
    assert_eq!(space.used(), 0);
}

#[test]
fn t51_a_large_index_counts_up_to_half_of_the_limit() {
    let limit = 2 * FREE_INDEX_BYTES;
    let space = space(Some(limit), 0);
    space.count_index(FREE_INDEX_BYTES);
    assert_eq!((space.used(), space.could_fit(limit)), (0, true));
    space.count_index(FREE_INDEX_BYTES + 100);
    assert_eq!((space.used(), space.shortage(limit), space.surplus(false)), (100, 100, 0));
    assert!(!space.could_fit(limit) && space.could_fit(limit - 100));
    assert!(space.reserve(partial(), limit - 99).is_none() && space.reserve(partial(), limit - 100).is_some());
    space.count_index(u64::MAX);
    assert_eq!(space.used(), limit / 2);
    space.count_index(0);
    assert_eq!(space.used(), 0);
}

#[test]
fn min_free_keeps_the_disk_from_filling() {
    assert!(space(None, u64::MAX / 2).reserve(partial(), 1).is_none());
}

#[test]
fn removed_files_count_until_the_last_reader_has_gone() {
    let space = space(Some(100), 0);
    space.record([("a.test", 50)], &[], &[]);
    space.remove_file(digest(), 50);
    space.add_deleted_open(50);
    assert!(space.reserve(partial(), 60).is_none());
    space.forget_deleted_open(50);
    assert!(space.reserve(partial(), 60).is_some());
}

#[test]
fn a_blob_is_counted_once_from_its_reservation_until_its_record_is_gone() {
    let space = space(Some(100), 0);
    let reserve = || space.reserve(partial(), 10).unwrap();
    // Two fills of one digest: one file has its name in the end, and one record.
    reserve().becomes_stored(digest(), 10);
    reserve().becomes_stored(digest(), 10);
    assert_eq!((space.used(), space.used_by("a.test")), (10, 10));
    space.record([("a.test", 10)], &[digest()], &[]);
    // Stored again: the record stays as it is.
    reserve().becomes_stored(digest(), 10);
    space.record([("a.test", 10)], &[digest()], &[]);
    assert_eq!((space.used(), space.used_by("a.test")), (10, 10));
    space.move_to_quarantine(digest(), 10);
    assert_eq!((space.used(), space.quarantined()), (10, 10));
    space.record([], &[], &[digest()]);
    assert_eq!((space.used(), space.used_by("a.test")), (10, 0));
    // One that the index never hears of.
    reserve().becomes_stored(digest(), 10);
    space.remove_file(digest(), 10);
    assert_eq!(space.used(), 10);
}

#[test]
fn a_leftover_is_idle_some_time_after_it_was_first_seen() {
    let space = space(None, 0);
    space.count_leftover(partial(), 10);
    assert!(space.idle_leftovers(1000, 900).is_empty());
    assert_eq!(space.idle_leftovers(2000, 1000), [partial()]);
    space.take_over(partial());
    assert!(space.idle_leftovers(2000, 1000).is_empty() && space.used() == 0);
}
