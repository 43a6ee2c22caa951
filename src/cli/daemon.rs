//! `handover source daemon`, `sink daemon`, `logsink daemon`: runs by a schedule, and watches, until it is asked to stop.
//!
//! Each run is a child: this program once more, as cron would start it. A run that crashes, or is killed for want of
//! memory, leaves the daemon standing; mail, status and exit codes are those of a run under cron, as it is one.

mod log;
mod plan;
mod sshd;
mod task;

use std::time::{Duration, Instant};

use jiff::{Timestamp, tz::TimeZone};
use sd_notify::NotifyState;

use self::{sshd::Sshd, task::Task};
use super::{
    Context, alarm,
    alarm::What,
    args::{DaemonArgs, SourceDaemonArgs},
    fail, show,
};
use crate::{
    config::{self, Config, Surroundings},
    daemon::{Note, note},
    notify::{Looked, Scope},
    report::{Exit, Finding, Kind},
    sys::{Dir, clock, lock, signals},
};

/// A clock that was changed is noticed after this time at the latest.
const NAP: Duration = Duration::from_secs(30);
/// So long a run has to stop; what it does not finish the next one goes on with.
const GRACE: Duration = Duration::from_secs(60);
/// Another run of the same role was at work: it is tried again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// The role of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Sink(config::SinkRole),
}

impl Role {
    pub(super) const ALL: [Self; 3] =
        [Self::Source, Self::Sink(config::SinkRole::Data), Self::Sink(config::SinkRole::Logs)];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink(role) => role.name(),
        }
    }

    pub(super) fn config(self) -> config::Role {
        match self {
            Self::Source => config::Role::Source,
            Self::Sink(role) => role.into(),
        }
    }

    fn schedule(self, config: &Config) -> Result<&config::Schedule, config::Errors> {
        Ok(match self {
            Self::Source => &config.source()?.schedule,
            Self::Sink(role) => &config.sink_of(role)?.schedule,
        })
    }

    fn what(self) -> What {
        What { role: self.name(), action: "daemon" }
    }
}

/// `handover source daemon`.
pub(super) fn source(context: &Context, args: &SourceDaemonArgs) -> Exit {
    match begin(context, Role::Source, &args.times, args.ssh.then_some(args)) {
        Ok(exit) | Err(exit) => exit,
    }
}

/// `handover sink daemon` and `handover logsink daemon`, as the owner of the store.
pub(super) fn sink(context: &Context, role: config::SinkRole, args: &DaemonArgs) -> Exit {
    match begin(context, Role::Sink(role), args, None) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn begin(
    context: &Context,
    role: Role,
    args: &DaemonArgs,
    ssh: Option<&SourceDaemonArgs>,
) -> Result<Exit, Exit> {
    let what = (!args.dry_run).then(|| role.what());
    let accepted = Accepted::load(context, role).map_err(|text| {
        show::talk(&text);
        if let Some(what) = what {
            alarm::refused(context, what, &text);
        }
        Exit::Configuration
    })?;
    let plan = plan::of(role, &accepted.config, args).map_err(|text| fail(Exit::Configuration, &text))?;
    if args.dry_run {
        return plan::show(context, role, &accepted.config, plan, args.count);
    }
    let path = accepted.config.state.join(role.name());
    let failed =
        |e: &crate::sys::Error| fail(if e.is_storage() { Exit::Storage } else { Exit::Configuration }, e);
    let state = Dir::create_all(&path, 0o700).map_err(|e| failed(&e))?;
    let name = format!("handover {} daemon", role.name());
    let _lock = match lock::try_exclusive(&path.join(note::LOCK), &name).map_err(|e| failed(&e))? {
        lock::Attempt::Held(lock) => lock,
        lock::Attempt::Busy(who) => {
            return Err(fail(Exit::Busy, &format!("another daemon is at work: {who}")));
        }
    };
    let mut note = Note::load(&state).map_err(|e| failed(&e))?;
    let now = clock::now();
    note.started = Some(now);
    let tasks = plan.map(|(action, timing)| Task::new(context, role, action, timing, &mut note, now));
    let wakeups = signals::Wakeups::listen().map_err(|e| fail(Exit::Internal, &e))?;
    let sshd = ssh.map(|args| Sshd::prepare(context, args, &accepted.config, &path)).transpose();
    let sshd = sshd.map_err(|text| fail(Exit::Configuration, &text))?;
    if sshd.is_some() {
        sshd::print_what_gates_say(context);
    }
    let mut daemon =
        Daemon { context, role, args, accepted, state, note, tasks, sshd, troubles: Vec::new(), told: None };
    daemon.go_on(wakeups)
}

/// A configuration that was read and found good, and its text: every run gets this one, whatever the file becomes
/// meanwhile.
struct Accepted {
    config: Config,
    text: Vec<u8>,
}

impl Accepted {
    fn load(context: &Context, role: Role) -> Result<Self, String> {
        let (config, text) = config::load_with_text(&context.config, &Surroundings::here(), role.config())
            .map_err(|e| e.to_string())?;
        role.schedule(&config).map_err(|e| e.to_string())?;
        Ok(Self { config, text })
    }
}

/// A daemon at work.
struct Daemon<'a> {
    context: &'a Context,
    role: Role,
    args: &'a DaemonArgs,
    accepted: Accepted,
    state: Dir,
    note: Note,
    tasks: [Task; 2],
    sshd: Option<Sshd>,
    /// What is wrong with the daemon itself now.
    troubles: Vec<Finding>,
    /// What of it was last told.
    told: Option<Vec<Finding>>,
}

impl Daemon<'_> {
    fn go_on(&mut self, mut wakeups: signals::Wakeups) -> Result<Exit, Exit> {
        let watchdog = sd_notify::watchdog_enabled();
        self.say_hello();
        notify(self.context, &[NotifyState::Ready]);
        while !signals::stopping() {
            if signals::take_reload() {
                self.reload_now();
            }
            let now = clock::now();
            self.step(now);
            self.tell_systemd(watchdog.is_some());
            let next = self.tasks.iter().filter(|task| !task.is_running()).map(|task| task.job.at());
            let until = next.min().map_or(NAP, |at| until(at, now));
            let nap = watchdog.map_or(NAP, |limit| limit / 2).min(NAP).min(until);
            let nap = self.sshd.as_ref().and_then(Sshd::patience).map_or(nap, |patience| nap.min(patience));
            wakeups.wait(nap).map_err(|e| fail(Exit::Internal, &e))?;
        }
        notify(self.context, &[NotifyState::Stopping]);
        self.stop(wakeups);
        Ok(Exit::Ok)
    }

    /// Sees what has ended, and starts what is due.
    fn step(&mut self, now: Timestamp) {
        for at in 0..self.tasks.len() {
            if let Some(code) = self.tasks[at].ended(self.context) {
                self.finish(at, code, now);
            }
            if !self.tasks[at].is_running() && self.tasks[at].job.is_due(now) {
                self.take_new_configuration();
                self.tasks[at].begin(self.context, self.role, &self.accepted.text, now);
                self.save();
            }
        }
        if let Some(sshd) = &mut self.sshd {
            let since = sshd.keep_up(self.context, now);
            if since != self.note.no_ssh_since {
                self.note.no_ssh_since = since;
                self.save();
            }
        }
    }

    /// A run has ended.
    fn finish(&mut self, at: usize, code: i32, now: Timestamp) {
        let task = &mut self.tasks[at];
        let skipped = task.job.ended(now);
        let busy = code == i32::from(Exit::Busy.code());
        if busy {
            task.job.again_in(AGAIN, now);
        }
        task.say_end(self.context, self.role, code, skipped, now);
        let subject = format!("{} {}", self.role.name(), task.action);
        self.troubles.retain(|trouble| trouble.kind != Kind::Internal || trouble.subject != subject);
        if let Some(trouble) = log::crash(&subject, code) {
            log::trouble(self.context, &format!("error: {}", crate::notify::body(&trouble)));
            self.troubles.push(trouble);
        }
        self.save();
        self.tell();
    }

    fn save(&mut self) {
        for task in &self.tasks {
            task.note(&mut self.note);
        }
        if let Err(e) = self.note.save(&self.state) {
            log::trouble(self.context, &format!("warning: what ran cannot be noted: {e}"));
        }
    }

    /// At SIGHUP.
    fn reload_now(&mut self) {
        let monotonic = NotifyState::monotonic_usec_now();
        notify(
            self.context,
            &[Some(NotifyState::Reloading), monotonic.ok()].into_iter().flatten().collect::<Vec<_>>(),
        );
        if self.take_new_configuration() && !self.context.quiet {
            self.say_hello();
        }
        let reloaded = self.sshd.as_ref().map(|sshd| sshd.reload(self.context, &self.accepted.config));
        if let Some(Err(text)) = reloaded {
            log::trouble(self.context, &format!("error: the keys of sinks stay as they were: {text}"));
        }
        self.tell();
        notify(self.context, &[NotifyState::Ready]);
    }

    /// Reads the file again. What is wrong with it is said, and the last good one stays.
    fn take_new_configuration(&mut self) -> bool {
        let read = Accepted::load(self.context, self.role);
        let read = read.and_then(|new| Ok((plan::of(self.role, &new.config, self.args)?, new)));
        self.troubles.retain(|trouble| trouble.kind != Kind::Configuration);
        match read {
            Ok((plan, new)) => {
                let now = clock::now();
                for (task, (_, timing)) in self.tasks.iter_mut().zip(plan) {
                    task.job.change(timing, now);
                }
                self.accepted = new;
                true
            }
            Err(text) => {
                let said = format!("error: the configuration that was read last stays in force:\n{text}");
                log::trouble(self.context, &said);
                let trouble = Finding::new(Kind::Configuration, "daemon", text).with_fix(
                    "mend what is named, then run `handover check`; until then the last good one is used",
                );
                self.troubles.push(trouble);
                false
            }
        }
    }

    /// Mails what has changed with the daemon itself; what runs found they have told themselves.
    fn tell(&mut self) {
        if self.told.as_ref() == Some(&self.troubles) {
            return;
        }
        let looked = Looked::nothing().and(Kind::Configuration).and(Kind::Internal);
        let scope = Scope { name: "daemon", findings: &self.troubles, generation: None, looked };
        let exit = crate::report::exit_of(&self.troubles);
        let said = alarm::deliver(&self.accepted.config, self.role.what(), exit, vec![scope]);
        if self.context.json {
            said.iter().for_each(|finding| log::trouble(self.context, &crate::notify::body(finding)));
        } else {
            show::findings(self.role.name(), &said, self.context.quiet);
        }
        self.told = Some(self.troubles.clone());
    }

    fn say_hello(&mut self) {
        self.save();
        if !self.context.quiet {
            let zone = TimeZone::system();
            let next = self.tasks.iter().map(|task| task.next_text(&zone)).collect::<Vec<_>>().join(", ");
            log::line(self.context, clock::now(), &format!("{} daemon: {next}", self.role.name()));
        }
    }

    fn tell_systemd(&self, watchdog: bool) {
        let zone = TimeZone::system();
        let status = self.tasks.iter().map(|task| task.next_text(&zone)).collect::<Vec<_>>().join(", ");
        let mut state = vec![NotifyState::Status(&status)];
        if watchdog {
            state.push(NotifyState::Watchdog);
        }
        notify(self.context, &state);
    }

    /// Passes the wish on to the runs, and waits for them.
    fn stop(&mut self, mut wakeups: signals::Wakeups) {
        self.tasks.iter().for_each(Task::stop);
        let deadline = Instant::now() + GRACE;
        while self.tasks.iter().any(Task::is_running) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.tasks.iter().for_each(Task::kill);
            }
            for at in 0..self.tasks.len() {
                if let Some(code) = self.tasks[at].ended(self.context) {
                    self.tasks[at].say_end(self.context, self.role, code, None, clock::now());
                }
            }
            if wakeups.wait(left.min(Duration::from_millis(200))).is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Some(sshd) = self.sshd.take() {
            sshd.end();
        }
        self.save();
        if !self.context.quiet {
            log::line(self.context, clock::now(), &format!("{} daemon: stopped", self.role.name()));
        }
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// Nobody listens where there is no systemd.
fn notify(context: &Context, state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        log::trouble(context, &format!("warning: systemd cannot be told: {e}"));
    }
}
