//! Since when something is watched: what never had a backup is late from there on.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::sys::{self, Dir, durable};

const FILE: &str = "known.json";
const LIMIT: u64 = 4 << 20;

/// The time when each of these names was first asked for; `now` for a new one, which is noted. Names that are not asked
/// for any more are forgotten. A file that cannot be understood is as none.
pub fn since(state: &Dir, names: &[&str], now: Timestamp) -> sys::Result<BTreeMap<String, Timestamp>> {
    let bytes = state.read_if_any(FILE, LIMIT)?.unwrap_or_default();
    let old: BTreeMap<String, Timestamp> = serde_json::from_slice(&bytes).unwrap_or_default();
    // A clock that was ahead must not put the alarm off.
    let first = |name: &str| old.get(name).map_or(now, |since| (*since).min(now));
    let known: BTreeMap<String, Timestamp> =
        names.iter().map(|name| ((*name).to_owned(), first(name))).collect();
    if known != old {
        let text = serde_json::to_vec(&known)
            .map_err(|e| sys::Error::new("write", state.join(FILE), std::io::Error::other(e)))?;
        durable::write_file(state, FILE, &text, 0o600)?;
    }
    Ok(known)
}
