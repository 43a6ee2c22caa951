//! A run of `handover sink` or `handover logsink`: every source by itself, several at a time; the failure of one leaves the others alone.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use jiff::Timestamp;

use super::{one, preflight, rename};
use crate::{
    config,
    remote::{self, Remote, Tools},
    report::{Exit, Finding, Kind, SinkRun, SinkSource, exit_of},
    store::sink_store::SinkStore,
    sys::{self, Dir, name::Name, progress::Progress},
};

/// Connects to a source.
pub type Connect<'a> = dyn Fn(&config::SinkSource) -> remote::Result<Box<dyn Remote>> + Sync + 'a;

/// What a run is given.
pub struct Setup<'a> {
    /// The sink's part of the configuration.
    pub config: &'a config::Sink,
    /// The sources of this run, and the progress of each.
    pub sources: Vec<(&'a config::SinkSource, Arc<Progress>)>,
    /// The state folder of the role.
    pub state: &'a Path,
    /// This host's name, for receipts.
    pub host: &'a str,
    /// The programs of the transport.
    pub tools: &'a Tools,
    /// How sources are reached.
    pub connect: &'a Connect<'a>,
    /// The clock.
    pub clock: &'a (dyn Fn() -> Timestamp + Sync),
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Runs all sources. Whatever happens is in the report.
pub fn run(setup: &Setup<'_>) -> SinkRun {
    let started = (setup.clock)();
    let mut findings = preflight::findings(setup.tools);
    let mut sources = Vec::new();
    // What may not run unguarded does not run.
    if exit_of(&findings) == Exit::Ok {
        match open(setup) {
            Ok((store, state, standing)) => {
                findings.extend(told(&standing));
                sources = all(setup, &store, &state);
                findings.extend(super::watch::nearly_full(setup.config, &store));
                if !setup.dry_run {
                    findings.extend(purge_forgotten(setup, &store, &state));
                    findings.extend(left_alone(setup.config, &store));
                }
            }
            Err(finding) => findings.push(*finding),
        }
    }
    let exit = sources.iter().fold(exit_of(&findings), |exit, source| exit.worst(exit_of(&source.findings)));
    SinkRun { started, finished: (setup.clock)(), sources, findings, exit }
}

/// What was forgotten has no run of its own.
fn purge_forgotten(setup: &Setup<'_>, store: &SinkStore, state: &Dir) -> Vec<Finding> {
    match super::forget::purge(store, setup.config, state, (setup.clock)()) {
        Ok(gone) => {
            let text = "it was deleted: its source was forgotten, and its time to be taken back was over";
            gone.into_iter()
                .map(|(name, id)| Finding::new(Kind::Note, format!("{name} {id}"), text))
                .collect()
        }
        Err(e) => vec![super::fetch::store_finding(setup.config.role, "store", &e)],
    }
}

/// What a run says that has no source.
pub fn nothing_configured(role: config::SinkRole) -> String {
    format!(
        "no source is configured: there is nothing to fetch. Add one with `handover {role} enroll NAME HOST`, or {} with path",
        role.source_header()
    )
}

/// Where no source is configured: those of which something is stored that nobody forgot. A configuration that was lost
/// must not look like a sink that is retired.
fn left_alone(config: &config::Sink, store: &SinkStore) -> Option<Finding> {
    if !config.sources.is_empty() {
        return None;
    }
    let role = config.role;
    let refused = |e: &crate::store::Error| super::fetch::store_finding(role, "store", e);
    let is_left = |name: &Name| -> crate::store::Result<bool> {
        Ok(store.source(name)?.stored()?.0.iter().any(|one| one.marks.pinned.is_none()))
    };
    let sources = match store.sources() {
        Ok(sources) => sources,
        Err(e) => return Some(refused(&e)),
    };
    let mut left = Vec::new();
    for name in sources {
        match is_left(&name) {
            Ok(true) => left.push(name.to_string()),
            Ok(false) => {}
            Err(e) => return Some(refused(&e)),
        }
    }
    if left.is_empty() {
        return None;
    }
    let text = format!("no source is configured, and generations are stored of {}", left.join(", "));
    let fix = format!(
        "put {} back into the configuration; of a source that is no more: `handover {role} forget NAME`",
        role.source_header()
    );
    Some(Finding::new(Kind::Configuration, "store", text).with_fix(fix))
}

fn open(setup: &Setup<'_>) -> Result<(SinkStore, Dir, rename::Standing), Box<Finding>> {
    let refused = |e| Box::new(super::fetch::store_finding(setup.config.role, "store", &e));
    if setup.dry_run {
        let (store, state) = open_store(setup.config, setup.state).map_err(refused)?;
        return Ok((store, state, rename::Standing::Nothing));
    }
    open_settled(setup.config, setup.state).map_err(refused)
}

/// Opens the store, and finishes a rename that was cut.
pub fn open_settled(
    config: &config::Sink,
    state: &Path,
) -> crate::store::Result<(SinkStore, Dir, rename::Standing)> {
    let (store, state) = open_store(config, state)?;
    let names: Vec<Name> = config.sources.iter().map(|source| source.name.clone()).collect();
    let standing = rename::settle(&store, config.role, &names, &state)?;
    Ok((store, state, standing))
}

/// What is said of a rename that was cut.
pub fn told(standing: &rename::Standing) -> Option<Finding> {
    match standing {
        rename::Standing::Finished(old, new) => {
            let text = format!("the rename of {old} to {new}, which was cut, was finished");
            Some(Finding::new(Kind::Note, new.as_str(), text))
        }
        _ => None,
    }
}

/// Opens the store by its marker, which must be the one that `init` noted in the state folder.
pub fn open_store(config: &config::Sink, state: &Path) -> crate::store::Result<(SinkStore, Dir)> {
    let state = Dir::create_all(state, 0o700)?;
    Ok((SinkStore::open(&config.home, noted(&state)?.as_deref())?, state))
}

/// Whether the store that was noted is in its place, changing nothing; well where none was noted.
pub fn check_store(config: &config::Sink, state: &Path) -> crate::store::Result<()> {
    let noted = match Dir::open(state) {
        Err(e) if e.is_not_found() => None,
        dir => noted(&dir?)?,
    };
    match noted {
        Some(id) => SinkStore::look(&config.home, Some(&id)).map(|_| ()),
        None => Ok(()),
    }
}

fn noted(state: &Dir) -> sys::Result<Option<String>> {
    let noted = state.read_if_any(STORE_ID, 1024)?;
    Ok(noted.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// Notes the marker of the store, so that another disk in its place is recognised.
pub fn note_store(store: &SinkStore, state: &Path) -> sys::Result<()> {
    sys::durable::write_file(&Dir::create_all(state, 0o700)?, STORE_ID, store.id().as_bytes(), 0o600)
}

/// Whether a store was noted: then it was made once, and is only opened from there on.
pub fn is_noted(state: &Path) -> sys::Result<bool> {
    match Dir::open(state) {
        Err(e) if e.is_not_found() => Ok(false),
        dir => Ok(dir?.stat_if_any(STORE_ID)?.is_some()),
    }
}

/// The file in the state folder that holds the marker of the store.
const STORE_ID: &str = "store-id";

fn all(setup: &Setup<'_>, store: &SinkStore, state: &Dir) -> Vec<SinkSource> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, SinkSource)>> = Mutex::new(Vec::new());
    let workers = setup.sources.len().min(usize::try_from(setup.config.concurrency).unwrap_or(1)).max(1);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((source, progress)) = setup.sources.get(index) else { break };
                    let report = one::run(setup, store, state, source, progress);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, report));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    let mut reports: Vec<SinkSource> = done.into_iter().map(|(_, report)| report).collect();
    // A thread that failed took its source's report with it: that source must not look as if it were well.
    for (source, _) in &setup.sources {
        if !reports.iter().any(|r| r.name == source.name.as_str()) {
            let text = "internal: the thread of this source failed";
            let mut lost = one::empty_report(source.name.as_str());
            let finding = Finding::new(Kind::Internal, source.name.as_str(), text);
            lost.findings.push(finding.with_fix("report it; what is stored is whole"));
            reports.push(lost);
        }
    }
    reports
}
