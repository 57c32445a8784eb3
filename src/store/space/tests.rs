use super::*;
use crate::file_blocks::BLOCK as K;

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
    let space = space(Some(100 * K), 0);
    let first = space.reserve(partial(), "a.test", 60 * K).unwrap();
    assert!(space.reserve(partial(), "a.test", 41 * K).is_none());
    first.becomes_stored(digest(), 60 * K);
    assert_eq!((space.used(), space.used_by("a.test")), (60 * K, 60 * K));
    space.record([("a.test", 60 * K)], &[digest()], &[]);
    assert_eq!((space.used(), space.used_by("a.test"), space.promised()), (60 * K, 60 * K, 0));
    assert!(
        space.reserve(partial(), "a.test", 41 * K).is_none() && space.reserve(partial(), "a.test", 40 * K).is_some()
    );
    let short = |more| space.shortage(("a.test", "a.test"), more).bytes;
    assert_eq!((short(41 * K), short(40 * K)), (K, 0));
    space.remove_file(digest(), 60 * K);
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
    assert_eq!((space.used(), space.lack(limit), space.surplus(false)), (100, 100, 0));
    assert!(!space.could_fit(limit) && space.could_fit(limit - K));
    assert!(space.reserve(partial(), "a.test", limit - K + 1).is_none());
    assert!(space.reserve(partial(), "a.test", limit - K).is_some());
    space.count_index(u64::MAX);
    assert_eq!(space.used(), limit / 2);
    space.count_index(0);
    assert_eq!(space.used(), 0);
}

#[test]
fn min_free_keeps_the_disk_from_filling() {
    assert!(space(None, u64::MAX / 2).reserve(partial(), "a.test", 1).is_none());
}

#[test]
fn removed_files_count_until_the_last_reader_has_gone() {
    let space = space(Some(100 * K), 0);
    space.record([("a.test", 50 * K)], &[], &[]);
    space.remove_file(digest(), 50 * K);
    space.add_deleted_open(50 * K);
    assert!(space.reserve(partial(), "a.test", 60 * K).is_none());
    space.forget_deleted_open(50 * K);
    assert!(space.reserve(partial(), "a.test", 60 * K).is_some());
}

#[test]
fn a_blob_is_counted_once_from_its_reservation_until_its_record_is_gone() {
    let space = space(Some(100 * K), 0);
    let reserve = || space.reserve(partial(), "a.test", 10 * K).unwrap();
    // Two fills of one digest: one file has its name in the end, and one record.
    reserve().becomes_stored(digest(), 10 * K);
    reserve().becomes_stored(digest(), 10 * K);
    assert_eq!((space.used(), space.used_by("a.test")), (10 * K, 10 * K));
    space.record([("a.test", 10 * K)], &[digest()], &[]);
    // Stored again: the record stays as it is.
    reserve().becomes_stored(digest(), 10 * K);
    space.record([("a.test", 10 * K)], &[digest()], &[]);
    assert_eq!((space.used(), space.used_by("a.test")), (10 * K, 10 * K));
    space.move_to_quarantine(digest(), 10 * K);
    assert_eq!((space.used(), space.quarantined()), (10 * K, 10 * K));
    space.record([], &[], &[digest()]);
    assert_eq!((space.used(), space.used_by("a.test")), (10 * K, 0));
    // One that the index never hears of.
    reserve().becomes_stored(digest(), 10 * K);
    space.remove_file(digest(), 10 * K);
    assert_eq!(space.used(), 10 * K);
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

#[test]
fn t69_leftovers_are_bounded_and_the_smallest_of_who_has_most_go_first() {
    let space = space(None, 0);
    let name = |authority: &str, nth: usize| PathBuf::from(format!("/{authority}/sha256-{nth}"));
    for nth in 0..leftovers::MOST_OF_ONE + 2 {
        space.count_leftover(&name("a.test", nth), 1000 - nth as u64);
    }
    space.count_leftover(&name("b.test", 0), 1);
    let surplus = space.surplus_leftovers();
    let last = leftovers::MOST_OF_ONE + 1;
    assert_eq!(surplus, [name("a.test", last), name("a.test", last - 1)]);
    for partial in &surplus {
        space.take_over(partial);
    }
    let others = leftovers::MOST - leftovers::MOST_OF_ONE;
    for nth in 0..others {
        space.count_leftover(&name(&format!("{nth}.test"), 0), 1);
    }
    assert_eq!(space.surplus_leftovers(), [name("a.test", last - 2)], "of all, one is too many");
}

#[test]
fn t65_unproven_bytes_push_no_more_of_others_out_than_a_share() {
    let limits = SpaceLimits { max_size: Some(100 * K), min_free: 0, high_mark: Some(90 * K), low_mark: Some(80 * K) };
    let space = Arc::new(Space::new(PathBuf::from("/"), limits));
    let lying = ("a.test", "a.test");
    space.record([("a.test", 20 * K), ("b.test", 70 * K)], &[], &[]);
    assert_eq!(space.shortage(lying, 50 * K), Shortage { bytes: 40 * K, own_only: false });
    assert_eq!(space.shortage(lying, 51 * K), Shortage { bytes: 51 * K, own_only: true });
    space.record([("b.test", 40 * K)], &[], &[]);
    let mut running = space.reserve(partial(), "a.test", 45 * K).unwrap();
    assert!(!running.grow(51 * K), "it would be above the high mark, where others go");
    assert!(running.grow(50 * K) && running.size_bytes() == 50 * K);
    space.record([("b.test", 39 * K)], &[], &[]);
    assert!(running.grow(51 * K), "there is room");
    space.record([("a.test", 49 * K)], &[], &[]);
    running.shrink(50 * K);
    assert!(running.grow(51 * K), "nobody else is there");
}

#[test]
fn what_downloads_claim_and_have_not_taken_counts_for_their_own_upstream_only() {
    let space = space(Some(100 * K), 0);
    let mut running = space.reserve(partial(), "a.test", 10 * K).unwrap();
    assert_eq!(running.claim(60 * K).bytes, 0);
    let short = |name: &str, more| {
        let mut other = space.empty_reservation(partial(), name);
        other.claim(more).bytes
    };
    assert_eq!((short("a.test", 41 * K), short("a.test", 40 * K), short("b.test", 90 * K)), (K, 0, 0));
    let mut other = space.empty_reservation(partial(), "a.test");
    assert_eq!((other.claim(40 * K).bytes, short("a.test", K)), (0, K), "of two at once, one finds the other");
    drop(other);
    assert!(space.has_plenty(40 * K) && !space.has_plenty(41 * K));
    running.shrink(5 * K);
    assert_eq!((short("a.test", 95 * K), space.used()), (0, 5 * K));
    drop(running);
    assert_eq!((short("a.test", 100 * K), space.used()), (0, 0));
}

#[test]
fn t121_short_files_count_as_whole_blocks() {
    let space = space(Some(3 * K), 0);
    space.count_leftover(partial(), 1);
    let reservation = space.reserve(partial(), "a.test", 1).unwrap();
    reservation.becomes_stored(digest(), 1);
    space.move_to_quarantine(digest(), 1);
    assert_eq!(space.used(), 2 * K);
    assert!(space.reserve(partial(), "a.test", K + 1).is_none());
    assert!(space.reserve(partial(), "a.test", 1).is_some() && !space.could_fit(3 * K + 1));
    space.forget_quarantined(1);
    space.take_over(partial());
    assert_eq!(space.used(), 0);
}
