//! What of an earlier generation a later one does not hold any more, element by element. Content is what counts: a file
//! that was renamed or moved is not lost, one that was overwritten is.

use super::{
    Entry, Item, Kind,
    join::{Peeked, step},
    merge::Open,
};

/// What became of the files of one element. Empty files hold nothing and are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loss {
    /// Files of the earlier generation.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Files of which the later generation holds the content nowhere.
    pub lost_files: u64,
    /// Bytes of their content.
    pub lost_bytes: u64,
    /// Files of the later generation.
    pub left_files: u64,
    /// Bytes of their content.
    pub left_bytes: u64,
}

/// Content, by the first half of its sha256: to find a second one with the same half is out of reach too.
type Content = u128;

/// Counts what is lost of these elements, in their order. Memory is taken only for elements of which `matters` says so,
/// as if what is not at its old path any more were lost: there it is looked for under other paths, which takes 17 bytes
/// for each such file.
pub fn lost<E>(
    old: &mut Open<'_, E>,
    new: &mut Open<'_, E>,
    elements: &[&[u8]],
    matters: &dyn Fn(&Loss) -> bool,
) -> Result<Vec<Loss>, E> {
    let mut losses = vec![Loss::default(); elements.len()];
    pairs(old, new, elements, &mut |pair| match pair {
        Seen::New(element, size) => {
            losses[element].left_files += 1;
            losses[element].left_bytes += size;
        }
        Seen::Old(element, size, _, is_lost) => losses[element].old(size, is_lost),
    })?;
    let looked_for: Vec<bool> = losses.iter().map(matters).collect();
    if !looked_for.contains(&true) {
        return Ok(losses);
    }
    let mut gone: Vec<Content> = Vec::new();
    pairs(old, new, elements, &mut |pair| {
        if let Seen::Old(element, _, content, true) = pair
            && looked_for[element]
        {
            gone.push(content);
        }
    })?;
    gone.sort_unstable();
    gone.dedup();
    let mut found = vec![false; gone.len()];
    for item in new()? {
        if let Item::Entry(entry) = item?
            && let Some((_, content)) = file(&entry)
            && let Ok(at) = gone.binary_search(&content)
        {
            found[at] = true;
        }
    }
    pairs(old, new, elements, &mut |pair| {
        if let Seen::Old(element, size, content, true) = pair
            && gone.binary_search(&content).is_ok_and(|at| found[at])
        {
            losses[element].lost_files -= 1;
            losses[element].lost_bytes -= size;
        }
    })?;
    Ok(losses)
}

impl Loss {
    fn old(&mut self, size: u64, is_lost: bool) {
        self.files += 1;
        self.bytes += size;
        self.lost_files += u64::from(is_lost);
        self.lost_bytes += if is_lost { size } else { 0 };
    }
}

/// A file of one of the elements.
enum Seen {
    /// Of the later generation: element and size.
    New(usize, u64),
    /// Of the earlier one: element, size, content, and whether the later one has not this content at this path.
    Old(usize, u64, Content, bool),
}

fn pairs<E>(
    old: &mut Open<'_, E>,
    new: &mut Open<'_, E>,
    elements: &[&[u8]],
    each: &mut dyn FnMut(Seen),
) -> Result<(), E> {
    let (mut old, mut new) = (Peeked::new(old()?)?, Peeked::new(new()?)?);
    let mut last = 0;
    let mut element = |path: &[u8]| {
        let name = path.split(|b| *b == b'/').next().unwrap_or_default();
        // Entries of one element stand together.
        if elements.get(last) != Some(&name) {
            last = elements.iter().position(|element| *element == name)?;
        }
        Some(last)
    };
    while let Some((old, new)) = step(&mut old, &mut new)? {
        let of = |item: &Option<Item>| match item {
            Some(Item::Entry(entry)) => file(entry),
            _ => None,
        };
        let path = old.as_ref().or(new.as_ref()).map_or(&b""[..], Item::path);
        let Some(element) = element(path) else { continue };
        let (was, is) = (of(&old), of(&new));
        if let Some((size, _)) = is {
            each(Seen::New(element, size));
        }
        if let Some((size, content)) = was {
            each(Seen::Old(element, size, content, is != was));
        }
    }
    Ok(())
}

/// Size and content of a file that is not empty.
fn file(entry: &Entry) -> Option<(u64, Content)> {
    let Kind::File { size: size @ 1.., digest, .. } = entry.kind else { return None };
    let (half, _) = digest.0.split_first_chunk()?;
    Some((size, Content::from_be_bytes(*half)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{BadManifest, Digest, entry::Links, join::Items};

    fn items(files: &[(&str, &str)]) -> Vec<Item> {
        let file = |(path, content): &(&str, &str)| {
            let (size, digest) = (content.len() as u64, Digest::of(content.as_bytes()));
            Item::Entry(Entry {
                path: path.as_bytes().to_vec(),
                mode: 0,
                uid: 0,
                gid: 0,
                uname: None,
                gname: None,
                mtime: Default::default(),
                kind: Kind::File { size, digest, links: Links::One },
            })
        };
        files.iter().map(file).collect()
    }

    fn counted(old: &[(&str, &str)], new: &[(&str, &str)], matters: bool) -> Vec<Loss> {
        let (old, new) = (items(old), items(new));
        let open = |items: &Vec<Item>| -> Result<Items<'static, BadManifest>, BadManifest> {
            Ok(Box::new(items.clone().into_iter().map(Ok)))
        };
        lost(&mut || open(&old), &mut || open(&new), &[b"db", b"www"], &|_| matters).unwrap()
    }

    #[test]
    fn what_is_held_under_any_name_is_not_lost() {
        let old = [("db/d", "1234"), ("www/a", "a"), ("www/b", "bb"), ("www/c", "ccc"), ("www/e", "")];
        let new = [("db/d", "56"), ("other/c", "ccc"), ("www/a", "a"), ("www/z", "zzzz")];
        let db = Loss { files: 1, bytes: 4, lost_files: 1, lost_bytes: 4, left_files: 1, left_bytes: 2 };
        let www = Loss { files: 3, bytes: 6, lost_files: 1, lost_bytes: 2, left_files: 2, left_bytes: 5 };
        assert_eq!(counted(&old, &new, true), [db, www]);
        // Where it does not matter, what moved counts as lost.
        let moved = Loss { lost_files: 2, lost_bytes: 5, ..www };
        assert_eq!(counted(&old, &new, false), [db, moved]);
    }

    #[test]
    fn the_same_content_in_several_files_is_counted_for_each() {
        let old = [("www/a", "x"), ("www/b", "x"), ("www/c", "y"), ("www/d", "y")];
        let www = |new: &[(&str, &str)]| counted(&old, new, true)[1].lost_files;
        assert_eq!((www(&old), www(&[("www/q", "x")]), www(&[])), (0, 2, 4));
    }
}
