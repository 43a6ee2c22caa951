//! `handover restore`.

mod to;

use super::{
    Context,
    args::{RestoreAction, RestoreArgs, RestoreRunArgs},
    fail,
};
use crate::report::Exit;

pub(super) fn dispatch(context: &Context, args: RestoreArgs) -> Exit {
    let refuse = |what: &str| fail(Exit::Usage, &format!("`restore {what}` is not built yet"));
    match args.action.unwrap_or(RestoreAction::Run(args.run)) {
        RestoreAction::Run(args) => run(context, &args),
        RestoreAction::Plan(args) => run(context, &RestoreRunArgs { dry_run: true, ..args }),
        RestoreAction::List(_) => refuse("list"),
        RestoreAction::Grant(_) => refuse("grant"),
        RestoreAction::Gate(_) => refuse("gate"),
        RestoreAction::Drill(_) => refuse("drill"),
        RestoreAction::Undo { .. } => refuse("undo"),
        RestoreAction::Clean(_) => refuse("clean"),
    }
}

fn run(context: &Context, args: &RestoreRunArgs) -> Exit {
    match &args.to {
        Some(to) => to::run(context, args, to),
        None => fail(Exit::Usage, &"--to DIR is missing"),
    }
}
