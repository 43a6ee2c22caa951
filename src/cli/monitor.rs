//! What monitoring asks: Nagios's line and exit code, Prometheus' file. The same for every role.

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use super::{Context, args::StatusArgs, fail, metrics, prometheus, show};
use crate::{
    config::SinkRole,
    manifest::Channel,
    report::{
        Exit, Finding,
        health::{Concern, Level},
    },
    sink::status as sink,
    source::status as source,
    sys::{Dir, durable},
};

/// A source as one role sees it.
pub(super) struct View {
    source: String,
    level: Level,
    concerns: Vec<Concern>,
    /// What is said when all is well.
    well: String,
    perf: Vec<Perf>,
    samples: Vec<prometheus::Sample>,
}

/// A number for Nagios: its name, value, unit (`s`, `B` or none) and the value from which it is critical.
type Perf = (&'static str, i64, &'static str, Option<u64>);

impl View {
    /// A source that could not be looked at.
    pub(super) fn failed(role: &str, channel: Channel, source: &str, finding: &Finding) -> Self {
        let level = Level::of_failure(finding.kind);
        let next = finding.fix.clone().unwrap_or_else(|| format!("run `handover {role} status` by hand"));
        Self {
            source: source.to_owned(),
            level,
            concerns: vec![Concern { level, text: finding.text.clone(), next }],
            well: String::new(),
            perf: Vec::new(),
            samples: metrics::of_failed(role, channel, source, level),
        }
    }
}

/// How a source stands at itself.
pub(super) fn of_source(standing: &source::Standing, alarm_after: Duration, now: Timestamp) -> View {
    let waits = standing.waiting_since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
    let limit = Some(alarm_after.as_secs());
    let age = standing.collected_at.map(|at| ("age", now.duration_since(at).as_secs(), "s", limit));
    let mut perf = vec![
        ("waiting", standing.waiting.len() as i64, "", None),
        ("waiting_oldest", waits, "s", limit),
        ("generations", standing.stored.len() as i64, "", None),
    ];
    perf.extend(age);
    perf.extend(
        standing.drill.as_ref().map(|drill| ("drill_age", now.duration_since(drill.at).as_secs(), "s", None)),
    );
    let drill = standing
        .drill
        .as_ref()
        .map_or_else(String::new, |drill| format!(", last drill {} ago", show::age(drill.at, now)));
    let age = standing.collected_at.map_or_else(|| "never".to_owned(), |at| show::age(at, now));
    View {
        source: standing.source.clone(),
        level: standing.level,
        concerns: standing.concerns.clone(),
        well: format!("newest collected {age} ago, {} waiting{drill}", standing.waiting.len()),
        perf,
        samples: metrics::of_source(standing, alarm_after, now),
    }
}

/// How a source stands at a sink of this role.
pub(super) fn of_sink(
    role: SinkRole,
    standing: &sink::Standing,
    alarm_after: Duration,
    now: Timestamp,
) -> View {
    let limit = Some(alarm_after.as_secs());
    let mut perf = vec![
        ("generations", i64::try_from(standing.generations).unwrap_or(i64::MAX), "", None),
        ("size", i64::try_from(standing.bytes).unwrap_or(i64::MAX), "B", None),
        ("damaged", standing.damaged.len() as i64, "", Some(0)),
        ("quarantined", standing.quarantined.len() as i64, "", Some(0)),
    ];
    perf.extend(standing.exposure(now).map(|age| ("age", age.as_secs(), "s", limit)));
    let age = standing.newest_verified_at.map_or_else(|| "never".to_owned(), |at| show::age(at, now));
    let count = show::count(standing.generations, "generation", "generations");
    View {
        source: standing.source.clone(),
        level: standing.level,
        concerns: standing.concerns.clone(),
        well: format!("newest verified data {age} old, {count}"),
        perf,
        samples: metrics::of_sink(role, standing, alarm_after, now),
    }
}

/// The worst of all; of none it is not known.
pub(super) fn level(views: &[View]) -> Level {
    let start = if views.is_empty() { Level::Unknown } else { Level::Ok };
    views.iter().fold(start, |level, view| level.worst(view.level))
}

/// Answers a monitoring system.
pub(super) fn tell(context: &Context, how: &StatusArgs, views: &[View]) -> Exit {
    if let Some(file) = &how.prometheus {
        return write(file, views);
    }
    let level = level(views);
    context.level.set(Some(level));
    show::data(&line(level, views));
    Exit::Ok
}

/// The concerns, for people.
pub(super) fn concerns(concerns: &[Concern]) {
    for concern in concerns {
        show::data(&format!("{}: {}\n  -> {}", concern.level.word(), concern.text, concern.next));
    }
}

/// Writes the metrics where the textfile collector reads: the old file or the new, never a part.
fn write(file: &Path, views: &[View]) -> Exit {
    let samples: Vec<prometheus::Sample> =
        [metrics::build_info()].into_iter().chain(views.iter().flat_map(|v| v.samples.clone())).collect();
    let text = prometheus::text(metrics::METRICS, &samples);
    if file == Path::new("-") {
        show::data(text.trim_end());
        return Exit::Ok;
    }
    let Some(name) = file.file_name() else {
        return fail(
            Exit::Usage,
            &"--prometheus needs a file, as /var/lib/prometheus/node-exporter/handover.prom",
        );
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match Dir::open(folder).and_then(|dir| durable::write_file(&dir, name, text.as_bytes(), 0o644)) {
        Ok(()) => Exit::Ok,
        Err(e) if e.is_storage() => fail(Exit::Storage, &e),
        Err(e) => fail(Exit::Configuration, &e),
    }
}

/// Nagios's line: what is wrong with each source and what to do next, or that all is well; then the numbers.
fn line(level: Level, views: &[View]) -> String {
    let said = summary(views);
    let number = |view: &View, (name, value, unit, critical): &Perf| {
        let critical = critical.map_or_else(String::new, |limit| limit.to_string());
        format!("'{}_{name}'={}{unit};;{critical};0", view.source, value.max(&0))
    };
    let numbers: Vec<String> =
        views.iter().flat_map(|view| view.perf.iter().map(move |perf| number(view, perf))).collect();
    // The bar and the end of the line are Nagios's own.
    let said = said.replace('|', "/").replace(['\n', '\r'], " ");
    let bar = if numbers.is_empty() { "" } else { " | " };
    format!("HANDOVER {} - {said}{bar}{}", level.word(), numbers.join(" "))
}

/// What is wrong, or that all is well.
pub(super) fn summary(views: &[View]) -> String {
    let ill: Vec<String> = views.iter().filter(|v| v.level != Level::Ok).map(ill).collect();
    match (ill.is_empty(), views) {
        (false, _) => ill.join("; "),
        (true, []) => "no source is enrolled yet".to_owned(),
        (true, [one]) => format!("{}: {}", one.source, one.well),
        (true, all) => format!("{} are well", show::count(all.len() as u64, "source", "sources")),
    }
}

fn ill(view: &View) -> String {
    let Some(first) = view.concerns.first() else { return view.source.clone() };
    let more = match view.concerns.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    format!("{}: {}{more} -> {}", view.source, first.text, first.next)
}

/// Nagios's line and code where nothing could be looked at, as when the configuration is wrong: what is wrong was said
/// on stderr, which Nagios does not show.
pub(super) fn nothing_seen(exit: Exit) -> Level {
    let level = if exit == Exit::Storage { Level::Critical } else { Level::Unknown };
    let text = format!("{}: run this by hand without --nagios, it says what is wrong", exit.name());
    show::data(&format!("HANDOVER {} - {text}", level.word()));
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(source: &str, concerns: Vec<Concern>) -> View {
        let level = crate::report::health::level(&concerns);
        let perf = vec![("age", 7, "s", Some(93_600)), ("generations", 14, "", None)];
        let well = "newest verified data 7 s old".to_owned();
        View { source: source.to_owned(), level, concerns, well, perf, samples: Vec::new() }
    }

    #[test]
    fn a_line_has_the_word_what_is_wrong_and_the_numbers() {
        assert_eq!(
            line(Level::Ok, &[view("shop", Vec::new())]),
            "HANDOVER OK - shop: newest verified data 7 s old | 'shop_age'=7s;;93600;0 'shop_generations'=14;;;0"
        );
        let ill = vec![Concern::critical("dam|aged\nx", "look"), Concern::warning("b", "c")];
        let said = line(Level::Critical, &[view("a", Vec::new()), view("b", ill)]);
        assert!(
            said.starts_with("HANDOVER CRITICAL - b: dam/aged x (and 1 more) -> look | 'a_age'=7s"),
            "{said}"
        );
        assert_eq!((said.lines().count(), said.matches('|').count()), (1, 1));
    }

    #[test]
    fn every_sample_is_of_a_metric_in_the_list_and_names_follow_the_conventions() {
        let names: Vec<&str> = metrics::METRICS.iter().map(|m| m.name).collect();
        let unique: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        for metric in metrics::METRICS {
            assert!(metric.name.starts_with("handover_"), "{}", metric.name);
            let counter = metric.kind == prometheus::Kind::Counter;
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        }
        assert!(names.contains(&metrics::build_info().name));
    }
}
