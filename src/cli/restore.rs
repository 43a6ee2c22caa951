//! `handover restore`.

mod drill;
mod gate;
mod give_up;
mod grant;
mod kept;
mod live;
mod look;
mod to;

pub(super) use gate::run as gate;

use std::path::{Path, PathBuf};

use super::{
    Context,
    args::{RestoreAction, RestoreArgs, RestoreRunArgs, Which},
    fail,
};
use crate::{
    config::{self, Config, Source},
    manifest::GenerationId,
    report::Exit,
};

pub(super) fn dispatch(context: &Context, args: RestoreArgs) -> Exit {
    let done = match args.action.unwrap_or(RestoreAction::Run(args.run)) {
        RestoreAction::Run(args) => run(context, &args),
        RestoreAction::Plan(args) => run(context, &RestoreRunArgs { dry_run: true, ..args }),
        RestoreAction::List(args) if args.replaced => kept::list(context),
        RestoreAction::List(args) => look::run(context, &args),
        RestoreAction::Grant(args) => Ok(grant::run(context, &args)),
        RestoreAction::Gate(_) => Err(fail(Exit::Usage, &"the gate is for a granted key alone")),
        RestoreAction::Drill(args) => drill::run(context, &args),
        RestoreAction::Undo { dry_run, yes, give_up: true } => give_up::run(context, dry_run, yes),
        RestoreAction::Undo { dry_run, yes, give_up: false } => kept::undo(context, dry_run, yes),
        RestoreAction::Clean(args) => kept::clean(context, &args),
    };
    match done {
        Ok(exit) | Err(exit) => exit,
    }
}

fn run(context: &Context, args: &RestoreRunArgs) -> Result<Exit, Exit> {
    match &args.to {
        Some(to) => to::run(context, args, to),
        None => live::run(context, args),
    }
}

/// What is collected here says where it goes back to.
fn load(context: &Context) -> Result<(Config, Source), Exit> {
    let config = context.load(config::Role::Restore)?;
    let source = config.source().map_err(|e| fail(Exit::Configuration, &e))?.clone();
    Ok((config, source))
}

fn id(which: &Which) -> Option<GenerationId> {
    match which {
        Which::Newest => None,
        Which::Id(id) => Some(id.clone()),
    }
}

/// Refuses a place that was named and is not there, as what is wrong with the command line.
fn there(place: Option<&Path>) -> Result<(), Exit> {
    let Some(place) = place else { return Ok(()) };
    match crate::sys::Dir::open(place) {
        Err(e) if e.is_not_found() => {
            let shown = crate::sys::show(place.as_os_str().as_encoded_bytes());
            Err(fail(Exit::Usage, &format!("--from {shown}: there is no such file or folder")))
        }
        _ => Ok(()),
    }
}

/// Paths as the configuration has them: absolute, without a slash at the end.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Exit> {
    let is_plain = |path: &PathBuf| {
        path.is_absolute() && !path.components().any(|c| matches!(c, std::path::Component::ParentDir))
    };
    match paths.iter().find(|path| !is_plain(path)) {
        Some(path) => {
            let shown = crate::sys::show(path.as_os_str().as_encoded_bytes());
            Err(fail(
                Exit::Usage,
                &format!("--path {shown}: name it as it is on the source, beginning with a slash"),
            ))
        }
        None => Ok(paths.iter().map(|path| path.components().collect()).collect()),
    }
}
