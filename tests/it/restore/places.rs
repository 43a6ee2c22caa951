//! Where a generation may lie and in what shape.

use std::{fs, path::Path, process::Command};

use super::{Host, copy};
use crate::harness::{names, settle};

pub(super) fn tar(host: &Host, args: &[&str]) {
    let status = Command::new("tar").args(args).current_dir(host.lab.path("")).status().unwrap();
    assert!(status.success(), "{args:?}");
}

#[track_caller]
fn is_restored(host: &Host, args: &[&str], word: &str) {
    host.restore(&[&["--yes"], args].concat()).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], [word; 2]);
    host.fill("new");
}

#[test]
fn a_folder_that_holds_several_and_foreign_files_beside_them() {
    let host = Host::new();
    host.fill("older");
    let older = host.init().collect();
    settle();
    host.fill("newer");
    let newer = host.collect();
    host.fill("new");
    let place = host.lab.path("home/restore");
    fs::create_dir_all(place.join("from the provider/shop")).unwrap();
    copy(&host.waiting(&older), &place.join("from the provider/shop").join(&older));
    copy(&host.waiting(&newer), &place.join("from the provider/shop/renamed by somebody"));
    fs::write(place.join("notes.txt"), "x").unwrap();
    fs::write(place.join("empty.tar"), "").unwrap();
    fs::create_dir(place.join("empty")).unwrap();
    let list = host.lab.run(&["restore", "list", "--json"]).exits(0).json();
    let ids: Vec<&str> =
        list["candidates"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [newer.as_str(), older.as_str()]);
    let passed = list["passed_over"].to_string();
    assert!(passed.contains("notes.txt") && passed.contains("empty.tar"), "{passed}");
    is_restored(&host, &[], "newer");
    assert_eq!(names(&place.join("from the provider/shop")), [older.as_str()], "another one went with it");
    assert_eq!(names(&host.lab.path("home/restored")), [newer.as_str()]);
    is_restored(&host, &[&older], "older");
}

#[test]
fn a_tar_of_it_however_it_is_packed() {
    let host = Host::new();
    host.fill("old");
    let id = host.init().collect();
    host.fill("new");
    for (end, how) in
        [(".tar", "--no-auto-compress"), (".tar.gz", "--gzip"), (".tar.zst", "--zstd"), (".tgz", "--gzip")]
    {
        let name = format!("home/restore/copy of it{end}");
        tar(&host, &["-C", "home/transport-outgoing", how, "-cf", &name, &id]);
        is_restored(&host, &[], "old");
        assert!(names(&host.lab.path("home/restore")).is_empty());
        assert!(host.lab.path("home/restored").join(format!("{id}{end}")).is_file());
        fs::remove_file(host.lab.path("home/restored").join(format!("{id}{end}"))).unwrap();
    }
    // Packed from within, and below folders.
    tar(&host, &["-C", &format!("home/transport-outgoing/{id}"), "-cf", "home/restore/a.tar", "."]);
    is_restored(&host, &[], "old");
    tar(&host, &["-cf", "home/restore/a.tar", &format!("home/transport-outgoing/{id}"), "handover.toml"]);
    is_restored(&host, &[], "old");
}

#[test]
fn a_tar_of_several_that_share_content_and_one_that_is_cut() {
    let host = Host::new();
    host.fill("same");
    settle();
    let older = host.init().collect();
    host.write("shop/second", "second");
    let newer = host.collect();
    tar(&host, &["-C", "home/transport-outgoing", "-cf", "home/restore/both.tar", &older, &newer]);
    host.fill("new");
    fs::remove_file(host.app("shop/second")).unwrap();
    is_restored(&host, &[], "same");
    assert_eq!(host.read("shop/second"), "second");
    is_restored(&host, &[&older], "same");
    assert!(!host.app("shop/second").exists());
    let file = host.lab.path("home/restore/both.tar");
    let size = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(size - 11_000).unwrap();
    host.restore(&["--yes"]).exits(15);
    assert_eq!(host.read("shop/index.html"), "new");
}

#[test]
fn a_tar_that_wants_out_of_the_folder_or_through_a_link_does_not_get_there() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let delivered = host.lab.path("home/restore").join(&id);
    fs::rename(&delivered, host.lab.path("hostile")).unwrap();
    let mut builder = tar::Builder::new(fs::File::create(host.lab.path("home/restore/x.tar")).unwrap());
    let mut add = |name: &str, kind: tar::EntryType, link: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(if link.is_empty() { 4 } else { 0 });
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        let content: &[u8] = if link.is_empty() { b"evil" } else { b"" };
        builder.append(&header, content).unwrap();
    };
    let out = host.lab.path("out");
    fs::create_dir(&out).unwrap();
    add(&format!("{id}/../../../../../out/one"), tar::EntryType::Regular, "");
    add(&format!("{id}/way"), tar::EntryType::Symlink, out.to_str().unwrap());
    add(&format!("{id}/way/two"), tar::EntryType::Regular, "");
    builder.append_dir_all(&id, host.lab.path("hostile")).unwrap();
    builder.finish().unwrap();
    host.restore(&["--yes"]);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn any_folder_that_is_named_and_the_source_store_is_one() {
    let host = Host::new();
    host.fill("old");
    let id = host.init().collect();
    host.fill("new");
    let from = host.lab.path("home/transport-outgoing");
    is_restored(&host, &["--from", from.to_str().unwrap()], "old");
    is_restored(&host, &["--from", from.join(&id).to_str().unwrap()], "old");
    assert!(from.join(&id).is_dir(), "what was only looked at was moved");
    tar(&host, &["-C", "home/transport-outgoing", "-cf", "one.tar", &id]);
    is_restored(&host, &["--from", host.lab.path("one.tar").to_str().unwrap()], "old");
    host.restore(&["--yes", "--from", "/no/such/folder"]).exits_with_failure();
    let list = host.lab.run(&["restore", "list", "--from", from.to_str().unwrap()]).exits(0);
    assert!(list.out.contains(&id) && list.out.contains("made here"), "{}", list.out);
    assert!(Path::new(&host.lab.path("home/restore")).is_dir());
}

#[test]
fn between_lineages_the_id_decides_and_that_is_said() {
    let host = Host::new();
    host.fill("old");
    let elder = host.init().collect();
    host.deliver(&elder);
    // The host is rebuilt: another lineage, which begins with sequence 1 again.
    fs::remove_dir_all(host.lab.path("state")).unwrap();
    settle();
    let younger = host.collect();
    host.deliver(&younger);
    let plan = host.lab.run(&["restore", "plan", "--json"]).exits(0).json();
    assert_eq!(plan["generation"]["id"], younger.as_str());
    assert!(plan["generation"]["why"].as_str().unwrap().contains("2 lineages"), "{plan:#}");
}
