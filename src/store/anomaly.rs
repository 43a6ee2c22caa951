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
//!
//! What is taken away in several days, each of them below the limits, is judged before a generation goes for good: by the
//! same limits, what is about to go against the newest ([`last_copies`]).

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
/// No more elements are noted in the marks, so that those stay readable: a source names as many as it likes.
pub(super) const NOTED: usize = 500;
/// No more are told of in a reason.
const TOLD: usize = 5;
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
    /// What a person said that is replaced bit by bit.
    pub turns: Vec<Name>,
}

/// Elements of a generation that was about to go, of which the newest lacked too much, as it stands in the marks of the
/// newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turned {
    /// The generation that was about to go.
    pub with: GenerationId,
    /// The first [`NOTED`] of its elements.
    pub elements: Vec<Name>,
}

impl Turned {
    /// With the elements of another, as far as they are noted.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let more: Vec<Name> =
            other.elements.into_iter().filter(|name| !self.elements.contains(name)).collect();
        self.elements.extend(more);
        self.elements.truncate(NOTED);
        self
    }
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
pub fn judge(limits: Limits, mut compared: Vec<Compared>, stored: &[Stored]) -> Judged {
    let strange = compared.iter().filter_map(|one| Some(unusual(limits, one, stored)?.told(one)));
    let strange: Vec<String> = strange.collect();
    let suspicious = (is_known(stored) && !strange.is_empty()).then(|| joined(&strange));
    // The first by name, lost or not: were only losses noted, each of them would look usual.
    compared.truncate(NOTED);
    Judged { compared, suspicious, turns: turns(stored).to_vec() }
}

fn is_known(stored: &[Stored]) -> bool {
    stored.iter().map(|s| s.receipt.sequence).max().is_some_and(|last| last >= KNOWN)
}

/// In what way too much is lost, if that is not usual for this element. Each way is looked at: what shrinks every day is
/// encrypted once.
fn unusual(limits: Limits, one: &Compared, stored: &[Stored]) -> Option<Kind> {
    let is_unusual =
        |kind: &Kind| kind.is(limits, &loss(one)) && !is_usual(*kind, limits, &one.element, stored);
    Kind::ALL.into_iter().find(is_unusual)
}

fn joined(reasons: &[String]) -> String {
    let more = reasons.len().saturating_sub(TOLD);
    let told = reasons[..reasons.len() - more].join("; ");
    if more == 0 { told } else { format!("{told}; and {more} more elements") }
}

/// What a person said, twice, is replaced bit by bit: carried from each generation to the next.
pub fn turns(stored: &[Stored]) -> &[Name] {
    stored.last().map_or(&[], |newest| &newest.marks.turns)
}

/// What is to be compared before generations go for good.
#[derive(Debug, PartialEq, Eq)]
pub struct Last<'a> {
    /// What is about to go.
    pub goes: &'a GenerationId,
    /// What will be left of its element.
    pub left: &'a GenerationId,
    /// The element.
    pub element: Name,
}

/// Each element of what is about to go, with the newest good copy of it among what stays. What is older than a generation
/// that a person trusted is settled: the person saw what was missing there.
pub fn last_copies<'a>(stored: &'a [Stored], going: &BTreeSet<&GenerationId>) -> Vec<Last<'a>> {
    let settled = stored.iter().rposition(|s| s.marks.trusted.is_some()).unwrap_or(0);
    let goes = |s: &&Stored| going.contains(s.id()) && s.marks.is_whole();
    let stays = |s: &&Stored| !going.contains(s.id()) && is_trusted(s);
    let mut all = Vec::new();
    for (at, old) in stored.iter().enumerate().skip(settled).filter(|(_, s)| goes(s)) {
        for element in old.found.generation.elements.iter().filter(|e| e.ok) {
            let holds =
                |s: &&Stored| find(&s.found.generation, &element.name).is_some_and(|element| element.ok);
            let newest = stored[at + 1..].iter().rev().filter(stays).find(holds);
            let of =
                |left: &'a Stored| Last { goes: old.id(), left: left.id(), element: element.name.clone() };
            all.extend(newest.map(of));
        }
    }
    all
}

/// What the newest lacks of what is about to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losing {
    /// Where that is too much: which elements of which generation, and the reason in words.
    pub suspicious: Option<(Turned, String)>,
    /// Elements that a person said are replaced bit by bit, and that were so no more: nothing of it holds any longer.
    pub calm: Vec<Name>,
}

/// Judges what was counted of [`last_copies`]: the counts, each with the generation that is about to go as its earlier one.
pub fn judge_last(limits: Limits, compared: &[Compared], stored: &[Stored]) -> Losing {
    let turns = turns(stored);
    let is_turning = |one: &Compared| turns.contains(&one.element);
    let half = |limit: Option<u8>| limit.map(|percent| percent.div_ceil(2));
    let half = Limits { shrink: half(limits.shrink), changed: half(limits.changed) };
    let turned = |one: &Compared| matters(half, &loss(one));
    let calm = turns.iter().filter(|name| {
        let mut of = compared.iter().filter(|one| one.element == **name).peekable();
        of.peek().is_some() && !of.any(turned)
    });
    let mut losing = Losing { suspicious: None, calm: calm.cloned().collect() };
    let strange = |one: &&Compared| !is_turning(one) && unusual(limits, one, stored).is_some();
    let Some(first) = compared.iter().find(strange).filter(|_| is_known(stored)) else { return losing };
    let of_it: Vec<&Compared> =
        compared.iter().filter(|one| one.with == first.with).filter(strange).collect();
    let told: Vec<String> = of_it.iter().map(|one| told_last(one)).collect();
    let elements = of_it.into_iter().take(NOTED).map(|one| one.element.clone()).collect();
    losing.suspicious = Some((Turned { with: first.with.clone(), elements }, joined(&told)));
    losing
}

fn told_last(one: &Compared) -> String {
    let Compared { element, with, files, bytes, lost_files, lost_bytes, .. } = one;
    format!(
        "{element} has lost bit by bit what {with} holds, which is about to go: the content of {lost_files} of its {files} \
         files ({lost_bytes} of {bytes} bytes) is nowhere in the newest"
    )
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
