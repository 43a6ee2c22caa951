//! A file system that forgets: which calls of a run are on the disk for certain, and what a disk may look like that has
//! only some of the others.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::crash::strace::{Call, Seen, bytes};

type Inode = usize;

/// A file or a folder.
#[derive(Clone, Debug, Default)]
pub struct Node {
    is_folder: bool,
    names: BTreeMap<String, Inode>,
    pub content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

/// What is on a disk, by inode; the first is the root.
#[derive(Clone, Debug)]
pub struct Tree(Vec<Node>);

/// A change that one call makes: on a disk it is there as a whole, or not at all.
#[derive(Clone, Debug)]
enum Change {
    /// These names of these folders lead there, or nowhere.
    Names(Vec<(Inode, String, Option<Inode>)>),
    Write(Inode, usize, Vec<u8>),
    Cut(Inode, usize),
    Mode(Inode, u32),
    Owner(Inode, u32, u32),
}

/// A change, what it was, and by which of the run's syncs it lasts.
#[derive(Debug)]
pub struct Op {
    change: Change,
    pub what: String,
    /// The number of calls after which it is on the disk for certain.
    synced: usize,
}

/// All changes of a run; `moments` are the numbers of calls after which the power may fail.
pub struct Run {
    base: Tree,
    pub ops: Vec<Op>,
    /// So many changes had been made after each call that made one, or made them last.
    pub made: Vec<usize>,
}

impl Tree {
    /// What is there now, of these parts of a folder.
    pub fn read(root: &Path, parts: &[&str]) -> Self {
        let mut tree = Self(vec![Node { is_folder: true, ..Node::default() }]);
        let mut known = HashMap::new();
        for part in parts {
            let inode = tree.load(&root.join(part), &mut known);
            tree.0[0].names.insert((*part).to_owned(), inode);
        }
        tree
    }

    fn load(&mut self, path: &Path, known: &mut HashMap<u64, Inode>) -> Inode {
        let meta = fs::symlink_metadata(path).unwrap();
        if let Some(inode) = known.get(&meta.ino()) {
            return *inode;
        }
        let inode = self.0.len();
        known.insert(meta.ino(), inode);
        let mut node =
            Node { mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()), ..Node::default() };
        node.is_folder = meta.is_dir();
        self.0.push(node);
        if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let child = self.load(&entry.path(), known);
                self.0[inode].names.insert(entry.file_name().into_string().unwrap(), child);
            }
        } else {
            self.0[inode].content = fs::read(path).unwrap();
        }
        inode
    }

    fn find(&self, path: &str) -> Option<Inode> {
        path.split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .try_fold(0, |at, part| self.0[at].names.get(part).copied())
    }

    /// The names in a folder; none if it is not there.
    pub fn names(&self, path: &str) -> Vec<&str> {
        self.find(path).map(|at| self.0[at].names.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    /// The content of a file.
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        let node = &self.0[self.find(path)?];
        (!node.is_folder).then_some(&node.content)
    }

    /// All files below a folder, by their path in it.
    pub fn files(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        if let Some(at) = self.find(path) {
            self.gather(at, "", &mut all);
        }
        all
    }

    fn gather(&self, at: Inode, before: &str, all: &mut BTreeMap<String, Vec<u8>>) {
        for (name, inode) in &self.0[at].names {
            let path = format!("{before}{name}");
            if self.0[*inode].is_folder {
                self.gather(*inode, &format!("{path}/"), all);
            } else {
                all.insert(path, self.0[*inode].content.clone());
            }
        }
    }

    /// Makes it real, in the place of what is there.
    pub fn write(&self, root: &Path) {
        let mut made = HashMap::new();
        for (part, inode) in &self.0[0].names {
            let path = root.join(part);
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
            self.put(*inode, &path, &mut made);
        }
    }

    fn put(&self, inode: Inode, path: &Path, made: &mut HashMap<Inode, PathBuf>) {
        let node = &self.0[inode];
        if node.is_folder {
            fs::DirBuilder::new().mode(0o700).create(path).unwrap();
            node.names.iter().for_each(|(name, child)| self.put(*child, &path.join(name), made));
        } else if let Some(first) = made.get(&inode) {
            fs::hard_link(first, path).unwrap();
            return;
        } else {
            fs::write(path, &node.content).unwrap();
            made.insert(inode, path.to_owned());
        }
        std::os::unix::fs::chown(path, Some(node.owner.0), Some(node.owner.1)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(node.mode)).unwrap();
    }

    fn make(&mut self, change: &Change) {
        match change {
            Change::Names(sets) => {
                for (folder, name, to) in sets {
                    match to {
                        Some(inode) => drop(self.0[*folder].names.insert(name.clone(), *inode)),
                        None => drop(self.0[*folder].names.remove(name)),
                    }
                }
            }
            Change::Write(inode, at, bytes) => {
                let content = &mut self.0[*inode].content;
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Cut(inode, size) => self.0[*inode].content.resize(*size, 0),
            Change::Mode(inode, mode) => self.0[*inode].mode = *mode,
            Change::Owner(inode, uid, gid) => self.0[*inode].owner = (*uid, *gid),
        }
    }
}

impl Change {
    fn is_of(&self, inode: Inode) -> bool {
        match self {
            Self::Names(sets) => sets.iter().any(|(folder, ..)| *folder == inode),
            Self::Write(at, ..) | Self::Cut(at, _) | Self::Mode(at, _) | Self::Owner(at, ..) => *at == inode,
        }
    }
}

impl Run {
    /// Follows the calls of a run, from what was there before it.
    pub fn of(root: &Path, base: Tree, seen: &Seen) -> Self {
        let mut following = Following {
            root,
            now: base.clone(),
            run: Self { base, ops: Vec::new(), made: vec![0] },
            positions: HashMap::new(),
            has_synced: false,
        };
        // A node that the run makes is in the base too, without a name.
        for call in seen.calls.iter().filter(|call| call.result >= 0) {
            let before = following.run.ops.len();
            following.has_synced = false;
            following.call(call);
            if following.has_synced || following.run.ops.len() > before {
                following.run.made.push(following.run.ops.len());
            }
        }
        following.run
    }

    /// The changes that may be lost if the power fails after so many calls.
    pub fn unsynced(&self, calls: usize) -> Vec<usize> {
        (0..self.made[calls]).filter(|op| self.ops[*op].synced > calls).collect()
    }

    /// Whether the next call makes something last, or the last one was a rename, or the run ends here.
    pub fn is_turning_point(&self, calls: usize) -> bool {
        let made = self.made[calls];
        let is_rename = made.checked_sub(1).is_some_and(|op| self.ops[op].what.starts_with("rename"));
        self.made.get(calls + 1).is_none_or(|next| *next == made) || is_rename
    }

    /// What is on the disk after so many calls, if of what was not synced only `kept` is there.
    pub fn after(&self, calls: usize, kept: &dyn Fn(usize) -> bool) -> Tree {
        let mut tree = self.base.clone();
        for (n, op) in self.ops[..self.made[calls]].iter().enumerate() {
            if op.synced <= calls || kept(n) {
                tree.make(&op.change);
            }
        }
        tree
    }

    /// What tells such a disk from others: which changes are there.
    pub fn kind(&self, calls: usize, kept: &dyn Fn(usize) -> bool) -> Vec<usize> {
        (0..self.made[calls]).filter(|op| self.ops[*op].synced <= calls || kept(*op)).collect()
    }
}

struct Following<'r> {
    root: &'r Path,
    now: Tree,
    run: Run,
    /// Where the next write goes, by process and descriptor.
    positions: HashMap<(u32, String), usize>,
    /// Whether the last call made something last.
    has_synced: bool,
}

impl Following<'_> {
    /// The path below the root; none if it is elsewhere, or of a part that is not followed.
    fn inside(&self, path: &Path) -> Option<String> {
        let inside = path.strip_prefix(self.root).ok()?.to_str()?.replace("/./", "/");
        let inside = inside.trim_end_matches("/.").to_owned();
        let first = inside.split('/').next()?;
        self.now.0[0].names.contains_key(first).then_some(inside)
    }

    fn parent(&self, path: &str) -> (Inode, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.now.find(folder).unwrap_or_else(|| panic!("{path}: its folder is not followed"));
        (folder, name.to_owned())
    }

    fn make(&mut self, what: String, change: Change) {
        self.now.make(&change);
        self.run.ops.push(Op { change, what, synced: usize::MAX });
    }

    fn new_node(&mut self, is_folder: bool) -> Inode {
        // Every tree knows all nodes from the beginning; one without a name is not there.
        let node = Node { is_folder, mode: if is_folder { 0o700 } else { 0o600 }, ..Node::default() };
        self.now.0.push(node.clone());
        self.run.base.0.push(node);
        self.now.0.len() - 1
    }

    fn call(&mut self, call: &Call) {
        match call.name.as_str() {
            "write" | "pwrite64" | "ftruncate" | "fchmod" | "fchown" => self.change_content(call),
            "copy_file_range" | "sendfile" | "writev" | "pwritev" | "fallocate" | "truncate" => {
                let touched = (0..call.args.len())
                    .any(|n| call.args[n].contains('<') && self.inside(&call.at(n)).is_some());
                assert!(!touched || call.result == 0, "not followed: {call:?}");
            }
            "chmod" | "fchmodat" | "fchownat" | "chown" | "lchown" => self.change_by_name(call),
            _ => {
                if let Some((step, paths)) = call.step() {
                    self.step(call, step, &paths);
                }
            }
        }
    }

    fn change_by_name(&mut self, call: &Call) {
        // By a handle in /proc, or by a name.
        let path = if call.args[0].contains('<') {
            call.path(0, 1)
        } else {
            PathBuf::from(String::from_utf8(bytes(&call.args[0])).unwrap())
        };
        assert!(self.inside(&path).is_none() || call.name.contains("chmod"), "not followed: {call:?}");
    }

    fn change_content(&mut self, call: &Call) {
        let Some(path) = self.inside(&call.at(0)) else { return };
        // One that has lost its name is nobody's any more.
        let Some(inode) = self.now.find(&path) else { return };
        let number = |n: usize| {
            usize::try_from(
                i64::from_str_radix(
                    call.args[n].trim_start_matches('0'),
                    if call.name == "fchmod" { 8 } else { 10 },
                )
                .unwrap_or(0),
            )
            .unwrap()
        };
        let change = match call.name.as_str() {
            "write" => {
                let at = self
                    .positions
                    .entry((call.process, call.args[0].split('<').next().unwrap().to_owned()))
                    .or_insert(usize::MAX);
                if *at == usize::MAX {
                    *at = self.now.0[inode].content.len();
                }
                let from = *at;
                *at += usize::try_from(call.result).unwrap();
                Change::Write(inode, from, bytes(&call.args[1]))
            }
            "pwrite64" => Change::Write(inode, number(3), bytes(&call.args[1])),
            "ftruncate" => Change::Cut(inode, number(1)),
            "fchmod" => Change::Mode(inode, u32::try_from(number(1)).unwrap()),
            _ => Change::Owner(inode, u32::try_from(number(1)).unwrap(), u32::try_from(number(2)).unwrap()),
        };
        self.make(format!("{} {path}", call.name), change);
    }

    fn step(&mut self, call: &Call, step: &str, paths: &[PathBuf]) {
        let inside: Vec<String> = paths.iter().filter_map(|path| self.inside(path)).collect();
        if step == "create" && call.gave.is_some() {
            let descriptor = (call.process, call.result.to_string());
            let appends = call.args.iter().any(|arg| arg.contains("O_APPEND"));
            self.positions.insert(descriptor, if appends { usize::MAX } else { 0 });
        }
        if inside.len() != paths.len() {
            assert!(inside.is_empty(), "in and out: {call:?}");
            return;
        }
        let what = format!("{step} {}", inside.join(" -> "));
        let names = match step {
            "fsync" | "syncfs" => return self.sync(step, &inside[0]),
            "create" if self.now.find(&inside[0]).is_some() => return,
            "create" | "mkdir" => {
                let (folder, name) = self.parent(&inside[0]);
                vec![(folder, name, Some(self.new_node(step == "mkdir")))]
            }
            "unlink" | "rmdir" => {
                let (folder, name) = self.parent(&inside[0]);
                vec![(folder, name, None)]
            }
            "link" => {
                let inode = self.now.find(&inside[0]);
                let (folder, name) = self.parent(&inside[1]);
                vec![(folder, name, inode)]
            }
            "rename" | "exchange" => {
                let (from, to) = (self.now.find(&inside[0]), self.now.find(&inside[1]));
                let ((a, old), (b, new)) = (self.parent(&inside[0]), self.parent(&inside[1]));
                vec![(a, old, to.filter(|_| step == "exchange")), (b, new, from)]
            }
            other => panic!("not followed: {other}"),
        };
        self.make(what, Change::Names(names));
    }

    fn sync(&mut self, step: &str, path: &str) {
        self.has_synced = true;
        let after = self.run.made.len();
        let inode = self.now.find(path);
        for op in self.run.ops.iter_mut().filter(|op| op.synced == usize::MAX) {
            if step == "syncfs" || inode.is_some_and(|inode| op.change.is_of(inode)) {
                op.synced = after;
            }
        }
    }
}
