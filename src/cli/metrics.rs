//! The metrics: their names, and their values from how a source stands. `docs/metrics.md` lists the same, as a test
//! compares.

use std::time::Duration;

use jiff::Timestamp;

use super::prometheus::{Kind, Metric, Sample};
use crate::{
    config::SinkRole,
    manifest::{Channel, generation::Drill},
    report::{Exit, Timing, health::Level, runs::Activity},
    sink::{channel, status as sink},
    source::status as source,
};

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

/// All metrics, in the order in which they are written.
pub const METRICS: &[Metric] = &[
    gauge("handover_build_info", "1; the label says which handover wrote this"),
    gauge("handover_health", "How things stand: 0 ok, 1 warning, 2 critical, 3 unknown"),
    gauge(
        "handover_exposure_seconds",
        "Age of the newest data that is safe on the sink; +Inf if there is none",
    ),
    gauge("handover_alarm_after_seconds", "The age at which the configuration calls data too old"),
    gauge(
        "handover_last_attempt_timestamp_seconds",
        "When the last run ended, however it ended; 0 if none ever did",
    ),
    gauge("handover_last_attempt_exit_code", "Exit code that the last run asked for; 0 is well"),
    gauge("handover_last_success_timestamp_seconds", "When a run last ended well; 0 if none ever did"),
    gauge("handover_last_run_duration_seconds", "How long the last run took"),
    gauge("handover_last_run_phase_duration_seconds", "How long a phase of the last run took"),
    gauge(
        "handover_last_run_wire_bytes",
        "Bytes that crossed the wire for what the last run stored, both ways",
    ),
    gauge("handover_run_in_progress", "1 while a run is at work"),
    gauge("handover_run_never_ended", "1 if the last run began and never came to its end"),
    gauge("handover_generations", "Generations in the store"),
    gauge("handover_unverified_generations", "Stored generations whose content was not hashed"),
    gauge(
        "handover_damaged_generations",
        "Stored generations in which damage is known, or that cannot be read",
    ),
    gauge(
        "handover_quarantined_generations",
        "Generations that were put aside because they failed their check",
    ),
    gauge(
        "handover_condemned_generations",
        "Generations that retention took and that can still be taken back",
    ),
    gauge("handover_waiting_generations", "Generations that wait for the sink"),
    gauge("handover_rejected_generations", "Waiting generations that the sink found damaged"),
    gauge("handover_waiting_oldest_seconds", "How long the eldest waiting generation waits; 0 if none waits"),
    gauge("handover_newest_files", "Files in the newest generation"),
    gauge("handover_newest_bytes", "Bytes of content in the newest generation"),
    gauge("handover_stored_bytes", "Bytes of content of all stored generations, as if they shared nothing"),
    gauge("handover_filesystem_avail_bytes", "Bytes that are free on the file system of the store"),
    gauge("handover_filesystem_size_bytes", "Bytes of the file system of the store"),
    gauge("handover_sequence", "Sequence of the newest generation"),
    gauge("handover_frozen", "1 if retention takes nothing because something looks suspicious"),
    Metric {
        name: "handover_verify_failures_total",
        kind: Kind::Counter,
        help: "Checks that failed, in all runs",
    },
    gauge("handover_drill_timestamp_seconds", "When the last restore drill was"),
    gauge("handover_drill_duration_seconds", "How long the last restore drill took"),
    gauge("handover_drill_ok", "1 if the last restore drill passed"),
];

/// Collects samples that have the same labels.
struct Samples {
    labels: Vec<(&'static str, String)>,
    all: Vec<Sample>,
}

impl Samples {
    fn of(role: &str, channel: Channel, source: &str) -> Self {
        let labels = vec![
            ("role", role.to_owned()),
            ("channel", channel.as_str().to_owned()),
            ("source", source.to_owned()),
        ];
        Self { labels, all: Vec::new() }
    }

    fn put(&mut self, name: &'static str, value: f64) {
        self.all.push(Sample { name, labels: self.labels.clone(), value });
    }

    fn count(&mut self, name: &'static str, value: u64) {
        self.put(name, value as f64);
    }

    fn time(&mut self, name: &'static str, at: Option<Timestamp>) {
        self.put(name, at.map_or(0.0, |at| at.as_second() as f64));
    }

    fn health(&mut self, level: Level, alarm_after: Duration, exposure: Option<jiff::SignedDuration>) {
        self.put("handover_health", f64::from(level.code()));
        self.put("handover_alarm_after_seconds", alarm_after.as_secs_f64());
        // A clock that went back makes nothing younger than new.
        let age = exposure.map_or(f64::INFINITY, |age| age.as_secs().max(0) as f64);
        self.put("handover_exposure_seconds", age);
    }

    fn activity(&mut self, activity: Activity) {
        let is = |yes: bool| u64::from(yes);
        self.count("handover_run_in_progress", is(matches!(activity, Activity::Running { .. })));
        self.count("handover_run_never_ended", is(matches!(activity, Activity::NeverEnded { .. })));
    }

    fn attempt(&mut self, run: Option<(Timestamp, Timestamp, Exit, &[Timing])>) {
        self.time("handover_last_attempt_timestamp_seconds", run.map(|(_, finished, ..)| finished));
        let Some((started, finished, exit, timings)) = run else { return };
        self.count("handover_last_attempt_exit_code", u64::from(exit.code()));
        let took = finished.duration_since(started).as_millis().max(0) as f64 / 1000.0;
        self.put("handover_last_run_duration_seconds", took);
        for timing in timings {
            let mut labels = self.labels.clone();
            labels.push(("phase", timing.phase.clone()));
            let name = "handover_last_run_phase_duration_seconds";
            self.all.push(Sample { name, labels, value: timing.seconds });
        }
    }

    fn newest(&mut self, files: u64, bytes: u64, sequence: u64, stored_bytes: u64) {
        self.count("handover_newest_files", files);
        self.count("handover_newest_bytes", bytes);
        self.count("handover_sequence", sequence);
        self.count("handover_stored_bytes", stored_bytes);
    }

    fn room(&mut self, (free, all): (u64, u64)) {
        self.count("handover_filesystem_avail_bytes", free);
        self.count("handover_filesystem_size_bytes", all);
    }

    fn drill(&mut self, drill: Option<&Drill>) {
        let Some(drill) = drill else { return };
        self.time("handover_drill_timestamp_seconds", Some(drill.at));
        self.count("handover_drill_duration_seconds", drill.seconds);
        self.count("handover_drill_ok", u64::from(drill.ok));
    }
}

/// Which handover wrote this.
pub fn build_info() -> Sample {
    let labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    Sample { name: "handover_build_info", labels, value: 1.0 }
}

/// All that is known of a source that could not be looked at.
pub fn of_failed(role: &str, channel: Channel, source: &str, level: Level) -> Vec<Sample> {
    let mut samples = Samples::of(role, channel, source);
    samples.put("handover_health", f64::from(level.code()));
    samples.all
}

/// How a source stands at itself.
pub fn of_source(standing: &source::Standing, alarm_after: Duration, now: Timestamp) -> Vec<Sample> {
    let mut s = Samples::of("source", standing.channel, &standing.source);
    s.health(standing.level, alarm_after, standing.exposure(now));
    s.attempt(standing.last_attempt.as_ref().map(|r| (r.started, r.finished, r.exit, r.timings.as_slice())));
    s.time("handover_last_success_timestamp_seconds", standing.last_success_at);
    s.activity(standing.activity);
    s.count("handover_generations", standing.stored.len() as u64);
    s.count("handover_condemned_generations", standing.condemned);
    let rejected = standing.waiting.iter().filter(|w| w.state == "rejected").count() as u64;
    s.count("handover_waiting_generations", standing.waiting.len() as u64 - rejected);
    s.count("handover_rejected_generations", rejected);
    let waits = standing.waiting_since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
    s.put("handover_waiting_oldest_seconds", waits as f64);
    let newest = standing.waiting.last().or(standing.stored.last());
    let stored = standing.stored.iter().map(|row| row.bytes).sum();
    let (files, bytes) = newest.map_or((0, 0), |row| (row.files, row.bytes));
    s.newest(files, bytes, standing.sequence, stored);
    s.room(standing.room);
    s.count("handover_verify_failures_total", standing.verify_failures);
    s.drill(standing.drill.as_ref());
    s.all
}

/// How a source stands at a sink of this role.
pub fn of_sink(
    role: SinkRole,
    standing: &sink::Standing,
    alarm_after: Duration,
    now: Timestamp,
) -> Vec<Sample> {
    let mut s = Samples::of(role.name(), channel(role), &standing.source);
    s.health(standing.level, alarm_after, standing.exposure(now));
    let attempt = standing.last_attempt.as_ref();
    s.attempt(attempt.map(|a| (a.started, a.finished, a.exit(), a.timings.as_slice())));
    s.count("handover_last_run_wire_bytes", attempt.map_or(0, |a| a.wire_bytes));
    s.time("handover_last_success_timestamp_seconds", standing.last_success_at);
    s.activity(standing.activity);
    s.count("handover_generations", standing.generations);
    s.count("handover_unverified_generations", standing.unverified);
    s.count("handover_damaged_generations", standing.damaged.len() as u64);
    s.count("handover_quarantined_generations", standing.quarantined.len() as u64);
    s.count("handover_condemned_generations", standing.condemned);
    s.newest(standing.files, standing.bytes, standing.sequence, standing.stored_bytes);
    s.room(standing.room);
    s.count("handover_frozen", u64::from(standing.frozen));
    s.count("handover_verify_failures_total", standing.verify_failures);
    s.drill(standing.drill.as_ref());
    s.all
}
