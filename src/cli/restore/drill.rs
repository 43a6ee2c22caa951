//! `handover restore drill`.

use std::sync::Arc;

use super::{
    super::{Context, alarm, args::DrillArgs, progress::Display, show},
    id, load,
};
use crate::{
    manifest::Channel,
    notify::{Looked, Scope},
    report::{Exit, exit_of, restore::DrillRun},
    restore::{
        drill::{self, Ask},
        pick::Wish,
        run::Setup,
    },
    sys::{self, clock, progress::Progress},
};

/// Whose alarms these are.
const WHAT: alarm::What = alarm::What { role: "restore", action: "drill" };

pub(super) fn run(context: &Context, args: &DrillArgs) -> Result<Exit, Exit> {
    let (config, source) = load(context)?;
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(source.name.to_string(), Arc::clone(&progress))]);
    let setup = Setup {
        source: &source,
        config: &config.restore,
        state: &config.state,
        own: &config.own,
        progress: &progress,
        clock: &clock::now,
    };
    let wish = Wish {
        id: id(&args.id),
        source: Some(source.name.clone()),
        channel: Channel::Data,
        elements: args.element.clone(),
        allow_older: false,
        allow_partial: false,
        allow_torn: false,
        trust: None,
    };
    let (from, scratch) = (args.from.clone(), args.scratch.clone());
    let mut report = drill::run(&setup, &Ask { wish, from, scratch, dry_run: args.dry_run });
    drop(display);
    if args.dry_run {
        tell_plan(context, &report);
        return Ok(report.exit);
    }
    let is_whole = report.tried && args.element.is_empty();
    let scope = Scope {
        name: &report.source,
        findings: &report.findings,
        generation: report.generation.as_deref(),
        looked: if is_whole { Looked::run() } else { Looked::nothing() },
    };
    let said = alarm::deliver(&config, WHAT, report.exit, vec![scope]);
    report.exit = report.exit.worst(exit_of(&said));
    report.findings.extend(said);
    if context.json {
        show::json(&report);
        return Ok(report.exit);
    }
    show::findings(&report.source, &report.findings, context.quiet);
    if let (Some(generation), true, false) = (&report.generation, report.tried, context.quiet) {
        let names: Vec<&str> = args.element.iter().map(|name| name.as_str()).collect();
        let what =
            if is_whole { generation.clone() } else { format!("{} of {generation}", names.join(", ")) };
        let word = if report.ok { "can be restored" } else { "CANNOT be restored" };
        show::talk(&format!("{what} {word}: tried in {} s", report.seconds));
    }
    Ok(report.exit)
}

/// What a drill would do, for people.
fn tell_plan(context: &Context, report: &DrillRun) {
    if context.json {
        show::json(report);
        return;
    }
    show::findings(&report.source, &report.findings, context.quiet);
    for element in &report.plan {
        let files = show::count(element.files, "file", "files");
        show::data(&format!(
            "{} ({}): {files}, {} to {}",
            element.name,
            element.kind,
            show::size(element.bytes),
            element.place
        ));
        element
            .commands
            .iter()
            .for_each(|command| show::data(&format!("  {}", sys::show(command.as_bytes()))));
    }
    if let (Some(generation), false) = (&report.generation, context.quiet || report.plan.is_empty()) {
        show::talk(&format!(
            "{generation} would be tried like this, and all of it removed again; nothing was done"
        ));
    }
}
