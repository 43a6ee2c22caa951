//! `handover sink verify`: every hash again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::{Outcome, Sink, connect, refuse};
use crate::{
    cli::{Context, alarm, alarm::What, args::Which, fail, progress::Display, show},
    config::{Config, Sandbox, SinkRole},
    manifest::GenerationId,
    notify::{Looked, Scope},
    remote::Tools,
    report::{Exit, Kind, exit_of as exit_of_findings},
    sink::{
        self as sinks,
        heal::{NoHelp, Way, from_source},
    },
    store::{
        self, SourceStore, Stored,
        heal::{Healed, Healing},
        prove::Effort,
        verify::VerifyReport,
    },
    sys::{self, Dir, clock, name::Name, progress::Progress},
};

/// What is damaged is to be put back.
pub(super) struct Heal {
    /// A folder with copies of generations.
    pub(super) from: Option<PathBuf>,
    /// Only say what would be put back.
    pub(super) dry_run: bool,
}

/// Of one source, or of all. What is damaged is an alarm, and its end too.
pub(super) fn all(
    context: &Context,
    config: &Config,
    sink: &Sink<'_>,
    name: Option<&Name>,
    ids: &[Which],
    heal: Option<&Heal>,
) -> Outcome {
    let names: Vec<Name> = name.into_iter().cloned().collect();
    let (mut exit, mut seen, mut found) = (Exit::Ok, Vec::new(), Vec::new());
    for source in sink.named(&names)? {
        let (store, lock) = match sink.locked(&source.name, "verify") {
            Ok(locked) => locked,
            // That a run is at work with one source keeps nobody from proving the others.
            Err(Exit::Busy) => {
                exit = exit.worst(Exit::Busy);
                continue;
            }
            Err(failed) => return Err(failed),
        };
        let of_source = one(context, sink, &source.name, &store, ids, heal)?;
        exit = exit.worst(exit_of(&of_source));
        drop(lock);
        let known = store.stored().map_err(|e| sink.refuse(&e))?;
        let damage = sinks::watch::damage(sink.config.role, source.name.as_str(), &known);
        found.push((source.name.as_str(), damage.into_iter().collect::<Vec<_>>()));
        if context.json {
            seen.extend(of_source);
        } else {
            tell(context, &of_source);
        }
    }
    let scopes = found.iter().map(|(name, findings)| Scope {
        name,
        findings,
        generation: None,
        looked: Looked::nothing().and(Kind::Damaged),
    });
    if heal.is_none_or(|heal| !heal.dry_run) {
        let what = What { role: sink.config.role.name(), action: "verify" };
        let said = alarm::deliver(config, what, exit, scopes.collect());
        show::findings(sink.config.role.name(), &said, context.quiet);
        exit = exit.worst(exit_of_findings(&said));
    }
    Ok(if context.json { exit.worst(show::json(&seen)) } else { exit })
}

#[derive(Serialize)]
struct Verified {
    source: String,
    id: String,
    files: u64,
    bytes: u64,
    whole: bool,
    /// Files that were put back, or would be.
    healed: u64,
    /// That nothing was changed: only what would be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// Why its source could not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_said: Option<String>,
    damaged: Vec<String>,
    /// What to do next, where it is not whole.
    next: Option<String>,
}

fn verified(source: &str, id: &str, report: &VerifyReport, next: impl FnOnce() -> String) -> Verified {
    let bad = report.own.iter().chain(&report.content).map(ToString::to_string);
    let extra = report.extra.iter().map(|path| format!("{}: it does not belong here", sys::show(path)));
    Verified {
        source: source.to_owned(),
        id: id.to_owned(),
        files: report.files,
        bytes: report.bytes,
        whole: report.is_whole(),
        healed: 0,
        dry_run: false,
        source_said: None,
        damaged: bad.chain(extra).collect(),
        next: (!report.is_whole()).then(next),
    }
}

fn exit_of(all: &[Verified]) -> Exit {
    if all.iter().all(|v| v.whole) { Exit::Ok } else { Exit::VerificationFailed }
}

fn tell(context: &Context, all: &[Verified]) {
    for one in all {
        let state = if one.whole { "whole" } else { "DAMAGED" };
        let text = format!(
            "{} {}: {state}, {}, {}",
            one.source,
            one.id,
            show::files(one.files),
            show::size(one.bytes)
        );
        if !one.whole || !context.quiet {
            show::data(text.trim_start());
        }
        match (one.healed, one.dry_run) {
            (0, false) => {}
            (files, true) => show::data(&format!(
                "  {} would be put back from here; its source would be asked for the rest",
                show::files(files)
            )),
            (files, false) => {
                show::data(&format!("  {} put back", show::count(files, "file was", "files were")));
            }
        }
        one.source_said
            .iter()
            .for_each(|why| show::data(&format!("  nothing came from {}: {why}", one.source)));
        one.damaged.iter().for_each(|line| show::data(&format!("  {line}")));
        one.next.iter().for_each(|next| show::data(&format!("  -> {next}")));
    }
}

/// What an operator does about damage in the store.
fn after_damage(role: SinkRole, name: &Name) -> String {
    format!(
        "look at the disk (`dmesg`, `smartctl`). `handover {role} verify {name} --heal` puts back what another generation \
         here has whole, or the source while it still has this one; with `--from DIR` also what any other copy has, as the \
         provider's backup of the sink. What the source still has in newer form comes with the next run. `handover {role} \
         list {name}` shows which generations are whole; damaged ones are neither counted nor deleted"
    )
}

fn effort(progress: &Arc<Progress>) -> Effort {
    let progress = Arc::clone(progress);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    Effort { threads, progress: Arc::new(move |bytes| progress.add_bytes(bytes)) }
}

fn one(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    store: &SourceStore,
    ids: &[Which],
    heal: Option<&Heal>,
) -> Result<Vec<Verified>, Exit> {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(name.to_string(), Arc::clone(&progress))]);
    if heal.is_some_and(|heal| !heal.dry_run) {
        // What an earlier one was cut in.
        store.recover().map_err(|e| sink.refuse(&e))?;
    }
    let (stored, strange) = store.stored().map_err(|e| sink.refuse(&e))?;
    let newest = stored.last().map(|stored| stored.id().clone());
    let named = |which: &Which| match which {
        Which::Newest => newest.clone(),
        Which::Id(id) => Some(id.clone()),
    };
    let asked: Vec<GenerationId> = ids.iter().filter_map(named).collect();
    let chosen: Vec<&Stored> = stored.iter().filter(|s| ids.is_empty() || asked.contains(s.id())).collect();
    if let Some(missing) = asked.iter().find(|id| !stored.iter().any(|s| s.id() == *id)) {
        return Err(fail(
            Exit::Usage,
            &format!(
                "{name} has no whole generation {missing} here: see `handover {} list {name}`",
                sink.config.role
            ),
        ));
    }
    let look = |one: &Stored| -> Result<Verified, Exit> {
        progress.begin(format!("verifying {}", one.id()), 0, one.found.generation.bytes);
        let (healed, source_said) = match heal {
            Some(heal) => heal.one(sink, store, one, &effort(&progress))?,
            None => {
                let report = store.verify(one.id(), clock::now(), &effort(&progress));
                (Healed { files: 0, report: report.map_err(|e| sink.refuse(&e))? }, None)
            }
        };
        let next = || after_damage(sink.config.role, name);
        let seen = verified(name.as_str(), one.id().as_str(), &healed.report, next);
        let dry_run = heal.is_some_and(|heal| heal.dry_run) && !healed.report.is_whole();
        Ok(Verified { healed: healed.files, dry_run, source_said, ..seen })
    };
    let mut all = Vec::new();
    // The newest first: it is the one that the source still has, and what it gets from there heals the others.
    for one in chosen.iter().rev() {
        all.push(look(one)?);
    }
    // What one was given may be what an earlier one lacked.
    if heal.is_some_and(|heal| !heal.dry_run) && all.iter().any(|one| one.healed > 0) {
        for (one, seen) in chosen.iter().rev().zip(&mut all).filter(|(_, seen)| !seen.whole) {
            let again = look(one)?;
            *seen = Verified { healed: seen.healed + again.healed, ..again };
        }
    }
    all.reverse();
    drop(display);
    let torn = strange.iter().filter(|_| ids.is_empty()).map(|s| Verified {
        source: name.to_string(),
        id: sys::show(s.name.as_encoded_bytes()),
        files: 0,
        bytes: 0,
        whole: false,
        healed: 0,
        dry_run: false,
        source_said: None,
        damaged: vec![s.why.clone()],
        next: Some(
            "it is no whole generation and counts as none; look at it, and move it out of the store by hand"
                .to_owned(),
        ),
    });
    all.extend(torn);
    Ok(all)
}

impl Heal {
    /// Heals one generation from all places, the nearest first. Why its source gave nothing, if it was asked in vain.
    fn one(
        &self,
        sink: &Sink<'_>,
        store: &SourceStore,
        one: &Stored,
        effort: &Effort,
    ) -> Result<(Healed, Option<String>), Exit> {
        let refuse = |e| sink.refuse(&e);
        let now = clock::now();
        let mut healing = if self.dry_run {
            store.heal_plan(one.id(), now, effort)
        } else {
            store.heal(one.id(), now, effort)
        }
        .map_err(refuse)?;
        if let Some(folder) = &self.from
            && !healing.missing().is_empty()
        {
            let folder = Dir::open(folder).map_err(|e| fail(Exit::Usage, &e))?;
            if store.heal_from(&mut healing, &folder, effort).map_err(refuse)? == 0 {
                let shown = sys::show(folder.path().as_os_str().as_encoded_bytes());
                let text = format!(
                    "no generation that this user can read lies in {shown} (or in folders of it): name the copy of a \
                     generation, of a store or of a home"
                );
                return Err(fail(Exit::Usage, &text));
            }
        }
        let mut said = None;
        if !healing.missing().is_empty() && !self.dry_run {
            match ask_source(sink, store, (&mut healing, one), effort) {
                Ok(()) if healing.missing().is_empty() => {}
                Ok(()) => said = Some("what it has of this is damaged or gone too".to_owned()),
                Err(NoHelp::Store(e)) => return Err(refuse(e)),
                Err(NoHelp::Said(why)) => said = Some(why),
            }
        }
        let healed = store.heal_end(healing, now, effort).map_err(refuse)?;
        Ok((healed, said))
    }
}

fn ask_source(
    sink: &Sink<'_>,
    store: &SourceStore,
    (healing, one): (&mut Healing, &Stored),
    effort: &Effort,
) -> Result<(), NoHelp> {
    let Some(source) = sink.config.sources.iter().find(|source| source.name == *store.name()) else {
        return Err(NoHelp::Said("it is not in the configuration".to_owned()));
    };
    let tools = Tools::find(sink.config.sandbox == Sandbox::Required)?;
    let way = Way {
        config: sink.config,
        source,
        tools: &tools,
        connect: &|source| connect(sink.config, &sink.state, source, &tools),
    };
    from_source(&way, store, (healing, one.receipt.seal), effort)
}

/// Reads a generation in any folder.
pub(super) fn path(context: &Context, role: SinkRole, path: &Path) -> Exit {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![("verify".to_owned(), Arc::clone(&progress))]);
    let report = store::verify::verify_path(path, &effort(&progress));
    drop(display);
    match report {
        Ok(report) => {
            let shown = sys::show(path.as_os_str().as_encoded_bytes());
            let next = || "this copy is not to be restored from as it is: take another one".to_owned();
            let seen = [verified("", &shown, &report, next)];
            if context.json {
                show::json(&seen);
            } else {
                tell(context, &seen);
            }
            exit_of(&seen)
        }
        // That nothing is there is a mistake of who named it.
        Err(store::Error::Sys(e)) if e.is_not_found() || e.errno() == Some(libc::ENOTDIR) => {
            fail(Exit::Usage, &format!("{e}: name the folder of a generation"))
        }
        Err(e) => refuse(role, &e),
    }
}
