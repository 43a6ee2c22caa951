//! Which part of a generation is wanted.

use std::collections::BTreeMap;

use crate::{manifest::Generation, sys::name::Name};

/// A choice of elements and paths; empty lists choose all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Elements by name.
    pub elements: Vec<Name>,
    /// Absolute paths on the source, with what is below them, without the leading slash.
    pub paths: Vec<Vec<u8>>,
}

/// Where an entry goes below the target folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<'a> {
    /// It is not wanted.
    Nowhere,
    /// It stands for the target folder itself.
    Target,
    /// It is an archive: what is in it goes to places of its own, by [`Places::inside`].
    Archive,
    /// At this relative path; only as the way to something wanted if `way`.
    At {
        /// The path.
        path: &'a [u8],
        /// Whether it is only the way to something wanted.
        way: bool,
    },
}

/// Where the entries of a generation go.
#[derive(Debug)]
pub struct Places<'a> {
    selection: &'a Selection,
    elements: BTreeMap<&'a [u8], Sort>,
    /// The folder of the source that the target folder stands for.
    base: Vec<u8>,
}

/// What the entries of an element stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// A tree of the source: the element's own name is not part of the path.
    Tree,
    /// The same, in one file.
    Archive,
    /// Files of its own.
    Other,
}

impl<'a> Places<'a> {
    /// Looks at a generation's elements; names in the selection that it does not have are given back.
    pub fn new(generation: &'a Generation, selection: &'a Selection) -> Result<Self, Vec<Name>> {
        let sort = |kind: &str| match kind {
            "tree" => Sort::Tree,
            "archive" => Sort::Archive,
            _ => Sort::Other,
        };
        let elements: BTreeMap<&[u8], Sort> =
            generation.elements.iter().map(|e| (e.name.as_str().as_bytes(), sort(&e.kind))).collect();
        let unknown: Vec<Name> = selection
            .elements
            .iter()
            .filter(|e| !elements.contains_key(e.as_str().as_bytes()))
            .cloned()
            .collect();
        if unknown.is_empty() { Ok(Self { selection, elements, base: Vec::new() }) } else { Err(unknown) }
    }

    /// The same, where the target folder stands for this folder of the source (without the leading slash); what lies
    /// elsewhere is not wanted.
    #[must_use]
    pub fn below(mut self, base: &[u8]) -> Self {
        self.base = base.to_vec();
        self
    }

    /// Where an entry of the manifest goes.
    pub fn of<'p>(&self, path: &'p [u8]) -> Place<'p> {
        let slash = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
        let (element, rest) = (&path[..slash], path.get(slash + 1..).unwrap_or_default());
        let chosen = self.selection.elements.is_empty()
            || self.selection.elements.iter().any(|e| e.as_str().as_bytes() == element);
        if !chosen {
            return Place::Nowhere;
        }
        match self.elements.get(element) {
            Some(Sort::Tree) => self.inside(rest),
            Some(Sort::Archive) if rest.is_empty() => Place::Target,
            Some(Sort::Archive) if rest.strip_prefix(element) == Some(b".tar.zst") => Place::Archive,
            _ => self.inside(path),
        }
    }

    /// Where something goes that was at this path of the source, without the leading slash.
    pub fn inside<'p>(&self, target: &'p [u8]) -> Place<'p> {
        if target.is_empty() {
            return Place::Target;
        }
        let Some(path) = within(target, &self.base) else { return Place::Nowhere };
        if self.selection.paths.is_empty()
            || self.selection.paths.iter().any(|wanted| is_within(target, wanted))
        {
            return Place::At { path, way: false };
        }
        if self.selection.paths.iter().any(|wanted| is_within(wanted, target)) {
            return Place::At { path, way: true };
        }
        Place::Nowhere
    }
}

impl Places<'_> {
    /// Whether everything of the elements is wanted.
    pub fn are_all(&self) -> bool {
        self.selection.paths.is_empty() && self.base.is_empty()
    }
}

/// The rest of a path that lies below a folder.
fn within<'p>(path: &'p [u8], base: &[u8]) -> Option<&'p [u8]> {
    if base.is_empty() {
        return Some(path);
    }
    path.strip_prefix(base)?.strip_prefix(b"/").filter(|rest| !rest.is_empty())
}

/// Whether a path is the other or lies below it.
fn is_within(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || above.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_source_can_stand_for_the_target() {
        assert_eq!(within(b"var/www/shop/a", b"var/www"), Some(b"shop/a".as_slice()));
        assert_eq!(within(b"var/www", b"var/www"), None);
        assert_eq!(within(b"var/www2", b"var/www"), None);
        assert_eq!(within(b"var", b""), Some(b"var".as_slice()));
    }

    #[test]
    fn below_is_by_components_and_not_by_letters() {
        assert!(is_within(b"var/www", b"var/www"));
        assert!(is_within(b"var/www/a", b"var/www"));
        assert!(!is_within(b"var/www-old", b"var/www"));
        assert!(is_within(b"anything", b""));
    }
}
