//! What `init` does so that everything runs by itself: systemd's timers or a cron file. Nothing that a person changed is
//! replaced: a file says the sha256 of what was written into it, so that a change is seen.

mod texts;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) use self::texts::Facts;
use super::{
    args::{Schedule, ScheduleArgs},
    setup::{Failed, Steps, configuration, of_system},
};
use crate::{
    manifest::Digest,
    report::Exit,
    sys::{self, Dir, child, durable, program, users},
};

const ETC_UNITS: &str = "etc/systemd/system";
/// Where packages put their units.
const SHIPPED_UNITS: [&str; 2] = ["usr/lib/systemd/system", "lib/systemd/system"];
const CRON: &str = "etc/cron.d";
const LIMIT: u64 = 1 << 20;
const MARK: &str =
    "# handover wrote this. Change it as you like: `init` then leaves it as it is. sha256 of the rest: ";

/// Whether anything is to be installed: what was chosen, or what suits this host.
pub(super) fn is_wanted(args: &ScheduleArgs, facts: &Facts<'_>) -> bool {
    let place = Place { root: PathBuf::from("/"), in_use: args.root.is_none(), force: args.force };
    let chosen = args.schedule.map_or_else(|| place.suits(facts), Ok);
    chosen.is_ok_and(|chosen| chosen != Schedule::None)
}

/// Installs what was chosen, or what suits this host.
pub(super) fn install(steps: &mut Steps<'_>, args: &ScheduleArgs, facts: &Facts<'_>) -> Result<(), Failed> {
    let root = args.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let place = Place { root, in_use: args.root.is_none(), force: args.force };
    match args.schedule.map_or_else(|| place.suits(facts), Ok) {
        Ok(Schedule::Systemd) => place.systemd(steps, facts),
        Ok(Schedule::Cron) => place.cron(steps, facts),
        Ok(Schedule::None) => Ok(()),
        Err(why) => {
            steps.note(&format!("no schedule was installed: {why}"));
            Ok(())
        }
    }
}

struct Place {
    /// What stands for `/`.
    root: PathBuf,
    /// Whether it is the system that runs.
    in_use: bool,
    force: bool,
}

/// What a file that should be there is.
enum Found {
    /// As it should be.
    Same,
    /// Not there.
    Missing,
    /// As an earlier handover wrote it.
    Older,
    /// Somebody's own.
    Changed,
}

impl Place {
    /// The schedule where none was asked for; or why there is none.
    fn suits(&self, facts: &Facts<'_>) -> Result<Schedule, String> {
        if !users::is_root() {
            return Err("only root can; put `handover` into your own crontab".to_owned());
        }
        if facts.config != Path::new(texts::CONFIG) {
            let text = format!(
                "the configuration is not {}; ask for it with --schedule systemd or cron",
                texts::CONFIG
            );
            return Err(text);
        }
        if Path::new("/etc/NIXOS").exists() {
            return Err("on NixOS the module does it (services.handover)".to_owned());
        }
        if is_systemd_running() && facts.user_fits() {
            return Ok(Schedule::Systemd);
        }
        if Path::new("/").join(CRON).is_dir() {
            return Ok(Schedule::Cron);
        }
        Err(format!(
            "no systemd runs here, and there is no /{CRON}: `handover {} daemon` keeps its own time",
            facts.role
        ))
    }

    fn systemd(&self, steps: &mut Steps<'_>, facts: &Facts<'_>) -> Result<(), Failed> {
        if !facts.user_fits() {
            let text = "the sink is root's, as a source is on this host, and the units are for an ordinary user: take \
                        --schedule cron";
            return Err((Exit::Configuration, text.to_owned()));
        }
        let mut timers = Vec::new();
        let mut wrote = false;
        for (name, text) in texts::units(facts.role) {
            let text = facts.fit(text).map_err(|e| (Exit::Configuration, e))?;
            if !self.is_shipped(name, &text) {
                wrote |= self.put(steps, facts, (ETC_UNITS, name), &text)?;
            }
            timers.extend(name.ends_with(".timer").then_some(*name));
        }
        let cron = self.root.join(CRON).join(texts::cron(facts.role).0);
        if cron.exists() {
            let cron = sys::show(cron.as_os_str().as_encoded_bytes());
            steps.note(&format!("{cron} does the same: remove it"));
        }
        self.enable(steps, &timers, wrote)
    }

    /// Whether a package brought this unit, just as it should be.
    fn is_shipped(&self, name: &str, text: &str) -> bool {
        let shipped = |folder: &str| {
            let there = Dir::open(self.root.join(folder)).and_then(|dir| dir.read_if_any(name, LIMIT));
            there.is_ok_and(|there| there.as_deref() == Some(text.as_bytes()))
        };
        !self.root.join(ETC_UNITS).join(name).exists() && SHIPPED_UNITS.iter().any(|folder| shipped(folder))
    }

    fn enable(&self, steps: &mut Steps<'_>, timers: &[&str], wrote: bool) -> Result<(), Failed> {
        let running = self.in_use && is_systemd_running();
        let links = self.root.join(ETC_UNITS).join("timers.target.wants");
        let missing: Vec<&str> =
            timers.iter().copied().filter(|timer| links.join(timer).symlink_metadata().is_err()).collect();
        let root = self.root.to_string_lossy().into_owned();
        let mut commands: Vec<Vec<&str>> = Vec::new();
        if running && wrote {
            commands.push(vec!["systemctl", "daemon-reload"]);
        }
        if !missing.is_empty() {
            let how = if running { vec!["--now"] } else { vec!["--root", &root] };
            commands.push([vec!["systemctl", "enable"], how, missing].concat());
        }
        for command in commands {
            steps.say(&format_args!("run {}", command.join(" ")));
            if steps.dry_run {
                continue;
            }
            if program::find("systemctl").is_none() {
                let text = "there is no systemctl here: the units were written, enable the timers by hand";
                return Err((Exit::Configuration, text.to_owned()));
            }
            let argv: Vec<String> = command.into_iter().map(str::to_owned).collect();
            let job = child::Job { argv: &argv, user: None, env: &[], timeout: Duration::from_secs(60) };
            child::run(&job, None, None).map_err(|e| configuration(&e))?;
        }
        Ok(())
    }

    fn cron(&self, steps: &mut Steps<'_>, facts: &Facts<'_>) -> Result<(), Failed> {
        let (name, text) = texts::cron(facts.role);
        let text = facts.fit(text).map_err(|e| (Exit::Configuration, e))?;
        self.put(steps, facts, (CRON, name), &text)?;
        // An earlier handover kept what it replaced there.
        let old = self.root.join(CRON).join(format!("{name}.old"));
        if old.symlink_metadata().is_ok() {
            let old = sys::show(old.as_os_str().as_encoded_bytes());
            steps.note(&format!("some crons run {old}, too: move it away"));
        }
        let timer = self.root.join(ETC_UNITS).join(format!("timers.target.wants/{name}.timer"));
        if timer.symlink_metadata().is_ok() {
            steps.note(&format!(
                "{name}.timer does the same: systemctl disable --now {name}.timer {name}-watch.timer"
            ));
        }
        if self.in_use && ["cron", "crond"].iter().all(|cron| program::find_fixed(cron).is_none()) {
            steps.note("no cron is installed here: nothing runs before there is one");
        }
        Ok(())
    }

    /// Where what was replaced is kept: nothing that runs looks there.
    fn replaced(&self, facts: &Facts<'_>) -> PathBuf {
        let state = facts.state.strip_prefix("/").unwrap_or(facts.state);
        self.root.join(state).join("replaced")
    }

    /// Writes a file, root's, 0644; true if it did. What a person changed stays, unless it is forced; then it is kept.
    fn put(
        &self,
        steps: &mut Steps<'_>,
        facts: &Facts<'_>,
        (folder, name): (&str, &str),
        body: &str,
    ) -> Result<bool, Failed> {
        let folder = self.root.join(folder);
        let text = format!("{MARK}{}\n{body}", Digest::of(body.as_bytes()));
        let shown = sys::show(folder.join(name).as_os_str().as_encoded_bytes());
        let old = match Dir::open(&folder) {
            Err(e) if e.is_not_found() => None,
            dir => dir.and_then(|dir| dir.read_if_any(name, LIMIT)).map_err(|e| of_system(&e))?,
        };
        let old = old.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let found = state(old.as_deref(), &text, body);
        match &found {
            Found::Same => return Ok(false),
            Found::Missing => {
                steps.say(&format_args!("write {shown} (root's, 0644)"));
                steps.detail(&text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>());
            }
            Found::Older => {
                steps.say(&format_args!("renew {shown}, which an earlier handover wrote (root's, 0644)"));
                steps.detail(&difference(old.as_deref().unwrap_or_default(), &text));
            }
            Found::Changed if !self.force => {
                steps.note(&format!(
                    "{shown} is somebody's own and was left as it is; --force replaces it. It differs so:"
                ));
                steps.lines(&difference(old.as_deref().unwrap_or_default(), &text));
                return Ok(false);
            }
            Found::Changed => {
                steps.say(&format_args!(
                    "replace {shown} (root's, 0644), and keep the old one in {}",
                    sys::show(self.replaced(facts).as_os_str().as_encoded_bytes())
                ));
                steps.detail(&difference(old.as_deref().unwrap_or_default(), &text));
            }
        }
        if !steps.dry_run {
            if let (Found::Changed, Some(old)) = (&found, &old) {
                keep(&self.replaced(facts), name, old).map_err(|e| of_system(&e))?;
            }
            let dir = Dir::create_all(&folder, 0o755).map_err(|e| of_system(&e))?;
            durable::write_file(&dir, name, text.as_bytes(), 0o644).map_err(|e| of_system(&e))?;
        }
        Ok(true)
    }
}

/// Keeps a text under a name that is free, closed to others: it may have a secret.
fn keep(folder: &Path, name: &str, text: &str) -> sys::Result<()> {
    let dir = Dir::create_all(folder, 0o700)?;
    let mut number = 1;
    while dir.stat_if_any(format!("{name}.{number}"))?.is_some() {
        number += 1;
    }
    durable::write_file(&dir, format!("{name}.{number}"), text.as_bytes(), 0o600)
}

fn is_systemd_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn state(old: Option<&str>, text: &str, body: &str) -> Found {
    let Some(old) = old else { return Found::Missing };
    if old == text || old == body {
        return Found::Same;
    }
    let ours = old.split_once('\n').is_some_and(|(first, rest)| {
        first.strip_prefix(MARK) == Some(Digest::of(rest.as_bytes()).to_string().as_str())
    });
    if ours { Found::Older } else { Found::Changed }
}

/// The lines that go and that come, for people: from the first that differs to the last.
pub(super) fn difference(old: &str, new: &str) -> Vec<String> {
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with(MARK)).map(str::to_owned).collect()
    };
    let (old, new) = (lines(old), lines(new));
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[before..], &new[before..]);
    let after = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let gone = old[..old.len() - after].iter().map(|line| format!("  - {}", sys::show(line.as_bytes())));
    let come = new[..new.len() - after].iter().map(|line| format!("  + {line}"));
    gone.chain(come).collect()
}

impl Facts<'_> {
    /// Whether the role runs as the user for whom the units are: a source as root, a sink as an ordinary user.
    fn user_fits(&self) -> bool {
        self.user.as_ref().is_none_or(|(_, user)| user != "root")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_changed_is_told_from_what_an_earlier_handover_wrote() {
        let of = |body: &str| format!("{MARK}{}\n{body}", Digest::of(body.as_bytes()));
        let (body, text) = ("a\nb\n", of("a\nb\n"));
        assert!(matches!(state(None, &text, body), Found::Missing));
        assert!(matches!(state(Some(&text), &text, body), Found::Same));
        assert!(matches!(state(Some(body), &text, body), Found::Same), "as a person copied it");
        assert!(matches!(state(Some(&of("a\n")), &text, body), Found::Older));
        assert!(matches!(state(Some(&of("a\n").replace('a', "c")), &text, body), Found::Changed));
        assert!(matches!(state(Some(""), &text, body), Found::Changed));
    }

    #[test]
    fn a_difference_shows_the_lines_that_go_and_come() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\ny\nc\n"), ["  - b", "  + x", "  + y"]);
        assert_eq!(difference("a\n", "a\n"), [""; 0]);
        assert_eq!(difference("", "a\n"), ["  + a"]);
    }
}
