use super::*;

const AT_ONCE: Duration = Duration::ZERO;

fn drain(segments: &mut Segments, assignment: &Assignment) {
    let end = segments.end_of(assignment.id);
    let taken = segments.take(assignment.id, assignment.range.start, end - assignment.range.start);
    segments.wrote(assignment.id, assignment.range.start..assignment.range.start + taken);
    segments.release(assignment.id);
}

#[test]
fn pieces_come_in_order_and_cover_the_blob() {
    let mut segments = Segments::new(Some(100 * MIB), 0);
    let mut at = 0;
    while let Some(assignment) = segments.next_free(8) {
        assert_eq!(assignment.range.start, at);
        at = assignment.range.end;
        drain(&mut segments, &assignment);
    }
    assert!(segments.is_complete() && segments.prefix() == 100 * MIB);
}

#[test]
fn alone_a_connection_fetches_all_that_is_left() {
    let mut segments = Segments::new(Some(100 * MIB), 7);
    assert_eq!(segments.next_free(1).unwrap().range, 7..100 * MIB);
    assert!(segments.next_free(1).is_none());
}

#[test]
fn what_a_reader_waits_for_comes_first() {
    let mut segments = Segments::new(Some(100 * MIB), 0);
    let first = segments.next_free(1).unwrap();
    segments.begun(first.id, AT_ONCE);
    assert!(segments.next_for_readers(&[NEAR - 1], 8).is_none(), "it is on its way");
    let wanted = segments.next_for_readers(&[50 * MIB], 8).unwrap();
    assert_eq!((wanted.range.start, segments.end_of(first.id)), (50 * MIB, 50 * MIB));
    assert!(segments.next_for_readers(&[50 * MIB], 8).is_none(), "somebody fetches it");
    assert_eq!(segments.next_for_readers(&[80 * MIB], 8).unwrap().range.start, 80 * MIB, "free by now");
}

#[test]
fn a_connection_that_brings_nothing_loses_all_and_a_slow_one_most() {
    let mut segments = Segments::new(Some(20 * MIB), 0);
    let stalled = segments.next_free(1).unwrap();
    segments.begun(stalled.id, AT_ONCE);
    assert!(segments.steal(8).is_none(), "nothing is known of it yet");
    for _ in 0..STALLED_LOOKS {
        segments.look();
    }
    let rescued = segments.steal(8).unwrap();
    assert!(stalled.stop.is_cancelled() && rescued.range.start == 0);
    assert_eq!(segments.take(stalled.id, 0, 1), 0, "what it brings later is not its own");
    segments.release(stalled.id);
    segments.begun(rescued.id, AT_ONCE);
    let rest = segments.next_free(1).unwrap();
    segments.take(rescued.id, 0, 1000);
    segments.wrote(rescued.id, 0..1000);
    drain(&mut segments, &rest);
    segments.look();
    let from_slow = segments.steal(8).unwrap();
    assert_eq!(from_slow.range.start, 1000 + CRUMB, "it keeps a little");
}

#[test]
fn what_would_be_there_before_another_connection_is_left_to_the_one_that_brings_it() {
    let steals = |answered_in, rest| {
        let mut segments = Segments::new(Some(4 * MIB + rest), 0);
        let assignment = segments.next_free(1).unwrap();
        segments.begun(assignment.id, answered_in);
        segments.take(assignment.id, 0, 4 * MIB);
        segments.look();
        segments.steal(8).is_some()
    };
    // It brings 4 MiB in each window.
    assert!(steals(AT_ONCE, 8 * MIB));
    assert!(!steals(WINDOW, 8 * MIB), "the answer alone would take half of the time that is left");
    assert!(steals(WINDOW, 12 * MIB));
    assert!(!steals(10 * WINDOW, 24 * MIB));
    assert!(steals(100 * WINDOW, 32 * MIB), "one slow answer is not believed of others");
}

#[test]
fn who_is_split_keeps_what_it_brings_until_the_other_has_its_answer() {
    for (answers, keeps) in [(1, 5), (2, 20)] {
        let mut segments = Segments::new(Some(400 * MIB), 0);
        let first = segments.next_free(1).unwrap();
        (0..answers).for_each(|_| segments.begun(first.id, 20 * WINDOW));
        segments.take(first.id, 0, MIB);
        segments.look();
        // It brings 1 MiB in each window; one answer alone is not believed of others.
        assert_eq!(segments.steal(8).unwrap().range.start, MIB + keeps * MIB);
    }
}

#[test]
fn an_assignment_is_worth_the_answer_before_it() {
    for (answered_in, worth) in [(AT_ONCE, 4), (3 * WINDOW, 12)] {
        let mut segments = Segments::new(Some(100 * MIB), 0);
        let first = segments.next_free(1).unwrap();
        segments.begun(first.id, answered_in);
        segments.take(first.id, 0, MIB);
        segments.look();
        let helper = segments.steal(8).unwrap();
        assert_eq!(helper.range.end - helper.range.start, worth * MIB);
    }
}

#[test]
fn an_upstream_that_stalls_as_a_whole_is_not_asked_without_end() {
    let mut segments = Segments::new(Some(20 * MIB), 0);
    let mut assignment = segments.next_free(1).unwrap();
    let mut rescues = 0;
    loop {
        segments.begun(assignment.id, AT_ONCE);
        for _ in 0..STALLED_LOOKS {
            segments.look();
        }
        let Some(next) = segments.steal(1) else { break };
        segments.release(assignment.id);
        assignment = next;
        rescues += 1;
    }
    assert_eq!(rescues, MAX_RESCUES);
}

#[test]
fn every_byte_has_one_writer_whatever_happens() {
    arbtest::arbtest(has_one_writer);
    // Takes nothing at a place whose bytes another connection takes later.
    arbtest::arbtest(has_one_writer).seed(0x43cb_14d8_0000_0868);
}

/// A model: each byte counts who wrote it, while connections come, go, stall and break in any order.
fn has_one_writer(u: &mut arbtest::arbitrary::Unstructured<'_>) -> arbtest::arbitrary::Result<()> {
    let size = u.int_in_range(1..=40)? * MIB + u.int_in_range(0..=1000)?;
    let left = u.int_in_range(0..=size / 2)?;
    let mut segments = Segments::new(u.arbitrary::<bool>()?.then_some(size), left);
    // Written bytes, as ranges that must never meet.
    let mut written: Vec<_> = std::iter::once(0..left).collect();
    let mut open: Vec<(Assignment, u64)> = Vec::new();
    for _ in 0..200 {
        match u.int_in_range(0..=7)? {
            0 if open.len() < 8 => {
                let width = u.int_in_range(1..=8)?;
                let at = u.int_in_range(0..=size - 1)?;
                let assignment = match u.int_in_range(0..=2)? {
                    0 => segments.next_free(width),
                    1 if segments.size().is_some() => segments.next_for_readers(&[at], width),
                    _ => segments.steal(width),
                };
                open.extend(assignment.map(|assignment| (assignment.clone(), assignment.range.start)));
            }
            1 if !open.is_empty() => {
                let at = u.choose_index(open.len())?;
                segments.begun(open[at].0.id, u.int_in_range(0..=5)? * WINDOW);
            }
            2 => segments.look(),
            3 if !open.is_empty() => {
                let at = u.choose_index(open.len())?;
                segments.release(open.remove(at).0.id);
            }
            4 => segments.learn_size(size),
            5 if !open.is_empty() => {
                let at = u.choose_index(open.len())?;
                let (assignment, position) = &mut open[at];
                if let Spot::Free(_) = segments.spot(assignment.id, *position) {
                    segments.move_on(assignment.id, *position, 8);
                }
            }
            _ if !open.is_empty() => {
                let at = u.choose_index(open.len())?;
                let (assignment, position) = &mut open[at];
                let length = u.int_in_range(1..=3 * MIB)?.min(size.saturating_sub(*position));
                let taken = segments.take(assignment.id, *position, length);
                let range = *position..*position + taken;
                // A range without bytes meets none.
                let meets = |old: &Range<u64>| old.start.max(range.start) < old.end.min(range.end);
                assert!(!written.iter().any(meets), "{range:?} is written twice");
                segments.wrote(assignment.id, range.clone());
                written.push(range.clone());
                *position = range.end;
            }
            _ => {}
        }
        let total: u64 = written.iter().map(|range| range.end - range.start).sum();
        assert_eq!(segments.written_bytes(), total, "what counts as written is what was written");
    }
    for (assignment, _) in open {
        segments.release(assignment.id);
    }
    segments.learn_size(size);
    while let Some(assignment) = segments.next_free(8) {
        drain(&mut segments, &assignment);
    }
    assert!(segments.is_complete(), "nothing is lost");
    Ok(())
}
