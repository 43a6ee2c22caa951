//! All that can be seen of a tree, the items that a manifest has of it, and the comparison of two.

use std::{
    collections::BTreeMap,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
};

use handover::{
    manifest::{
        Digest, Entry, Item, Kind,
        entry::{Links, Time},
    },
    sys::{Dir, users::Names, xattr},
};
use rustix::fs::FileType;

pub type Seen = BTreeMap<Vec<u8>, One>;

/// All that can be seen of one path.
#[derive(Debug, Clone, PartialEq)]
pub struct One {
    pub kind: FileType,
    mode: u32,
    owner: (u32, u32),
    device: (u32, u32),
    mtime: Time,
    pub content: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    pub xattrs: Vec<xattr::Attribute>,
    /// Names of the same file, this one included, and how many it has in all.
    names: Vec<Vec<u8>>,
    nlink: u32,
}

pub fn look(top: &Dir) -> Seen {
    let mut seen = Seen::new();
    let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    look_into(top, b"", &mut seen, &mut inodes);
    for names in inodes.into_values() {
        for name in &names {
            seen.get_mut(name).unwrap().names.clone_from(&names);
        }
    }
    seen
}

fn look_into(dir: &Dir, below: &[u8], seen: &mut Seen, inodes: &mut BTreeMap<u64, Vec<Vec<u8>>>) {
    for name in dir.names().unwrap() {
        let stat = dir.stat(&name).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let path = [below, name.as_bytes()].concat();
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let content = kind.is_file().then(|| {
            let mut content = vec![0; usize::try_from(stat.st_size).unwrap()];
            dir.open_file(&name).unwrap().read_exact_at(&mut content, 0).unwrap();
            content
        });
        let one = One {
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            device: if is_device { (major, minor) } else { (0, 0) },
            mtime: Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap() },
            content,
            target: kind.is_symlink().then(|| dir.read_link(&name).unwrap()),
            xattrs: xattr::of_name(dir, &name).unwrap(),
            names: Vec::new(),
            nlink: if kind.is_file() { u32::try_from(stat.st_nlink).unwrap() } else { 1 },
        };
        if kind.is_file() {
            inodes.entry(stat.st_ino).or_default().push(path.clone());
        }
        seen.insert(path.clone(), one);
        if kind.is_dir() {
            look_into(&dir.open_dir(&name).unwrap(), &[&path, b"/".as_slice()].concat(), seen, inodes);
        }
    }
}

pub fn sorted(seen: &Seen) -> Vec<&Vec<u8>> {
    let mut paths: Vec<&Vec<u8>> = seen.keys().collect();
    paths.sort_by(|a, b| handover::manifest::entry::order(a, b));
    paths
}

pub fn items(seen: &Seen) -> Vec<Item> {
    let users = Names::load();
    let mut inodes: BTreeMap<&Vec<u8>, u64> = BTreeMap::new();
    let mut items = Vec::new();
    for path in sorted(seen) {
        let one = &seen[path];
        let kind = match one.kind {
            FileType::Socket => {
                items.push(Item::Socket(path.clone()));
                continue;
            }
            FileType::RegularFile => {
                let content = one.content.as_ref().unwrap();
                let next = inodes.len() as u64 + 1;
                let links = if one.nlink == 1 {
                    Links::One
                } else {
                    Links::Many { nlink: one.nlink, inode: *inodes.entry(&one.names[0]).or_insert(next) }
                };
                Kind::File { size: content.len() as u64, digest: Digest::of(content), links }
            }
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Link { target: one.target.clone().unwrap() },
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Char { major: one.device.0, minor: one.device.1 },
            FileType::BlockDevice => Kind::Block { major: one.device.0, minor: one.device.1 },
            FileType::Unknown => panic!("{}", handover::sys::show(path)),
        };
        let (uid, gid) = one.owner;
        let uname = users.user(uid).map(|name| name.as_bytes().to_vec());
        let gname = users.group(gid).map(|name| name.as_bytes().to_vec());
        items.push(Item::Entry(Entry {
            path: path.clone(),
            mode: one.mode,
            uid,
            gid,
            uname,
            gname,
            mtime: one.mtime,
            kind,
        }));
    }
    items
}

pub fn compare(expected: &Seen, restored: &Seen, wanted: impl Fn(&[u8]) -> bool) {
    let show = |path: &[u8]| handover::sys::show(&path[..path.len().min(200)]);
    let mut compared = 0;
    for (path, one) in expected.iter().filter(|(path, _)| wanted(path)) {
        if one.kind == FileType::Socket {
            assert!(!restored.contains_key(path));
            continue;
        }
        let Some(found) = restored.get(path) else { panic!("{} was not restored", show(path)) };
        assert_eq!(
            found.content.as_ref().map(Vec::len),
            one.content.as_ref().map(Vec::len),
            "{}",
            show(path)
        );
        assert!(found.content == one.content, "the content of {}", show(path));
        let rest = |one: &One| One { content: None, ..one.clone() };
        assert_eq!(rest(found), rest(one), "{}", show(path));
        compared += 1;
    }
    assert!(compared > 0);
    let extra = restored.keys().filter(|path| wanted(path)).find(|path| !expected.contains_key(*path));
    assert_eq!(extra.map(|path| show(path)), None);
}
