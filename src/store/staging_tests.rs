//! From an offer to a stored generation, with all that a crash or a hostile host may leave on the way.

use std::{
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::{FileType, Mode};

use super::{
    Error,
    meta::MetaError,
    place::{CheckError, Committed, Counts},
    plan::Planned,
    prove::Effort,
    sample::{Sample, Sink, at, id, put},
};
use crate::{
    manifest::{Channel, names, receipt::Verify},
    sys::{Dir, durable, stamp},
};

const ONE: &str = "20261123T030000Z";
const TWO: &str = "20261124T030000Z";

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

fn mtime(path: &Path) -> i64 {
    std::fs::symlink_metadata(path).unwrap().mtime()
}

fn effort() -> Effort {
    Effort::quiet(2)
}

/// Changes bytes on the disk behind everybody's back.
fn rot(path: &Path, content: &[u8], time: &str) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(content).unwrap();
    stamp::set_mtime(&file, path, at(time)).unwrap();
}

fn listed(planned: &Planned) -> Vec<u8> {
    std::fs::read(planned.list_path()).unwrap()
}

#[test]
fn a_generation_is_stored_as_plain_tools_can_check_it() {
    let sink = Sink::new();
    let long = ["x".repeat(200).as_str(); 16].join("/");
    let sample = Sample::new(
        ONE,
        1,
        &[
            (b"a", b"aaa"),
            (b"sub/b\xff\n", b"bbb"),
            (b"sub/copy", b"aaa"),
            (b"void", b""),
            (long.as_bytes(), b"long"),
        ],
    );
    let stored = sink.store(&sample);
    assert_eq!(stored.found.seal, sample.seal);
    assert_eq!((stored.receipt.sequence, stored.receipt.store.as_str()), (1, sink.shop.store_id()));
    assert_eq!((stored.receipt.hashed, stored.receipt.reread, stored.receipt.linked), (3, 0, 2));
    let folder = sink.shop.path(&sample.id);
    let mut command = crate::sys::child::command("sha256sum");
    let check = command.args(["--check", "--strict", "--quiet", names::SUMS]).current_dir(&folder);
    assert!(check.status().unwrap().success());
    assert_eq!(
        inode(&folder.join("data/e/a")),
        inode(&folder.join("data/e/sub/copy")),
        "twins share one inode"
    );
    for path in ["data/e/a", "data/e/void", "manifest.mtree", "xattrs", "generation.toml", "receipt.toml"] {
        assert_eq!(std::fs::metadata(folder.join(path)).unwrap().mode() & 0o7777, 0o440, "{path}");
    }
    assert_eq!(std::fs::metadata(folder.join("data/e/sub")).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(mtime(&folder.join("data/e/a")), sink.policy.now.as_second());
    assert!(sink.shop.staged().unwrap().is_empty());
    assert!(sink.shop.verify(&sample.id, sink.policy.now, &effort()).unwrap().is_whole());
}

#[test]
fn what_is_stored_already_is_linked_under_whatever_name_and_not_fetched() {
    let mut sink = Sink::new();
    let one = Sample::new(ONE, 1, &[(b"same", b"same"), (b"old-name", b"moved"), (b"changed", b"before")]);
    sink.store(&one);
    let before = mtime(&sink.data(&one.id, "same"));
    sink.policy.now = at("2026-11-24T04:00:00Z");
    let two = Sample::new(TWO, 2, &[(b"same", b"same"), (b"sub/new-name", b"moved"), (b"changed", b"after")]);
    let planned = sink.planned(&two);
    assert_eq!(listed(&planned), b"e/changed\0");
    assert_eq!((planned.to_fetch().files, planned.plan().known, planned.plan().reread), (1, 2, 0));
    assert_eq!(planned.basis(), Some(&one.id));
    let _ = planned;
    let stored = sink.store(&two);
    assert_eq!((stored.receipt.hashed, stored.receipt.linked, stored.receipt.sequence), (1, 2, 2));
    assert_eq!(inode(&sink.data(&one.id, "same")), inode(&sink.data(&two.id, "same")));
    assert_eq!(inode(&sink.data(&one.id, "old-name")), inode(&sink.data(&two.id, "sub/new-name")));
    assert_eq!(mtime(&sink.data(&two.id, "same")), before, "linking proves nothing");
    assert_eq!(std::fs::read(sink.data(&one.id, "changed")).unwrap(), b"before");
    assert_eq!(std::fs::read(sink.data(&two.id, "changed")).unwrap(), b"after");
}

#[test]
fn wrong_content_is_found_beside_the_transfer_and_only_that_is_fetched_again() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"good", b"good"), (b"late", b"late"), (b"torn", b"torn")]);
    let mut planned = sink.planned(&sample);
    let recv = Dir::open(planned.recv_path()).unwrap();
    sample.send_data(&planned);
    put(&recv, b"e/torn", b"TORN");
    let prover = planned.prover(&effort()).unwrap();
    prover.received(b"e/good");
    prover.received(b"e/torn");
    prover.received(b"e/never-asked-for");
    let proven = prover.finish().unwrap();
    assert_eq!((proven.good, proven.wrong.len()), (1, 1));
    assert_eq!(proven.wrong[0].path, b"e/torn");
    let wrong = planned.settle(&effort()).unwrap();
    assert_eq!(wrong.len(), 1);
    assert_eq!(listed(&planned), b"e/torn\0");
    sample.send_data(&planned);
    let checked = planned.check(None, &effort()).unwrap();
    assert_eq!(checked.counts(), Counts { hashed: 3, reread: 0, linked: 0 });
    checked.abandon().unwrap();
    assert!(sink.shop.staged().unwrap().is_empty());
}

#[test]
fn a_file_that_changes_after_its_proof_is_proven_again() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"good")]);
    let planned = sink.planned(&sample);
    sample.send_data(&planned);
    let prover = planned.prover(&effort()).unwrap();
    prover.received(b"e/a");
    assert_eq!(prover.finish().unwrap().good, 1);
    std::thread::sleep(std::time::Duration::from_millis(20));
    rot(&planned.recv_path().join("e/a"), b"evil", "2026-11-23T04:00:00Z");
    assert!(matches!(planned.check(None, &effort()), Err(CheckError::Content(bad)) if bad[0].path == b"e/a"));
}

#[test]
fn without_the_rest_of_the_content_nothing_is_stored() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"b", b"bbb")]);
    for verify in [Verify::None, Verify::Transferred, Verify::All] {
        let mut sink_policy = sink.policy;
        sink_policy.verify = verify;
        let planned = sink.staged(&sample).plan(&[], sink_policy, &effort()).unwrap();
        put(&Dir::open(planned.recv_path()).unwrap(), b"e/a", b"aaa");
        let Err(CheckError::Content(bad)) = planned.check(None, &effort()) else { panic!("taken") };
        assert_eq!(bad.iter().map(ToString::to_string).collect::<Vec<_>>(), ["e/b: it is missing"]);
        sink.shop.abandon(&sample.id).unwrap();
    }
    assert!(sink.shop.stored().unwrap().0.is_empty());
}

/// Plants something in `recv/` beside or instead of good content, and expects that it is refused and never stored.
fn hostile(plant: &dyn Fn(&Sink, &Dir, &Path)) -> String {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"sub/b", b"bbb")]);
    let planned = sink.planned(&sample);
    sample.send_data(&planned);
    let path = planned.recv_path();
    plant(&sink, &Dir::open(&path).unwrap(), &path);
    let refused = planned.check(None, &effort()).unwrap_err().to_string();
    assert!(sink.shop.stored().unwrap().0.is_empty());
    // The next attempt clears it away and comes to a good end.
    sink.store(&sample);
    refused
}

#[test]
fn nothing_but_regular_files_that_were_asked_for_is_taken() {
    let replace = |path: &Path, by: &dyn Fn(&Dir, &str)| {
        let e = Dir::open(path.join("e")).unwrap();
        durable::unlink_draft(&e, "a").unwrap();
        by(&e, "a");
    };
    let link = hostile(&|_, _, path| {
        replace(path, &|e, name| rustix::fs::symlinkat("/etc/passwd", e, name).unwrap());
    });
    assert!(link.contains("e/a: it is not a regular file"), "{link}");
    let fifo = hostile(&|_, _, path| {
        replace(path, &|e, name| {
            rustix::fs::mknodat(e, name, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        });
    });
    assert!(fifo.contains("not a regular file"), "{fifo}");
    let device = hostile(&|_, _, path| {
        replace(path, &|e, name| {
            let zero = rustix::fs::makedev(1, 5);
            // Only root may make one; who cannot has a link instead, which is refused alike.
            if rustix::fs::mknodat(e, name, FileType::CharacterDevice, Mode::from(0o666), zero).is_err() {
                rustix::fs::symlinkat("/dev/zero", e, name).unwrap();
            }
        });
    });
    assert!(device.contains("not a regular file"), "{device}");
    let folder = hostile(&|_, _, path| {
        replace(path, &|e, name| {
            e.create_dir(name, 0o700).unwrap();
        });
    });
    assert!(folder.contains("not asked for"), "{folder}");
    let hard = hostile(&|sink, _, path| {
        replace(path, &|e, name| {
            let home = Dir::open(sink.path("store/shop")).unwrap();
            home.create_file("victim", 0o440).unwrap().write_all(b"aaa").unwrap();
            home.link("victim", e, name).unwrap();
        });
    });
    assert!(hard.contains("another name"), "{hard}");
    let extra = hostile(&|_, recv, _| put(recv, b"e/sub/extra", b"extra"));
    assert!(extra.contains("e/sub/extra: it was not asked for"), "{extra}");
    let way = hostile(&|_, _, path| {
        let e = Dir::open(path.join("e")).unwrap();
        durable::remove_tree(&e, "sub").unwrap();
        rustix::fs::symlinkat("/tmp", &e, "sub").unwrap();
    });
    assert!(way.contains("e/sub: it was not asked for"), "{way}");
}

#[test]
fn a_staging_that_is_cut_anywhere_fetches_nothing_twice() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"b", b"bbb"), (b"c", b"ccc"), (b"void", b"")]);
    // Cut in the middle of the transfer: one whole file, one half, and what a killed rsync leaves.
    let planned = sink.planned(&sample);
    let recv = Dir::open(planned.recv_path()).unwrap();
    put(&recv, b"e/a", b"aaa");
    put(&recv, b"e/b", b"b");
    put(&recv, b"e/.a.Xy12Zq", b"aa");
    put(&recv, b"e/.c.Xy12Zq", b"cc");
    let half = format!("e/.part-{ONE}/b");
    put(&recv, half.as_bytes(), b"bb");
    put(&recv, format!("e/.part-{ONE}/x").as_bytes(), b"");
    let _ = planned;
    let planned = sink.planned(&sample);
    assert_eq!(listed(&planned), b"e/b\0e/c\0");
    let there = |path: &str| planned.recv_path().join(path).exists();
    assert!(there("e/.c.Xy12Zq") && there(&half), "rsync goes on with halves");
    assert!(!there("e/.a.Xy12Zq") && !there(&format!("e/.part-{ONE}/x")), "what is whole needs no half");
    durable::unlink_draft(&Dir::open(planned.recv_path().join("e")).unwrap(), ".c.Xy12Zq").unwrap();
    // Cut after the transfer, before anything was proven.
    sample.send_data(&planned);
    let _ = planned;
    assert_eq!(sink.planned(&sample).to_fetch().files, 0);
    // Cut after the check: the files are in the tree.
    let checked = sink.planned(&sample).check(None, &effort()).unwrap();
    assert!(!sink.path(&format!("incoming/shop/{ONE}/recv/e/a")).exists());
    let _ = checked;
    let planned = sink.planned(&sample);
    assert_eq!((planned.to_fetch().files, planned.to_fetch().bytes), (0, 0));
    let stored =
        planned.check(None, &effort()).unwrap().commit("sink", sink.policy.now, Default::default()).unwrap();
    assert!(matches!(stored, Committed::New(_)));
}

#[test]
fn a_kill_in_the_middle_of_the_placing_loses_nothing_that_was_fetched() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"b", b"bbb")]);
    let planned = sink.planned(&sample);
    sample.send_data(&planned);
    let staged = sink.path(&format!("incoming/shop/{ONE}"));
    let tree = Dir::open(staged.join("tree")).unwrap();
    tree.create_dir("data", 0o750).unwrap().create_dir("e", 0o750).unwrap();
    let recv = Dir::open(staged.join("recv/e")).unwrap();
    durable::rename_draft(&recv, "a", &tree.descend(b"data/e").unwrap(), "a").unwrap();
    let _ = planned;
    assert_eq!(sink.planned(&sample).to_fetch().files, 0);
}

#[test]
fn content_in_the_staging_is_not_believed_because_of_its_time() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"good")]);
    let planned = sink.planned(&sample);
    put(&Dir::open(planned.recv_path()).unwrap(), b"e/a", b"evil");
    let file = planned.recv_path().join("e/a");
    stamp::set_mtime(&std::fs::File::open(&file).unwrap(), &file, sink.policy.now).unwrap();
    let _ = planned;
    assert_eq!(sink.planned(&sample).to_fetch().files, 1);
}

#[test]
fn a_commit_that_was_cut_after_the_rename_is_finished_by_the_next_start() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"aaa")]);
    let stored = sink.store(&sample);
    // As it was before the staging folder went.
    let left = Dir::open(sink.path("incoming/shop")).unwrap();
    left.create_dir(ONE, 0o700).unwrap().create_dir("recv", 0o700).unwrap();
    let recovered = sink.shop.recover().unwrap();
    assert_eq!(recovered.unstaged, [id(ONE)]);
    assert_eq!(sink.shop.recover().unwrap(), Default::default());
    assert_eq!(sink.shop.newest().unwrap(), Some(stored));
}

#[test]
fn the_same_generation_is_stored_once_and_another_of_the_same_id_never_replaces_it() {
    let sink = Sink::new();
    let sample = Sample::new(ONE, 1, &[(b"a", b"aaa")]);
    let stored = sink.store(&sample);
    let planned = sink.planned(&sample);
    assert_eq!(planned.to_fetch().files, 0);
    let again =
        planned.check(None, &effort()).unwrap().commit("sink", sink.policy.now, Default::default()).unwrap();
    assert!(matches!(again, Committed::Already(there) if there == stored));
    assert!(sink.shop.staged().unwrap().is_empty());
    let other = Sample::new(ONE, 1, &[(b"a", b"AAA")]);
    let planned = sink.planned(&other);
    other.send_data(&planned);
    let refused = planned.check(None, &effort()).unwrap().commit("sink", sink.policy.now, Default::default());
    assert!(matches!(refused, Err(Error::OtherSeal { .. })));
    assert_eq!(sink.shop.get(&id(ONE)).unwrap(), Some(stored));
}

#[test]
fn one_id_of_a_source_is_staged_at_a_time() {
    let sink = Sink::new();
    sink.shop.stage(&id(ONE)).unwrap().abandon().unwrap();
    let _left = sink.shop.stage(&id(ONE)).unwrap();
    let staging = sink.shop.stage(&id(TWO)).unwrap();
    assert_eq!(staging.dropped(), [ONE]);
    assert_eq!(sink.shop.staged().unwrap(), [id(TWO)]);
}

#[test]
fn a_proof_that_is_too_old_or_from_the_future_is_renewed_before_the_link() {
    let mut sink = Sink::new();
    let one = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"b", b"bbb")]);
    sink.store(&one);
    for (now, reread) in [
        ("2026-12-22T04:00:00Z", 0),
        ("2026-12-24T04:00:00Z", 2), // 31 days
        ("2026-12-25T04:00:00Z", 0), // proven the day before
        ("2026-12-23T04:00:00Z", 2), // the clock went back
    ] {
        sink.policy.now = at(now);
        let two = Sample::new(TWO, 2, &[(b"a", b"aaa"), (b"b", b"bbb")]);
        let planned = sink.planned(&two);
        assert_eq!((planned.plan().reread, planned.to_fetch().files), (reread, 0), "{now}");
        planned.abandon().unwrap();
    }
    sink.policy.verify = Verify::All;
    let stored = sink.store(&Sample::new(TWO, 2, &[(b"a", b"aaa"), (b"c", b"ccc")]));
    assert_eq!((stored.receipt.hashed, stored.receipt.reread, stored.receipt.linked), (1, 1, 0));
    assert_eq!(stored.marks.verified, Some(sink.policy.now));
}

#[test]
fn damage_in_our_own_store_is_found_marked_wherever_it_is_shared_and_fetched_anew() {
    let mut sink = Sink::new();
    let files: super::sample::Files<'_> = &[(b"gone", b"gone"), (b"kept", b"kept"), (b"rotten", b"good")];
    let (one, two) = (Sample::new(ONE, 1, files), Sample::new(TWO, 2, files));
    sink.store(&one);
    sink.store(&two);
    rot(&sink.data(&one.id, "rotten"), b"evil", "2026-11-23T04:00:00Z");
    durable::unlink_draft(&Dir::open(sink.data(&two.id, "")).unwrap(), "gone").unwrap();
    sink.policy.now = at("2027-01-23T04:00:00Z");
    let three = Sample::new("20270123T030000Z", 3, files);
    let planned = sink.planned(&three);
    assert_eq!(listed(&planned), b"e/gone\0e/rotten\0");
    assert_eq!(planned.own_damage().len(), 2);
    let _ = planned;
    let damage = |of: &Sample| sink.shop.get(&of.id).unwrap().unwrap().marks.damage.unwrap().paths;
    assert_eq!(damage(&one), ["data/e/rotten"]);
    assert_eq!(damage(&two), ["data/e/gone", "data/e/rotten"]);
    sink.store(&three);
    assert_eq!(std::fs::read(sink.data(&three.id, "rotten")).unwrap(), b"good");
    assert_eq!(sink.shop.newest_whole().unwrap().unwrap().id(), &three.id);
    assert!(sink.shop.verify(&three.id, sink.policy.now, &effort()).unwrap().is_whole());
}

#[test]
fn a_basis_whose_manifest_is_damaged_is_marked_and_the_next_one_serves() {
    let sink = Sink::new();
    let files: super::sample::Files<'_> = &[(b"a", b"aaa")];
    sink.store(&Sample::new(ONE, 1, files));
    sink.store(&Sample::new(TWO, 2, files));
    rot(&sink.shop.path(&id(TWO)).join("manifest.mtree"), b"#MTREE", "2026-11-23T04:00:00Z");
    let planned = sink.planned(&Sample::new("20261125T030000Z", 3, files));
    assert_eq!((planned.basis(), planned.to_fetch().files), (Some(&id(ONE)), 0));
    assert_eq!(planned.own_damage().len(), 1);
    assert!(!sink.shop.get(&id(TWO)).unwrap().unwrap().marks.is_whole());
}

#[test]
fn what_was_never_hashed_says_so_and_is_read_when_somebody_wants_proof() {
    let mut sink = Sink::new();
    sink.policy.verify = Verify::None;
    let one = Sample::new(ONE, 1, &[(b"a", b"aaa"), (b"b", b"bbb")]);
    let planned = sink.planned(&one);
    sample_as_rsync_left_it(&one, &planned);
    let Committed::New(stored) =
        planned.check(None, &effort()).unwrap().commit("sink", sink.policy.now, Default::default()).unwrap()
    else {
        panic!("there already")
    };
    assert_eq!((stored.receipt.verify, stored.receipt.hashed, stored.receipt.linked), (Verify::None, 0, 2));
    assert_eq!(mtime(&sink.data(&one.id, "a")), 0);
    assert_eq!(std::fs::metadata(sink.data(&one.id, "a")).unwrap().mode() & 0o7777, 0o440);
    sink.policy.verify = Verify::Transferred;
    let planned = sink.planned(&Sample::new(TWO, 2, &[(b"a", b"aaa")]));
    assert_eq!((planned.plan().reread, planned.to_fetch().files), (1, 0));
    assert_eq!(mtime(&sink.data(&one.id, "a")), sink.policy.now.as_second());
}

fn sample_as_rsync_left_it(sample: &Sample, planned: &Planned) {
    assert_eq!(sample.send_data(planned).len(), 2);
}

#[test]
fn a_generation_that_is_not_what_was_offered_is_refused_before_any_content_comes() {
    let sink = Sink::new();
    let files: super::sample::Files<'_> = &[(b"a", b"aaa")];
    let refused = |sample: &Sample, change: &dyn Fn(&mut super::meta::Expect)| {
        let staging = sink.shop.stage(&id(ONE)).unwrap();
        sample.send_meta(&staging);
        let mut expect = sample.expect();
        change(&mut expect);
        staging.meta(&expect).unwrap_err()
    };
    let good = Sample::new(ONE, 1, files);
    let other = Sample::new(TWO, 1, files);
    assert!(matches!(
        refused(&good, &|e| e.seal = other.seal),
        MetaError::NotSealed { file: names::GENERATION, .. }
    ));
    type Change = fn(&mut super::meta::Expect);
    let changes: [(&str, Change); 4] = [
        ("source", |e| e.source = "other".parse().unwrap()),
        ("channel", |e| e.channel = Channel::Logs),
        ("lineage", |e| e.lineage = Some("another".to_owned())),
        ("sequence", |e| e.sequence = Some(9)),
    ];
    for (what, change) in changes {
        assert!(
            matches!(refused(&good, &change), MetaError::Other { what: found, .. } if found == what),
            "{what}"
        );
    }
    assert!(matches!(refused(&other, &|_| {}), MetaError::Other { what: "id", .. }));
    assert!(matches!(refused(&good, &|e| e.limits.bytes = 2), MetaError::Limit { what: "bytes", .. }));
    assert!(matches!(refused(&good, &|e| e.limits.entries = 1), MetaError::Limit { what: "entries", .. }));
    type Lie = fn(&mut crate::manifest::Generation);
    let lies: [(&str, Lie); 5] = [
        ("3 bytes, but generation.toml says 2", |g| g.bytes = 2),
        ("1 files, but generation.toml says 7", |g| g.files = 7),
        ("element e, which", |g| g.elements.clear()),
        ("manifest.mtree is not the one", |g| g.sha256.manifest = crate::manifest::Digest::of(b"")),
        ("SHA256SUMS is not the one", |g| g.sha256.sha256sums = crate::manifest::Digest::of(b"")),
    ];
    for (text, lie) in lies {
        let sample = Sample::altered(ONE, 1, files, &mut |generation| lie(generation));
        let error = refused(&sample, &|_| {}).to_string();
        assert!(error.contains(text), "{error}");
    }
    let staging = sink.shop.stage(&id(ONE)).unwrap();
    good.send_meta(&staging);
    durable::unlink_draft(&Dir::open(staging.meta_path()).unwrap(), names::XATTRS).unwrap();
    let missing = staging.meta(&good.expect()).unwrap_err();
    assert!(missing.is_transfer() && matches!(missing, MetaError::Missing { file: names::XATTRS, .. }));
}

#[test]
fn a_thousand_files_are_placed_with_the_folders_that_hold_nothing_else() {
    let sink = Sink::new();
    let names: Vec<String> = (0..900).map(|i| format!("d{}/s{}/f{i}", i % 7, i % 3)).collect();
    let contents: Vec<Vec<u8>> = (0..900).map(|i| format!("content {}", i / 2).into_bytes()).collect();
    let files: Vec<(&[u8], &[u8])> =
        names.iter().zip(&contents).map(|(name, content)| (name.as_bytes(), content.as_slice())).collect();
    let one = Sample::new(ONE, 1, &files);
    let stored = sink.store(&one);
    assert_eq!((stored.receipt.hashed, stored.receipt.linked), (450, 450));
    let two = Sample::new(TWO, 2, &files[1..]);
    assert_eq!(sink.store(&two).receipt.linked, 899);
    let report = sink.shop.verify(&two.id, at("2026-11-25T00:00:00Z"), &effort()).unwrap();
    assert_eq!((report.files, report.content.len(), report.extra.len()), (899, 0, 0));
}
