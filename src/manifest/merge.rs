//! What a sink need not fetch: a new manifest is laid beside the newest stored one. Both are read from their files as
//! often as needed; memory grows with what has changed, not with what there is.

use std::collections::{HashMap, HashSet};

pub use super::join::Items;
use super::{
    Digest, Entry, Item, Kind,
    entry::{Links, stored_path},
    join::{Peeked, step},
};

/// Opens a manifest from its beginning; called several times, and must give the same each time.
pub type Open<'a, E> = dyn FnMut() -> Result<Items<'a, E>, E> + 'a;

/// Where the content of a regular file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The old generation has it at the same stored path.
    Same,
    /// The old generation has it at another stored path.
    Known {
        /// That path, below `data/`.
        old_stored: &'a [u8],
    },
    /// An earlier file of the new manifest has it, and is fetched.
    Twin {
        /// That file's stored path, below `data/`.
        first_stored: &'a [u8],
    },
    /// There is none: an empty file is made.
    Empty,
    /// It must be fetched.
    Fetch {
        /// Whether the old generation has another content at the same stored path, of which the new one may be a variant.
        has_basis: bool,
    },
}

/// What a new generation holds, and what of it is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Entries of the manifest.
    pub entries: u64,
    /// Folders among them.
    pub dirs: u64,
    /// Regular files among them, each name of a hard-linked file counted.
    pub files: u64,
    /// Bytes of their content, a hard-linked file counted once.
    pub bytes: u64,
    /// Files that are linked: same, known or twin.
    pub linked: u64,
    /// Files that are empty.
    pub empty: u64,
    /// Files to fetch.
    pub fetch_files: u64,
    /// Bytes of what is to be fetched.
    pub fetch_bytes: u64,
}

/// Content is known by hash and size: a manifest that lies about the size finds nothing.
type Key = (Digest, u64);

/// What is known of a content that the new manifest has and the old one has not at the same path. What one file alone
/// has, and the old generation has not, is not held at all.
enum Content {
    /// Several files have it.
    Repeated,
    /// The old generation has it, at this stored path.
    Old(Box<[u8]>),
    /// It is fetched, to this stored path.
    Coming(Box<[u8]>),
}

/// Goes through the regular files of `new` in order and says of each where its content comes from. `old` is the newest
/// stored generation, if there is one. The errors are the caller's, so that a damaged store is not mistaken for a
/// hostile source. Nothing is believed of `new` beyond its own rules: what is fetched is hashed when it has arrived.
pub fn plan<E>(
    mut old: Option<&mut Open<'_, E>>,
    new: &mut Open<'_, E>,
    sink: &mut dyn FnMut(&Entry, Origin<'_>) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut contents = survey(&mut old, new)?;
    let mut tally = Tally::default();
    join(&mut old, new, &mut |old, new| {
        tally.entry(new);
        let Some((key, inode)) = file(new) else { return Ok(()) };
        let stored = stored_path(&new.path);
        let origin = origin(old, key, &stored, &mut contents);
        tally.file(key.1, inode, origin);
        sink(new, origin)
    })?;
    Ok(tally.totals)
}

type Each<'a, E> = dyn FnMut(Option<&Entry>, &Entry) -> Result<(), E> + 'a;

/// Calls `each` with every entry of the new manifest and the old one's entry of the same path.
fn join<E>(
    old: &mut Option<&mut Open<'_, E>>,
    new: &mut Open<'_, E>,
    each: &mut Each<'_, E>,
) -> Result<(), E> {
    let old: Items<'_, E> = match old {
        Some(open) => open()?,
        None => Box::new(std::iter::empty()),
    };
    let (mut old, mut new) = (Peeked::new(old)?, Peeked::new(new()?)?);
    while let Some((old, new)) = step(&mut old, &mut new)? {
        if let Some(Item::Entry(new)) = &new {
            each(old.as_ref().and_then(Item::entry), new)?;
        }
    }
    Ok(())
}

/// Content and hard-link number of a regular file.
fn file(entry: &Entry) -> Option<(Key, u64)> {
    match &entry.kind {
        Kind::File { size, digest, links } => {
            let inode = if let Links::Many { inode, .. } = links { *inode } else { 0 };
            Some(((*digest, *size), inode))
        }
        _ => None,
    }
}

fn key(entry: &Entry) -> Option<Key> {
    file(entry).map(|(key, _)| key)
}

/// Finds what is needed more than once, or is in the old generation under another name. Eight bytes of the hash stand
/// for what is needed: a first generation of a million files costs some 20 MB, and an error here only a look in vain.
fn survey<E>(old: &mut Option<&mut Open<'_, E>>, new: &mut Open<'_, E>) -> Result<HashMap<Key, Content>, E> {
    let mut needed = HashSet::new();
    let mut contents = HashMap::new();
    join(old, new, &mut |old, new| {
        if let Some(key) = key(new)
            && key.1 > 0
            && old.and_then(self::key) != Some(key)
            && !needed.insert(print(key))
        {
            contents.insert(key, Content::Repeated);
        }
        Ok(())
    })?;
    let Some(open) = old else { return Ok(contents) };
    if needed.is_empty() {
        return Ok(contents);
    }
    for item in open()? {
        let Item::Entry(entry) = item? else { continue };
        if let Some(key) = key(&entry)
            && needed.contains(&print(key))
            && !matches!(contents.get(&key), Some(Content::Old(_)))
        {
            contents.insert(key, Content::Old(stored_path(&entry.path).into()));
        }
    }
    Ok(contents)
}

fn print((digest, _): Key) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn origin<'a>(
    old: Option<&Entry>,
    new: Key,
    stored: &[u8],
    contents: &'a mut HashMap<Key, Content>,
) -> Origin<'a> {
    let before = old.and_then(key);
    if before == Some(new) && new.1 > 0 {
        return Origin::Same;
    }
    if new.1 == 0 {
        return Origin::Empty;
    }
    let fetch = Origin::Fetch { has_basis: before.is_some_and(|(_, size)| size > 0) };
    match contents.get_mut(&new) {
        Some(Content::Old(path)) => Origin::Known { old_stored: path },
        Some(Content::Coming(path)) => Origin::Twin { first_stored: path },
        Some(content) => {
            *content = Content::Coming(stored.into());
            fetch
        }
        None => fetch,
    }
}

#[derive(Default)]
struct Tally {
    totals: Totals,
    /// Hard-linked files are numbered upwards as they first come: what is not above this has been counted.
    inode: u64,
}

impl Tally {
    fn entry(&mut self, entry: &Entry) {
        self.totals.entries += 1;
        self.totals.dirs += u64::from(entry.kind == Kind::Dir);
    }

    fn file(&mut self, size: u64, inode: u64, origin: Origin<'_>) {
        let totals = &mut self.totals;
        totals.files += 1;
        if inode == 0 || inode > self.inode {
            totals.bytes = totals.bytes.saturating_add(size);
        }
        self.inode = self.inode.max(inode);
        match origin {
            Origin::Same | Origin::Known { .. } | Origin::Twin { .. } => totals.linked += 1,
            Origin::Empty => totals.empty += 1,
            Origin::Fetch { .. } => {
                totals.fetch_files += 1;
                totals.fetch_bytes = totals.fetch_bytes.saturating_add(size);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::BadManifest;

    fn tree(files: &[(&str, &str)]) -> Vec<Item> {
        let entry = |path: &str, kind| {
            let path = path.as_bytes().to_vec();
            Item::Entry(Entry {
                path,
                mode: 0,
                uid: 0,
                gid: 0,
                uname: None,
                gname: None,
                mtime: Default::default(),
                kind,
            })
        };
        let file = |(path, content): &(&str, &str)| {
            let (size, digest) = (content.len() as u64, Digest::of(content.as_bytes()));
            entry(path, Kind::File { size, digest, links: Links::One })
        };
        std::iter::once(entry("e", Kind::Dir)).chain(files.iter().map(file)).collect()
    }

    fn planned(old: Option<&[Item]>, new: &[Item]) -> (Vec<String>, Totals) {
        type E = BadManifest;
        let mut lines = Vec::new();
        let mut sink = |entry: &Entry, origin: Origin<'_>| {
            let show = crate::sys::show;
            lines.push(match origin {
                Origin::Known { old_stored } => format!("{} known {}", show(&entry.path), show(old_stored)),
                Origin::Twin { first_stored } => format!("{} twin {}", show(&entry.path), show(first_stored)),
                other => format!("{} {other:?}", show(&entry.path)),
            });
            Ok(())
        };
        let open = |items: &[Item]| -> Items<'static, E> { Box::new(Vec::from(items).into_iter().map(Ok)) };
        let mut open_new = || Ok(open(new));
        let totals = match old {
            Some(old) => plan(Some(&mut || Ok(open(old))), &mut open_new, &mut sink),
            None => plan(None, &mut open_new, &mut sink),
        };
        (lines, totals.unwrap())
    }

    #[test]
    fn only_content_that_nobody_has_is_fetched_and_only_once() {
        let old = tree(&[("e/a", "A"), ("e/b", "B"), ("e/empty", ""), ("e/gone", "C"), ("e/was-empty", "")]);
        let new = tree(&[
            ("e/a", "A"),
            ("e/b", "B2"),
            ("e/copy-of-new", "new"),
            ("e/empty", ""),
            ("e/moved", "C"),
            ("e/new", "new"),
            ("e/swapped", "A"),
            ("e/was-empty", "X"),
        ]);
        let (lines, totals) = planned(Some(&old), &new);
        let expected = [
            "e/a Same",
            "e/b Fetch { has_basis: true }",
            "e/copy-of-new Fetch { has_basis: false }",
            "e/empty Empty",
            "e/moved known e/gone",
            "e/new twin e/copy-of-new",
            "e/swapped known e/a",
            "e/was-empty Fetch { has_basis: false }",
        ];
        assert_eq!(lines, expected);
        let expected = Totals {
            entries: 9,
            dirs: 1,
            files: 8,
            bytes: 12,
            linked: 4,
            empty: 1,
            fetch_files: 3,
            fetch_bytes: 6,
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn without_an_old_generation_equal_files_are_fetched_once() {
        let (lines, totals) = planned(None, &tree(&[("e/a", "A"), ("e/b", "A"), ("e/c", "")]));
        assert_eq!(lines, ["e/a Fetch { has_basis: false }", "e/b twin e/a", "e/c Empty"]);
        assert_eq!((totals.fetch_files, totals.fetch_bytes, totals.bytes), (1, 1, 2));
    }

    #[test]
    fn a_lie_about_the_size_finds_nothing_to_link() {
        let old = tree(&[("e/a", "A")]);
        let mut new = tree(&[("e/a", "A"), ("e/b", "A")]);
        for item in &mut new {
            if let Item::Entry(Entry { kind: Kind::File { size, .. }, .. }) = item {
                *size = 7;
            }
        }
        assert_eq!(planned(Some(&old), &new).0, ["e/a Fetch { has_basis: true }", "e/b twin e/a"]);
    }

    #[test]
    fn a_file_in_place_of_a_folder_or_a_failure_has_no_basis() {
        let old = tree(&[]);
        let mut old_failed = old.clone();
        old_failed.push(Item::failed(b"e/a".to_vec(), "gone"));
        let new = tree(&[("e/a", "A")]);
        assert_eq!(planned(Some(&old_failed), &new).0, ["e/a Fetch { has_basis: false }"]);
        assert_eq!(planned(Some(&new), &old).0, [""; 0]);
    }
}
