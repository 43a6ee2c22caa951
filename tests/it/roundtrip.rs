//! What goes in comes out: collected, handed over, fetched, stored and restored, a tree is equal attribute for attribute.

use std::{
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
};

use handover::{manifest::entry::TOO_LONG, sys::Dir};

use crate::{
    format::{
        look::{Seen, compare, look},
        source::make_source_within,
    },
    harness::{Lab, NOBODY, findings, settle},
};

fn seen(path: &Path) -> Seen {
    look(&Dir::open(path).unwrap())
}

/// How many bytes stand before a path of the tree in the manifest: `www` and the path of the tree.
fn prefix(lab: &Lab) -> usize {
    "www".len() + lab.path("tree").as_os_str().len() + "/".len()
}

#[test]
fn a_tree_of_everything_comes_back_as_it_was() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    make_source_within(&Dir::open(&tree).unwrap(), prefix(&lab));
    let before = seen(&tree);
    assert!(before.keys().any(|path| prefix(&lab) + path.len() == TOO_LONG));
    lab.init().both();
    let restored = lab.restore(0);
    compare(&before, &seen(&restored), |_| true);
    let sparse = fs::metadata(restored.join("www/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1_000_000, "holes became {} blocks", sparse.blocks());
    assert_eq!(before, seen(&tree), "collecting changed the original");
}

#[test]
fn a_tree_of_everything_is_the_same_when_it_was_linked_from_the_generation_before() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    make_source_within(&Dir::open(&tree).unwrap(), prefix(&lab));
    settle();
    lab.init().both();
    let report = lab.source(0);
    // One file has a time that is still to come, which proves nothing: it is read every time.
    assert_eq!(report["generation"]["bytes_read"], 1);
    let report = lab.sink(0);
    assert_eq!(report["sources"][0]["stored"][0]["fetched"], 0);
    compare(&seen(&tree), &seen(&lab.restore(0)), |_| true);
}

#[test]
fn hard_links_hold_within_an_element_and_their_content_is_stored_once_across_elements() {
    let lab = Lab::new();
    lab.config(
        "",
        "[[source.element]]\nname = \"one\"\nkind = \"tree\"\npaths = [\"{lab}/tree/one\"]\n\
         [[source.element]]\nname = \"two\"\nkind = \"tree\"\npaths = [\"{lab}/tree/two\"]",
        "",
    );
    let a = lab.write("one/a", "shared");
    fs::hard_link(&a, lab.path("tree/one/b")).unwrap();
    fs::create_dir(lab.path("tree/two")).unwrap();
    fs::hard_link(&a, lab.path("tree/two/c")).unwrap();
    lab.init().both();
    let restored = lab.restore(0);
    let inode = |name: &str| fs::metadata(restored.join(name)).unwrap().ino();
    assert_eq!(inode("one/a"), inode("one/b"));
    assert_eq!(inode("one/a"), inode("two/c"), "one file again, since both elements come back at once");
    // Each element comes back by itself, too.
    let (to, from) = (lab.path("alone"), lab.path("sink/store/shop"));
    let args =
        ["restore", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap(), "--element", "two"];
    lab.run(&args).exits(0);
    let alone = crate::harness::below(&to, &lab.path("tree/two/c"));
    assert_eq!(fs::read(alone).unwrap(), b"shared");
}

#[test]
fn a_path_that_is_too_long_is_a_failed_file_and_everything_else_is_handed_over() {
    let lab = Lab::new();
    lab.write("short", "kept");
    let mut dir = Dir::open(lab.path("tree")).unwrap();
    let mut length = prefix(&lab);
    while length <= TOO_LONG {
        dir = dir.create_dir("d".repeat(250), 0o755).unwrap();
        length += 251;
    }
    dir.create_file("lost", 0o644).unwrap();
    lab.init();
    let report = lab.source(3);
    let element = &report["generation"]["elements"][0];
    assert_eq!((element["ok"].as_bool(), element["failed"].as_u64()), (Some(false), Some(1)));
    let said = findings(&report, "failed").concat();
    assert!(said.contains("longer than 4000 bytes"), "{said}");
    lab.sink(0);
    assert_eq!(fs::read(lab.restore_with(0, &["--allow-partial"]).join("short")).unwrap(), b"kept");
}

#[test]
fn a_socket_is_recorded_and_left_out() {
    let lab = Lab::new();
    lab.write("file", "x");
    let _socket = std::os::unix::net::UnixListener::bind(lab.path("tree/socket")).unwrap();
    let id = lab.init().both();
    let manifest = lab.text(format!("home/store/{id}/manifest.mtree"));
    assert!(manifest.lines().any(|l| l.starts_with('#') && l.contains("socket")), "{manifest}");
    let restored = lab.restore(0);
    assert!(!restored.join("socket").exists() && restored.join("file").exists());
}

#[test]
fn an_ordinary_user_hands_over_stores_and_restores_what_that_user_can_read() {
    let lab = Lab::of_user(NOBODY);
    for name in ["plain", "new\nline", "back\\slash \"'", "deep/er/file"] {
        lab.write(name, name);
    }
    lab.give_all();
    let odd = lab.path("tree").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    fs::write(&odd, "not utf-8").unwrap();
    fs::set_permissions(lab.path("tree/plain"), fs::Permissions::from_mode(0o4701)).unwrap();
    let sparse = File::create(lab.path("tree/sparse")).unwrap();
    sparse.set_len(8_000_000).unwrap();
    sparse.write_all_at(b"end", 7_000_000).unwrap();
    let path = lab.path("tree/deep/er/file");
    handover::sys::xattr::set_on_open(File::open(&path).unwrap(), &path, b"user.note", b"\0\xff").unwrap();
    fs::hard_link(&path, lab.path("tree/link")).unwrap();
    std::os::unix::fs::symlink("nowhere\n", lab.path("tree/dangling")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(lab.path("tree/fifo")).status().unwrap().success());
    lab.give_all();
    fs::set_permissions(lab.path("tree/plain"), fs::Permissions::from_mode(0o4701)).unwrap();
    let expected = seen(&lab.path("tree"));
    lab.init().both();
    let store = fs::metadata(lab.path("sink/store")).unwrap();
    assert_eq!(store.uid(), NOBODY);
    let restored = lab.restore(0);
    compare(&expected, &seen(&restored), |_| true);
    assert!(fs::metadata(restored.join("sparse")).unwrap().blocks() * 512 < 1_000_000);
    // A second round links what the first stored, as that user.
    settle();
    lab.source(0);
    let report = lab.source(4);
    assert_eq!(report["generation"]["bytes_read"], 0);
    let report = lab.sink(0);
    assert_eq!(report["sources"][0]["stored"][1]["fetched"], 0);
}

#[test]
fn an_ordinary_user_is_told_of_every_file_that_cannot_be_read() {
    let lab = Lab::of_user(NOBODY);
    lab.write("mine", "readable");
    let secret = lab.write("secret", "of root");
    std::os::unix::fs::chown(&secret, Some(0), Some(0)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(lab.path("tree/closed")).unwrap();
    fs::set_permissions(lab.path("tree/closed"), fs::Permissions::from_mode(0o700)).unwrap();
    lab.init();
    let report = lab.source(3);
    let element = &report["generation"]["elements"][0];
    assert_eq!((element["ok"].as_bool(), element["failed"].as_u64()), (Some(false), Some(2)), "{report:#}");
    let said = findings(&report, "failed").concat();
    assert!(said.contains("Permission denied") && said.contains("closed"), "{said}");
    lab.sink(0);
    let to = lab.path("out");
    let from = lab.path("sink/store/shop");
    let args = ["restore", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
    lab.run(&args).exits(15).says(&["www had failed", "--allow-partial"]);
    lab.run(&[&args[..], &["--allow-partial"]].concat()).exits(0).says(&["www", "had failed"]);
    let restored = crate::harness::below(&to, &lab.path("tree"));
    assert_eq!(fs::read(restored.join("mine")).unwrap(), b"readable");
    assert!(!restored.join("secret").exists());
}
