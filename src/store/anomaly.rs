//! Whether a generation looks as if something had happened to the data on its source: encrypted, emptied, replaced. A pure
//! decision on what was counted when it arrived.
//!
//! Each element is judged by itself, against the newest generation that nobody doubts and that holds a good copy of it:
//!
//! - **shrunk**: so much of its files or bytes is gone (`shrink`), and their content is nowhere else in the generation;
//! - **changed**: of so many of its files the content is nowhere in the generation (`changed`).
//!
//! Few files ([`FEW`]) and few bytes ([`LITTLE`]) are not judged, and what most of the last comparisons would have been
//! called too is usual for that element. A source is judged once it has handed over [`KNOWN`] generations.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Stored;
use crate::{
    manifest::{Generation, GenerationId, generation::Element, lost::Loss},
    sys::{name::Name, words},
};

/// Fewer files are not judged by number.
pub const FEW: u64 = 20;
/// Fewer bytes are not judged by size.
pub const LITTLE: u64 = 1 << 20;
/// So many generations make a source known.
pub const KNOWN: u64 = 3;
/// So many comparisons tell what is usual, and no fewer than the second.
const HISTORY: usize = 7;
const LEAST_HISTORY: usize = 2;

/// How much of an element a new generation may lack before it is suspicious, in percent. None: not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So much of its files or bytes is gone.
    pub shrink: Option<u8>,
    /// So many of its files are gone or have other content.
    pub changed: Option<u8>,
}

/// What a generation lacks of an element of an earlier one, as it stands in the marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The element.
    pub element: Name,
    /// The earlier generation.
    pub with: GenerationId,
    /// Files with content that the earlier one has in this element.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files among them whose content is nowhere in the later one.
    pub lost_files: u64,
    /// Bytes of them.
    pub lost_bytes: u64,
    /// Files with content that the later one has in this element.
    pub left_files: u64,
    /// Bytes of them.
    pub left_bytes: u64,
}

impl Compared {
    /// What was counted, of an element and an earlier generation.
    pub fn new(element: Name, with: GenerationId, loss: Loss) -> Self {
        let Loss { files, bytes, lost_files, lost_bytes, left_files, left_bytes } = loss;
        Self { element, with, files, bytes, lost_files, lost_bytes, left_files, left_bytes }
    }
}

/// What was counted when a generation arrived, and what is thought of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// Per element.
    pub compared: Vec<Compared>,
    /// Why it is suspicious.
    pub suspicious: Option<String>,
}

/// Whether somebody has to look before this generation counts for anything.
fn is_trusted(stored: &Stored) -> bool {
    stored.marks.is_whole() && stored.marks.suspicious.is_none()
}

/// Each element to compare, and with which stored generation: the newest undoubted one with a good copy. An element that
/// the newest undoubted one does not list was given up before; one that failed now is left to the retention, which keeps
/// its newest good copy.
pub fn baselines<'a>(stored: &'a [Stored], new: &Generation) -> Vec<(Name, &'a GenerationId)> {
    let trusted: Vec<&Stored> = stored.iter().rev().filter(|s| is_trusted(s)).collect();
    let failed: BTreeSet<&Name> = new.elements.iter().filter(|e| !e.ok).map(|e| &e.name).collect();
    let listed = trusted.first().map_or(&[][..], |newest| &newest.found.generation.elements);
    let judged = listed.iter().map(|e| &e.name).filter(|name| !failed.contains(name));
    let with = |name: &Name| -> Option<&'a GenerationId> {
        let of = |stored: &&'a Stored| find(&stored.found.generation, name).map(|e| (e.ok, stored.id()));
        trusted.iter().map_while(of).find(|(ok, _)| *ok).map(|(_, id)| id)
    };
    judged.filter_map(|name| Some((name.clone(), with(name)?))).collect()
}

fn find<'a>(generation: &'a Generation, name: &Name) -> Option<&'a Element> {
    generation.elements.iter().find(|element| element.name == *name)
}

/// Whether a loss would be worth a word if it were the first of its kind.
pub fn matters(limits: Limits, loss: &Loss) -> bool {
    Kind::ALL.iter().any(|kind| kind.is(limits, loss))
}

/// Judges what was counted, by what is usual among the stored generations.
pub fn judge(limits: Limits, compared: Vec<Compared>, stored: &[Stored]) -> Judged {
    let known = stored.iter().map(|s| s.receipt.sequence).max().is_some_and(|last| last >= KNOWN);
    let strange = compared.iter().filter_map(|one| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.is(limits, &loss(one)))?;
        (!is_usual(kind, limits, &one.element, stored)).then(|| kind.told(one))
    });
    let strange: Vec<String> = strange.collect();
    let suspicious = (known && !strange.is_empty()).then(|| strange.join("; "));
    Judged { compared, suspicious }
}

fn is_usual(kind: Kind, limits: Limits, element: &Name, stored: &[Stored]) -> bool {
    let history = stored.iter().rev().filter(|s| is_trusted(s));
    let history = history.filter_map(|s| s.marks.compared.iter().find(|one| one.element == *element));
    let history: Vec<bool> = history.take(HISTORY).map(|one| kind.is(limits, &loss(one))).collect();
    let such = history.iter().filter(|such| **such).count();
    history.len() >= LEAST_HISTORY && such * 2 > history.len()
}

fn loss(one: &Compared) -> Loss {
    let Compared { files, bytes, lost_files, lost_bytes, left_files, left_bytes, .. } = *one;
    Loss { files, bytes, lost_files, lost_bytes, left_files, left_bytes }
}

/// In what way a loss is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shrunk,
    Changed,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Shrunk, Self::Changed];

    fn is(self, limits: Limits, loss: &Loss) -> bool {
        match self {
            Self::Shrunk => limits.shrink.is_some_and(|limit| {
                let shrunk = |was: u64, lost: u64, left: u64| {
                    is_part(lost, was, limit) && is_part(was.saturating_sub(left), was, limit)
                };
                (loss.files >= FEW && shrunk(loss.files, loss.lost_files, loss.left_files))
                    || (loss.bytes >= LITTLE && shrunk(loss.bytes, loss.lost_bytes, loss.left_bytes))
            }),
            Self::Changed => limits
                .changed
                .is_some_and(|limit| loss.files >= FEW && is_part(loss.lost_files, loss.files, limit)),
        }
    }

    fn told(self, one: &Compared) -> String {
        let Compared { element, with, files, bytes, lost_files, left_files, left_bytes, .. } = one;
        match self {
            Self::Shrunk => format!(
                "{element} has shrunk: {} with {left_bytes} bytes, and {with} has {files} with {bytes}",
                words::files(*left_files)
            ),
            Self::Changed => format!(
                "{element} has changed: the content of {lost_files} of its {files} files in {with} is nowhere in it"
            ),
        }
    }
}

/// Whether it is at least so many percent of all.
fn is_part(part: u64, all: u64, percent: u8) -> bool {
    u128::from(part) * 100 >= u128::from(all) * u128::from(percent)
}
