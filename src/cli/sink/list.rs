//! `handover sink list` and `quarantine list`: what is kept of each source.

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{Context, show},
    manifest::receipt::Verify,
    report::Exit,
    sink::candidates::is_verified,
    store::Stored,
    sys::{self, name::Name},
};

/// A generation in a list.
#[derive(Serialize)]
struct Row {
    source: String,
    id: String,
    sequence: u64,
    seal: String,
    collected: jiff::Timestamp,
    stored: jiff::Timestamp,
    files: u64,
    bytes: u64,
    verify: Verify,
    verified: bool,
    damaged: u64,
    pinned: Option<String>,
    suspicious: Option<String>,
    failed_elements: Vec<String>,
    state: &'static str,
}

fn row(source: &Name, stored: &Stored) -> Row {
    let generation = &stored.found.generation;
    Row {
        source: source.to_string(),
        id: stored.id().to_string(),
        sequence: stored.receipt.sequence,
        seal: stored.found.seal.to_string(),
        collected: generation.started,
        stored: stored.receipt.stored,
        files: generation.files,
        bytes: generation.bytes,
        verify: stored.receipt.verify,
        verified: is_verified(stored),
        damaged: stored.marks.damage.as_ref().map_or(0, |d| d.count),
        pinned: stored.marks.pinned.clone(),
        suspicious: stored.marks.suspicious.clone(),
        failed_elements: generation.elements.iter().filter(|e| !e.ok).map(|e| e.name.to_string()).collect(),
        state: "stored",
    }
}

pub(super) fn list(context: &Context, sink: &Sink<'_>, names: &[Name]) -> Outcome {
    let (store, _) = sink.open()?;
    let mut rows = Vec::new();
    for name in &sink.names(&store, names)? {
        let kept = store.source(name).map_err(|e| sink.refuse(&e))?;
        let (stored, strange) = kept.stored().map_err(|e| sink.refuse(&e))?;
        rows.extend(stored.iter().map(|s| row(name, s)));
        strange.iter().for_each(|s| show::talk(&format!("warning: {name}: {}", s.why)));
        if !sink.is_configured(name) && !stored.is_empty() && !context.quiet {
            show::talk(&format!(
                "note: {name} is not configured: nothing of it is fetched, and nothing goes. `handover {} forget {name}` lets it go",
                sink.config.role
            ));
        }
        let (condemned, _) = kept.condemned().map_err(|e| sink.refuse(&e))?;
        rows.extend(condemned.into_iter().map(|c| {
            let stored = Stored { found: c.found, receipt: c.receipt, marks: c.marks };
            Row { state: "condemned", ..row(name, &stored) }
        }));
    }
    if context.json {
        return Ok(show::json(&rows));
    }
    let lines = rows.iter().map(|r| {
        let proven = match (r.damaged, r.verified) {
            (1.., _) => format!("DAMAGED ({})", show::count(r.damaged, "file", "files")),
            (0, true) => "verified".to_owned(),
            (0, false) => "not verified".to_owned(),
        };
        let mut state = vec![format!("{}, {proven}", r.state)];
        state.extend(r.suspicious.as_ref().map(|why| format!("SUSPICIOUS: {}", sys::show(why.as_bytes()))));
        state.extend(r.pinned.as_ref().map(|p| format!("pinned: {}", sys::show(p.as_bytes()))));
        state.extend(
            (!r.failed_elements.is_empty()).then(|| format!("failed: {}", r.failed_elements.join(", "))),
        );
        vec![
            r.source.clone(),
            r.id.clone(),
            r.sequence.to_string(),
            r.files.to_string(),
            show::size(r.bytes),
            state.join("; "),
            r.seal[..16].to_owned(),
        ]
    });
    show::data(&show::table(
        &["source", "generation", "sequence#", "files#", "size#", "state", "seal"],
        lines.collect(),
    ));
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Aside {
    source: String,
    id: String,
    at: Option<jiff::Timestamp>,
    reason: String,
}

pub(super) fn quarantine(context: &Context, sink: &Sink<'_>) -> Outcome {
    let (store, _) = sink.open()?;
    let mut rows = Vec::new();
    for source in &sink.config.sources {
        let kept = store.source(&source.name).map_err(|e| sink.refuse(&e))?;
        for one in kept.quarantined().map_err(|e| sink.refuse(&e))? {
            rows.push(Aside {
                source: source.name.to_string(),
                id: one.id.to_string(),
                at: one.at,
                reason: one.reason,
            });
        }
    }
    if context.json {
        return Ok(show::json(&rows));
    }
    let lines = rows.iter().map(|r| {
        vec![
            r.source.clone(),
            r.id.clone(),
            r.at.map_or_else(String::new, |at| at.to_string()),
            r.reason.clone(),
        ]
    });
    show::data(&show::table(&["source", "generation", "since", "because"], lines.collect()));
    Ok(Exit::Ok)
}
