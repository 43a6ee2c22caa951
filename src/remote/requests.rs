//! Answers of a gate, read as if a hostile host had written them: bounded, of the right form, safe to show.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::{Error, Result};
use crate::{
    gate::{
        delivery::{self, Published},
        protocol::{self, ANSWER_LIMIT, History, Offers, PATHS_LIMIT, Stored},
    },
    manifest::{GenerationId, delta},
    sys::{name::Name, show},
};

/// No source has more generations than this at one place.
const MOST: usize = 10_000;

/// Reads an answer of any kind.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.len() as u64 > ANSWER_LIMIT {
        return Err(lie(format!("an answer of more than {ANSWER_LIMIT} bytes")));
    }
    // What is wrong may be quoted, and be as long as the answer. It is escaped already.
    let short = |e: String| e.chars().take(500).collect::<String>();
    protocol::from_json(bytes).map_err(|e| lie(format!("an answer that cannot be read: {}", short(e))))
}

/// Reads the answer to `offers`.
pub fn offers(bytes: &[u8]) -> Result<Offers> {
    let mut offers: Offers = read(bytes)?;
    if offers.name.parse::<Name>().is_err() {
        return Err(lie(format!("it calls itself {}", shown(&offers.name, 100))));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if offers.lineage.is_empty() || offers.lineage.len() > 64 || !offers.lineage.bytes().all(plain) {
        return Err(lie(format!("its lineage is {}", shown(&offers.lineage, 100))));
    }
    offers.version = shown(&offers.version, 64);
    distinct(offers.offers.iter().map(|offer| &offer.id))?;
    // More than a generation has are of no use, and cost nothing but the deltas.
    offers.offers.iter_mut().for_each(|offer| offer.deltas.truncate(delta::MOST));
    Ok(offers)
}

/// Reads the answer to `stored`.
pub fn stored(bytes: &[u8]) -> Result<Stored> {
    let stored: Stored = read(bytes)?;
    distinct(stored.generations.iter().map(|one| &one.id))?;
    Ok(stored)
}

/// Reads the answer to `history` of one generation.
pub fn history(bytes: &[u8], id: &GenerationId) -> Result<History> {
    let mut history: History = read(bytes)?;
    if history.id != *id {
        return Err(lie(format!("asked for the history of {id}, it tells that of {}", history.id)));
    }
    for event in &mut history.events {
        event.what = shown(&event.what, 64);
        event.detail = shown(&event.detail, 1000);
    }
    Ok(history)
}

/// Reads the answer to `restore publish`.
pub fn published(bytes: &[u8]) -> Result<Published> {
    let mut published: Published = read(bytes)?;
    published.damaged.truncate(100);
    published.damaged.iter_mut().for_each(|text| *text = shown(text, 5000));
    Ok(published)
}

/// Reads the answer to `restore status`.
pub fn status(bytes: &[u8]) -> Result<delivery::Status> {
    let mut status: delivery::Status = read(bytes)?;
    status.version = shown(&status.version, 64);
    distinct(status.delivered.iter())?;
    distinct(status.incoming.iter())?;
    Ok(status)
}

/// Paths for `reject`, as many as the gate takes: the others are damaged all the same, and read afresh when the
/// generation after next finds them.
pub fn rejection(paths: &[&[u8]]) -> Vec<u8> {
    let mut room = PATHS_LIMIT;
    let fitting = paths.iter().copied().take_while(|path| {
        let needed = path.len() as u64 + 1;
        let fits = needed <= room;
        room -= if fits { needed } else { 0 };
        fits
    });
    protocol::paths_to_bytes(fitting)
}

fn distinct<'a>(ids: impl Iterator<Item = &'a GenerationId>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(lie(format!("it names {id} twice")));
        }
        if seen.len() > MOST {
            return Err(lie(format!("it names more than {MOST} generations")));
        }
    }
    Ok(())
}

fn shown(text: &str, most: usize) -> String {
    show(text.chars().take(most).collect::<String>().as_bytes())
}

fn lie(what: String) -> Error {
    Error::Protocol(format!("from the gate there: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, lineage: &str, ids: &[&str]) -> Vec<u8> {
        let seal = "0".repeat(64);
        let offers: Vec<_> = ids
            .iter()
            .map(|id| {
                serde_json::json!({"id": id, "sequence": 1, "seal": seal, "files": 1, "entries": 1, "bytes": 1,
                    "manifest_bytes": 1, "rejected": false, "reading": false})
            })
            .collect();
        let all = serde_json::json!({"name": name, "lineage": lineage, "channel": "data", "version": "0.1.0\u{1b}[2J",
            "clock": "2026-11-23T03:00:00Z", "offers": offers, "of_a_newer_version": 1});
        serde_json::to_vec(&all).unwrap()
    }

    #[test]
    fn an_answer_is_taken_only_if_all_of_it_is_as_it_must_be() {
        let good = offers(&answer("shop", "ab12", &["20261123T030000Z"])).unwrap();
        assert_eq!(good.offers.len(), 1);
        assert_eq!(good.version, "0.1.0\\u{1b}[2J");
        for bad in [
            answer("../shop", "ab12", &[]),
            answer("shop", "", &[]),
            answer("shop", "a b", &[]),
            answer("shop", "ab12", &["../../etc"]),
            answer("shop", "ab12", &["20261123T030000Z", "20261123T030000Z"]),
            b"{}".to_vec(),
            b"\xff".to_vec(),
            b"".to_vec(),
        ] {
            let error = offers(&bad).unwrap_err();
            assert!(matches!(&error, Error::Protocol(_)), "{error}");
        }
    }

    #[test]
    fn a_rejection_never_grows_beyond_what_the_gate_takes() {
        let long = vec![b'x'; 1024 * 1024];
        let paths: Vec<&[u8]> = vec![&long; 9];
        let bytes = rejection(&paths);
        assert_eq!(protocol::parse_paths(&bytes).unwrap().len(), 3);
    }
}
