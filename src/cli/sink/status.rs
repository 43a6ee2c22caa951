//! `handover sink status`: how each source stands.

use super::{Outcome, Sink};
use crate::{
    cli::{Context, show},
    config::SinkRole,
    report::Exit,
    sink::status,
    sys::{clock, name::Name},
};

pub(super) fn status(context: &Context, sink: &Sink<'_>, names: &[Name]) -> Outcome {
    let (store, state) = sink.open()?;
    let mut all = Vec::new();
    for source in sink.named(names)? {
        all.push(status::standing(&store, &state, source).map_err(|e| sink.refuse(&e))?);
    }
    if context.json {
        return Ok(show::json(&all));
    }
    let now = clock::now();
    let rows = all.iter().map(|s| {
        let age = s.newest_verified_at.map_or_else(|| "never".to_owned(), |at| show::age(at, now));
        let last = s.runs.last_attempt.as_ref().map_or_else(
            || "never ran".to_owned(),
            |a| {
                let how =
                    a.findings.iter().find(|f| f.kind.is_alarm()).map_or("ok", |f| f.kind.exit().name());
                format!("{} ago: {how}", show::age(a.finished, now))
            },
        );
        let next = next_step(sink.config.role, s, &last);
        vec![s.source.clone(), age, s.generations.to_string(), show::size(s.bytes), last, next]
    });
    let head = ["source", "newest verified#", "generations#", "newest size#", "last run", "next step"];
    show::data(&show::table(&head, rows.collect()));
    Ok(Exit::Ok)
}

fn next_step(role: SinkRole, standing: &status::Standing, last: &str) -> String {
    if !standing.damaged.is_empty() {
        format!("damaged: {}; run `handover {role} verify {}`", standing.damaged.join(", "), standing.source)
    } else if !standing.quarantined.is_empty() {
        format!("look with `handover {role} quarantine list`")
    } else if standing.generations == 0 && (last.ends_with("ok") || standing.runs.last_attempt.is_none()) {
        format!("run `handover source` there, then `handover {role}`")
    } else if last.ends_with("ok") {
        "none".to_owned()
    } else {
        format!("run `handover {role} run {}` and read what it says", standing.source)
    }
}
