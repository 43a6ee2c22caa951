use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::Duration,
};

use super::{testing::*, *};
use crate::{
    manifest::{Channel, Digest, Seal},
    sys::{durable, users},
};

const DAY: Duration = Duration::from_secs(86_400);
const GENERATION: &str = "generation.toml";

fn accept(home: &Home, sealed: &Sealed) -> Acceptance {
    let text = receipt(sealed.id(), &sealed.seal());
    home.point.accept(sealed.id(), &sealed.seal(), &text, at(9)).unwrap()
}

fn waiting(home: &Home) -> Vec<GenerationId> {
    home.point.waiting().unwrap().items.iter().map(|w| w.found.id().clone()).collect()
}

fn stored(home: &Home) -> Vec<GenerationId> {
    home.point.stored().unwrap().items.iter().map(|s| s.found.id().clone()).collect()
}

fn gone(list: Vec<Gone>) -> Vec<GenerationId> {
    list.into_iter().map(|g| g.id).collect()
}

fn dir(home: &Home, place: &str, id: &GenerationId) -> Dir {
    Dir::open(home.path().join(place).join(id.as_str())).unwrap()
}

// Layout

#[test]
fn a_home_is_made_once_and_then_there_is_nothing_left_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/home");
    let plan = HandoverPoint::plan(&path, Channel::Data, owner()).unwrap();
    assert!(!path.exists());
    assert_eq!(HandoverPoint::create(&path, Channel::Data, owner()).unwrap(), plan);
    assert_eq!(plan.len(), 8);
    assert_eq!(HandoverPoint::create(&path, Channel::Data, owner()).unwrap(), []);
    let point = HandoverPoint::open(&path, Channel::Data).unwrap();
    assert!(point.restore().is_some() && point.restored().is_some());
    assert_eq!(point.transport_user(), owner().unwrap_or((users::euid(), users::egid())));
    let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("."), mode("gate"), mode("collecting")), (0o750, 0o750, 0o700));
    for name in ["transport-outgoing", "store", "condemned", "restore", "restored"] {
        assert_eq!(mode(name), 0o700, "{name}");
    }
    if let Some((uid, _)) = owner() {
        let owner = |name: &str| std::fs::metadata(path.join(name)).unwrap().uid();
        assert_eq!([owner("."), owner("gate"), owner("collecting"), owner("restored")], [0; 4]);
        assert_eq!(
            [owner("transport-outgoing"), owner("store"), owner("condemned"), owner("restore")],
            [uid; 4]
        );
    }
}

#[test]
fn a_home_that_was_cut_short_or_changed_is_put_right() {
    let home = home(Channel::Data);
    std::fs::remove_dir(home.path().join("store")).unwrap();
    std::fs::set_permissions(home.path().join("collecting"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = HandoverPoint::open(&home.path(), Channel::Data).unwrap_err().to_string();
    assert!(text.contains("store: the folder is missing") && text.contains("handover source init"), "{text}");
    let plan = HandoverPoint::plan(&home.path(), Channel::Data, owner()).unwrap();
    let texts: Vec<String> = plan.iter().map(Change::to_string).collect();
    assert!(
        texts[0].starts_with("set the mode of ") && texts[0].ends_with("/collecting to 0700"),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("make the folder ") && texts[1].ends_with("/store (the transport user's, 0700)"),
        "{texts:?}"
    );
    assert_eq!(HandoverPoint::create(&home.path(), Channel::Data, owner()).unwrap(), plan);
    home.reopened();
}

#[test]
fn a_folder_that_others_could_write_to_or_swap_is_refused() {
    let home = home(Channel::Data);
    std::fs::set_permissions(home.path().join("gate"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let text = HandoverPoint::open(&home.path(), Channel::Data).unwrap_err().to_string();
    assert!(text.contains("gate: its mode 0777 lets others in, 0750 is meant"), "{text}");
    HandoverPoint::create(&home.path(), Channel::Data, owner()).unwrap();
    let Some((uid, gid)) = owner() else { return println!("not root: owners cannot be changed here") };
    std::os::unix::fs::chown(home.path(), Some(uid), Some(gid)).unwrap();
    let text = HandoverPoint::open(&home.path(), Channel::Data).unwrap_err().to_string();
    assert!(text.contains("it belongs to user 65534, not to user 0"), "{text}");
}

#[test]
fn who_may_use_the_restore_drop_point_is_assigned_by_hand() {
    let home = home(Channel::Data);
    std::fs::set_permissions(home.path().join("restore"), std::fs::Permissions::from_mode(0o770)).unwrap();
    home.reopened();
}

#[test]
fn a_link_in_the_place_of_a_folder_is_refused() {
    let home = home(Channel::Data);
    std::fs::rename(home.path().join("store"), home.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", home.path().join("store")).unwrap();
    for result in [
        HandoverPoint::open(&home.path(), Channel::Data).map(drop),
        HandoverPoint::open_for_gate(&home.path()).map(drop),
        HandoverPoint::create(&home.path(), Channel::Data, owner()).map(drop),
    ] {
        assert!(result.unwrap_err().to_string().contains("a link or file, not a folder"));
    }
}

#[test]
fn a_place_on_another_mount_is_refused() {
    // A folder bound to itself is another mount of the same device, which a rename cannot cross.
    let home = home(Channel::Data);
    let store = home.path().join("store");
    let run = |program: &str, args: &[&str]| {
        let done = crate::sys::child::command(program).args(args).arg(&store).output();
        done.is_ok_and(|d| d.status.success())
    };
    if !users::is_root() || !run("mount", &["--bind", &store.to_string_lossy()]) {
        return println!("mounts cannot be made here");
    }
    let opened = HandoverPoint::open(&home.path(), Channel::Data);
    assert!(run("umount", &["--lazy"]));
    assert!(opened.unwrap_err().to_string().contains("store: it is on another file system or mount"));
}

#[test]
fn the_log_channel_needs_no_restore_drop_point() {
    let home = home(Channel::Logs);
    assert_eq!(home.names("."), ["collecting", "condemned", "gate", "store", "transport-outgoing"]);
    assert!(home.point.restore().is_none());
}

#[test]
fn the_gate_sees_what_waits_and_makes_no_drafts() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    as_transport_user(|| {
        let point = HandoverPoint::open_for_gate(&home.path()).unwrap();
        assert_eq!(point.waiting().unwrap().items.len(), 1);
        assert_eq!(point.locate(sealed.id()).unwrap().unwrap().0, Place::Waiting);
        assert!(point.begin(&id(2)).unwrap_err().to_string().contains("not for the gate"));
        assert!(point.recover(at(1)).is_err());
    });
}

// Drafts

#[test]
fn a_sealed_generation_is_whole_and_the_transport_user_can_move_but_not_change_it() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let path = home.path().join("transport-outgoing").join(sealed.id().as_str());
    let text = std::fs::read(path.join(GENERATION)).unwrap();
    assert_eq!(sealed.seal(), Digest::of(&text));
    assert_eq!(home.names("collecting"), [""; 0]);
    let (uid, gid) = home.point.transport_user();
    let expected = BTreeSet::from([(true, uid, gid, 0o750), (false, users::euid(), gid, 0o440)]);
    assert_eq!(owners(&path), expected);
    if owner().is_some() {
        as_transport_user(|| {
            let file = std::fs::OpenOptions::new().write(true).open(path.join("data/www/index"));
            assert_eq!(file.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
            assert_eq!(std::fs::read(path.join("data/www/index")).unwrap(), b"hello");
        });
    }
}

#[test]
fn nothing_but_readable_files_and_folders_is_sealed() {
    let home = home(Channel::Data);
    type Spoil = fn(&Draft);
    let spoil: [Spoil; 3] = [
        |draft| std::os::unix::fs::symlink("/etc/shadow", draft.data().join("link")).unwrap(),
        |draft| drop(draft.data().create_file("open", 0o666).unwrap()),
        |draft| put(draft.dir(), GENERATION, b"", None),
    ];
    for act in spoil {
        let draft = home.point.begin(&id(1)).unwrap();
        act(&draft);
        draft.seal(&generation(1, Channel::Data, &[])).unwrap_err();
        assert_eq!(home.names("collecting"), [""; 0]);
        assert_eq!(home.names("transport-outgoing"), [""; 0]);
    }
    let draft = home.point.begin(&id(1)).unwrap();
    let text = draft.seal(&generation(2, Channel::Data, &[])).unwrap_err().to_string();
    assert!(text.contains("would be sealed as 20261123T050000Z"), "{text}");
}

#[test]
fn a_deep_tree_is_handed_over_to_the_last_folder() {
    let home = home(Channel::Data);
    let draft = home.point.begin(&id(1)).unwrap();
    let mut dir = draft.data().try_clone().unwrap();
    for _ in 0..300 {
        dir = dir.create_dir("d", 0o700).unwrap();
    }
    put(&dir, "file", b"", draft.new_file_owner());
    draft.seal(&generation(1, Channel::Data, &[])).unwrap();
    let (uid, gid) = home.point.transport_user();
    let folders = owners(&home.path().join("transport-outgoing"));
    assert!(folders.iter().filter(|f| f.0).all(|f| (f.1, f.2) == (uid, gid)));
}

#[test]
fn an_id_is_free_only_if_no_place_and_no_ledger_has_it() {
    let home = home(Channel::Data);
    let free = |point: &HandoverPoint| point.free_id(at(1), |known| known.as_str().ends_with("Z-4")).unwrap();
    assert_eq!(free(&home.point), id(1));
    home.seal(1);
    assert_eq!(free(&home.point), GenerationId::at(at(1), 2));
    let draft = home.point.begin(&GenerationId::at(at(1), 2)).unwrap();
    std::fs::create_dir(home.path().join("condemned/.deleting-20261123T040000Z-3")).unwrap();
    assert_eq!(free(&home.point), GenerationId::at(at(1), 5));
    draft.discard().unwrap();
    assert_eq!(free(&home.point), GenerationId::at(at(1), 2));
}

// Accept

#[test]
fn an_accepted_generation_moves_with_its_receipt_and_again_changes_nothing() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let text = receipt(sealed.id(), &sealed.seal());
    assert_eq!(accept(&home, &sealed), Acceptance::Accepted(Digest::of(&text)));
    assert_eq!(accept(&home, &sealed), Acceptance::Already(Digest::of(&text)));
    assert_eq!((waiting(&home), stored(&home)), (vec![], vec![id(1)]));
    // Another receipt for the same seal: the first one wins.
    let other = [&text[..], b"# again\n"].concat();
    let answer = home.point.accept(sealed.id(), &sealed.seal(), &other, at(9)).unwrap();
    assert_eq!(answer, Acceptance::Already(Digest::of(&text)));
    let here = home.point.stored().unwrap().items.remove(0);
    assert_eq!(here.receipt.unwrap().sink, "vault");
}

#[test]
fn what_an_accept_that_was_cut_left_half_written_goes_with_the_next() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let half = ".receipt.toml.0123456789ab";
    put(&dir(&home, "transport-outgoing", sealed.id()), half, b"form", None);
    assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
    assert!(dir(&home, "store", sealed.id()).stat_if_any(half).unwrap().is_none());
}

#[test]
fn the_transport_user_can_accept() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    as_transport_user(|| {
        let point = HandoverPoint::open_for_gate(&home.path()).unwrap();
        let text = receipt(sealed.id(), &sealed.seal());
        assert!(matches!(
            point.accept(sealed.id(), &sealed.seal(), &text, at(9)).unwrap(),
            Acceptance::Accepted(_)
        ));
        assert_eq!(point.stored().unwrap().items.len(), 1);
    });
    // Root may do the rest, and the transport user can read what root wrote.
    for hour in 2..5 {
        home.seal_and_accept(hour);
    }
    assert_eq!(gone(home.point.prune(1, at(9)).unwrap().items), [id(1), id(2), id(3)]);
    as_transport_user(|| {
        let point = HandoverPoint::open_for_gate(&home.path()).unwrap();
        assert_eq!(point.condemned().unwrap().items.iter().filter(|c| c.note.is_some()).count(), 3);
        assert_eq!(point.stored().unwrap().items[0].receipt.as_ref().unwrap().id, id(4));
        assert_eq!(point.purge_condemned(DAY, at(40)).unwrap().items.len(), 3);
    });
    assert_eq!(home.names("condemned"), [""; 0]);
}

#[test]
fn an_accept_that_was_cut_at_any_step_ends_the_same_when_it_is_run_again() {
    type Cut = fn(&Home, &Sealed);
    let receipt_written: Cut = |home, sealed| {
        put(
            &dir(home, "transport-outgoing", sealed.id()),
            "receipt.toml",
            &receipt(sealed.id(), &sealed.seal()),
            home.point.new_file_owner(),
        );
    };
    let half_written: Cut = |home, sealed| {
        put(&dir(home, "transport-outgoing", sealed.id()), ".receipt.toml.0123456789ab", b"format =", None);
    };
    for (what, cut) in [("temporary", half_written), ("receipt", receipt_written)] {
        let again = home(Channel::Data);
        let sealed = again.seal(1);
        cut(&again, &sealed);
        assert!(matches!(accept(&again, &sealed), Acceptance::Accepted(_)), "{what}");
        assert_eq!((waiting(&again), stored(&again)), (vec![], vec![id(1)]));

        let recovered = home(Channel::Data);
        let sealed = recovered.seal(1);
        cut(&recovered, &sealed);
        let done = recovered.point.recover(at(2)).unwrap().items;
        assert_eq!(recovered.point.recover(at(2)).unwrap().items, []);
        assert_eq!(recovered.copies(sealed.id()), 1);
        if what == "receipt" {
            assert_eq!(done, [Recovered::Acceptance(id(1))]);
            assert!(matches!(accept(&recovered, &sealed), Acceptance::Already(_)));
        } else {
            assert!(matches!(accept(&recovered, &sealed), Acceptance::Accepted(_)));
        }
        let names = dir(&recovered, "store", sealed.id()).names().unwrap();
        assert!(!names.iter().any(|n| owned::is_temporary(n)), "{names:?}");
    }
}

#[test]
fn a_receipt_for_something_else_moves_nothing() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let other: Seal = Digest::of(b"other");
    let try_with = |seal: &Seal, text: &[u8]| home.point.accept(sealed.id(), seal, text, at(2)).unwrap();
    assert_eq!(try_with(&other, &receipt(sealed.id(), &other)), Acceptance::OtherSeal);
    let bad = [
        receipt(&id(2), &sealed.seal()),
        receipt(sealed.id(), &other),
        b"format = 1".to_vec(),
        [&receipt(sealed.id(), &sealed.seal())[..], b"more = true"].concat(),
        receipt(sealed.id(), &sealed.seal()).repeat(20),
        String::from_utf8(receipt(sealed.id(), &sealed.seal()))
            .unwrap()
            .replace("format = 1", "format = 2")
            .into(),
    ];
    for text in bad {
        assert!(matches!(try_with(&sealed.seal(), &text), Acceptance::BadReceipt(_)));
    }
    assert_eq!(waiting(&home), [id(1)]);
    assert!(dir(&home, "transport-outgoing", sealed.id()).stat_if_any("receipt.toml").unwrap().is_none());
    accept(&home, &sealed);
    assert_eq!(try_with(&other, &receipt(sealed.id(), &other)), Acceptance::OtherSeal);
    assert_eq!(home.point.accept(&id(5), &other, &receipt(&id(5), &other), at(2)).unwrap(), Acceptance::Gone);
}

#[test]
fn what_retention_took_before_the_receipt_came_is_gone_and_can_still_be_taken_back() {
    let home = home(Channel::Data);
    let sealed: Vec<Sealed> = (1..=4).map(|hour| home.seal(hour)).collect();
    assert_eq!(gone(home.point.drop_eldest_waiting(2, at(5)).unwrap().items), [id(1), id(2)]);
    assert_eq!(home.point.drop_eldest_waiting(2, at(5)).unwrap().items, []);
    assert_eq!(accept(&home, &sealed[0]), Acceptance::Gone);
    let other = Digest::of(b"other");
    let answer = home.point.accept(&id(1), &other, &receipt(&id(1), &other), at(5)).unwrap();
    assert_eq!(answer, Acceptance::OtherSeal);
    assert_eq!(home.point.undo(&id(1)).unwrap(), Some(Place::Waiting));
    assert_eq!(home.point.undo(&id(1)).unwrap(), None);
    assert_eq!(waiting(&home), [id(1), id(3), id(4)]);
    assert!(matches!(accept(&home, &sealed[0]), Acceptance::Accepted(_)));
}

#[test]
fn accepted_logs_leave_their_receipt_and_can_be_offered_again() {
    let home = home(Channel::Logs);
    let sealed = home.seal(1);
    assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
    assert!(matches!(accept(&home, &sealed), Acceptance::Already(_)));
    assert_eq!(home.names("store"), ["20261123T040000Z.receipt.toml"]);
    let listing = home.point.stored().unwrap();
    assert!(listing.items.is_empty() && listing.strange.is_empty());
    assert_eq!(home.point.log_receipts().unwrap()[0].id, id(1));
    assert_eq!(home.copies(sealed.id()), 1);
    assert_ne!(home.point.free_id(at(1), |_| false).unwrap(), id(1));

    assert_eq!(home.point.undo(sealed.id()).unwrap(), Some(Place::Waiting));
    assert_eq!(home.names("store"), [""; 0]);
    assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
    assert_eq!(home.point.purge_condemned(DAY, at(40)).unwrap().items, [id(1)]);
    assert!(matches!(accept(&home, &sealed), Acceptance::Already(_)));
}

#[test]
fn an_accept_of_logs_that_was_cut_between_receipt_and_move_is_finished() {
    for with_recover in [false, true] {
        let home = home(Channel::Logs);
        let sealed = home.seal(1);
        let text = receipt(sealed.id(), &sealed.seal());
        put(
            &home.point.outgoing.open_dir(sealed.id()).unwrap(),
            "receipt.toml",
            &text,
            home.point.new_file_owner(),
        );
        put(&home.point.store, "20261123T040000Z.receipt.toml", &text, home.point.new_file_owner());
        if with_recover {
            assert_eq!(home.point.recover(at(2)).unwrap().items, [Recovered::Acceptance(id(1))]);
        } else {
            assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
        }
        assert!(matches!(accept(&home, &sealed), Acceptance::Already(_)));
        assert_eq!((home.names("transport-outgoing").len(), home.copies(sealed.id())), (0, 1));
    }
}

#[test]
fn logs_are_never_dropped_from_a_full_handover_point() {
    let home = home(Channel::Logs);
    (1..=5).for_each(|hour| drop(home.seal(hour)));
    assert_eq!(home.point.drop_eldest_waiting(1, at(6)).unwrap().items, []);
    assert_eq!(waiting(&home).len(), 5);
}

// Retention

#[test]
fn the_source_store_keeps_so_many_and_always_the_newest_good_copy_of_each_element() {
    let home = home(Channel::Data);
    for (hour, db) in [(1, true), (2, false), (3, false), (4, false)] {
        let sealed = home.seal_with(hour, &[("www", true), ("db", db)]);
        accept(&home, &sealed);
    }
    let list = home.point.prune(2, at(9)).unwrap().items;
    assert_eq!(list, [Gone { id: id(2), why: "not among the last 2".into() }]);
    assert_eq!(stored(&home), [id(1), id(3), id(4)]);
    assert_eq!(home.point.prune(2, at(9)).unwrap().items, []);
    assert_eq!(home.point.prune(0, at(9)).unwrap().items.len(), 1);
    assert_eq!(stored(&home), [id(1), id(4)]);
}

#[test]
fn what_is_being_read_is_neither_dropped_nor_pruned_nor_purged() {
    let home = home(Channel::Data);
    (1..=3).for_each(|hour| drop(home.seal(hour)));
    let held = home.reopened().hold(&id(1)).unwrap().unwrap();
    assert_eq!(held.place, Place::Waiting);
    assert_eq!(
        home.point.waiting().unwrap().items.iter().map(|w| w.reading).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(gone(home.point.drop_eldest_waiting(1, at(4)).unwrap().items), [id(2)]);
    assert!(matches!(accept(&home, &home_sealed(&home, 1)), Acceptance::Accepted(_)));
    home.seal_and_accept(4);
    assert_eq!(home.point.prune(1, at(5)).unwrap().items, []);
    drop(held);
    assert_eq!(gone(home.point.prune(1, at(5)).unwrap().items), [id(1)]);

    let condemned = dir(&home, "condemned", &id(1));
    assert!(crate::sys::lock::try_shared_on(&condemned, condemned.path()).unwrap());
    assert_eq!(home.point.purge_condemned(DAY, at(99)).unwrap().items, [id(2)]);
    drop(condemned);
    assert_eq!(home.point.purge_condemned(DAY, at(99)).unwrap().items, [id(1)]);
}

/// The sealed generation of that hour as it lies there, to accept it later.
fn home_sealed(home: &Home, hour: i64) -> Sealed {
    let (_, dir) = home.point.locate(&id(hour)).unwrap().unwrap();
    let found = Found::load(&dir, &id(hour)).unwrap();
    Sealed::for_test(found.generation.id, found.seal)
}

#[test]
fn condemned_ones_can_be_taken_back_until_the_time_is_over() {
    let home = home(Channel::Data);
    (1..=3).for_each(|hour| drop(home.seal_and_accept(hour)));
    home.point.prune(1, at(10)).unwrap();
    let listing = home.point.condemned().unwrap();
    let note = listing.items[0].note.clone().unwrap();
    assert_eq!((note.at, note.why.as_str()), (at(10), "not among the last 1"));
    assert_eq!(home.point.purge_condemned(DAY, at(33)).unwrap().items, []);
    assert_eq!(home.point.undo(&id(1)).unwrap(), Some(Place::Stored));
    assert!(dir(&home, "store", &id(1)).stat_if_any(CONDEMNED_NOTE).unwrap().is_none());
    assert_eq!(home.point.purge_condemned(DAY, at(34)).unwrap().items, [id(2)]);
    assert_eq!(stored(&home), [id(1), id(3)]);
}

#[test]
fn a_condemned_one_without_a_note_or_from_the_future_gets_its_time_from_now_on() {
    let home = home(Channel::Data);
    (1..=3).for_each(|hour| drop(home.seal_and_accept(hour)));
    home.point.prune(1, at(9000)).unwrap();
    durable::remove_file(&dir(&home, "condemned", &id(1)), CONDEMNED_NOTE).unwrap();
    assert_eq!(home.point.purge_condemned(DAY, at(10)).unwrap().items, []);
    assert_eq!(home.point.purge_condemned(DAY, at(33)).unwrap().items, []);
    assert_eq!(home.point.purge_condemned(DAY, at(34)).unwrap().items, [id(1), id(2)]);
}

#[test]
fn a_condemnation_that_was_cut_before_the_move_leaves_the_generation_where_it_was() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    home.seal_and_accept(2);
    for place in ["transport-outgoing/20261123T040000Z", "store/20261123T050000Z"] {
        put(&Dir::open(home.path().join(place)).unwrap(), CONDEMNED_NOTE, b"format = 1", None);
    }
    assert_eq!((waiting(&home), stored(&home)), (vec![id(1)], vec![id(2)]));
    assert_eq!(home.point.recover(at(3)).unwrap().items, []);
    assert!(dir(&home, "store", &id(2)).stat_if_any(CONDEMNED_NOTE).unwrap().is_none());
    assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
}

#[test]
fn a_deletion_that_was_cut_is_finished_and_never_looks_like_a_generation() {
    let home = home(Channel::Data);
    home.seal_and_accept(1);
    std::fs::rename(
        home.path().join("store/20261123T040000Z"),
        home.path().join("condemned/.deleting-20261123T040000Z"),
    )
    .unwrap();
    assert!(home.point.condemned().unwrap().items.is_empty());
    assert_eq!(home.point.undo(&id(1)).unwrap(), None);
    assert_eq!(home.point.recover(at(2)).unwrap().items, [Recovered::Deletion("20261123T040000Z".into())]);
    assert_eq!(home.names("condemned"), [""; 0]);
}

#[test]
fn a_copy_that_a_provider_put_back_makes_way() {
    let home = home(Channel::Data);
    let sealed = home.seal_and_accept(1);
    home.seal_and_accept(2);
    let copy = |from: &str, to: &str| {
        let status = crate::sys::child::command("cp")
            .arg("-a")
            .args([home.path().join(from), home.path().join(to)])
            .status();
        assert!(status.unwrap().success());
    };
    // It waits again although it was accepted.
    copy("store/20261123T040000Z", "transport-outgoing");
    assert!(matches!(accept(&home, &sealed), Acceptance::Already(_)));
    assert_eq!(home.point.recover(at(3)).unwrap().items, [Recovered::Duplicate(id(1))]);
    assert_eq!(home.point.recover(at(3)).unwrap().items, []);
    // It is in the way of a condemnation.
    assert_eq!(gone(home.point.prune(1, at(4)).unwrap().items), [id(1)]);
    assert_eq!(home.copies(&id(1)), 1);
}

// Reject

#[test]
fn a_rejected_generation_is_marked_and_its_paths_are_read_afresh_next_time() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let paths = vec![b"www/index".to_vec(), b"www/\xff\n".to_vec()];
    let reject = |paths: Vec<Vec<u8>>| home.point.reject(sealed.id(), &sealed.seal(), paths, at(2)).unwrap();
    as_transport_user(|| {
        let point = HandoverPoint::open_for_gate(&home.path()).unwrap();
        let answer = point.reject(sealed.id(), &sealed.seal(), paths.clone(), at(2)).unwrap();
        assert_eq!(answer, Rejection::Rejected(2));
    });
    assert_eq!(reject(vec![b"other".to_vec()]), Rejection::Rejected(2));
    let rejected = home.point.waiting().unwrap().items.remove(0).rejected.unwrap();
    assert_eq!(rejected, Rejected { at: Some(at(2)), paths: paths.clone(), flaw: None });
    assert_eq!(
        home.point.rejections().unwrap(),
        Rejections { ids: vec![id(1)], paths: paths.into_iter().collect() }
    );
    assert_eq!(home.point.reject(&id(7), &sealed.seal(), vec![], at(2)).unwrap(), Rejection::Gone);
    let other = Digest::of(b"other");
    assert_eq!(home.point.reject(sealed.id(), &other, vec![], at(2)).unwrap(), Rejection::OtherSeal);
}

#[test]
fn a_rejected_generation_goes_once_newer_ones_hold_all_that_was_good_in_it() {
    let home = home(Channel::Data);
    let first = home.seal_with(1, &[("www", true), ("db", true)]);
    home.point.reject(first.id(), &first.seal(), vec![b"www/index".to_vec()], at(2)).unwrap();
    let handled = home.point.rejections().unwrap();
    home.seal_with(3, &[("www", true), ("db", false)]);
    assert_eq!(home.point.clear_rejected(&handled, at(3)).unwrap().items, []);
    let second = home.seal_with(4, &[("db", true)]);
    assert_eq!(home.point.clear_rejected(&Rejections::default(), at(4)).unwrap().items, []);
    // Rejected after the collect had asked: it waits for the next one.
    home.point.reject(second.id(), &second.seal(), vec![], at(4)).unwrap();
    assert_eq!(home.point.clear_rejected(&handled, at(4)).unwrap().items, []);
    home.seal_with(5, &[("db", true)]);
    assert_eq!(home.point.clear_rejected(&handled, at(5)).unwrap().items, [id(1)]);
    assert_eq!(home.point.drop_eldest_waiting(7, at(5)).unwrap().items, []);
    assert_eq!(waiting(&home), [id(3), id(4), id(5)]);
}

#[test]
fn a_note_of_rejection_that_cannot_be_read_still_rejects() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    put(&dir(&home, "transport-outgoing", sealed.id()), "rejected.json", b"{", None);
    let rejected = home.point.waiting().unwrap().items.remove(0).rejected.unwrap();
    assert_eq!((rejected.at, &rejected.paths), (None, &vec![]));
    assert!(rejected.flaw.is_some(), "it is said that the note cannot be used");
    assert_eq!(
        home.point.reject(sealed.id(), &sealed.seal(), vec![b"a".to_vec()], at(2)).unwrap(),
        Rejection::Rejected(1)
    );
    assert_eq!(home.point.rejections().unwrap().paths.len(), 1);
}

// Recovery and strange things

#[test]
fn a_draft_that_was_cut_is_deleted_and_what_was_sealed_stays() {
    let home = home(Channel::Data);
    home.seal(1);
    let draft = home.point.begin(&id(2)).unwrap();
    put(draft.data(), "half", b"x", None);
    // The cut came after generation.toml was written: still a draft, as the place is the state.
    put(draft.dir(), GENERATION, b"", None);
    drop(draft);
    assert_eq!(home.point.recover(at(3)).unwrap().items, [Recovered::Draft("20261123T050000Z".into())]);
    assert_eq!(home.point.recover(at(3)).unwrap().items, []);
    assert_eq!((home.names("collecting").len(), waiting(&home)), (0, vec![id(1)]));
}

#[test]
fn strange_and_torn_things_are_told_and_break_nothing() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    home.seal_and_accept(2);
    for place in ["transport-outgoing", "store", "condemned"] {
        let here = Dir::open(home.path().join(place)).unwrap();
        here.create_dir("20261123T990000Z", 0o700).unwrap();
        here.create_dir("20261123T100000Z", 0o700).unwrap();
        put(&here, "20261123T110000Z", b"", None);
        std::os::unix::fs::symlink("/etc", here.join("20261123T120000Z")).unwrap();
        put(&here.create_dir("20261123T130000Z", 0o700).unwrap(), GENERATION, b"format = 9", None);
    }
    assert_eq!(home.point.waiting().unwrap().strange.len(), 5);
    assert_eq!(home.point.stored().unwrap().strange.len(), 5);
    assert_eq!(home.point.condemned().unwrap().strange.len(), 5);
    assert_eq!((waiting(&home), stored(&home)), (vec![id(1)], vec![id(2)]));
    assert_eq!(home.point.recover(at(3)).unwrap().items, []);
    assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
    assert_eq!(gone(home.point.prune(1, at(3)).unwrap().items), [id(1)]);
    assert_eq!(home.point.purge_condemned(DAY, at(3)).unwrap().items, []);
    assert_eq!(home.point.stored().unwrap().strange.len(), 5);
}

#[test]
fn one_process_changes_places_at_a_time() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let changing = home.point.changing().unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| accept(&home, &sealed));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!other.is_finished());
        assert_eq!(home.names("transport-outgoing").len(), 1);
        drop(changing);
        assert!(matches!(other.join().unwrap(), Acceptance::Accepted(_)));
    });
}

#[test]
fn a_transport_user_who_never_gives_the_lock_back_stops_no_collector() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let Some((uid, gid)) = owner() else { return };
    let outgoing = home.folder.path().join("home/transport-outgoing");
    let holder = |uids: &[String], gid: u32| {
        let mut command = std::process::Command::new("setpriv");
        command.args(uids).arg(format!("--regid={gid}")).args(["--clear-groups", "--", "flock"]);
        // It holds the lock, and so does its child.
        command.arg(&outgoing).args(["sleep", "1000"]);
        let child = command.spawn().unwrap();
        let dir = Dir::open(&outgoing).unwrap();
        while crate::sys::lock::try_exclusive_on(&dir, dir.path()).unwrap() {
            rustix::fs::flock(&dir, rustix::fs::FlockOperation::Unlock).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    };
    // As itself, and as one that has begun a program of root's.
    for hidden in [vec![format!("--reuid={uid}")], vec![format!("--ruid={uid}"), "--euid=0".to_owned()]] {
        let mut hacked = holder(&hidden, gid);
        drop(home.point.changing_within(10).unwrap());
        assert!(!hacked.wait().unwrap().success());
    }
    assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
    // Root's own are waited for, and never ended.
    let mut ours = holder(&["--reuid=0".to_owned()], 0);
    let refused = home.point.changing_within(10).err().unwrap();
    assert!(refused.to_string().contains("has held it for half a minute"), "{refused}");
    assert!(ours.try_wait().unwrap().is_none());
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", ours.id())).unwrap();
    ours.kill().unwrap();
    ours.wait().unwrap();
    for child in children.split_whitespace() {
        assert!(std::process::Command::new("kill").arg(child).status().unwrap().success());
    }
}

/// Takes the lock, puts it into a socket that nobody reads, closes it, and waits.
const HIDES_THE_LOCK: &str = "import array, fcntl, os, socket, sys\n\
    here, there = socket.socketpair()\n\
    lock = os.open(sys.argv[1], os.O_RDONLY)\n\
    fcntl.flock(lock, fcntl.LOCK_EX)\n\
    here.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [lock]))])\n\
    os.close(lock)\n\
    print('hidden', flush=True)\n\
    sys.stdin.read()\n";

#[test]
fn a_lock_that_is_hidden_in_a_socket_fails_the_run_with_what_to_do_and_loses_nothing() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let outgoing = home.folder.path().join("home/transport-outgoing");
    let mut command = std::process::Command::new("/usr/bin/python3");
    command.args(["-c", HIDES_THE_LOCK]).arg(&outgoing);
    let mut hider =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(hider.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    let refused = home.point.changing_within(10).err().unwrap().to_string();
    assert!(refused.contains("somebody keeps it on purpose: `pkill -KILL -u"), "{refused}");
    assert_eq!(home.names("transport-outgoing").len(), 1);
    hider.kill().unwrap();
    hider.wait().unwrap();
    assert!(matches!(accept(&home, &sealed), Acceptance::Accepted(_)));
}

#[test]
fn a_lock_that_is_passed_on_outlives_the_exec() {
    let home = home(Channel::Data);
    home.seal(1);
    let held = home.point.hold(&id(1)).unwrap().unwrap();
    assert!(rustix::io::fcntl_getfd(&held.dir).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    held.pass_on().unwrap();
    assert!(!rustix::io::fcntl_getfd(&held.dir).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

// What the transport user can put there

/// Runs every step of a collector over a home.
fn every_step(home: &Home) -> Vec<Strange> {
    let point = &home.point;
    let mut strange = point.recover(at(50)).unwrap().strange;
    strange.extend(point.waiting().unwrap().strange);
    strange.extend(point.stored().unwrap().strange);
    strange.extend(point.condemned().unwrap().strange);
    let handled = point.rejections().unwrap();
    strange.extend(point.purge_condemned(DAY, at(50)).unwrap().strange);
    strange.extend(point.clear_rejected(&handled, at(50)).unwrap().strange);
    strange.extend(point.drop_eldest_waiting(1, at(50)).unwrap().strange);
    strange.extend(point.prune(1, at(50)).unwrap().strange);
    strange.extend(point.recover(at(50)).unwrap().strange);
    for hour in 0..9 {
        point.locate(&id(hour)).unwrap();
    }
    strange
}

#[test]
fn nothing_that_the_transport_user_plants_stops_a_collector_or_is_followed() {
    let home = home(Channel::Data);
    for hour in [1, 2] {
        home.seal_and_accept(hour);
    }
    home.point.prune(1, at(3)).unwrap();
    for hour in [3, 4] {
        home.seal_and_accept(hour);
    }
    for hour in [5, 6, 7] {
        home.seal(hour);
    }
    let treasure = home.folder.path().join("treasure");
    std::fs::create_dir(&treasure).unwrap();
    std::fs::write(treasure.join("file"), "x").unwrap();
    let before = owners(&treasure);
    let path = home.path();
    as_transport_user(|| {
        let link = |place: &str| std::os::unix::fs::symlink(&treasure, path.join(place)).unwrap();
        for (place, hour) in [("transport-outgoing", 5), ("store", 3), ("condemned", 1)] {
            // A folder where a note is to be written, over which nothing can be renamed.
            let note = path.join(place).join(id(hour).as_str()).join("condemned.toml");
            if note.exists() {
                std::fs::remove_file(&note).unwrap();
            }
            std::fs::create_dir(&note).unwrap();
            std::fs::write(path.join(place).join("foreign"), "x").unwrap();
            link(&format!("{place}/a link"));
            link(&format!("{place}/{}", id(8)));
            std::fs::create_dir(path.join(place).join("20260101T000000Z")).unwrap();
        }
        let rejected = path.join("transport-outgoing").join(id(6).as_str()).join("rejected.json");
        std::os::unix::fs::symlink(treasure.join("file"), rejected).unwrap();
        let temporary = path.join("store/.generation.toml.0123456789ab");
        std::os::unix::fs::symlink(treasure.join("file"), temporary).unwrap();
        link(&format!("condemned/.deleting-{}", id(9)));
    });
    let strange = every_step(&home);
    let told =
        |words: &str| strange.iter().any(|s| s.why.contains(words) || s.name.to_string_lossy() == words);
    assert!(told("condemned.toml") && told("foreign") && told("a link"), "{strange:?}");
    assert_eq!((owners(&treasure), std::fs::read(treasure.join("file")).unwrap()), (before, b"x".to_vec()));
    for hour in 1..=7 {
        assert_eq!(home.copies(&id(hour)), 1, "{hour}");
    }
    // A new generation is handed over all the same.
    let sealed = home.seal(10);
    assert!(waiting(&home).contains(sealed.id()));
}

#[test]
fn a_note_of_rejected_paths_is_read_only_as_far_as_it_is_one() {
    let home = home(Channel::Data);
    let sealed = home.seal(1);
    let folder = dir(&home, "transport-outgoing", &id(1));
    let read = |paths: &str| {
        if folder.stat_if_any("rejected.json").unwrap().is_some() {
            durable::remove_file(&folder, "rejected.json").unwrap();
        }
        let (id, seal) = (sealed.id(), sealed.seal());
        let text = format!(
            "{{\"id\":\"{id}\",\"seal\":\"{seal}\",\"at\":\"2026-11-23T03:00:00Z\",\"paths\":{paths}}}"
        );
        put(&folder, "rejected.json", text.as_bytes(), None);
        home.point.waiting().unwrap().items.remove(0).rejected.unwrap()
    };
    let good = read("[\"www/a\", [119, 255]]");
    assert_eq!((good.paths, good.flaw), (vec![b"www/a".to_vec(), vec![119, 255]], None));
    let zeros = format!("[[{}0]]", "0,".repeat(1 << 20));
    let many = format!("[{}\"a\"]", "\"a\",".repeat(200_001));
    let long = format!("[{}\"a\"]", format!("\"{}\",", "x".repeat(3000)).repeat(1500));
    for bad in [zeros.as_str(), &many, &long, "[[256]]", "[{}]", "7"] {
        let rejected = read(bad);
        assert!(rejected.paths.is_empty() && rejected.at.is_none(), "{}", &bad[..20.min(bad.len())]);
        assert!(rejected.flaw.is_some_and(|flaw| flaw.contains("rejected.json")));
    }
}
