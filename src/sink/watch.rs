//! `handover sink watch`: what did not happen. It derives from the store how old the newest good generation of each
//! source is, so it sees it also when neither the sink nor the source ran at all.

use jiff::{SignedDuration, Timestamp};

use super::{
    candidates::is_verified,
    status::{self, Place},
};
use crate::{
    config::{self, SinkRole},
    manifest::GenerationId,
    report::{Finding, Kind},
    store::{self, Stored, Strange, sink_store::SinkStore},
    sys::show,
};

/// No more damaged generations are named.
const NAMED: usize = 5;

/// Looks at one source; `since` is when it was first watched: what never came is late from there on.
pub fn look(
    place: &Place<'_>,
    source: &config::SinkSource,
    since: Timestamp,
    now: Timestamp,
) -> store::Result<Option<Finding>> {
    let sink = place.config;
    let stored = place.store.source(&source.name)?.stored()?.0;
    // With `verify = "none"` no generation is ever verified on arrival: then the newest whole one is what there is.
    let counts = |s: &&Stored| is_verified(s) || (sink.verify == config::Verify::None && s.marks.is_whole());
    let newest = stored.iter().rev().find(counts);
    // Never later than it arrived, whatever clock the source has.
    let collected = newest.map(|s| s.found.generation.started.min(s.receipt.stored));
    let late = SignedDuration::try_from(source.alarm_after).unwrap_or(SignedDuration::MAX);
    let heard = status::all_was_here(sink.role, &status::read(place.state, source.name.as_str()).runs);
    let age = now.duration_since(collected.max(heard).unwrap_or(since));
    if age <= late {
        return Ok(None);
    }
    let (name, age) = (source.name.as_str(), SignedDuration::from_secs(age.as_secs()));
    let what = if sink.verify == config::Verify::None { "stored" } else { "verified" };
    let text = match (newest, collected) {
        (Some(newest), Some(collected)) => {
            format!(
                "the newest {what} generation, {}, was collected at {collected:.0} ({age:#} ago)",
                newest.id()
            )
        }
        _ => format!("no {what} generation of it is here, and it is watched since {since:.0} ({age:#})"),
    };
    let fix = format!(
        "does `handover source run` run there, and the sink here? See `handover source status` there and the status of {name} here"
    );
    Ok(Some(Finding::new(Kind::Overdue, name, text).with_fix(fix)))
}

/// What is known to be damaged of what is stored of a source: by a verification, or because a run came across it.
pub fn damage(
    role: SinkRole,
    name: &str,
    (stored, strange): &(Vec<Stored>, Vec<Strange>),
) -> Option<Finding> {
    let counted = stored.iter().filter_map(|s| Some((s.id().to_string(), s.marks.damage.as_ref()?)));
    let counted = counted.map(|(id, damage)| match damage.count {
        1 => format!("{id} (1 file)"),
        count => format!("{id} ({count} files)"),
    });
    let is_generation = |s: &&Strange| s.name.to_str().is_some_and(|n| n.parse::<GenerationId>().is_ok());
    let torn = strange.iter().filter(is_generation);
    let torn = torn.map(|s| format!("{} ({})", show(s.name.as_encoded_bytes()), show(s.why.as_bytes())));
    let all: Vec<String> = counted.chain(torn).collect();
    if all.is_empty() {
        return None;
    }
    let more = all.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let text = format!("damaged in the store: {}{more}", all[..all.len().min(NAMED)].join(", "));
    let fix = format!(
        "look at the disk; `handover {role} verify {name} --heal` puts back what another generation, the source, or with \
         --from DIR any copy has whole"
    );
    Some(Finding::new(Kind::Damaged, name, text).with_fix(fix))
}

/// Whether the disk of the store will soon be full.
pub fn nearly_full(sink: &config::Sink, store: &SinkStore) -> Vec<Finding> {
    // A disk that cannot be asked is found by whoever writes to it.
    let text = store.room().ok().and_then(|room| sink.reserve.nearly_reached(room));
    let fix = "make room on the disk of the store, or keep fewer generations (`keep`)";
    text.map(|text| Finding::new(Kind::DiskNearlyFull, "store", text).with_fix(fix)).into_iter().collect()
}
