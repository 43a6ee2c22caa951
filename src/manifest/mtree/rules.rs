//! What every manifest keeps to, whoever wrote it.

use std::cmp::Ordering;

use super::{Item, WHY};
use crate::manifest::{
    Digest, Entry, Flaw, Kind,
    entry::{Links, order},
    path,
};

/// How much a manifest may describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Items.
    pub entries: u64,
    /// Bytes of content, counted as in [`Totals`].
    pub bytes: u64,
}

impl Limits {
    /// What the format itself bears: for manifests that this host made.
    pub const NONE: Self = Self { entries: u64::MAX, bytes: u64::MAX };
}

/// What a manifest describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Entries: all that is kept.
    pub entries: u64,
    /// Folders among them.
    pub dirs: u64,
    /// Regular files among them, each name of a hard-linked file counted.
    pub files: u64,
    /// Bytes of their content, a hard-linked file counted once.
    pub bytes: u64,
    /// Sockets, of which only the name is kept.
    pub sockets: u64,
    /// Failures.
    pub failed: u64,
}

/// The longest target of a link on Linux.
const TARGET: usize = 4095;
/// Names of users and groups are at most this long.
const OWNER: usize = 255;
/// Hard-linked files are checked against each other in memory, some 20 bytes each; a manifest has at most this many.
const LINKED: usize = 4_000_000;

/// Everything that can be said of an item from what came before it: memory for the path and for hard-linked files only.
#[derive(Debug)]
pub struct Rules {
    limits: Limits,
    totals: Totals,
    last: Vec<u8>,
    last_is_entry: bool,
    /// The path of the innermost folder that is open, and the lengths of its own and its parents' paths.
    folder: Vec<u8>,
    open: Vec<usize>,
    linked: Vec<Linked>,
}

/// What all names of a hard-linked file have in common (the beginning of a hash of it), and how many have been seen.
#[derive(Debug)]
struct Linked {
    common: [u8; 16],
    seen: u32,
}

impl Rules {
    /// For a manifest from its beginning.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            totals: Totals::default(),
            last: Vec::new(),
            last_is_entry: false,
            folder: Vec::new(),
            open: Vec::new(),
            linked: Vec::new(),
        }
    }

    /// What was admitted so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Checks the next item. A refused one leaves no trace.
    pub fn admit(&mut self, item: &Item) -> Result<(), Flaw> {
        check_item(item)?;
        self.check_order(item)?;
        let depth = self.depth(item)?;
        let totals = self.count(item)?;
        if let Item::Entry(Entry { kind: Kind::File { links: Links::Many { .. }, .. }, .. }) = item {
            self.admit_link(item)?;
        }
        self.totals = totals;
        self.open.truncate(depth);
        self.last.clear();
        self.last.extend_from_slice(item.path());
        self.last_is_entry = item.entry().is_some();
        if matches!(item, Item::Entry(Entry { kind: Kind::Dir, .. })) {
            self.folder.clone_from(&self.last);
            self.open.push(self.last.len());
        }
        Ok(())
    }

    fn check_order(&self, item: &Item) -> Result<(), Flaw> {
        match order(&self.last, item.path()) {
            Ordering::Less => Ok(()),
            // What could not be read of an entry is told directly after it.
            Ordering::Equal if self.last_is_entry && matches!(item, Item::Failed { .. }) => Ok(()),
            _ => Err(Flaw::Order),
        }
    }

    /// How many of the open folders the item lies in. In this order a folder that is left never comes back.
    fn depth(&self, item: &Item) -> Result<usize, Flaw> {
        if item.path() == self.last {
            return Ok(self.open.len()); // A failure of the entry before it, whose content may follow.
        }
        let Some(parent) = path::parent(item.path()) else {
            let is_dir = matches!(item, Item::Entry(Entry { kind: Kind::Dir, .. }));
            let is_element = is_dir || matches!(item, Item::Failed { .. });
            return if is_element {
                Ok(0)
            } else {
                Err(Flaw::Path("is that of an element, which is a folder"))
            };
        };
        let is_parent = |length: &usize| self.folder[..*length] == *parent;
        self.open.iter().rposition(is_parent).map(|at| at + 1).ok_or(Flaw::Parent)
    }

    fn count(&self, item: &Item) -> Result<Totals, Flaw> {
        let mut totals = self.totals;
        match item {
            Item::Socket(_) => totals.sockets += 1,
            Item::Failed { .. } => totals.failed += 1,
            Item::Entry(entry) => {
                totals.entries += 1;
                totals.dirs += u64::from(entry.kind == Kind::Dir);
                if let Kind::File { size, links, .. } = &entry.kind {
                    totals.files += 1;
                    let known =
                        matches!(links, Links::Many { inode, .. } if *inode <= self.linked.len() as u64);
                    let more = if known { 0 } else { *size };
                    let limit = Flaw::Limit { what: "bytes of content", limit: self.limits.bytes };
                    totals.bytes = match totals.bytes.checked_add(more) {
                        Some(bytes) if bytes <= self.limits.bytes => bytes,
                        _ => return Err(limit),
                    };
                }
            }
        }
        let items = totals.entries.saturating_add(totals.sockets).saturating_add(totals.failed);
        if items > self.limits.entries {
            return Err(Flaw::Limit { what: "entries", limit: self.limits.entries });
        }
        Ok(totals)
    }

    fn admit_link(&mut self, item: &Item) -> Result<(), Flaw> {
        let Item::Entry(entry) = item else { return Ok(()) };
        let Kind::File { links: Links::Many { nlink, inode }, .. } = &entry.kind else { return Ok(()) };
        if *nlink < 2 || *inode == 0 {
            return Err(Flaw::Links("there are two or more of them, numbered from 1"));
        }
        let common = common(entry);
        let at = usize::try_from(inode - 1).unwrap_or(usize::MAX);
        let count = self.linked.len();
        match self.linked.get_mut(at) {
            Some(known) if known.common != common => Err(Flaw::Links(
                "content, mode, owner, time and number of names are the file's, not the name's",
            )),
            Some(known) if known.seen >= *nlink => Err(Flaw::Links("there are more than it says")),
            Some(known) => {
                known.seen += 1;
                Ok(())
            }
            None if at != count => Err(Flaw::Links("numbers go up from 1 as files come")),
            None if at >= LINKED => Err(Flaw::Limit { what: "hard-linked files", limit: LINKED as u64 }),
            None => {
                self.linked.push(Linked { common, seen: 1 });
                Ok(())
            }
        }
    }
}

fn common(entry: &Entry) -> [u8; 16] {
    let Entry { mode, uid, gid, mtime, kind, .. } = entry;
    let digest = Digest::of(format!("{mode} {uid} {gid} {mtime:?} {kind:?}").as_bytes());
    let mut common = [0; 16];
    common.copy_from_slice(&digest.0[..16]);
    common
}

fn check_item(item: &Item) -> Result<(), Flaw> {
    match item {
        Item::Entry(entry) => check_entry(entry),
        Item::Socket(path) => path::check_mentioned(path),
        Item::Failed { path, why } => {
            path::check_mentioned(path)?;
            require((1..=WHY).contains(&why.len()), "reason")
        }
    }
}

fn check_entry(entry: &Entry) -> Result<(), Flaw> {
    path::check(&entry.path)?;
    require(entry.mode <= 0o7777, "mode")?;
    // -1 would mean "leave it as it is" to chown, and hand a setuid file to whoever restores it.
    require(entry.uid != u32::MAX, "uid")?;
    require(entry.gid != u32::MAX, "gid")?;
    let is_name = |name: &Vec<u8>| (1..=OWNER).contains(&name.len()) && !name.contains(&0);
    require(entry.uname.as_ref().is_none_or(is_name), "uname")?;
    require(entry.gname.as_ref().is_none_or(is_name), "gname")?;
    require(entry.mtime.nanoseconds < 1_000_000_000, "time")?;
    match &entry.kind {
        Kind::File { size, digest, .. } => {
            require(i64::try_from(*size).is_ok(), "size")?;
            require((*size == 0) == (*digest == Digest::of(b"")), "sha256 value with this size")
        }
        Kind::Link { target } => {
            require((1..=TARGET).contains(&target.len()) && !target.contains(&0), "target of a link")
        }
        // The kernel's own limits.
        Kind::Char { major, minor } | Kind::Block { major, minor } => {
            require(*major < 1 << 12 && *minor < 1 << 20, "device")
        }
        Kind::Dir | Kind::Fifo => Ok(()),
    }
}

fn require(holds: bool, what: &'static str) -> Result<(), Flaw> {
    if holds { Ok(()) } else { Err(Flaw::Field(what)) }
}
