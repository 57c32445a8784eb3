use super::*;

fn space(max_size: Option<u64>, min_free: u64) -> Arc<Space> {
    let limits = SpaceLimits { max_size, min_free, high_mark: max_size, low_mark: max_size.map(|max| max / 2) };
    Arc::new(Space::new(PathBuf::from("/"), limits))
}

fn partial() -> &'static Path {
    Path::new("/partial/a.test/sha256-0")
}

#[test]
fn reservations_and_stored_bytes_stay_below_the_limit_together() {
    let space = space(Some(100), 0);
    let first = space.reserve(partial(), 60).unwrap();
    assert!(space.reserve(partial(), 41).is_none());
    first.becomes_stored(60).recorded();
    assert_eq!(space.used(), 60);
    assert!(space.reserve(partial(), 41).is_none() && space.reserve(partial(), 40).is_some());
    assert_eq!((space.shortage(41), space.shortage(40), space.uncounted("a.test")), (1, 0, 0));
    space.forget_stored(60);
    assert_eq!(space.used(), 0);
}

#[test]
fn min_free_keeps_the_disk_from_filling() {
    assert!(space(None, u64::MAX / 2).reserve(partial(), 1).is_none());
}

#[test]
fn removed_files_count_until_the_last_reader_has_gone() {
    let space = space(Some(100), 0);
    space.set_stored(50);
    space.forget_stored(50);
    space.add_deleted_open(50);
    assert!(space.reserve(partial(), 60).is_none());
    space.forget_deleted_open(50);
    assert!(space.reserve(partial(), 60).is_some());
}

#[test]
fn the_index_is_believed_only_where_it_can_know() {
    let space = space(Some(100), 0);
    let unrecorded = space.reserve(partial(), 10).unwrap().becomes_stored(10);
    assert!(space.moment().is_none());
    assert_eq!(space.uncounted("a.test"), 10);
    unrecorded.recorded();
    let moment = space.moment().unwrap();
    space.forget_stored(10);
    space.settle(moment, 10);
    assert_eq!(space.used(), 0);
    space.settle(space.moment().unwrap(), 7);
    assert_eq!(space.used(), 7);
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
