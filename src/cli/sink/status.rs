//! `handover sink status` and `handover logsink status`: for people, for programs, and for monitoring.

use jiff::Timestamp;

use super::{Outcome, Sink};
use crate::{
    cli::{
        Context,
        args::StatusArgs,
        monitor::{self, View},
        show,
    },
    config,
    report::{Exit, runs::Activity},
    sink::{
        channel,
        fetch::store_finding,
        run,
        status::{self, Place, Standing},
    },
    sys::{clock, name::Name},
};

pub(super) fn status(context: &Context, sink: &Sink<'_>, names: &[Name], how: &StatusArgs) -> Outcome {
    let (sources, now) = (sink.named(names)?, clock::now());
    if !how.is_for_people() {
        let views: Vec<View> = views(sink, &sources, now);
        return Ok(monitor::tell(context, how, &views));
    }
    let (store, state) = sink.open()?;
    let place = Place { config: sink.config, store: &store, state: &state };
    let mut all = Vec::new();
    for source in sources {
        all.push(status::standing(&place, source, now).map_err(|e| sink.refuse(&e))?);
    }
    if context.json {
        return Ok(show::json(&all));
    }
    table(&all, now);
    Ok(Exit::Ok)
}

/// Each source by itself: one that cannot be looked at hides no other.
pub(in crate::cli) fn views(sink: &Sink<'_>, sources: &[&config::SinkSource], now: Timestamp) -> Vec<View> {
    let role = sink.config.role;
    let failed = |source: &config::SinkSource, e: &crate::store::Error| {
        View::failed(role.name(), channel(role), source.name.as_str(), &store_finding(role, "store", e))
    };
    let (store, state) = match run::open_store(sink.config, &sink.state) {
        Ok(opened) => opened,
        Err(e) => return sources.iter().map(|source| failed(source, &e)).collect(),
    };
    let place = Place { config: sink.config, store: &store, state: &state };
    let view = |source: &&config::SinkSource| match status::standing(&place, source, now) {
        Ok(standing) => monitor::of_sink(role, &standing, source.alarm_after, now),
        Err(e) => failed(source, &e),
    };
    sources.iter().map(view).collect()
}

fn table(all: &[Standing], now: Timestamp) {
    let rows = all.iter().map(|s| {
        let mut next: Vec<&str> = Vec::new();
        for concern in &s.concerns {
            if !next.contains(&concern.next.as_str()) {
                next.push(&concern.next);
            }
        }
        vec![
            s.source.clone(),
            s.newest_verified_at.map_or_else(|| "never".to_owned(), |at| show::age(at, now)),
            s.generations.to_string(),
            s.condemned.to_string(),
            show::size(s.bytes),
            last_run(s, now),
            s.level.word().to_owned(),
            next.first().map_or_else(|| "none".to_owned(), |next| (*next).to_owned()),
        ]
    });
    let head = [
        "source",
        "newest verified#",
        "generations#",
        "condemned#",
        "newest size#",
        "last run",
        "state",
        "next step",
    ];
    show::data(&show::table(&head, rows.collect()));
    for standing in all.iter().filter(|s| !s.concerns.is_empty()) {
        show::data(&format!("\n{}", standing.source));
        monitor::concerns(&standing.concerns);
    }
}

fn last_run(standing: &Standing, now: Timestamp) -> String {
    let ended = standing.last_attempt.as_ref().map_or_else(
        || "never ran".to_owned(),
        |attempt| format!("{} ago: {}", show::age(attempt.finished, now), attempt.exit().name()),
    );
    match standing.activity {
        Activity::Idle => ended,
        Activity::Running { began } => format!("at work for {}", show::age(began, now)),
        Activity::NeverEnded { began } => format!("began {} ago, never ended", show::age(began, now)),
    }
}
