//! The rule of unchanged files: they are neither read nor copied; whatever may have changed is read.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::harness::{HANDOVER, Lab, id_of, inode, settle};

/// Runs the source again and gives the generation's folder and how many bytes were read.
#[track_caller]
fn again(lab: &Lab) -> (String, u64) {
    let report = lab.source(0);
    lab.sink(0);
    (format!("home/store/{}", id_of(&report)), report["generation"]["bytes_read"].as_u64().unwrap())
}

fn set_mtime(path: &PathBuf, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn an_unchanged_file_is_neither_opened_nor_copied_but_linked() {
    let lab = Lab::new();
    lab.write("unchanged", vec![7; 100_000]);
    lab.write("changed", "before");
    settle();
    let first = format!("home/store/{}", lab.init().both());
    lab.write("changed", "after!");
    let trace = lab.path("trace");
    let args = [
        "-f",
        "-e",
        "trace=open,openat,openat2",
        "-o",
        trace.to_str().unwrap(),
        HANDOVER,
        "source",
        "--json",
    ];
    let output = lab.program("strace", &args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = lab.text("trace");
    let opened = |name: &str| trace.lines().any(|line| line.contains(&format!("\"{name}\"")));
    assert!(opened("changed"), "the trace shows nothing");
    assert!(!opened("unchanged"), "{trace}");
    lab.sink(0);
    let second = format!("home/store/{}", crate::harness::names(&lab.path("home/store")).pop().unwrap());
    assert_ne!(first, second);
    assert_eq!(inode(&lab.stored(&first, "unchanged")), inode(&lab.stored(&second, "unchanged")));
    assert_eq!(lab.text(lab.stored(&second, "changed")), "after!");
    assert_eq!(lab.text(lab.stored(&first, "changed")), "before");
}

#[test]
fn a_change_with_the_same_size_and_a_restored_time_is_noticed() {
    let lab = Lab::new();
    let path = lab.write("file", "before");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    settle();
    lab.init().both();
    settle();
    fs::write(&path, "after!").unwrap();
    set_mtime(&path, time);
    settle();
    let (generation, _) = again(&lab);
    assert_eq!(lab.text(lab.stored(generation, "file")), "after!");
}

#[test]
fn a_file_modified_within_two_seconds_of_the_sync_is_read_again_once_and_then_no_more() {
    let lab = Lab::new();
    lab.write("file", "young");
    lab.init().both();
    settle();
    let (_, read) = again(&lab);
    assert_eq!(read, 5, "it was young when it was read, so it is read again");
    let (_, read) = again(&lab);
    assert_eq!(read, 0);
}

#[test]
fn content_that_is_the_same_though_it_was_read_again_is_stored_once() {
    let lab = Lab::new();
    let path = lab.write("file", "same");
    settle();
    let first = format!("home/store/{}", lab.init().both());
    set_mtime(&path, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let (second, read) = again(&lab);
    assert_eq!(read, 4);
    assert_eq!(inode(&lab.stored(first, "file")), inode(&lab.stored(second, "file")));
}

#[test]
fn a_change_of_owner_or_mode_alone_is_in_the_next_manifest() {
    let lab = Lab::new();
    let path = lab.write("file", "x");
    settle();
    lab.init().both();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o751)).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    again(&lab);
    let restored = fs::metadata(lab.restore(0).join("file")).unwrap();
    assert_eq!((restored.mode() & 0o7777, restored.uid(), restored.gid()), (0o751, 1234, 4321));
}

#[test]
fn a_store_through_a_mapping_is_noticed() {
    let lab = Lab::new();
    lab.write("mapped", vec![b'a'; 8192]);
    // The page is already dirty when the first run reads it, and is written again after: no time changes by itself.
    let script = "import mmap,sys,time\n\
                  f=open(sys.argv[1],'r+b')\n\
                  m=mmap.mmap(f.fileno(),0)\n\
                  m[0]=ord('b')\n\
                  print('ready',flush=True)\n\
                  for line in sys.stdin:\n\
                  \x20   m[1]=ord(line[0])\n\
                  \x20   print('done',flush=True)\n";
    let mut writer = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(lab.path("tree/mapped"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = writer.stdin.take().unwrap();
    let mut from = std::io::BufReader::new(writer.stdout.take().unwrap());
    let mut heard = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut from, &mut line).unwrap();
    };
    heard();
    settle();
    lab.init().both();
    for letter in [b'x', b'y', b'z'] {
        use std::io::Write as _;
        to.write_all(&[letter, b'\n']).unwrap();
        to.flush().unwrap();
        heard();
        settle();
        let (generation, _) = again(&lab);
        assert_eq!(fs::read(lab.stored(generation, "mapped")).unwrap()[1], letter);
    }
    drop(to);
    writer.wait().unwrap();
}

/// What the transport user, who owns the folders of the store, may do to a stored file.
fn swapped(spoil: impl Fn(&PathBuf)) {
    let lab = Lab::new();
    lab.write("file", "content");
    lab.write("other", "unhurt");
    settle();
    let first = format!("home/store/{}", lab.init().both());
    let stored = lab.stored(&first, "file");
    spoil(&stored);
    let (second, read) = again(&lab);
    let fresh = lab.stored(&second, "file");
    let meta = fs::symlink_metadata(&fresh).unwrap();
    assert!(meta.is_file());
    assert_eq!(fs::read(&fresh).unwrap(), b"content");
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o440, 0));
    assert_ne!(meta.ino(), inode(&stored), "what was put there was linked");
    assert_eq!(read, 7, "the file alone is read afresh");
    assert_eq!(inode(&lab.stored(&first, "other")), inode(&lab.stored(&second, "other")));
}

#[test]
fn a_stored_file_replaced_by_a_link_is_never_taken_over() {
    swapped(|stored| {
        fs::remove_file(stored).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", stored).unwrap();
    });
}

#[test]
fn a_stored_file_replaced_by_another_of_equal_size_is_never_taken_over() {
    swapped(|stored| {
        fs::rename(stored, stored.with_extension("aside")).unwrap();
        fs::write(stored, "CONTENT").unwrap();
        fs::set_permissions(stored, fs::Permissions::from_mode(0o440)).unwrap();
    });
}

#[test]
fn a_stored_file_of_another_owner_is_never_taken_over() {
    swapped(|stored| std::os::unix::fs::chown(stored, Some(65534), None).unwrap());
}

#[test]
fn a_stored_file_of_another_size_is_never_taken_over() {
    swapped(|stored| {
        let file = File::options().write(true).open(stored).unwrap();
        file.set_len(3).unwrap();
    });
}

#[test]
fn a_stored_file_with_another_mode_is_never_taken_over() {
    swapped(|stored| fs::set_permissions(stored, fs::Permissions::from_mode(0o4755)).unwrap());
}

#[test]
fn a_stored_folder_replaced_by_a_link_is_not_entered() {
    let lab = Lab::new();
    lab.write("sub/file", "content");
    settle();
    let first = format!("home/store/{}", lab.init().both());
    let folder = lab.stored(&first, "sub");
    fs::rename(&folder, folder.with_extension("aside")).unwrap();
    std::os::unix::fs::symlink("sub.aside", &folder).unwrap();
    let (second, read) = again(&lab);
    assert_eq!(read, 7, "nothing is reached through a link");
    assert_eq!(lab.text(lab.stored(second, "sub/file")), "content");
}
