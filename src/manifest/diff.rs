//! What changed between two generations.

use super::{
    Entry, Item, Kind,
    join::{Items, Peeked, step},
    path::is_at_or_below,
};

/// What happened to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the new generation has it.
    Added(Entry),
    /// Only the old generation has it.
    Removed(Entry),
    /// Only the old generation has it; the new one could not read it, or a folder on the way: it may still be there.
    Unread(Entry),
    /// Both have it, and not alike.
    Changed {
        /// As it was.
        old: Entry,
        /// As it is.
        new: Entry,
        /// What differs, in the order of [`What`].
        what: Vec<What>,
    },
}

/// In what two entries of the same path differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// One is a file, say, the other a folder; or another device.
    Kind,
    /// The content of a file.
    Content,
    /// The target of a link.
    Target,
    /// The permissions.
    Mode,
    /// User or group, by id.
    Owner,
    /// The time of the last change.
    Time,
}

impl What {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Time => "time",
        }
    }
}

/// Reads two manifests side by side, once each, and tells every difference in the order of the paths. Sockets and hard
/// links are not compared, nor are attributes, which lie in another file.
pub fn diff<E>(
    old: Items<'_, E>,
    new: Items<'_, E>,
    out: &mut dyn FnMut(Change) -> Result<(), E>,
) -> Result<(), E> {
    let (mut old, mut new) = (Peeked::new(old)?, Peeked::new(new)?);
    let mut pending: Option<Entry> = None;
    let mut failed: Option<Vec<u8>> = None;
    while let Some((old, new)) = step(&mut old, &mut new)? {
        if let Some(Item::Failed { path, .. }) = &new
            && !failed.as_deref().is_some_and(|folder| is_at_or_below(path, folder))
        {
            failed = Some(path.clone());
        }
        // What is missing is told one step later: a failure at the same path comes after it in the order.
        if let Some(entry) = pending.take() {
            out(missing(entry, failed.as_deref()))?;
        }
        match (old, new) {
            (Some(Item::Entry(old)), Some(Item::Entry(new))) => {
                let what = differences(&old, &new);
                if !what.is_empty() {
                    out(Change::Changed { old, new, what })?;
                }
            }
            (Some(Item::Entry(old)), _) => pending = Some(old),
            (_, Some(Item::Entry(new))) => out(Change::Added(new))?,
            _ => {}
        }
    }
    pending.map_or(Ok(()), |entry| out(missing(entry, failed.as_deref())))
}

fn missing(entry: Entry, failed: Option<&[u8]>) -> Change {
    match failed {
        Some(folder) if is_at_or_below(&entry.path, folder) => Change::Unread(entry),
        _ => Change::Removed(entry),
    }
}

fn differences(old: &Entry, new: &Entry) -> Vec<What> {
    let (mut kind, mut content, mut target) = (false, false, false);
    match (&old.kind, &new.kind) {
        (Kind::File { size: a, digest: x, .. }, Kind::File { size: b, digest: y, .. }) => {
            content = (a, x) != (b, y);
        }
        (Kind::Link { target: a }, Kind::Link { target: b }) => target = a != b,
        (a, b) => kind = a != b,
    }
    let owner = (old.uid, old.gid) != (new.uid, new.gid);
    let all = [
        (kind, What::Kind),
        (content, What::Content),
        (target, What::Target),
        (old.mode != new.mode, What::Mode),
        (owner, What::Owner),
        (old.mtime != new.mtime, What::Time),
    ];
    all.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{BadManifest, Digest, entry::Links};

    fn entry(path: &str, kind: Kind) -> Item {
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
    }

    fn file(path: &str, content: &str) -> Item {
        let (size, digest) = (content.len() as u64, Digest::of(content.as_bytes()));
        entry(path, Kind::File { size, digest, links: Links::One })
    }

    fn told(old: Vec<Item>, new: Vec<Item>) -> Vec<String> {
        let mut lines = Vec::new();
        let items = |items: Vec<Item>| -> Items<'static, BadManifest> { Box::new(items.into_iter().map(Ok)) };
        diff(items(old), items(new), &mut |change| {
            let show = |entry: &Entry| crate::sys::show(&entry.path);
            lines.push(match &change {
                Change::Added(new) => format!("+ {}", show(new)),
                Change::Removed(old) => format!("- {}", show(old)),
                Change::Unread(old) => format!("? {}", show(old)),
                Change::Changed { new, what, .. } => {
                    format!("~ {} {:?}", show(new), what.iter().map(|w| w.as_str()).collect::<Vec<_>>())
                }
            });
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn every_difference_is_told_once_and_nothing_else() {
        let link = |target: &str| Kind::Link { target: target.into() };
        let mut touched = file("e/touched", "t");
        if let Item::Entry(entry) = &mut touched {
            (entry.mode, entry.uid, entry.mtime.seconds) = (0o600, 5, 9);
        }
        let old = vec![
            entry("e", Kind::Dir),
            file("e/gone", "x"),
            entry("e/kind", Kind::Dir),
            entry("e/link", link("a")),
            file("e/same", "s"),
            file("e/touched", "t"),
            file("e/z", "1"),
        ];
        let new = vec![
            entry("e", Kind::Dir),
            file("e/kind", "k"),
            entry("e/link", link("b")),
            file("e/new", "n"),
            file("e/same", "s"),
            touched,
            file("e/z", "2"),
        ];
        let expected = [
            "- e/gone",
            "~ e/kind [\"kind\"]",
            "~ e/link [\"target\"]",
            "+ e/new",
            "~ e/touched [\"mode\", \"owner\", \"time\"]",
            "~ e/z [\"content\"]",
        ];
        assert_eq!(told(old, new), expected);
    }

    #[test]
    fn what_could_not_be_read_is_not_called_removed() {
        let old = vec![
            entry("e", Kind::Dir),
            entry("e/closed", Kind::Dir),
            file("e/closed/a", "x"),
            file("e/closed-not", "x"),
            file("e/file", "x"),
            file("e/gone", "x"),
        ];
        let failed = |path: &str| Item::failed(path.into(), "permission denied");
        let new =
            vec![entry("e", Kind::Dir), entry("e/closed", Kind::Dir), failed("e/closed"), failed("e/file")];
        assert_eq!(told(old, new), ["? e/closed/a", "- e/closed-not", "? e/file", "- e/gone"]);
        assert_eq!(told(vec![entry("e", Kind::Dir)], vec![failed("e")]), ["? e"]);
    }
}
