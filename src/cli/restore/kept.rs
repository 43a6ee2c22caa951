//! What restores have replaced and kept: `restore list --replaced`, `restore undo`, `restore clean`.

use serde::Serialize;

use super::{
    super::{Context, args::CleanArgs, ask, fail, show},
    load,
};
use crate::{
    app::unfinished::UNDO,
    config::Config,
    report::{Exit, Finding, exit_of},
    restore::{clean, error::Error, held::hold, journal::Replaced, restored, undo},
    sys::{self, clock},
};

#[derive(Serialize)]
struct Kept<'a> {
    replaced: &'a [Replaced],
    /// What goes from `restored/`, or went.
    restored: &'a [String],
    findings: &'a [Finding],
    dry_run: bool,
}

pub(super) fn end(name: &str) -> impl Fn(Error) -> Exit + '_ {
    move |e| {
        let finding = e.finding(name);
        fail(finding.kind.exit(), &crate::notify::body(&finding))
    }
}

fn all(config: &Config) -> Result<Vec<Replaced>, Error> {
    match sys::Dir::open(config.state.join("restore")) {
        Ok(state) => Replaced::load(&state),
        Err(e) if e.is_not_found() => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

fn tell(context: &Context, list: &[Replaced], findings: &[Finding], dry_run: bool, name: &str) -> Exit {
    tell_all(context, (list, &[]), findings, dry_run, name)
}

fn tell_all(
    context: &Context,
    (list, restored): (&[Replaced], &[String]),
    findings: &[Finding],
    dry_run: bool,
    name: &str,
) -> Exit {
    if context.json {
        show::json(&Kept { replaced: list, restored, findings, dry_run });
        return exit_of(findings);
    }
    let path = |path: &std::path::Path| sys::show(path.as_os_str().as_encoded_bytes());
    let now = clock::now();
    let row = |kept: &Replaced| {
        vec![
            path(&kept.root),
            kept.element.clone(),
            kept.id.to_string(),
            show::age(kept.at, now),
            path(&kept.folder),
        ]
    };
    if !list.is_empty() && (!context.quiet || dry_run) {
        let head = ["path", "element", "replaced by", "age#", "kept in"];
        show::data(&show::table(&head, list.iter().map(row).collect()));
    }
    if !restored.is_empty() && (!context.quiet || dry_run) {
        show::data(&format!("in restored/, beyond keep_restored: {}", restored.join(", ")));
    }
    show::findings(name, findings, context.quiet);
    exit_of(findings)
}

/// What the table above was: what would be done, or what was. Only for people.
fn say(context: &Context, what: &str) {
    if !context.json && !context.quiet {
        show::talk(what);
    }
}

pub(super) fn list(context: &Context) -> Result<Exit, Exit> {
    let (config, source) = load(context)?;
    let name = source.name.as_str();
    Ok(tell(context, &all(&config).map_err(end(name))?, &[], true, name))
}

pub(super) fn clean(context: &Context, args: &CleanArgs) -> Result<Exit, Exit> {
    let (config, source) = load(context)?;
    let (name, keep) = (source.name.as_str(), config.restore.keep_restored);
    let held = hold(&config.state, &config.restore.home, "handover restore clean").map_err(end(name))?;
    let all = Replaced::load(&held.state).map_err(end(name))?;
    let surplus = restored::surplus(&held.state, &held.private, keep).map_err(end(name))?;
    if args.dry_run {
        let exit = tell_all(context, (&all, &surplus), &[], true, name);
        let is_none = all.is_empty() && surplus.is_empty();
        say(
            context,
            if is_none { "there is nothing to remove" } else { "this would be removed; nothing was done" },
        );
        return Ok(exit);
    }
    if !all.is_empty() && !args.yes {
        agree(context, &all, name, "remove these? They cannot be put back then. [y/N]")?;
    }
    let (gone, findings) = clean::clean(&held.state).map_err(end(name))?;
    let pruned = restored::prune(&held.state, &held.private, keep).map_err(end(name))?;
    let exit = tell_all(context, (&gone, &pruned), &findings, false, name);
    match gone.len() + pruned.len() {
        0 => say(context, "nothing was removed"),
        _ => say(context, "this was removed, and cannot be put back"),
    }
    Ok(exit)
}

pub(super) fn undo(context: &Context, dry_run: bool, yes: bool) -> Result<Exit, Exit> {
    let (config, source) = load(context)?;
    let name = source.name.as_str();
    let held = hold(&config.state, &config.restore.home, "handover restore undo").map_err(end(name))?;
    let last = undo::wanted(&held.state).map_err(end(name))?;
    if dry_run {
        let exit = tell(context, &last, &[], true, name);
        say(context, "this would be put back; nothing was done");
        return Ok(exit);
    }
    if !yes {
        agree(context, &last, name, "put these back? [y/N]")?;
    }
    undo::undo(&held.state, &source.elements).map_err(|e| {
        let finding = e.finding(name);
        let exit = finding.kind.exit();
        let cut = undo::refuse_unfinished(&held.state).is_err() && finding.fix.is_none();
        fail(exit, &crate::notify::body(&if cut { finding.with_fix(UNDO.fix) } else { finding }))
    })?;
    let exit = tell(context, &last, &[], false, name);
    say(
        context,
        "this was put back; what the restore had put there is kept in its stead: `handover restore undo` again takes it back",
    );
    Ok(exit)
}

/// On a terminal somebody is asked; elsewhere nobody agrees.
fn agree(context: &Context, list: &[Replaced], name: &str, question: &str) -> Result<(), Exit> {
    if agreed(context, list, name, question) {
        return Ok(());
    }
    let text = "nobody agreed to it\n  -> look at it with --dry-run, then give --yes";
    Err(fail(Exit::RestoreRefused, &text))
}

fn agreed(context: &Context, list: &[Replaced], name: &str, question: &str) -> bool {
    if !ask::is_somebody_there(context) {
        return false;
    }
    tell(context, list, &[], true, name);
    ask::agrees(context, question)
}
