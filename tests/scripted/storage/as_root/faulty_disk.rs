//! The disk that fails on demand keeps its own promises.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::io::Errno;

use crate::support::faulty_disk::*;

#[test]
fn it_is_a_file_system() {
    let disk = FaultyDisk::mount();
    let at = |name: &str| disk.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(at("a/b/one"), &bytes).unwrap();
    assert!(fs::read(at("a/b/one")).unwrap() == bytes);
    fs::hard_link(at("a/b/one"), at("a/two")).unwrap();
    assert_eq!(fs::metadata(at("a/two")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(at("a/two")).unwrap().ino(), fs::metadata(at("a/b/one")).unwrap().ino());
    let open = File::open(at("a/two")).unwrap();
    fs::rename(at("a/two"), at("a/three")).unwrap();
    fs::remove_file(at("a/b/one")).unwrap();
    fs::remove_file(at("a/three")).unwrap();
    let mut part = [0; 8];
    open.read_exact_at(&mut part, 400_000).unwrap();
    assert_eq!(part, bytes[400_000..400_008], "readable for those who have it open");
    assert!(disk.used() >= bytes.len() as u64);
    drop(open);
    fs::remove_dir(at("a/b")).unwrap();
    assert_eq!(fs::read_dir(at("a")).unwrap().count(), 0);
    let lock = File::create(at("LOCK")).unwrap();
    lock.try_lock().unwrap();
    assert!(File::open(at("LOCK")).unwrap().try_lock().is_err(), "locks hold");
}

#[test]
fn it_fails_where_and_when_it_is_told() {
    let disk = FaultyDisk::mount();
    let at = |name: &str| disk.path().join(name);
    disk.fails(Fault::on(Op::Write).at("bad").after(1));
    let mut bad = File::create(at("bad")).unwrap();
    bad.write_all(b"first").unwrap();
    assert_eq!(bad.write_all(b"second").unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    bad.write_all(b"third").unwrap();
    fs::write(at("good"), "x").unwrap();
    disk.fails(Fault::on(Op::Write).short(2));
    assert_eq!(File::create(at("short")).unwrap().write(b"abcdef").unwrap(), 2);
    disk.fails(Fault::on(Op::Sync).with(Errno::NOSPC).always());
    for _ in 0..2 {
        assert!(File::create(at("synced")).unwrap().sync_all().is_err());
    }
    disk.heals();
    File::create(at("synced")).unwrap().sync_all().unwrap();
    disk.read_only();
    assert_eq!(fs::write(at("new"), "").unwrap_err().raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    assert_eq!(fs::read(at("good")).unwrap(), b"x");
    disk.heals();
    disk.has_room_for(8192);
    let full = fs::write(at("large"), vec![0; 20_000]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_power_cut_leaves_what_was_synced() {
    let disk = FaultyDisk::mount();
    let at = |name: &str| disk.path().join(name);
    let synced = |name: &str, text: &str| {
        let mut file = File::create(at(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
        file
    };
    synced("named", "old");
    synced("without a name", "data");
    File::open(disk.path()).unwrap().sync_all().unwrap();
    fs::remove_file(at("without a name")).unwrap();
    OpenOptions::new().write(true).open(at("named")).unwrap().write_all(b"new and longer").unwrap();
    synced("late", "data without a synced name");
    fs::rename(at("late"), at("later")).unwrap();
    let left = disk.cut(Unsynced::Lost);
    assert_eq!(fs::read(left.path().join("named")).unwrap(), b"old");
    assert_eq!(fs::read(left.path().join("without a name")).unwrap(), b"data", "its removal was not synced");
    assert!(!left.path().join("late").exists() && !left.path().join("later").exists());
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let left = disk.cut(Unsynced::Random(seed));
        seen.insert(left.files("").len());
    }
    assert!(seen.len() > 2, "{seen:?}");
}
