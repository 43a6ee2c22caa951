//! A delivery, with what may go wrong on its way.

use std::os::unix::fs::symlink;

use super::*;
use crate::store::sample::{Sample, at, put};

const ID: &str = "20261123T030000Z";

struct Home {
    folder: tempfile::TempDir,
    point: DropPoint,
    sample: Sample,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("restore")).unwrap();
        let point = DropPoint::open(folder.path()).unwrap();
        Self { point, folder, sample: Sample::new(ID, 1, &[(b"a", b"aaa"), (b"d/b", b"bbb")]) }
    }

    fn announced(&self) -> Announced {
        Announced { seal: self.sample.seal, bytes: 1000, entries: 10 }
    }

    fn begin(&self) -> std::result::Result<Beginning, Refusal> {
        self.point.begin(&self.sample.id, &self.announced(), at("2026-11-23T04:00:00Z"))
    }

    fn publish(&self) -> std::result::Result<Publication, Refusal> {
        self.point.publish(&self.sample.id, self.sample.seal, &Effort::quiet(1))
    }

    /// Copies all of the generation, as rsync would.
    fn send(&self) {
        let to = self.path(&incoming(&self.sample.id));
        let from = self.sample.path().join(".");
        let status = std::process::Command::new("cp").arg("-rT").arg(from).arg(to).status().unwrap();
        assert!(status.success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("restore").join(name)
    }

    fn names(&self) -> Vec<String> {
        let names = self.point.dir().names().unwrap();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }
}

#[test]
fn what_is_whole_is_published_by_one_name_and_nothing_else_is_left() {
    let home = Home::new();
    std::fs::write(home.path("by hand"), "x").unwrap();
    assert!(matches!(home.publish(), Err(Refusal::NotBegun(_))));
    assert_eq!(home.begin().unwrap(), Beginning::Coming(0));
    home.send();
    let coming = home.path(&incoming(&home.sample.id));
    std::fs::create_dir_all(coming.join("data/e/.part-x/deep")).unwrap();
    std::fs::write(coming.join("data/e/.a.Xy12Zq"), "half").unwrap();
    symlink("/etc/passwd", coming.join("data/e/link")).unwrap();
    symlink("/etc", coming.join("planted")).unwrap();
    assert!(matches!(home.begin().unwrap(), Beginning::Coming(had) if had > 0));
    assert!(matches!(home.publish().unwrap(), Publication::Published(report) if report.files == 2));
    assert_eq!(home.names(), [ID, "by hand"]);
    let left =
        verify_sealed(&home.point.dir().open_dir(ID).unwrap(), home.sample.seal, &Effort::quiet(1)).unwrap();
    assert!(left.is_whole() && left.extra.is_empty(), "{left:?}");
    assert!(!home.path(ID).join("data/e/.part-x").exists());
    // The same again finds it there, and reads it again; what a cut right after the rename left goes.
    std::fs::write(home.path(&note_of(&home.sample.id)), "").unwrap();
    assert_eq!(home.begin().unwrap(), Beginning::There);
    assert!(matches!(home.publish().unwrap(), Publication::Already(_)));
    assert_eq!(home.names(), [ID, "by hand"]);
    std::fs::remove_file(home.path(ID).join("data/e/a")).unwrap();
    assert!(matches!(home.publish(), Err(Refusal::InTheWay { .. })));
}

#[test]
fn what_is_wrong_is_thrown_away_and_what_is_right_stays() {
    let home = Home::new();
    home.begin().unwrap();
    home.send();
    let coming = home.path(&incoming(&home.sample.id));
    let remove = |name: &str| std::fs::remove_file(coming.join(name)).unwrap();
    remove("data/e/a");
    std::fs::write(coming.join("data/e/a"), "AAA").unwrap();
    let Publication::Damaged(report) = home.publish().unwrap() else { panic!("published") };
    assert_eq!(report.content.len(), 1);
    assert!(!coming.join("data/e/a").exists() && coming.join("data/e/d/b").exists());
    // Links and folders in the place of files, and files in the place of folders.
    symlink("d/b", coming.join("data/e/a")).unwrap();
    std::fs::remove_dir_all(coming.join("data/e/d")).unwrap();
    std::fs::write(coming.join("data/e/d"), "x").unwrap();
    assert!(matches!(home.publish().unwrap(), Publication::Damaged(_)));
    assert!(std::fs::symlink_metadata(coming.join("data/e/a")).is_err() && !coming.join("data/e/d").exists());
    remove("manifest.mtree");
    std::fs::create_dir(coming.join("manifest.mtree")).unwrap();
    assert!(matches!(home.publish().unwrap(), Publication::Damaged(_)));
    std::fs::remove_dir_all(coming.join("data")).unwrap();
    assert!(matches!(home.publish().unwrap(), Publication::Damaged(_)));
    home.send();
    assert!(matches!(home.publish().unwrap(), Publication::Published(_)));
}

#[test]
fn what_is_in_the_way_stays_and_what_is_too_large_never_begins() {
    let home = Home::new();
    let huge = Announced { bytes: u64::MAX, ..home.announced() };
    let now = at("2026-11-23T04:00:00Z");
    assert!(matches!(home.point.begin(&home.sample.id, &huge, now), Err(Refusal::NoRoom { .. })));
    let many = Announced { entries: u64::MAX - 1, ..home.announced() };
    let refused = home.point.begin(&home.sample.id, &many, now);
    assert!(refused.is_err() || home.point.room().unwrap().inodes_free == u64::MAX);
    symlink("/etc", home.path(ID)).unwrap();
    assert!(matches!(home.begin(), Err(Refusal::InTheWay { .. })));
    std::fs::remove_file(home.path(ID)).unwrap();
    std::fs::remove_dir_all(home.path(&incoming(&home.sample.id))).unwrap();
    symlink(home.folder.path(), home.path(&incoming(&home.sample.id))).unwrap();
    assert!(home.begin().is_err());
    assert!(!home.folder.path().join("data").exists());
}

#[test]
fn one_session_writes_at_a_time_and_halves_that_are_nobodys_go() {
    let home = Home::new();
    home.begin().unwrap();
    let receiving = home.point.receive(&home.sample.id).unwrap();
    assert!(matches!(home.begin(), Err(Refusal::Busy(_))));
    assert!(matches!(home.publish(), Err(Refusal::Busy(_))));
    let (_, data) = receiving.folder(true).unwrap();
    put(&data, b"e/.big.Xy12Zq", b"half");
    put(&data, b"e/.part-20261123T030000Z/other", b"half");
    let halves = receiving.halves(&data, &home.sample.id).unwrap();
    assert_eq!(halves, HashSet::from([b"e/big".to_vec()]));
    let other: GenerationId = "20261124T030000Z".parse().unwrap();
    // Another one begins: this one is in work, then young, then old.
    let later = crate::sys::clock::now() + STALE + STALE;
    home.point.begin(&other, &home.announced(), later).unwrap();
    assert_eq!(home.point.list().unwrap().1.len(), 2);
    drop((receiving, data));
    home.point.begin(&other, &home.announced(), crate::sys::clock::now()).unwrap();
    assert_eq!(home.point.list().unwrap().1.len(), 2);
    home.point.begin(&other, &home.announced(), later).unwrap();
    assert_eq!(home.point.list().unwrap().1, [other]);
}

#[test]
fn a_third_delivery_beside_two_that_are_half_done_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let now = crate::sys::clock::now();
    let begin = |id: &str| home.point.begin(&id.parse().unwrap(), &home.announced(), now);
    begin("20261123T030000Z").unwrap();
    begin("20261123T040000Z").unwrap();
    let before = home.names();
    let refused = begin("20261123T050000Z").unwrap_err();
    assert!(matches!(&refused, Refusal::TooMany(others) if others.len() == 2), "{refused}");
    assert_eq!(home.names(), before);
    // Those go on.
    begin("20261123T040000Z").unwrap();
    std::fs::remove_dir_all(home.path(".incoming-20261123T030000Z")).unwrap();
    begin("20261123T050000Z").unwrap();
}

#[test]
fn what_is_sent_beyond_what_was_announced_is_noticed_in_bytes_and_in_names() {
    let announced = Announced { seal: Sample::new(ID, 1, &[]).seal, bytes: 10 << 20, entries: 100 };
    assert!(!announced.is_exceeded((12 << 20, 120)), "half files and rounding are allowed for");
    assert!(announced.is_exceeded((30 << 20, 100)));
    assert!(announced.is_exceeded((1 << 20, 1000)));
    let all = Announced { bytes: u64::MAX, entries: u64::MAX, ..announced };
    assert!(!all.is_exceeded((u64::MAX, 1)));
}
