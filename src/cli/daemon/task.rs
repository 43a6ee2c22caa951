//! A job of a daemon, with its run while there is one.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use jiff::{Timestamp, tz::TimeZone};

use super::{Role, log};
use crate::{
    cli::Context,
    daemon::{Job, Last, Note, Skipped, Timing, note},
    report::Exit,
    sys::worker::Worker,
};

/// Where a child finds the configuration that was accepted.
const CONFIG: &str = "/proc/self/fd/0";

/// The job that looks for what did not happen.
pub(super) const WATCH: &str = "watch";
/// A watch that was missed is made up for after this time.
const FIRST_WATCH: Duration = Duration::from_secs(600);

/// A job, and its run.
pub(super) struct Task {
    /// What it does, as `run`.
    pub(super) action: &'static str,
    pub(super) job: Job,
    worker: Option<(Worker, Option<log::Voice>)>,
    run: note::Run,
    /// It was said that another run is at work.
    said_busy: bool,
}

/// A job at the start of a daemon. What did not happen is looked for after what was missed had the time to happen.
pub(super) fn start(action: &str, timing: Timing, last: Last, now: Timestamp) -> Job {
    let job = Job::start(timing.clone(), last, now);
    if action != WATCH || job.at() > now {
        return job;
    }
    let mut job = Job::start(timing, Last::Done(now), now);
    job.again_in(FIRST_WATCH, now);
    job
}

impl Task {
    pub(super) fn new(
        context: &Context,
        role: Role,
        action: &'static str,
        timing: Timing,
        note: &mut Note,
        now: Timestamp,
    ) -> Self {
        let run = note.job(action).clone();
        let job = start(action, timing, run.last(), now);
        if run.last() == Last::Cut && action != WATCH {
            let text =
                format!("note: the last run of `handover {}` was cut: it is gone on with", role.name());
            log::trouble(context, &text);
        }
        Self { action, job, worker: None, run, said_busy: false }
    }

    pub(super) fn is_running(&self) -> bool {
        self.worker.is_some()
    }

    /// Starts a run. One that cannot be started has ended.
    pub(super) fn begin(&mut self, context: &Context, role: Role, config: &[u8], now: Timestamp) {
        self.job.began(now);
        self.run = note::Run { began: Some(now), ended: None, code: None, next: None };
        let mut args: Vec<OsString> = vec!["--config".into(), CONFIG.into()];
        args.push(if context.verbose && self.action != WATCH {
            "--verbose".into()
        } else {
            "--quiet".into()
        });
        args.extend([role.name().into(), self.action.into()]);
        // By this path also after an upgrade has put another file in its place.
        let program = std::env::current_exe().map(|path| still_there(path, std::env::args_os().next()));
        let called = format!("{} {}", role.name(), self.action);
        let begun = program.and_then(|program| {
            if !context.json {
                return Ok((Worker::start(&program, &args, config)?, None));
            }
            let (worker, said) = Worker::start_heard(&program, &args, config)?;
            Ok((worker, Some(log::Voice::new(true, called.clone(), said))))
        });
        match begun {
            Ok(begun) => self.worker = Some(begun),
            Err(e) => {
                log::trouble(context, &format!("error: `handover {called}` cannot be started: {e}"));
                (self.run.ended, self.run.code) = (Some(now), Some(Exit::Internal.code().into()));
            }
        }
    }

    /// How its run ended, if it has just ended.
    pub(super) fn ended(&mut self, context: &Context) -> Option<i32> {
        let code = match self.worker.as_mut()?.0.ended() {
            Ok(code) => code?,
            Err(e) => {
                log::trouble(context, &format!("error: a run is lost: {e}"));
                Exit::Internal.code().into()
            }
        };
        if let Some((_, Some(voice))) = self.worker.take() {
            voice.end();
        }
        Some(code)
    }

    /// Notes how the run ended, and says it in one line. A watch that found nothing says nothing.
    pub(super) fn say_end(
        &mut self,
        context: &Context,
        role: Role,
        code: i32,
        skipped: Option<Skipped>,
        now: Timestamp,
    ) {
        (self.run.ended, self.run.code) = (Some(now), Some(code));
        let (zone, name, role) = (TimeZone::system(), log::name(code), role.name());
        let busy = code == i32::from(Exit::Busy.code());
        let told = busy && std::mem::replace(&mut self.said_busy, busy);
        self.said_busy = busy;
        let well = code == 0 && skipped.is_none();
        if told || well && (context.quiet || self.action == WATCH) {
            return;
        }
        let (action, next) = (self.action, self.job.at());
        let seconds = self.run.began.map_or(0, |began| now.duration_since(began).as_secs());
        if context.json {
            return log::one(&log::Ran { at: now, role, action, exit: name, code, seconds, next });
        }
        let mut text = format!("{role} {action}: {name} (exit code {code}), {seconds} s");
        if let Some(skipped) = skipped {
            text +=
                &format!("; it took longer than to {}, which was left out", log::local(skipped.first, &zone));
        }
        let next = log::local(next, &zone);
        text += &if busy {
            format!("; another run is at work, it is tried again from {next} on")
        } else {
            format!("; next {next}")
        };
        log::line(context, now, &text);
    }

    /// What it does next, for people.
    pub(super) fn next_text(&self, zone: &TimeZone) -> String {
        if self.is_running() {
            return format!("{} at work", self.action);
        }
        let makes_up = if self.job.makes_up() { " (makes up for what was missed or cut)" } else { "" };
        format!("next {} {}{makes_up}", self.action, log::local(self.job.at(), zone))
    }

    pub(super) fn note(&self, note: &mut Note) {
        let next = (!self.is_running()).then(|| self.job.at());
        *note.job(self.action) = note::Run { next, ..self.run.clone() };
    }

    pub(super) fn stop(&self) {
        self.worker.iter().for_each(|(worker, _)| worker.stop());
    }

    pub(super) fn kill(&self) {
        self.worker.iter().for_each(|(worker, _)| worker.kill());
    }
}

/// The file of this program: where it was replaced, its name leads to the new one.
fn still_there(this: PathBuf, called: Option<OsString>) -> PathBuf {
    if this.exists() {
        return this;
    }
    let text = this.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let named = PathBuf::from(text);
    if named.exists() { named } else { called.map_or(this, PathBuf::from) }
}
