//! `handover restore undo --give-up`.

use serde::Serialize;

use super::{
    super::{Context, ask, fail, show},
    kept::end,
    load,
};
use crate::{
    report::{Exit, Finding, Kind, exit_of},
    restore::{give_up, held::hold},
};

#[derive(Serialize)]
struct GivenUp<'a> {
    findings: &'a [Finding],
    dry_run: bool,
}

pub(super) fn run(context: &Context, dry_run: bool, yes: bool) -> Result<Exit, Exit> {
    let (config, source) = load(context)?;
    let name = source.name.as_str();
    let held = hold(&config.state, &config.restore.home, "handover restore undo").map_err(end(name))?;
    let plan = give_up::plan(&held.state).map_err(end(name))?;
    if dry_run {
        tell(context, &plan, name, true);
        return Ok(Exit::Ok);
    }
    if !yes {
        if ask::is_somebody_there(context) {
            tell(context, &plan, name, true);
        }
        if !ask::agrees(context, "end it like this? [y/N]") {
            let text = "nobody agreed to it\n  -> look at it with --dry-run, then give --yes";
            return Err(fail(Exit::RestoreRefused, &text));
        }
    }
    let findings = give_up::give_up(&held.state, &held.private).map_err(end(name))?;
    tell(context, &findings, name, false);
    Ok(exit_of(&findings))
}

fn tell(context: &Context, findings: &[Finding], name: &str, dry_run: bool) {
    if context.json {
        show::json(&GivenUp { findings, dry_run });
        return;
    }
    for note in findings.iter().filter(|finding| finding.kind == Kind::Note) {
        show::data(&format!("{}: {}", note.subject, note.text));
    }
    // Notes are told already.
    show::findings(name, findings, true);
}
