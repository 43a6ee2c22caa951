//! `handover sink ls`, `find`, `diff`, `dump`: what is in stored generations.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{
        Context,
        args::{Which, WhichOrPath},
        fail, show,
    },
    manifest::{Entry, GenerationId, Kind, diff::Change},
    report::Exit,
    sink::query,
    store::SourceStore,
    sys::{self, name::Name},
};

/// Opens a source's store and the generation that was asked for.
fn which(sink: &Sink<'_>, name: &Name, id: &Which) -> Result<(Arc<SourceStore>, GenerationId), Exit> {
    let kept = sink.kept(name)?;
    let found = match id {
        Which::Newest => kept.newest(),
        Which::Id(id) => kept.get(id),
    };
    match found.map_err(|e| sink.refuse(&e))? {
        Some(stored) => Ok((kept, stored.id().clone())),
        None => {
            let wanted = match id {
                Which::Newest => "no generation".to_owned(),
                Which::Id(id) => format!("no generation {id}"),
            };
            Err(fail(
                Exit::Usage,
                &format!("{name} has {wanted} here: see `handover {} list {name}`", sink.config.role),
            ))
        }
    }
}

fn query_failed(sink: &Sink<'_>, e: &query::Error) -> Exit {
    match e {
        query::Error::Store(e) => sink.refuse(e),
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

/// `ls`: a path in the place of the generation is one in the newest.
pub(super) fn list(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    which: WhichOrPath,
    path: Option<PathBuf>,
) -> Outcome {
    match (which, path) {
        (WhichOrPath::Which(id), path) => ls(context, sink, name, &id, path.as_deref()),
        (WhichOrPath::Path(path), None) => ls(context, sink, name, &Which::Newest, Some(&path)),
        (WhichOrPath::Path(first), Some(second)) => {
            let shown = |path: &Path| sys::show(path.as_os_str().as_encoded_bytes());
            let text = format!(
                "{} and {} are two paths: give one, after the generation or without it",
                shown(&first),
                shown(&second)
            );
            Err(fail(Exit::Usage, &text))
        }
    }
}

fn ls(context: &Context, sink: &Sink<'_>, name: &Name, id: &Which, path: Option<&Path>) -> Outcome {
    let (store, id) = which(sink, name, id)?;
    let wanted = path.map(|p| p.as_os_str().as_encoded_bytes().to_vec()).unwrap_or_default();
    let wanted = wanted.strip_prefix(b"/").unwrap_or(&wanted);
    let wanted = wanted[..wanted.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1)].to_vec();
    let mut rows = Vec::new();
    let mut found = wanted.is_empty();
    let listed = query::each(&store, &id, &mut |entry| {
        let below =
            entry.path.iter().position(|b| *b == b'/').map_or(&b""[..], |slash| &entry.path[slash + 1..]);
        let within = |path: &[u8]| {
            path.strip_prefix(wanted.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if wanted.is_empty() || within(&entry.path) || within(below) {
            found = true;
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
    listed.map_err(|e| query_failed(sink, &e))?;
    if !found {
        let (shown, role) = (sys::show(&wanted), sink.config.role);
        let text = format!(
            "{id} has no {shown}: see `handover {role} ls {name} {id}`, or `handover {role} find {name} PATTERN`"
        );
        return Err(fail(Exit::Usage, &text));
    }
    Ok(if context.json { show::json(&rows) } else { Exit::Ok })
}

pub(super) fn find(context: &Context, sink: &Sink<'_>, name: &Name, pattern: &str) -> Outcome {
    let kept = sink.kept(name)?;
    let mut hits = query::find(&kept, pattern).map_err(|e| query_failed(sink, &e))?;
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
    compared.map_err(|e| query_failed(sink, &e))?;
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
    .map_err(|e| query_failed(sink, &e))?;
    let (shown, role) = (sys::show(asked), sink.config.role);
    let Some(entry) = found else {
        return Err(fail(Exit::Usage, &format!("{id} has no {shown}: see `handover {role} ls {name} {id}`")));
    };
    let Kind::File { digest, .. } = entry.kind else {
        return Err(fail(Exit::Usage, &format!("{shown} is not a regular file")));
    };
    let mut file = store.content(&id, &entry.path).map_err(|e| sink.refuse(&e))?;
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
