use super::*;

fn file(disk: &FakeDisk, name: &str) -> Box<dyn DiskFile> {
    disk.create_dir(Path::new("/d")).unwrap();
    disk.create(Path::new(name)).unwrap()
}

/// A disk holding the synced file `/d/f` of `len` bytes 1.
fn settled(len: usize) -> (FakeDisk, Box<dyn DiskFile>) {
    let disk = FakeDisk::new(0);
    let mut f = file(&disk, "/d/f");
    f.write_at(0, &vec![1; len]).unwrap();
    f.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, f)
}

#[test]
fn a_crash_keeps_what_was_synced_and_kills_handles_and_locks() {
    for seed in 0..20 {
        let (disk, f) = settled(3);
        let lock = disk.lock_dir(Path::new("/d")).unwrap();
        assert_eq!(
            disk.lock_dir(Path::new("/d")).err().unwrap().kind(),
            io::ErrorKind::WouldBlock
        );
        disk.crash(seed);
        assert_eq!(disk.contents(Path::new("/d/f")).unwrap(), [1, 1, 1]);
        assert!(f.len().is_err());
        let again = disk.lock_dir(Path::new("/d")).unwrap();
        drop(lock);
        assert!(
            disk.lock_dir(Path::new("/d")).is_err(),
            "a dead process's lock released a living one's"
        );
        drop(again);
        disk.lock_dir(Path::new("/d")).unwrap();
    }
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn_at_sectors() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let (disk, mut f) = settled(2048);
        f.write_at(100, &[2; 1400]).unwrap();
        disk.crash(seed);
        let now = disk.contents(Path::new("/d/f")).unwrap();
        assert!(now[..100].iter().chain(&now[1500..]).all(|b| *b == 1));
        let sectors: Vec<u8> = [100..512, 512..1024, 1024..1500]
            .into_iter()
            .map(|sector| {
                assert!(
                    now[sector.clone()].iter().all(|b| *b == now[sector.start]),
                    "torn inside a sector"
                );
                now[sector.start]
            })
            .collect();
        match sectors.iter().filter(|b| **b == 2).count() {
            0 => lost += 1,
            3 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(
        kept > 20 && lost > 20 && torn > 20,
        "kept {kept}, lost {lost}, torn {torn}"
    );
}

#[test]
fn names_are_lost_or_kept_until_their_folder_is_synced() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (disk, _) = settled(1);
        drop(disk.create(Path::new("/d/g")).unwrap());
        disk.rename(Path::new("/d/f"), Path::new("/d/h")).unwrap();
        disk.crash(seed);
        seen.insert(disk.list(Path::new("/d")).unwrap());
    }
    let names = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [
            names(&["f"]),
            names(&["f", "g"]),
            names(&["g", "h"]),
            names(&["h"])
        ]
    );
}

#[test]
fn a_synced_rename_moves_a_folder_with_what_it_holds() {
    let (disk, _) = settled(3);
    disk.rename(Path::new("/d"), Path::new("/e")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.crash(1);
    assert_eq!(disk.contents(Path::new("/e/f")).unwrap(), [1, 1, 1]);
    assert!(disk.list(Path::new("/d")).is_err());
}

#[test]
fn folders_made_durably_survive_every_crash() {
    for seed in 0..20 {
        let disk = FakeDisk::new(0);
        let dir = Path::new("/a/b/c");
        super::super::create_dir_durably(&disk, dir).unwrap();
        super::super::create_dir_durably(&disk, dir).unwrap();
        disk.crash(seed);
        assert!(disk.list(dir).is_ok());
    }
}

#[test]
fn a_failed_sync_is_not_repaired_by_the_next() {
    let mut lost = 0;
    for seed in 0..30 {
        let disk = FakeDisk::new(seed);
        let mut f = file(&disk, "/d/f");
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.fail_sync(2);
        f.sync_data().unwrap();
        f.write_at(0, b"x").unwrap();
        assert!(f.sync_data().is_err());
        f.sync_data().unwrap();
        disk.crash(0);
        lost += usize::from(disk.contents(Path::new("/d/f")).unwrap() != b"x");
    }
    assert!(lost > 5, "lost {lost} of 30");
}

#[test]
fn a_full_disk_keeps_the_part_that_fitted() {
    let (disk, mut f) = settled(10);
    disk.set_capacity(Some(14));
    f.write_at(2, &[3; 8]).unwrap();
    assert_eq!(
        f.write_at(8, &[4; 10]).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    assert_eq!((f.len().unwrap(), disk.used_bytes()), (14, 14));
    assert!(f.set_len(15).is_err());
}

#[test]
fn a_planned_crash_stops_everything_at_its_change() {
    let (disk, mut f) = settled(1);
    let before = disk.operations().changes;
    disk.crash_at(2);
    f.write_at(0, b"a").unwrap();
    assert!(f.write_at(0, b"b").is_err() && disk.crashed());
    assert!(f.sync_data().is_err() && disk.list(Path::new("/d")).is_err());
    assert_eq!(disk.operations().changes, before + 2);
    disk.crash(7);
    assert!(!disk.crashed() && disk.list(Path::new("/d")).is_ok());
}

#[test]
fn the_clock_and_the_numbers_repeat() {
    let clock = ManualClock::new(5);
    let same = clock.clone();
    same.advance(Duration::from_millis(2));
    assert_eq!((clock.now(), clock.unix_ms()), (Instant(2_000_000), 7));
    let draw = |seed| {
        let entropy = SeededEntropy::new(seed);
        (0..4).map(|_| entropy.below(1000)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
