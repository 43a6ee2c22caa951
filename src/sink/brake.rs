//! The anomaly brake: what looks as if something had happened to the data on its source is stored, marked and told, and
//! nothing of that source goes until somebody has looked.

use jiff::Timestamp;

use super::{candidates::is_frozen, journal};
use crate::{
    config::{self, SinkRole},
    manifest::GenerationId,
    report::{Finding, Kind},
    store::{
        Result, SourceStore, Stored,
        anomaly::{Judged, Limits},
        place::Checked,
    },
    sys::Dir,
};

/// What is thought of the content of a generation, by what is stored. Where nothing is judged, nothing is read either.
pub fn judge(source: &config::SinkSource, store: &SourceStore, checked: &Checked) -> Result<Judged> {
    let config::Anomaly { shrink, changed } = source.anomaly;
    if source.anomaly.is_off() {
        return Ok(Judged::default());
    }
    checked.judge(Limits { shrink, changed }, &store.stored()?.0)
}

/// What lasts as long as a source is frozen: told by every run, so that its alarm lasts.
pub fn finding(role: SinkRole, name: &str, stored: &[Stored]) -> Option<Finding> {
    if !is_frozen(stored) {
        return None;
    }
    let suspicious: Vec<(&GenerationId, &str)> =
        stored.iter().filter_map(|s| Some((s.id(), s.marks.suspicious.as_deref()?))).collect();
    let (first, why) = suspicious.first()?;
    let more = match suspicious.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} after it)"),
    };
    let good = stored.iter().rev().find(|s| s.marks.suspicious.is_none() && s.marks.is_whole());
    let text = format!("{first}{more} looks suspicious, and nothing of this source goes: {why}");
    let look = good.map_or_else(String::new, |good| {
        format!("`handover {role} diff {name} {} {first}` shows what; ", good.id())
    });
    let fix = format!(
        "{look}if that is right, say so with `handover {role} trust {name}`; if not, look at the source: the generations \
         before it are good, and stay"
    );
    Some(Finding::new(Kind::Suspicious, name, text).with_fix(fix))
}

/// What is suspicious, or one of it, with the reason; the eldest first.
pub fn suspicious(stored: &[Stored], id: Option<&GenerationId>) -> Vec<(GenerationId, String)> {
    let asked = stored.iter().filter(|s| id.is_none_or(|id| s.id() == id));
    asked.filter_map(|s| Some((s.id().clone(), s.marks.suspicious.clone()?))).collect()
}

/// A person says that these are as they should be: they count as any other from here on. The source's lock is held.
pub fn trust(
    store: &SourceStore,
    state: &Dir,
    which: &[(GenerationId, String)],
    now: Timestamp,
) -> Result<()> {
    for (id, why) in which {
        store.mark(id, &mut |marks| marks.suspicious = None)?;
        journal::note(state, store.name().as_str(), id, (now, "trusted"), why.clone())?;
    }
    Ok(())
}
