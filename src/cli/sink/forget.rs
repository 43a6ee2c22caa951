//! `handover sink forget`: a source that is no more. It is shown what goes, asked for the name, and nothing is deleted at once.

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{Context, args::ForgetArgs, ask, fail, show},
    report::Exit,
    sink::forget::{self, Plan},
    sys::{clock, name::Name},
};

#[derive(Serialize)]
struct Forgotten<'a> {
    source: &'a str,
    #[serde(flatten)]
    plan: &'a Plan,
    dry_run: bool,
}

/// Forgets a source, or shows what would go.
pub(super) fn run(context: &Context, sink: &Sink<'_>, args: &ForgetArgs) -> Outcome {
    let (name, role, now) = (&args.name, sink.config.role, clock::now());
    let (store, _lock) = sink.locked(name, "forget")?;
    let made = forget::plan(&store, sink.config, (args.keep, args.pinned), now);
    let plan = made.map_err(|e| sink.refuse(&e))?;
    let refused = refusal(sink, args, &plan);
    if args.dry_run {
        tell(context, sink, name, &plan, true);
        return refused.map_or(Ok(Exit::Ok), |(exit, text)| Err(fail(exit, &text)));
    }
    if let Some((exit, text)) = refused {
        return Err(fail(exit, &text));
    }
    if plan.goes.is_empty() {
        return Err(fail(Exit::Usage, &format!("nothing of {name} goes: see `handover {role} list {name}`")));
    }
    if !args.yes {
        if !ask::is_somebody_there(context) {
            return Err(ask::nobody_agreed("--yes"));
        }
        tell(context, sink, name, &plan, true);
        let typed = ask::answer(context, &format!("type the name of the source to forget it ({name}):"));
        if typed.as_deref() != Some(name.as_str()) {
            return Err(fail(Exit::Usage, &"that is not its name: nothing was changed"));
        }
    }
    forget::forget(&store, &plan, now).map_err(|e| sink.refuse(&e))?;
    tell(context, sink, name, &plan, false);
    Ok(Exit::Ok)
}

/// Why it is not forgotten as asked.
fn refusal(sink: &Sink<'_>, args: &ForgetArgs, plan: &Plan) -> Option<(Exit, String)> {
    let (name, role) = (&args.name, sink.config.role);
    if sink.config.sources.iter().any(|source| source.name == *name) {
        let header = role.source_header();
        let text = format!(
            "{name} is still configured, and its next run would fetch all of it again\n  -> stop it on the source, take its \
             {header} out of the configuration, then type this again"
        );
        return Some((Exit::Configuration, text));
    }
    if plan.frozen {
        let text = format!(
            "something of {name} is suspicious, and what was stored before it may be the last good copy\n  -> look with `handover {role} \
             list {name}`; if it is as it should be: handover {role} trust {name}"
        );
        return Some((Exit::Usage, text));
    }
    let at = plan.recent.filter(|_| !args.even_recent)?;
    let text = format!(
        "the newest generation of {name} came at {at}, less than 7 days ago: is it really retired?\n  -> if it is: --even-recent"
    );
    Some((Exit::Usage, text))
}

fn tell(context: &Context, sink: &Sink<'_>, name: &Name, plan: &Plan, dry_run: bool) {
    if context.json {
        show::json(&Forgotten { source: name.as_str(), plan, dry_run });
        return;
    }
    if context.quiet && !dry_run {
        return;
    }
    let (would, role) = (if dry_run { "would be condemned" } else { "is condemned" }, sink.config.role);
    plan.goes.iter().for_each(|id| show::talk(&format!("{name}: {id} {would}")));
    plan.stays.iter().for_each(|(id, why)| show::talk(&format!("{name}: {id} stays: {why}")));
    show::talk(&format!(
        "what is condemned is deleted by a run after {}; until then: handover {role} undo {name} --all",
        plan.undo_until
    ));
}
