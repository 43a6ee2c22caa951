//! What retention promises, written down a second time, as simply as it can be said.

use std::collections::BTreeSet;

use handover::{
    manifest::GenerationId,
    store::retention::{Candidate, Policy},
};
use jiff::{Timestamp, tz::TimeZone};

/// What goes.
pub fn condemned(stored: &[Candidate], policy: &Policy, now: Timestamp) -> BTreeSet<GenerationId> {
    if policy.frozen {
        return BTreeSet::new();
    }
    let mut newest_first: Vec<&Candidate> = stored.iter().collect();
    newest_first.sort_by_key(|c| std::cmp::Reverse(c.sequence));
    let whole: Vec<&Candidate> = newest_first.iter().copied().filter(|c| c.whole).collect();
    let mut kept: BTreeSet<&GenerationId> =
        stored.iter().filter(|c| !c.whole || c.pinned).map(|c| &c.id).collect();
    kept.extend(whole.first().map(|c| &c.id));
    kept.extend(whole.iter().find(|c| c.verified).map(|c| &c.id));
    kept.extend(whole.iter().find(|c| c.drilled).map(|c| &c.id));
    for element in stored.iter().flat_map(|c| &c.elements_ok) {
        kept.extend(whole.iter().find(|c| c.elements_ok.contains(element)).map(|c| &c.id));
    }
    kept.extend(whole.iter().take(policy.last as usize).map(|c| &c.id));
    let latest = whole.first().map_or(now, |c| c.stored.min(now)).as_second();
    let young = |c: &&Candidate| (latest - c.stored.as_second()).max(0) < policy.keep_for.as_secs() as i64;
    kept.extend(stored.iter().filter(young).map(|c| &c.id));
    let periods = [
        ("%Y-%m-%d", policy.daily),
        ("%G-%V", policy.weekly),
        ("%Y-%m", policy.monthly),
        ("%Y", policy.yearly),
    ];
    for (format, count) in periods {
        let mut seen = Vec::new();
        for one in &whole {
            let period = one.stored.to_zoned(TimeZone::UTC).strftime(format).to_string();
            if !seen.contains(&period) && seen.len() < count as usize {
                kept.insert(&one.id);
                seen.push(period);
            }
        }
    }
    stored.iter().filter(|c| !kept.contains(&c.id)).map(|c| c.id.clone()).collect()
}
