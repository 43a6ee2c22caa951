//! `handover source watch`, `handover sink watch`: what did not happen, for cron and timers.

use super::{
    Context, alarm,
    alarm::What,
    fail, show,
    sink::{Outcome, Sink},
    source::places,
};
use crate::{
    config::{self, Config},
    manifest::Channel,
    notify::{self, Looked, Scope},
    report::{Exit, Finding, Kind, WatchRun, exit_of},
    sink,
    source::{run::finding_of, status::Place, watch},
    store::{self, handover_point::HandoverPoint, sink_store::SinkStore},
    sys::{Dir, clock, name::Name},
};

/// What looks at a source.
pub(super) const SOURCE: What = What { role: "source", action: "watch" };

/// What was found of one source, or of the store.
struct Watched {
    name: String,
    findings: Vec<Finding>,
    looked: Looked,
}

/// `handover source watch`.
pub(super) fn source(context: &Context, config: &Config, source: &config::Source) -> Exit {
    let now = clock::now();
    let state = config.state.join(SOURCE.role);
    let places = places(source, &state);
    // One trouble with data and with logs is two.
    let names: Vec<String> = places
        .iter()
        .map(|place| match place.channel {
            Channel::Data => place.name.to_owned(),
            Channel::Logs => format!("{} logs", place.name),
        })
        .collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let since = Dir::create_all(&state, 0o700).and_then(|state| notify::since(&state, &all, now));
    let look = |(place, name): (&Place<'_>, &String)| {
        let since = since.as_ref().ok().and_then(|known| known.get(name).copied()).unwrap_or(now);
        let watched = watch::Watch {
            name,
            channel: place.channel,
            alarm_after: place.alarm_after,
            max_waiting: place.max_waiting,
            reserve: source.reserve,
            since,
        };
        let point = HandoverPoint::open_known(place.home, place.channel, &state);
        of_point(name, point.and_then(|point| watch::look(&watched, &point, now)))
    };
    let mut watched: Vec<Watched> = places.iter().zip(&names).map(look).collect();
    if let (Err(e), Some(first)) = (&since, watched.first_mut()) {
        first.findings.push(unknown(source.name.as_str(), e));
    }
    end(context, config, SOURCE, &watched)
}

fn of_point(name: &str, seen: store::Result<watch::Seen>) -> Watched {
    let name = name.to_owned();
    match seen {
        Ok(seen) => {
            let mut looked = Looked::nothing().and(Kind::Overdue).and(Kind::DiskNearlyFull);
            if let Some(time) = seen.nothing_waits_from_before {
                looked = looked.and_before(Kind::PreviousTransport, time);
            }
            if seen.has_room {
                looked = looked.and(Kind::HandoverPointFull).and(Kind::LogsFull);
            }
            Watched { name, findings: seen.findings, looked }
        }
        Err(e) => {
            let finding = finding_of(&e.into(), &name);
            Watched { name, findings: vec![finding], looked: Looked::nothing() }
        }
    }
}

/// That it is not known since when something is watched is no alarm of its own: what is on the disk is watched anyway.
fn unknown(name: &str, e: &crate::sys::Error) -> Finding {
    Finding::new(Kind::Warning, name, format!("since when it is watched cannot be noted: {e}"))
}

/// `handover sink watch` and `handover logsink watch`.
pub(super) fn sink(context: &Context, config: &Config, sink: &Sink<'_>, names: &[Name]) -> Outcome {
    let what = What { role: sink.config.role.name(), action: "watch" };
    let sources = sink.named(names)?;
    let watched = match sink::run::open_settled(sink.config, &sink.state) {
        Ok((store, state, _)) => look(sink, &store, &state, &sources),
        Err(e) => {
            let finding = sink::fetch::store_finding(sink.config.role, "store", &e);
            vec![Watched { name: "store".to_owned(), findings: vec![finding], looked: Looked::nothing() }]
        }
    };
    Ok(end(context, config, what, &watched))
}

fn look(sink: &Sink<'_>, store: &SinkStore, state: &Dir, sources: &[&config::SinkSource]) -> Vec<Watched> {
    let now = clock::now();
    let all: Vec<&str> = sink.config.sources.iter().map(|source| source.name.as_str()).collect();
    let known = notify::since(state, &all, now);
    let full = sink::watch::nearly_full(sink.config, store);
    let looked = Looked::nothing().and(Kind::DiskNearlyFull).and(Kind::Storage);
    let mut watched = vec![Watched { name: "store".to_owned(), findings: full, looked }];
    let place = sink::status::Place { config: sink.config, store, state };
    for source in sources {
        let name = source.name.as_str();
        let since = known.as_ref().ok().and_then(|known| known.get(name).copied()).unwrap_or(now);
        let seen = sink::watch::look(&place, source, since, now).and_then(|late| {
            let all = store.source(&source.name)?.stored()?;
            Ok([late, sink::watch::damage(sink.config.role, name, &all)])
        });
        let (findings, looked) = match seen {
            Ok(findings) => {
                let looked = Looked::nothing().and(Kind::Overdue).and(Kind::Damaged);
                (findings.into_iter().flatten().collect(), looked)
            }
            Err(e) => (vec![sink::fetch::store_finding(sink.config.role, name, &e)], Looked::nothing()),
        };
        watched.push(Watched { name: name.to_owned(), findings, looked });
    }
    if let (Err(e), Some(first)) = (known, watched.first_mut()) {
        first.findings.push(unknown("store", &e));
    }
    watched
}

/// Delivers, prints and gives the exit code. Where mail tells, cron need not tell the same every hour: then only what is
/// new, or could not be delivered, is printed with `--quiet`.
fn end(context: &Context, config: &Config, what: What, watched: &[Watched]) -> Exit {
    let findings: Vec<Finding> = watched.iter().flat_map(|w| w.findings.clone()).collect();
    let exit = exit_of(&findings);
    let scopes = watched.iter().map(|w| Scope {
        name: &w.name,
        findings: &w.findings,
        generation: None,
        looked: w.looked.clone(),
    });
    let told = alarm::told(config, what, exit, scopes.collect());
    let is_told = context.quiet && config.mail.is_some() && told.findings.is_empty() && !told.news;
    let findings = [findings, told.findings].concat();
    let report = WatchRun { at: clock::now(), exit: exit.worst(exit_of(&findings)), findings };
    if context.json {
        if let Exit::Internal = show::json(&report) {
            return fail(Exit::Internal, &"the report cannot be written");
        }
    } else if !is_told {
        show::findings(what.role, &report.findings, context.quiet);
    }
    report.exit
}
