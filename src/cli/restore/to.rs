//! `handover restore --to`.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::super::{
    Context,
    args::{RestoreRunArgs, Which},
    fail,
    progress::Display,
    show,
};
use crate::{
    config,
    manifest::Channel,
    report::Exit,
    restore::{
        choose::{self, Chosen, NoChoice},
        selection::{Places, Selection},
        write_out::{self, Error, Proven, Wanted, Written},
    },
    store::{ledger, places},
    sys::{self, Dir, progress::Progress},
};

#[derive(Serialize)]
struct Report {
    id: String,
    seal: String,
    why: String,
    to: String,
    wanted: Wanted,
    written: Option<Written>,
}

pub(super) fn run(context: &Context, args: &RestoreRunArgs, to: &Path) -> Exit {
    match restore(context, args, to) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn restore(context: &Context, args: &RestoreRunArgs, to: &Path) -> Result<Exit, Exit> {
    let chosen = choose(context, args)?;
    for strange in &chosen.strange {
        show::talk(&format!("warning: passed over: {}", strange.why));
    }
    let generation = &chosen.found.generation;
    let selection =
        Selection { elements: args.element.clone(), paths: args.path.iter().map(|p| relative(p)).collect() };
    let chosen_places = Places::new(generation, &selection).map_err(|unknown| {
        let there: Vec<&str> = generation.elements.iter().map(|e| e.name.as_str()).collect();
        let unknown: Vec<&str> = unknown.iter().map(|n| n.as_str()).collect();
        fail(
            Exit::Usage,
            &format!(
                "no element {} in {}; there are: {}",
                unknown.join(", "),
                generation.id,
                there.join(", ")
            ),
        )
    })?;
    let trusted = is_trusted(context, &chosen, args);
    let proven = Proven::new(&chosen.dir, generation).map_err(|e| end(&e))?;
    let wanted = proven.count(&chosen_places).map_err(|e| end(&e))?;
    if wanted.entries == 0 {
        return Err(fail(Exit::Usage, &format!("nothing in {} is what was asked for", generation.id)));
    }
    for element in generation.elements.iter().filter(|e| !e.ok) {
        let why = sys::show(element.reason.as_deref().unwrap_or_default().as_bytes());
        show::talk(&format!("warning: {} had failed when it was collected: {why}", element.name));
    }
    let target = target(to, args.dry_run)?;
    let mut report = Report {
        id: generation.id.to_string(),
        seal: chosen.found.seal.to_string(),
        why: chosen.why.clone(),
        to: sys::show(to.as_os_str().as_bytes()),
        wanted,
        written: None,
    };
    if let Some(target) = target {
        if !trusted {
            refuse_open(to, &target, &chosen)?;
        }
        let written = write(context, &proven, &chosen_places, &target, wanted)?;
        if written.entries == 0 && written.damaged_count == 0 {
            return Err(fail(Exit::Usage, &format!("nothing in {} is what was asked for", generation.id)));
        }
        report.written = Some(written);
    }
    Ok(tell(context, &report))
}

/// Whether the seal is known to be made here, or was given. On the host that it says it is of, one that root's ledger does
/// not have is worth a word.
fn is_trusted(context: &Context, chosen: &Chosen, args: &RestoreRunArgs) -> bool {
    if args.trust == Some(chosen.found.seal) {
        return true;
    }
    let Ok(config) = config::load(&context.config, &config::Surroundings::here(), config::Role::Restore)
    else {
        return false;
    };
    let generation = &chosen.found.generation;
    let is_here = config.source.is_some_and(|source| source.name == generation.source);
    let ledger = Dir::open(config.state.join("source")).and_then(|state| ledger::read(&state));
    let is_known = ledger.is_ok_and(|ledger| ledger.get(&generation.id) == Some(&chosen.found.seal));
    if is_here && generation.channel == Channel::Data && !is_known {
        show::talk(&format!(
            "warning: the ledger of this host does not know {} with this seal: look at what comes out before you use it",
            generation.id
        ));
    }
    is_known
}

/// Setuid files and devices come back as they were, and whoever made the generation chose them: where others can enter,
/// only what is trusted is written.
fn refuse_open(to: &Path, target: &Dir, chosen: &Chosen) -> Result<(), Exit> {
    let open = target.stat_self().map_err(|e| storage_or_usage(&e))?.st_mode & 0o077 != 0;
    if !open || !sys::users::is_root() {
        return Ok(());
    }
    let text = format!(
        "others can enter {}, and the seal of {} is not known here: what it brings may be setuid or a device\n  -> name a new \
         folder, which is made for you alone, or one with mode 0700; or compare the seal and give --trust {}",
        sys::show(to.as_os_str().as_bytes()),
        chosen.found.id(),
        chosen.found.seal
    );
    Err(fail(Exit::RestoreRefused, &text))
}

fn write(
    context: &Context,
    proven: &Proven,
    places: &Places<'_>,
    target: &Dir,
    wanted: Wanted,
) -> Result<Written, Exit> {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![("restore".to_owned(), Arc::clone(&progress))]);
    progress.begin("writing", wanted.files, wanted.bytes);
    let written = proven.write_out(places, target, &progress);
    drop(display);
    written.map_err(|e| end(&e))
}

fn tell(context: &Context, report: &Report) -> Exit {
    let damaged = report.written.as_ref().map_or(0, |w| w.damaged_count);
    let exit = if damaged > 0 { Exit::VerificationFailed } else { Exit::Ok };
    if context.json {
        show::json(report);
        return exit;
    }
    let what =
        format!("{}, {}", show::count(report.wanted.files, "file", "files"), show::size(report.wanted.bytes));
    match &report.written {
        None => show::talk(&format!("would write {} ({}): {what} to {}", report.id, report.why, report.to)),
        Some(written) => {
            written
                .damaged
                .iter()
                .for_each(|line| show::talk(&format!("error: damaged and not written: {line}")));
            for (what, count) in &written.unset {
                show::talk(&format!("warning: {what}: {}", show::count(*count, "time", "times")));
            }
            if damaged > 0 {
                show::talk(&format!(
                    "error: {damaged} files are damaged: try an older generation, or the sink's copy"
                ));
            } else if !context.quiet {
                let what =
                    format!("{}, {}", show::count(written.files, "file", "files"), show::size(written.bytes));
                show::talk(&format!(
                    "{} ({}) written to {}: {what}, every file proven",
                    report.id, report.why, report.to
                ));
            }
        }
    }
    exit
}

fn relative(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(start, |last| last + 1);
    bytes[start..end].to_vec()
}

fn choose(context: &Context, args: &RestoreRunArgs) -> Result<Chosen, Exit> {
    let id = match &args.id {
        Which::Newest => None,
        Which::Id(id) => Some(id),
    };
    let chosen = match &args.from {
        Some(from) => choose::from_folder(from, id),
        None => {
            let config = context.load(config::Role::Source)?;
            let source = config.source().map_err(|e| {
                fail(Exit::Configuration, &format!("{e}\nor name where the generation is: --from DIR"))
            })?;
            let looked: Vec<PathBuf> = [places::RESTORE, places::STORE].map(|p| source.home.join(p)).to_vec();
            choose::from_places(&looked, id)
        }
    };
    chosen.map_err(|e| {
        let exit = match &e {
            NoChoice::Nothing { .. } | NoChoice::NotThere { .. } => Exit::RestoreRefused,
            NoChoice::Store(e) if e.is_storage() => Exit::Storage,
            NoChoice::Store(_) => Exit::VerificationFailed,
            NoChoice::Sys(e) if e.is_storage() => Exit::Storage,
            NoChoice::Sys(_) => Exit::Usage,
        };
        fail(exit, &e)
    })
}

/// The target folder, empty; `None` for a dry run.
fn target(to: &Path, dry_run: bool) -> Result<Option<Dir>, Exit> {
    let shown = sys::show(to.as_os_str().as_bytes());
    match Dir::open(to).and_then(|dir| dir.names().map(|names| (dir, names))) {
        Ok((_, names)) if !names.is_empty() => {
            Err(fail(Exit::RestoreRefused, &format!("{shown} is not empty: name an empty or a new folder")))
        }
        Ok((dir, _)) => Ok((!dry_run).then_some(dir)),
        Err(e) if e.is_not_found() && dry_run => Ok(None),
        Err(e) if e.is_not_found() => Dir::create_all(to, 0o700).map(Some).map_err(|e| storage_or_usage(&e)),
        Err(e) => Err(storage_or_usage(&e)),
    }
}

fn storage_or_usage(e: &sys::Error) -> Exit {
    fail(if e.is_storage() { Exit::Storage } else { Exit::Usage }, e)
}

fn end(error: &write_out::Error) -> Exit {
    let exit = match error {
        Error::Damaged(_) | Error::Manifest(_) => Exit::VerificationFailed,
        Error::Interrupted(_) => Exit::Interrupted,
        Error::Sys(e) if e.is_storage() => Exit::Storage,
        Error::Sys(_) => Exit::SomeFailed,
    };
    fail(exit, error)
}
