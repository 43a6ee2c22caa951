//! A manifest with the attributes of each entry: the two files read side by side.

use super::{BadManifest, Flaw, Item, entry::order, names, xattrs::Attributes};
use crate::sys::{show, xattr::Attribute};

/// Joins the items of a manifest with their attributes, and proves on the way that `xattrs` speaks of nothing but
/// entries of the manifest: so of nothing that is reached through a link. Memory is bounded by one entry.
#[derive(Debug)]
pub struct Attributed<M, X> {
    items: M,
    xattrs: X,
    ahead: Option<Attributes>,
    begun: bool,
    ended: bool,
}

impl<M, X> Attributed<M, X>
where
    M: Iterator<Item = Result<Item, BadManifest>>,
    X: Iterator<Item = Result<Attributes, BadManifest>>,
{
    /// Joins a reader of `manifest.mtree` and one of `xattrs`.
    pub fn new(items: M, xattrs: X) -> Self {
        Self { items, xattrs, ahead: None, begun: false, ended: false }
    }

    fn advance(&mut self) -> Result<(), BadManifest> {
        self.ahead = self.xattrs.next().transpose()?;
        Ok(())
    }

    fn read(&mut self) -> Result<Option<(Item, Vec<Attribute>)>, BadManifest> {
        if !self.begun {
            self.begun = true;
            self.advance()?;
        }
        let item = self.items.next().transpose()?;
        let Some((path, _)) = &self.ahead else { return Ok(item.map(|item| (item, Vec::new()))) };
        let Some(item) = item else { return Err(stray(path)) };
        match order(path, item.path()) {
            std::cmp::Ordering::Greater => Ok(Some((item, Vec::new()))),
            std::cmp::Ordering::Equal if item.entry().is_some() => {
                let list = self.ahead.take().map(|(_, list)| list).unwrap_or_default();
                self.advance()?;
                Ok(Some((item, list)))
            }
            _ => Err(stray(path)),
        }
    }
}

fn stray(path: &[u8]) -> BadManifest {
    BadManifest { file: names::XATTRS, line: 0, flaw: Flaw::Stray(show(path)) }
}

impl<M, X> Iterator for Attributed<M, X>
where
    M: Iterator<Item = Result<Item, BadManifest>>,
    X: Iterator<Item = Result<Attributes, BadManifest>>,
{
    type Item = Result<(Item, Vec<Attribute>), BadManifest>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Limits, mtree, xattrs};

    const MANIFEST: &str = "./e type=dir mode=0755 uid=0 gid=0 time=0.000000000\n\
        ./e/a type=link mode=0777 uid=0 gid=0 time=0.000000000 link=/etc\n\
        # failed ./e/a: an attribute could not be read\n\
        # socket ./e/s\n";

    fn joined(xattrs: &str) -> Result<Vec<(Item, usize)>, BadManifest> {
        let (mut text, _) = mtree::Writer::new(Vec::new()).unwrap().finish().unwrap();
        text.extend_from_slice(MANIFEST.as_bytes());
        let manifest = mtree::Reader::new(text.as_slice(), Limits::NONE);
        let xattrs = xattrs::Reader::new(xattrs.as_bytes(), Limits::NONE);
        Attributed::new(manifest, xattrs).map(|one| one.map(|(item, list)| (item, list.len()))).collect()
    }

    #[test]
    fn every_entry_gets_its_own_attributes() {
        let found = joined("# file: e/a\nuser.a=0x\nuser.b=0x\n\n").unwrap();
        assert_eq!(found.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [0, 2, 0, 0]);
        assert_eq!(joined("").unwrap().len(), 4);
    }

    #[test]
    fn attributes_of_what_is_not_listed_are_refused() {
        for path in ["e/a/passwd", "e/s", "e/0", "f"] {
            let error = joined(&format!("# file: {path}\nuser.a=0x\n\n")).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
