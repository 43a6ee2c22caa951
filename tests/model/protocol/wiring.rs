//! How the model is wired: the product's own decisions and the order of its steps, or a mutant with one of them wrong.

use std::time::Duration;

use handover::{
    manifest::GenerationId,
    store::{
        handover_point::decide,
        retention::{self, Candidate, Decision, Policy, Reason, Verdict},
    },
};
use jiff::Timestamp;

/// A step of the sink from an offer to its acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Fetch,
    Check,
    /// Retention, with the one that is being fetched counted as stored: only mutants do so here.
    PruneAsIfStored,
    WriteReceipt,
    Sync,
    Rename,
    SyncFolders,
    Accept,
}

use Step::{Accept, Check, Fetch, PruneAsIfStored, Rename, Sync, SyncFolders, WriteReceipt};

type Taken<'a> = &'a dyn Fn(&GenerationId) -> bool;

#[derive(Clone, Copy)]
pub struct Wiring {
    /// Why this wiring is here.
    pub name: &'static str,
    pub steps: &'static [Step],
    pub decide: fn(&[Candidate], &Policy, Timestamp) -> Vec<Decision>,
    pub free_id: fn(Timestamp, Taken<'_>) -> Option<GenerationId>,
    pub undo_is_over: fn(Timestamp, Duration, Timestamp) -> bool,
}

fn free_id(now: Timestamp, taken: Taken<'_>) -> Option<GenerationId> {
    decide::free_id(now, |id| Ok::<_, std::convert::Infallible>(taken(id))).unwrap()
}

/// The product.
pub const PRODUCT: Wiring = Wiring {
    name: "the product",
    steps: &[Fetch, Check, WriteReceipt, Sync, Rename, SyncFolders, Accept],
    decide: retention::decide,
    free_id,
    undo_is_over: retention::undo_is_over,
};

/// Each with one thing wrong, and the property that must notice.
pub const MUTANTS: [(Wiring, &str); 6] = [
    (
        Wiring {
            name: "accept before commit",
            steps: &[Fetch, Check, Accept, WriteReceipt, Sync, Rename, SyncFolders],
            ..PRODUCT
        },
        super::RECEIPT,
    ),
    (
        Wiring {
            name: "retention before commit",
            steps: &[Fetch, Check, PruneAsIfStored, WriteReceipt, Sync, Rename, SyncFolders, Accept],
            ..PRODUCT
        },
        super::NEWEST,
    ),
    (
        Wiring {
            name: "no sync before rename",
            steps: &[Fetch, Check, WriteReceipt, Rename, SyncFolders, Accept],
            ..PRODUCT
        },
        super::RECEIPT,
    ),
    (Wiring { name: "reuse of an id", free_id: first_of_the_second, ..PRODUCT }, super::IDS),
    (
        Wiring {
            name: "receipt without check",
            steps: &[Fetch, WriteReceipt, Sync, Rename, SyncFolders, Accept],
            ..PRODUCT
        },
        super::RECEIPT,
    ),
    (Wiring { name: "condemn the newest", decide: the_newest_goes, ..PRODUCT }, super::NEWEST),
];

fn first_of_the_second(now: Timestamp, _: Taken<'_>) -> Option<GenerationId> {
    Some(GenerationId::at(now, 1))
}

/// Keeps as many as the product, but the eldest.
fn the_newest_goes(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Vec<Decision> {
    let mut decisions = retention::decide(candidates, policy, now);
    let verdicts: Vec<Verdict> = decisions.iter().rev().map(|d| d.verdict.clone()).collect();
    decisions.iter_mut().zip(verdicts).for_each(|(decision, verdict)| {
        decision.verdict = match verdict {
            Verdict::Condemn(_) => Verdict::Condemn(Reason::Surplus(*policy)),
            keep => keep,
        };
    });
    decisions
}
