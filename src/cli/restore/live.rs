//! `handover restore` into the running application: the plan, the question, the outcome.

use std::sync::Arc;

use super::{
    super::{Context, args::RestoreRunArgs, ask, fail, progress::Display, show},
    absolute, id, load, there,
};
use crate::{
    manifest::Channel,
    report::{
        Exit,
        restore::{PlannedPath, RestoreRun},
    },
    restore::{
        pick::Wish,
        run::{self, Ask, Setup},
    },
    sys::{clock, progress::Progress, users},
};

pub(super) fn run(context: &Context, args: &RestoreRunArgs) -> Result<Exit, Exit> {
    let (config, source) = load(context)?;
    if !users::is_root() && !args.dry_run {
        let text = "only root can restore into the running application: owners and services are its own";
        return Err(fail(
            Exit::RestoreRefused,
            &format!("{text}\n  -> run it as root, or restore with --to DIR"),
        ));
    }
    there(args.from.as_deref())?;
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(source.name.to_string(), Arc::clone(&progress))]);
    let confirm = |report: &RestoreRun| args.yes || agreed(context, report);
    let setup = Setup {
        source: &source,
        config: &config.restore,
        state: &config.state,
        own: &config.own,
        progress: &progress,
        clock: &clock::now,
    };
    let report = run::run(
        &setup,
        &Ask {
            wish: Wish {
                id: id(&args.id),
                source: Some(args.as_name.clone().unwrap_or_else(|| source.name.clone())),
                channel: Channel::Data,
                elements: args.element.clone(),
                allow_older: args.allow_older,
                allow_partial: args.allow_partial,
                allow_torn: false,
                trust: args.trust,
            },
            from: args.from.clone(),
            paths: absolute(&args.path)?,
            dry_run: args.dry_run,
            confirm: &confirm,
        },
    );
    drop(display);
    Ok(tell(context, &report, args.dry_run))
}

fn tell(context: &Context, report: &RestoreRun, dry_run: bool) -> Exit {
    if context.json {
        show::json(report);
        return report.exit;
    }
    if dry_run {
        plan(report);
    }
    show::findings(&report.source, &report.findings, context.quiet);
    let Some(chosen) = report.generation.as_ref().filter(|_| report.done) else {
        return report.exit;
    };
    if !context.quiet {
        show::talk(&format!(
            "{} restored: {} exchanged, {} in place, {} new, {} promoted",
            chosen.id,
            show::count(report.exchanged, "path", "paths"),
            report.in_place,
            report.created,
            show::count(report.promoted, "dump", "dumps"),
        ));
        for kept in &report.replaced {
            show::talk(&format!("  the old is kept in {kept}"));
        }
        if !report.replaced.is_empty() {
            let dumps = match report.promoted {
                0 => "",
                _ => "; dumps stay as they are now: their old state is where `promote` put it",
            };
            let undo = format!("`handover restore undo` puts the files back{dumps}");
            show::talk(&format!("  -> `handover restore clean` removes it, {undo}"));
        }
    }
    report.exit
}

/// On a terminal somebody is asked; elsewhere nobody agrees.
fn agreed(context: &Context, report: &RestoreRun) -> bool {
    if !ask::is_somebody_there(context) {
        return false;
    }
    plan(report);
    ask::agrees(context, "go on? [y/N]")
}

fn plan(report: &RestoreRun) {
    super::look::table(&report.candidates, report.started);
    let Some(chosen) = &report.generation else { return };
    show::data(&format!(
        "{}, {} old: {} (seal: {})",
        chosen.id,
        show::age(chosen.collected, report.started),
        chosen.why,
        chosen.trust
    ));
    for element in &report.plan {
        show::data(&format!("{} ({})", element.name, element.kind));
        if !element.services.is_empty() {
            show::data(&format!("  stopped meanwhile: {}", element.services.join(", ")));
        }
        if !element.steps.is_empty() {
            show::data(&format!("  commands: {}", element.steps.join(", ")));
        }
        element.paths.iter().for_each(path);
    }
}

fn path(path: &PlannedPath) {
    let how = match (path.how.as_str(), &path.why) {
        ("exchange", _) => "exchanged by one rename".to_owned(),
        ("create", _) => "new: nothing is there".to_owned(),
        (_, Some(why)) => format!("changed in place after a copy of it was made: {why}"),
        (_, None) => "changed in place".to_owned(),
    };
    show::data(&format!("  {}: {how}", path.path));
    if path.live_files > 0 {
        let files = show::count(path.live_files, "file", "files");
        show::data(&format!("    replaces {files}, {}", show::size(path.live_bytes)));
    }
    if path.newer > 0 {
        show::data(&format!(
            "    LOST: the changes of {} since then, as {}",
            show::count(path.newer, "file", "files"),
            path.newer_examples.join(", ")
        ));
    }
    for holder in &path.open {
        show::data(&format!(
            "    process {} ({}) has {} open, and goes on with the old until it is restarted",
            holder.process,
            holder.name,
            show::count(holder.files, "file", "files")
        ));
    }
}
