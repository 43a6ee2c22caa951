//! Large files that changed a little: what changed is fetched, and the rest taken from the previous version here. It only
//! saves time. Whatever is odd about a delta, the file itself is fetched, and one line says so.

use super::{
    fetch::{Bounds, Failed, Transport, transport, wire_of},
    one::One,
};
use crate::{
    gate::protocol::{Offer, Part},
    remote,
    report::{Finding, Kind},
    store::{self, patch::Patch, plan::Planned, prove::Effort},
    sys::{Dir, room::Room, show},
};

/// What came of the deltas of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patched {
    /// Files that were made, and proven.
    pub files: u64,
    /// Bytes of the deltas that made them.
    pub bytes: u64,
    /// Bytes that crossed the wire, both ways.
    pub wire: u64,
}

/// Fetches the deltas that are of use, makes files of them and proves them. What is left is to be fetched as ever.
pub(super) fn patch(
    one: &mut One<'_>,
    offer: &Offer,
    planned: &mut Planned,
    bounds: Bounds,
    effort: &Effort,
) -> Result<Patched, Failed> {
    let patches = planned.patches(&offer.deltas)?;
    if patches.is_empty() || !fits(one, planned, &patches, bounds)? {
        return Ok(Patched::default());
    }
    let done = one.timed("delta", |one| work(one, offer, planned, (&patches, bounds), effort));
    if done.is_err() {
        planned.drop_deltas()?;
    }
    done
}

/// Whether there is room for deltas beside what is to come anyway. A source can make each as large as the largest that it
/// offered: that is where its transfer ends.
fn fits(one: &One<'_>, planned: &Planned, patches: &[Patch], bounds: Bounds) -> Result<bool, Failed> {
    let free =
        Dir::open(&one.setup.config.home).and_then(|home| Room::of(&home)).map_err(store::Error::from)?;
    let largest = patches.iter().map(|patch| patch.offered.bytes).max().unwrap_or(0);
    let deltas = largest.saturating_mul(patches.len() as u64);
    let needed = planned.room_needed().0.saturating_add(deltas).saturating_add(bounds.floor);
    Ok(free.bytes_free >= needed)
}

fn work(
    one: &mut One<'_>,
    offer: &Offer,
    planned: &mut Planned,
    (patches, bounds): (&[Patch], Bounds),
    effort: &Effort,
) -> Result<Patched, Failed> {
    let mut patched = Patched::default();
    let mut why = None;
    match fetch(one, offer, planned, patches, bounds) {
        Ok(wire) => patched.wire = wire,
        // These say something of the deltas; all others, that nothing can be fetched now.
        Err(Failed::Remote(
            e @ (remote::Error::Gate(_)
            | remote::Error::RsyncThere(_)
            | remote::Error::RsyncHere(_)
            | remote::Error::Protocol(_)),
        )) => why = Some(e.to_string()),
        Err(other) => return Err(other),
    }
    one.progress.begin(format!("applying what changed in {}", offer.id), 0, 0);
    let unmade = planned.patch(patches, effort)?;
    planned.settle(effort)?;
    let wrong = planned.unmake(patches)?;
    let first = unmade.first().map(|(path, why)| format!("{}: {why}", show(path)));
    let made_wrong = wrong.first().map(|path| format!("{}: its delta made something else of it", show(path)));
    if let Some(cause) = why.or(first).or(made_wrong) {
        let text =
            format!("{} large files are fetched as a whole, not by what changed: {cause}", wrong.len());
        one.find(Finding::new(Kind::Warning, offer.id.as_str(), text));
    }
    let made = || patches.iter().filter(|patch| !wrong.contains(&patch.stored));
    patched.files = made().count() as u64;
    patched.bytes = made().map(|patch| patch.offered.bytes).sum();
    Ok(patched)
}

/// Fetches the deltas that are not here yet.
fn fetch(
    one: &mut One<'_>,
    offer: &Offer,
    planned: &Planned,
    patches: &[Patch],
    bounds: Bounds,
) -> Result<u64, Failed> {
    let into = planned.delta_path()?;
    let (mut files, mut limit, mut largest) = (Vec::new(), 0_u64, 0_u64);
    for patch in patches {
        let name = patch.offered.name().into_bytes();
        if !planned.has_delta(&patch.offered)? && !files.contains(&name) {
            files.push(name);
            limit = limit.saturating_add(patch.offered.bytes);
            largest = largest.max(patch.offered.bytes);
        }
    }
    one.progress.begin(format!("fetching what changed in {}", offer.id), files.len() as u64, limit);
    let floor = bounds.floor;
    let transport_of = Transport { files: &files, into, basis: None, limit, largest, floor, prover: None };
    Ok(wire_of(&transport(one, offer, Part::Delta, transport_of)?))
}
