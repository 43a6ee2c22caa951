//! `handover sink rename`: a source that calls itself otherwise. Its folders get the new name, then the configuration.

use std::time::Duration;

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{Context, args::RenameArgs, authorize, fail, show},
    config::Config,
    report::Exit,
    sink::{enroll, status},
    store,
    sys::{self, Dir, child, name::Name, users},
};

#[derive(Serialize)]
struct Renamed<'a> {
    old: &'a str,
    new: &'a str,
    folders: bool,
    configuration: bool,
    dry_run: bool,
}

/// Renames: every step can be cut and typed again.
pub(super) fn run(context: &Context, config: &Config, sink: &Sink<'_>, args: &RenameArgs) -> Outcome {
    let failed = |e: &dyn std::fmt::Display| fail(Exit::Configuration, e);
    let written = std::fs::read_to_string(&config.file).map_err(|e| failed(&e))?;
    let text = enroll::renamed(&written, sink.config.role, &args.old, &args.new).map_err(|e| failed(&e))?;
    let moves = folders(context, sink, args)?;
    if args.only_folders {
        return Ok(Exit::Ok);
    }
    if text.is_none() && !moves {
        let text = format!("there is no {} here, neither configured nor stored", args.old);
        return Err(fail(Exit::Usage, &text));
    }
    if let Some(text) = text.as_ref().filter(|_| !args.dry_run) {
        enroll::write(&config.file, text).map_err(|e| failed(&e))?;
    }
    tell(context, config, sink, args, (moves, text.is_some()));
    Ok(Exit::Ok)
}

/// The folders of the store, as their owner; true if there is anything to move.
fn folders(context: &Context, sink: &Sink<'_>, args: &RenameArgs) -> Result<bool, Exit> {
    let owner = Dir::open(&sink.config.home).and_then(|home| home.stat_self()).map_or(0, |stat| stat.st_uid);
    if owner != 0 && users::is_root() && !args.dry_run {
        let there = sys::Dir::open(sink.config.home.join(store::places::STORE))
            .is_ok_and(|dir| dir.stat_if_any(args.old.as_str()).is_ok_and(|stat| stat.is_some()));
        as_owner(context, sink, args, owner)?;
        return Ok(there);
    }
    let (store, state) = sink.open()?;
    let _locks = [&args.old, &args.new].map(|name| sink.lock(&state, name, "rename"));
    if let Some(Err(exit)) = _locks.iter().find(|lock| lock.is_err()) {
        return Err(*exit);
    }
    let moved = store.rename_source(&args.old, &args.new, args.dry_run).map_err(|e| sink.refuse(&e))?;
    if !args.dry_run {
        status::rename(&state, args.old.as_str(), args.new.as_str()).map_err(|e| sink.refuse(&e.into()))?;
    }
    Ok(moved)
}

/// By this program as that user: root makes nothing in a folder that is another's.
fn as_owner(context: &Context, sink: &Sink<'_>, args: &RenameArgs, owner: u32) -> Result<(), Exit> {
    let failed = |e: &dyn std::fmt::Display| fail(Exit::Configuration, e);
    let Some(user) = users::find_id(owner).map_err(|e| failed(&e))? else {
        return Err(failed(&format!("the store belongs to user {owner}, whom /etc/passwd does not know")));
    };
    let handover = authorize::own_path().map_err(|e| failed(&e))?;
    let argv: Vec<String> = [
        handover.to_string_lossy().as_ref(),
        "--quiet",
        "--config",
        context.config.to_string_lossy().as_ref(),
        sink.config.role.name(),
        "rename",
        args.old.as_str(),
        args.new.as_str(),
        "--only-folders",
    ]
    .map(str::to_owned)
    .to_vec();
    let job = child::Job { argv: &argv, user: Some(&user.name), env: &[], timeout: Duration::from_secs(120) };
    child::run(&job, None, None).map_err(|e| failed(&e))
}

fn tell(
    context: &Context,
    config: &Config,
    sink: &Sink<'_>,
    args: &RenameArgs,
    (folders, text): (bool, bool),
) {
    let (old, new) = (args.old.as_str(), args.new.as_str());
    if context.json {
        show::json(&Renamed { old, new, folders, configuration: text, dry_run: args.dry_run });
        return;
    }
    if context.quiet && !args.dry_run {
        return;
    }
    let is = if args.dry_run { "would be" } else { "is" };
    if folders {
        show::talk(&format!("what is kept of {old} {is} that of {new}"));
    }
    if text {
        let file = sys::show(config.file.as_os_str().as_encoded_bytes());
        show::talk(&format!("{old} {is} {new} in {file}"));
    }
    show::talk(&format!(
        "the source must call itself so too: name = \"{new}\" in its [source], then `handover source run` there, and \
         `handover {} run {new}` here. Generations made before are restored with --as {old}",
        sink.config.role
    ));
}

impl Sink<'_> {
    /// The lock of one source.
    pub(super) fn lock(&self, state: &Dir, name: &Name, action: &str) -> Result<sys::lock::Lock, Exit> {
        let what = format!("handover {} {action}", self.config.role);
        match sys::lock::try_exclusive(&state.join(status::lock_file(name.as_str())), &what) {
            Ok(sys::lock::Attempt::Held(lock)) => Ok(lock),
            Ok(sys::lock::Attempt::Busy(who)) => {
                Err(fail(Exit::Busy, &format!("{name}: another run holds the lock: {who}")))
            }
            Err(e) => Err(self.refuse(&e.into())),
        }
    }
}
