//! The tree that is kept and restored.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _},
    },
    path::Path,
};

use handover::{
    manifest::entry::TOO_LONG,
    sys::{Dir, xattr},
};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid};

/// Everything that a file system knows, with names that break what can be broken by names.
pub fn make_source(top: &Dir) {
    make_source_within(top, 0);
}

/// The same where each path will stand `prefix` bytes further in.
pub fn make_source_within(top: &Dir, prefix: usize) {
    let www = top.create_dir("www", 0o755).unwrap();
    make_plain(&www);
    make_special(&www);
    make_names(&www.create_dir("names", 0o750).unwrap());
    make_links(&www.create_dir("links", 0o755).unwrap());
    make_attributes(&www.create_dir("attributes", 0o755).unwrap());
    make_caps(&www);
    make_long(&www, prefix + b"www".len());
    stamp_folders(top, &mut 0);
}

fn write(dir: &Dir, name: impl AsRef<OsStr>, content: &[u8]) -> File {
    let file = dir.create_file(name, 0o644).unwrap();
    (&file).write_all(content).unwrap();
    file
}

fn stamp(dir: &Dir, name: impl AsRef<OsStr>, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(dir, name.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn own(dir: &Dir, name: &str, uid: u32, gid: u32, mode: u32) {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !FileType::from_raw_mode(dir.stat(name).unwrap().st_mode).is_symlink() {
        rustix::fs::chmodat(dir, name, Mode::from(mode), AtFlags::empty()).unwrap();
    }
}

fn make_plain(www: &Dir) {
    write(www, "plain", b"content");
    stamp(www, "plain", 1_700_000_000, 123_456_789);
    write(www, "empty", b"");
    stamp(www, "empty", 1_700_000_000, 1);
    www.create_dir("empty-folder", 0o700).unwrap();
    own(www, "empty-folder", 33, 33, 0o3775);
    write(www, "setuid", b"#!");
    own(www, "setuid", 33, 8, 0o6755);
    write(www, "nobody-knows-its-owner", b"x");
    own(www, "nobody-knows-its-owner", 54_321, 54_322, 0o0);
    write(www, "before-1970", b"x");
    stamp(www, "before-1970", -2, 500_000_000);
    write(www, "far-before-1970", b"x");
    stamp(www, "far-before-1970", -1_000_000_000, 0);
    write(www, "after-2106", b"x");
    stamp(www, "after-2106", 4_300_000_000, 999_999_999);
    let sparse = write(www, "sparse", b"");
    sparse.write_all_at(b"middle", 3_000_000).unwrap();
    sparse.set_len(8_000_000).unwrap();
    assert!(sparse.metadata().unwrap().blocks() * 512 < 1_000_000);
    stamp(www, "sparse", 1_600_000_000, 100);
}

fn make_special(www: &Dir) {
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(www, name, kind, Mode::from(0o620), device).unwrap();
        own(www, name, 1, 5, 0o620);
        stamp(www, name, 1_500_000_000, 7);
    };
    node("char", FileType::CharacterDevice, rustix::fs::makedev(5, 300));
    node("block", FileType::BlockDevice, rustix::fs::makedev(259, 70_000));
    node("fifo", FileType::Fifo, 0);
    node("socket", FileType::Socket, 0);
    for (name, target) in
        [("link", "../a b\\%\n"), ("link-to-root", "/etc/passwd"), ("link-to-folder", "names")]
    {
        rustix::fs::symlinkat(target, www, name).unwrap();
        own(www, name, 33, 54_321, 0);
        stamp(www, name, 1_400_000_000, 999);
    }
    rustix::fs::symlinkat("x".repeat(4095), www, "longest-link").unwrap();
}

fn make_names(dir: &Dir) {
    let long = "n".repeat(255);
    let names: [&[u8]; 20] = [
        b"new\nline",
        b"new\nline\\%",
        b"ends in newline\n",
        b"carriage\rreturn\r",
        b"quote\"'`",
        b"back\\slash",
        b"\\101 \\n",
        b" leading and trailing ",
        b"#hash",
        b"# failed .",
        b"equals=sign",
        b"star*?[a]{b}",
        b"%s%n",
        b"$HOME;&|<>()!~",
        b"-rf",
        b"...",
        b"\xff\xfe not utf-8",
        "gr\u{fc}n \u{202e}".as_bytes(),
        b"\x01\x1b[31m\x7f",
        long.as_bytes(),
    ];
    for name in names {
        let file = write(dir, OsStr::from_bytes(name), name);
        let path = dir.join(OsStr::from_bytes(name));
        if !name.starts_with(b"-") {
            xattr::set_on_open(&file, &path, b"user.of", name).unwrap();
        }
        stamp(dir, OsStr::from_bytes(name), 1_234_567_890, 987_654_321);
    }
}

/// Two pairs and a single file, all of equal content, their names mixed: in a store they share one inode.
fn make_links(dir: &Dir) {
    for name in ["a", "b", "e"] {
        write(dir, name, b"equal");
        stamp(dir, name, 1_700_000_000, 5);
    }
    dir.link("a", dir, "c").unwrap();
    dir.link("b", dir, "d").unwrap();
    own(dir, "b", 1, 1, 0o600);
    let below = dir.create_dir("be\nlow %d", 0o755).unwrap();
    dir.link("a", &below, "a\n").unwrap();
}

fn make_attributes(dir: &Dir) {
    let set =
        |name: &str, attribute: &[u8], value: &[u8]| xattr::set_on_name(dir, name, attribute, value).unwrap();
    write(dir, "user", b"x");
    set("user", b"user.empty", b"");
    set("user", b"user.binary", &[0, 1, 0xff, b'\n']);
    set("user", b"user.equals=sign and \\ and \n and \xff", b"1");
    set("user", b"trusted.overlay", b"y");
    write(dir, "acl", b"x");
    own(dir, "acl", 33, 33, 0o640);
    let acl = |mask: u16| {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in [
            (1_u16, 6_u16, u32::MAX),
            (2, 4, 1234),
            (4, 4, u32::MAX),
            (0x10, mask, u32::MAX),
            (0x20, 0, u32::MAX),
        ] {
            bytes.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(id.to_le_bytes()));
        }
        bytes
    };
    set("acl", b"system.posix_acl_access", &acl(6));
    dir.create_dir("folder", 0o755).unwrap();
    set("folder", b"system.posix_acl_default", &acl(4));
    set("folder", b"user.note", b"a folder");
    rustix::fs::symlinkat("user", dir, "link").unwrap();
    set("link", b"trusted.of-the-link", b"1");
}

/// A capability of a file that is not root's: it is lost if the owner is set after it.
fn make_caps(www: &Dir) {
    write(www, "caps", b"#!");
    own(www, "caps", 33, 33, 0o755);
    let net_bind = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set_on_name(www, "caps", b"security.capability", &net_bind).unwrap();
    stamp(www, "caps", 1_700_000_001, 1);
}

fn make_long(www: &Dir, mut length: usize) {
    let mut dir = www.try_clone().unwrap();
    let deepest = loop {
        if length + 1 + 200 > TOO_LONG - 260 {
            break dir;
        }
        let name = "long folder ".repeat(17)[..200].to_owned();
        write(&dir, "beside", format!("at {length}").as_bytes());
        dir = dir.create_dir(name, 0o755).unwrap();
        length += 201;
    };
    let deepest = deepest.create_dir("x".repeat(TOO_LONG - length - 1 - 1 - 255), 0o755).unwrap();
    let file = write(&deepest, "f".repeat(255), b"at the end");
    xattr::set_on_open(&file, Path::new("long"), b"user.deep", b"1").unwrap();
    write(&deepest, "beside", b"at the end");
    deepest.link("beside", www, "short-name-of-a-long-one").unwrap();
}

/// Sets the times of folders last, from the inside out: making a name changes them.
fn stamp_folders(dir: &Dir, at: &mut i64) {
    for name in dir.names().unwrap() {
        if FileType::from_raw_mode(dir.stat(&name).unwrap().st_mode).is_dir() {
            stamp_folders(&dir.open_dir(&name).unwrap(), at);
            *at += 1;
            stamp(dir, &name, 1_300_000_000 + *at, *at);
        }
    }
}
