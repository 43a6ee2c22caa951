//! Two manifests side by side, by path.

use std::cmp::Ordering;

use super::{Item, entry::order};

/// The items of a manifest, with the caller's error, which says whose manifest it is.
pub type Items<'a, E> = Box<dyn Iterator<Item = Result<Item, E>> + 'a>;

/// A manifest with its next item in sight.
pub struct Peeked<'a, E> {
    items: Items<'a, E>,
    next: Option<Item>,
}

impl<'a, E> Peeked<'a, E> {
    pub fn new(mut items: Items<'a, E>) -> Result<Self, E> {
        let next = items.next().transpose()?;
        Ok(Self { items, next })
    }

    fn take(&mut self) -> Result<Option<Item>, E> {
        let next = self.items.next().transpose()?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// What stands at one place of the order: `(old, new)`, at least one of them.
pub type Pair = (Option<Item>, Option<Item>);

/// The next place of the order; `None` at the end of both. A failure stands after the entry of the same path.
pub fn step<E>(old: &mut Peeked<'_, E>, new: &mut Peeked<'_, E>) -> Result<Option<Pair>, E> {
    let which = match (&old.next, &new.next) {
        (None, None) => return Ok(None),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(a), Some(b)) => order(a.path(), b.path()).then(is_failure(a).cmp(&is_failure(b))),
    };
    let from_old = if which.is_le() { old.take()? } else { None };
    let from_new = if which.is_ge() { new.take()? } else { None };
    Ok(Some((from_old, from_new)))
}

fn is_failure(item: &Item) -> bool {
    matches!(item, Item::Failed { .. })
}
