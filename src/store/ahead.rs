//! A manifest that is parsed in a thread of its own, some items ahead of whoever reads them.

use std::sync::mpsc::{Receiver, sync_channel};

use super::{Error, Result};
use crate::{
    manifest::{Item, merge::Items},
    sys,
};

/// Items that come at a time, and how often before somebody takes them.
const TOGETHER: usize = 256;
const AHEAD: usize = 4;

struct Ahead {
    batches: Receiver<Vec<Result<Item>>>,
    batch: std::vec::IntoIter<Result<Item>>,
    ended: bool,
}

/// The same items, read in a thread, in which `open` gives them.
pub(super) fn ahead(open: impl FnOnce() -> Items<'static, Error> + Send + 'static) -> Items<'static, Error> {
    let (out, batches) = sync_channel(AHEAD);
    let reader = move || {
        let mut items = open();
        loop {
            let batch: Vec<Result<Item>> = items.by_ref().take(TOGETHER).collect();
            // One that is not full is the word that all has come.
            let last = batch.len() < TOGETHER;
            let left = out.send(batch).is_err();
            if left || last {
                return;
            }
        }
    };
    match std::thread::Builder::new().name("manifest".to_owned()).spawn(reader) {
        Ok(_) => Box::new(Ahead { batches, batch: Vec::new().into_iter(), ended: false }),
        Err(e) => {
            Box::new(std::iter::once(Err(
                sys::Error::new("start", "a thread that reads a manifest", e).into()
            )))
        }
    }
}

impl Iterator for Ahead {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.batch.next() {
            return Some(item);
        }
        if self.ended {
            return None;
        }
        match self.batches.recv() {
            Ok(batch) => {
                self.ended = batch.len() < TOGETHER;
                self.batch = batch.into_iter();
                self.batch.next()
            }
            // A manifest that only seems to end must never be taken for a whole one.
            Err(_) => {
                self.ended = true;
                let why =
                    std::io::Error::other("the thread that read it ended with a mistake of handover itself");
                Some(Err(sys::Error::new("read", "a manifest", why).into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> impl Iterator<Item = Result<Item>> + Send {
        (0..count).map(|number| Ok(Item::Socket(number.to_string().into_bytes())))
    }

    #[test]
    fn all_items_come_in_their_order_and_then_no_more() {
        for count in [0, 1, TOGETHER, TOGETHER + 1, 5000] {
            let mut items = ahead(move || Box::new(sockets(count)));
            let came: Vec<Item> = items.by_ref().map(Result::unwrap).collect();
            assert_eq!(came, sockets(count).map(Result::unwrap).collect::<Vec<_>>());
            assert!(items.next().is_none());
        }
    }

    #[test]
    fn a_reader_that_breaks_off_is_an_error_and_not_an_end() {
        let broken = || -> Items<'static, Error> {
            Box::new(sockets(1000).inspect(|item| {
                assert!(!matches!(item, Ok(Item::Socket(name)) if name == b"700"), "a mistake");
            }))
        };
        let came: Vec<_> = ahead(broken).collect();
        assert!(came.last().is_some_and(Result::is_err) && came.len() <= 701);
    }

    #[test]
    fn whoever_wants_no_more_may_stop() {
        let first = ahead(|| Box::new(sockets(usize::MAX))).next();
        assert_eq!(first.map(Result::unwrap), Some(Item::Socket(b"0".to_vec())));
    }
}
