//! The anomaly brake: what looks as if something had happened to the data on its source is stored, marked and told, and
//! nothing of that source goes until somebody has looked.

use std::{collections::BTreeSet, os::unix::ffi::OsStrExt as _};

use jiff::Timestamp;

use super::{candidates::is_frozen, journal};
use crate::{
    config::{self, SinkRole},
    manifest::GenerationId,
    report::{Finding, Kind},
    store::{
        Result, SourceStore, Stored, Strange,
        anomaly::{Judged, Limits, Losing},
        place::Checked,
    },
    sys::{Dir, name::Name, show},
};

/// What is thought of the content of a generation, by what is stored. Where nothing is judged, nothing is read either.
pub fn judge(source: &config::SinkSource, store: &SourceStore, checked: &Checked) -> Result<Judged> {
    let config::Anomaly { shrink, changed } = source.anomaly;
    if source.anomaly.is_off() {
        return Ok(Judged::default());
    }
    checked.judge(Limits { shrink, changed }, &store.stored()?.0)
}

/// What the newest lacks of what is about to go for good, where that is judged and anything is to go.
pub fn losing(
    source: &config::SinkSource,
    store: &SourceStore,
    stored: &[Stored],
    going: &BTreeSet<&GenerationId>,
) -> Result<Losing> {
    let config::Anomaly { shrink, changed } = source.anomaly;
    if source.anomaly.is_off() || going.is_empty() {
        return Ok(Losing::default());
    }
    store.losing(Limits { shrink, changed }, stored, going)
}

/// Notes on the newest that it lacks too much of what was about to go: from here on nothing goes. Gives which that is,
/// and why.
pub fn freeze(
    store: &SourceStore,
    stored: &[Stored],
    losing: &Losing,
) -> Result<Option<(GenerationId, String)>> {
    let newest = stored.iter().rfind(|s| s.marks.is_whole());
    let (Some((turned, why)), Some(newest)) = (&losing.suspicious, newest) else { return Ok(None) };
    store.mark(newest.id(), &mut |marks| {
        (marks.suspicious, marks.turned) = (Some(why.clone()), Some(turned.clone()));
    })?;
    Ok(Some((newest.id().clone(), why.clone())))
}

/// What a person said of elements that are replaced bit by bit holds no longer for those that are not.
pub fn forget_calm(store: &SourceStore, stored: &[Stored], losing: &Losing) -> Result<()> {
    let newest = stored.last().filter(|_| !losing.calm.is_empty());
    newest.map_or(Ok(()), |newest| {
        store.mark(newest.id(), &mut |marks| marks.turns.retain(|name| !losing.calm.contains(name)))
    })
}

/// What a person said of a generation outlasts it: before it goes, the next whole one takes it over. Nothing that the person
/// has seen the loss of is asked for again, and a second word is known to be the second.
pub fn pass_on(store: &SourceStore, stored: &[Stored], goes: &GenerationId) -> Result<()> {
    // It may have taken over the word itself since these were read.
    let marks = store.get(goes)?.map(|stored| stored.marks);
    let Some((trusted, marks)) = marks.and_then(|marks| Some((marks.trusted?, marks))) else { return Ok(()) };
    let later = stored.iter().skip_while(|s| s.id() != goes).skip(1);
    let Some(next) = later.into_iter().find(|s| s.marks.is_whole()) else { return Ok(()) };
    store.mark(next.id(), &mut |next| {
        next.trusted = next.trusted.max(Some(trusted));
        next.turned = match (next.turned.take(), marks.turned.clone()) {
            (Some(turned), Some(before)) => Some(turned.with(before)),
            (turned, before) => turned.or(before),
        };
    })
}

/// What lasts as long as a source is frozen: told by every run, so that its alarm lasts.
pub fn finding(role: SinkRole, name: &str, all: &(Vec<Stored>, Vec<Strange>)) -> Option<Finding> {
    let (stored, strange) = all;
    if !is_frozen(all) {
        return None;
    }
    let mut suspicious = stored.iter().filter_map(|s| Some((s, s.marks.suspicious.as_deref()?)));
    let Some((first, why)) = suspicious.next() else { return of_strange(name, strange) };
    let more = match suspicious.count() {
        0 => String::new(),
        more => format!(" (and {more} after it)"),
    };
    let id = first.id();
    let good = stored.iter().rev().find(|s| s.marks.suspicious.is_none() && s.marks.is_whole());
    // What goes was compared with that one, and not with the one before it.
    let with = first.marks.turned.as_ref().map(|turned| &turned.with).or(good.map(Stored::id));
    let text = format!("{id}{more} looks suspicious, and nothing of this source goes: {why}");
    let look = with
        .map_or_else(String::new, |with| format!("`handover {role} diff {name} {with} {id}` shows what; "));
    let fix = format!(
        "{look}if that is right, say so with `handover {role} trust {name}`; if not, look at the source: the generations \
         before it are good, and stay"
    );
    Some(Finding::new(Kind::Suspicious, name, text).with_fix(fix))
}

/// What is no generation any more, but was suspicious, or may have been: nobody can say that it is right.
pub fn of_strange(name: &str, strange: &[Strange]) -> Option<Finding> {
    let (one, doubt) = strange.iter().find_map(|s| Some((s, s.doubt.as_deref()?)))?;
    let id = show(one.name.as_bytes());
    let text = format!("{id} cannot be read, and nothing of this source goes: {}", show(doubt.as_bytes()));
    let fix = format!(
        "put the folder {id} back from a provider's copy; or look what is in it and move it out of the store: what it says of \
         a pin or a doubt is gone then"
    );
    Some(Finding::new(Kind::Suspicious, name, text).with_fix(fix))
}

/// What is suspicious, or one of it, with the reason; the eldest first.
pub fn suspicious(stored: &[Stored], id: Option<&GenerationId>) -> Vec<(GenerationId, String)> {
    let asked = stored.iter().filter(|s| id.is_none_or(|id| s.id() == id));
    asked.filter_map(|s| Some((s.id().clone(), s.marks.suspicious.clone()?))).collect()
}

/// A person says that these are as they should be: they count as any other from here on, and what is missing in them
/// against earlier ones is settled. Gives the elements of which that was said a second time, each time when all that was
/// kept of them had been replaced: they are replaced bit by bit, and that is no news any more. The source's lock is held.
pub fn trust(
    store: &SourceStore,
    state: &Dir,
    which: &[(GenerationId, String)],
    now: Timestamp,
) -> Result<Vec<Name>> {
    let (stored, _) = store.stored()?;
    let turns = turning(&stored, which);
    // Before the suspicion goes: cut in between, it is asked for again.
    if let Some(newest) = stored.last().filter(|_| !turns.is_empty()) {
        store.mark(newest.id(), &mut |marks| {
            let more: Vec<Name> = turns.iter().filter(|name| !marks.turns.contains(name)).cloned().collect();
            marks.turns.extend(more);
        })?;
    }
    for (id, why) in which {
        let before = stored.iter().take_while(|s| s.id() != id).last().map(Stored::id);
        store.mark(id, &mut |marks| {
            (marks.suspicious, marks.trusted) = (None, Some(now));
            // One word counts once: what was frozen meanwhile was compared with the same one, and would make usual what
            // happened only once.
            marks.compared.retain(|one| Some(&one.with) == before);
        })?;
        journal::note(state, store.name().as_str(), id, (now, "trusted"), why.clone())?;
    }
    Ok(turns)
}

/// Elements that were replaced bit by bit when one of these was suspicious, and when one that a person trusted before was.
pub fn turning(stored: &[Stored], which: &[(GenerationId, String)]) -> Vec<Name> {
    let is_asked = |one: &&Stored| which.iter().any(|(id, _)| id == one.id());
    let of = |one: &Stored| one.marks.turned.clone().map_or_else(Vec::new, |turned| turned.elements);
    let before: BTreeSet<Name> = stored.iter().filter(|s| s.marks.trusted.is_some()).flat_map(of).collect();
    let now: BTreeSet<Name> = stored.iter().filter(is_asked).flat_map(of).collect();
    before.intersection(&now).cloned().collect()
}
