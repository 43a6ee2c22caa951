//! `handover sink`: what only looks.

use std::{path::Path, sync::Arc};

use serde::Serialize;

use super::{
    Context,
    args::Which,
    fail,
    progress::Display,
    show,
    sink::{Sink, refuse},
};
use crate::{
    manifest::{Entry, GenerationId, Kind, diff::Change, receipt::Verify},
    report::Exit,
    sink::{candidates::is_verified, prune, query},
    store::{
        SourceStore, Stored,
        prove::Effort,
        retention::Verdict,
        verify::{self, VerifyReport},
    },
    sys::{self, clock, name::Name, progress::Progress},
};

type Outcome = Result<Exit, Exit>;

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
        failed_elements: generation.elements.iter().filter(|e| !e.ok).map(|e| e.name.to_string()).collect(),
        state: "stored",
    }
}

pub(super) fn list(context: &Context, sink: &Sink<'_>, names: &[Name]) -> Outcome {
    let (store, _) = sink.open()?;
    let mut rows = Vec::new();
    for source in sink.named(names)? {
        let kept = store.source(&source.name).map_err(|e| refuse(&e))?;
        let (stored, strange) = kept.stored().map_err(|e| refuse(&e))?;
        rows.extend(stored.iter().map(|s| row(&source.name, s)));
        strange.iter().for_each(|s| show::talk(&format!("warning: {}: {}", source.name, s.why)));
        let (condemned, _) = kept.condemned().map_err(|e| refuse(&e))?;
        rows.extend(condemned.into_iter().map(|c| {
            let stored = Stored { found: c.found, receipt: c.receipt, marks: Default::default() };
            Row { state: "condemned", ..row(&source.name, &stored) }
        }));
    }
    if context.json {
        return Ok(show::json(&rows));
    }
    let lines = rows.iter().map(|r| {
        let mut state = vec![if r.verified {
            format!("{}, verified", r.state)
        } else {
            format!("{}, not verified", r.state)
        }];
        state.extend((r.damaged > 0).then(|| format!("{} DAMAGED", r.damaged)));
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

/// Opens a source's store and the generation that was asked for.
fn which(sink: &Sink<'_>, name: &Name, id: &Which) -> Result<(Arc<SourceStore>, GenerationId), Exit> {
    let source = sink.one(name)?;
    let (store, _) = sink.open()?;
    let kept = store.source(&source.name).map_err(|e| refuse(&e))?;
    let found = match id {
        Which::Newest => kept.newest(),
        Which::Id(id) => kept.get(id),
    };
    match found.map_err(|e| refuse(&e))? {
        Some(stored) => Ok((kept, stored.id().clone())),
        None => {
            let wanted = match id {
                Which::Newest => "no generation".to_owned(),
                Which::Id(id) => format!("no generation {id}"),
            };
            Err(fail(Exit::Usage, &format!("{name} has {wanted} here: see `handover sink list {name}`")))
        }
    }
}

fn query_failed(e: &query::Error) -> Exit {
    match e {
        query::Error::Store(e) => refuse(e),
        query::Error::Manifest { .. } | query::Error::Diff(_) => fail(Exit::VerificationFailed, e),
        query::Error::Pattern(_) => fail(Exit::Usage, e),
    }
}

/// An entry in a list.
#[derive(Serialize)]
struct EntryRow {
    path: String,
    kind: &'static str,
    mode: String,
    owner: String,
    size: Option<u64>,
    time: String,
    digest: Option<String>,
    target: Option<String>,
}

fn entry_row(entry: &Entry) -> EntryRow {
    let id = |name: &Option<Vec<u8>>, id: u32| name.as_ref().map_or_else(|| id.to_string(), |n| sys::show(n));
    let time = jiff::Timestamp::new(entry.mtime.seconds, i32::try_from(entry.mtime.nanoseconds).unwrap_or(0));
    let (kind, size, digest, target) = match &entry.kind {
        Kind::File { size, digest, .. } => ("file", Some(*size), Some(digest.to_string()), None),
        Kind::Dir => ("folder", None, None, None),
        Kind::Link { target } => ("link", None, None, Some(sys::show(target))),
        Kind::Fifo => ("fifo", None, None, None),
        Kind::Char { .. } => ("char", None, None, None),
        Kind::Block { .. } => ("block", None, None, None),
    };
    EntryRow {
        path: sys::show(&entry.path),
        kind,
        mode: format!("{:04o}", entry.mode),
        owner: format!("{}:{}", id(&entry.uname, entry.uid), id(&entry.gname, entry.gid)),
        size,
        time: time.map_or_else(|_| entry.mtime.seconds.to_string(), |t| t.to_string()),
        digest,
        target,
    }
}

pub(super) fn ls(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    id: &Which,
    path: Option<&Path>,
) -> Outcome {
    let (store, id) = which(sink, name, id)?;
    let wanted = path.map(|p| p.as_os_str().as_encoded_bytes().to_vec()).unwrap_or_default();
    let wanted = wanted.strip_prefix(b"/").unwrap_or(&wanted).to_vec();
    let mut rows = Vec::new();
    let listed = query::each(&store, &id, &mut |entry| {
        let below =
            entry.path.iter().position(|b| *b == b'/').map_or(&b""[..], |slash| &entry.path[slash + 1..]);
        let within = |path: &[u8]| {
            path.strip_prefix(wanted.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if wanted.is_empty() || within(&entry.path) || within(below) {
            let row = entry_row(&entry);
            if context.json {
                rows.push(row);
            } else {
                let size = row.size.map_or_else(String::new, |s| s.to_string());
                let target = row.target.map_or_else(String::new, |t| format!(" -> {t}"));
                show::data(&format!(
                    "{:6} {} {:20} {:>12} {:30} {}{target}",
                    row.kind, row.mode, row.owner, size, row.time, row.path
                ));
            }
        }
    });
    listed.map_err(|e| query_failed(&e))?;
    Ok(if context.json { show::json(&rows) } else { Exit::Ok })
}

pub(super) fn find(context: &Context, sink: &Sink<'_>, name: &Name, pattern: &str) -> Outcome {
    sink.one(name)?;
    let (store, _) = sink.open()?;
    let kept = store.source(name).map_err(|e| refuse(&e))?;
    let mut hits = query::find(&kept, pattern).map_err(|e| query_failed(&e))?;
    if context.json {
        return Ok(show::json(&hits));
    }
    hits.sort_by(|a, b| a.path.cmp(&b.path));
    let rows = hits.iter().map(|h| {
        let state = if h.changed { "new or changed" } else { "as before" };
        vec![h.path.clone(), h.id.clone(), h.size.map_or_else(String::new, show::size), state.to_owned()]
    });
    show::data(&show::table(&["path", "generation", "size#", "content"], rows.collect()));
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct DiffRow {
    change: &'static str,
    path: String,
    what: Vec<&'static str>,
}

fn diff_row(change: &Change) -> DiffRow {
    let row = |change, entry: &Entry, what| DiffRow { change, path: sys::show(&entry.path), what };
    match change {
        Change::Added(entry) => row("added", entry, Vec::new()),
        Change::Removed(entry) => row("removed", entry, Vec::new()),
        Change::Unread(entry) => row("unread", entry, Vec::new()),
        Change::Changed { new, what, .. } => row("changed", new, what.iter().map(|w| w.as_str()).collect()),
    }
}

pub(super) fn diff(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    old: &GenerationId,
    new: &Which,
) -> Outcome {
    let (store, old) = which(sink, name, &Which::Id(old.clone()))?;
    let (_, new) = which(sink, name, new)?;
    let mut rows = Vec::new();
    let compared = query::differences(&store, &old, &new, &mut |change| {
        let row = diff_row(&change);
        if context.json {
            rows.push(row);
        } else {
            let what =
                if row.what.is_empty() { String::new() } else { format!(" ({})", row.what.join(", ")) };
            show::data(&format!("{:8} {}{what}", row.change, row.path));
        }
    });
    compared.map_err(|e| query_failed(&e))?;
    Ok(if context.json { show::json(&rows) } else { Exit::Ok })
}

/// Prints the content of one file as it is.
pub(super) fn dump(sink: &Sink<'_>, name: &Name, id: &Which, path: &Path) -> Outcome {
    let (store, id) = which(sink, name, id)?;
    let asked = path.as_os_str().as_encoded_bytes();
    let mut found = None;
    query::each(&store, &id, &mut |entry| {
        let below =
            entry.path.iter().position(|b| *b == b'/').map_or(&b""[..], |slash| &entry.path[slash + 1..]);
        if found.is_none() && (entry.path == asked || asked.strip_prefix(b"/") == Some(below)) {
            found = Some(entry);
        }
    })
    .map_err(|e| query_failed(&e))?;
    let shown = sys::show(asked);
    let Some(entry) = found else {
        return Err(fail(Exit::Usage, &format!("{id} has no {shown}: see `handover sink ls {name} {id}`")));
    };
    let Kind::File { digest, .. } = entry.kind else {
        return Err(fail(Exit::Usage, &format!("{shown} is not a regular file")));
    };
    let mut file = store.content(&id, &entry.path).map_err(|e| refuse(&e))?;
    let mut proven = crate::manifest::Hashing::new(&mut file);
    match std::io::copy(&mut proven, &mut std::io::stdout().lock()) {
        Ok(_) if proven.digest() == digest => Ok(Exit::Ok),
        Ok(_) => Err(fail(
            Exit::VerificationFailed,
            &format!("{shown} is damaged: what was printed is not what was stored"),
        )),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(e) => Err(fail(Exit::Storage, &e)),
    }
}

#[derive(Serialize)]
struct Verified {
    source: String,
    id: String,
    files: u64,
    bytes: u64,
    whole: bool,
    damaged: Vec<String>,
}

fn verified(source: &str, id: &str, report: &VerifyReport) -> Verified {
    let bad = report.own.iter().chain(&report.content).map(ToString::to_string);
    let extra = report.extra.iter().map(|path| format!("{}: it does not belong here", sys::show(path)));
    Verified {
        source: source.to_owned(),
        id: id.to_owned(),
        files: report.files,
        bytes: report.bytes,
        whole: report.is_whole(),
        damaged: bad.chain(extra).collect(),
    }
}

fn tell_verified(context: &Context, all: &[Verified]) -> Exit {
    if context.json {
        show::json(&all);
    } else {
        for one in all {
            let state = if one.whole { "whole" } else { "DAMAGED" };
            let text =
                format!("{} {}: {state}, {} files, {}", one.source, one.id, one.files, show::size(one.bytes));
            if !one.whole || !context.quiet {
                show::data(text.trim_start());
            }
            one.damaged.iter().for_each(|line| show::data(&format!("  {line}")));
        }
    }
    if all.iter().all(|v| v.whole) { Exit::Ok } else { Exit::VerificationFailed }
}

fn effort(progress: &Arc<Progress>) -> Effort {
    let progress = Arc::clone(progress);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    Effort { threads, progress: Arc::new(move |bytes| progress.add_bytes(bytes)) }
}

pub(super) fn verify(context: &Context, name: &Name, store: &SourceStore, ids: &[GenerationId]) -> Outcome {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(name.to_string(), Arc::clone(&progress))]);
    let (stored, strange) = store.stored().map_err(|e| refuse(&e))?;
    let chosen: Vec<&Stored> = stored.iter().filter(|s| ids.is_empty() || ids.contains(s.id())).collect();
    if let Some(missing) = ids.iter().find(|id| !stored.iter().any(|s| s.id() == *id)) {
        return Err(fail(
            Exit::Usage,
            &format!("{name} has no whole generation {missing} here: see `handover sink list {name}`"),
        ));
    }
    let mut all = Vec::new();
    for one in chosen {
        progress.begin(format!("verifying {}", one.id()), 0, one.found.generation.bytes);
        let report = store.verify(one.id(), clock::now(), &effort(&progress)).map_err(|e| refuse(&e))?;
        all.push(verified(name.as_str(), one.id().as_str(), &report));
    }
    drop(display);
    let torn = strange.iter().filter(|_| ids.is_empty()).map(|s| Verified {
        source: name.to_string(),
        id: sys::show(s.name.as_encoded_bytes()),
        files: 0,
        bytes: 0,
        whole: false,
        damaged: vec![s.why.clone()],
    });
    all.extend(torn);
    Ok(tell_verified(context, &all))
}

pub(super) fn verify_path(context: &Context, path: &Path) -> Exit {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![("verify".to_owned(), Arc::clone(&progress))]);
    let report = verify::verify_path(path, &effort(&progress));
    drop(display);
    match report {
        Ok(report) => {
            let shown = sys::show(path.as_os_str().as_encoded_bytes());
            tell_verified(context, &[verified("", &shown, &report)])
        }
        Err(e) => refuse(&e),
    }
}

#[derive(Serialize)]
struct Planned {
    source: String,
    id: String,
    goes: bool,
    reasons: Vec<String>,
}

pub(super) fn prune_plan(context: &Context, sink: &Sink<'_>, names: &[Name]) -> Outcome {
    let (store, _) = sink.open()?;
    let mut rows = Vec::new();
    for source in sink.named(names)? {
        let kept = store.source(&source.name).map_err(|e| refuse(&e))?;
        for decision in prune::decide(&kept, source, sink.config, clock::now()).map_err(|e| refuse(&e))? {
            let (goes, reasons) = match &decision.verdict {
                Verdict::Keep(reasons) => (false, reasons.iter().map(ToString::to_string).collect()),
                Verdict::Condemn(reason) => (true, vec![reason.to_string()]),
            };
            rows.push(Planned {
                source: source.name.to_string(),
                id: decision.id.to_string(),
                goes,
                reasons,
            });
        }
    }
    if context.json {
        return Ok(show::json(&rows));
    }
    let lines = rows.iter().map(|r| {
        let verdict = if r.goes { "goes" } else { "stays" };
        vec![r.source.clone(), r.id.clone(), verdict.to_owned(), r.reasons.join("; ")]
    });
    show::data(&show::table(&["source", "generation", "verdict", "because"], lines.collect()));
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
        let kept = store.source(&source.name).map_err(|e| refuse(&e))?;
        for one in kept.quarantined().map_err(|e| refuse(&e))? {
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
