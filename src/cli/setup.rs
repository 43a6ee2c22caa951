//! `handover source init`, `handover sink init`, `handover logsink init`: what is missing is made, and what is there is left as it is.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Context, args::SourceUsers, authorize, fail, host, show, sink::Sink};
use crate::{
    config::{self, Config, Place, SinkRole},
    manifest::Channel,
    report::Exit,
    sink::{key, run},
    source::channels,
    store::{handover_point::HandoverPoint, sink_store::SinkStore},
    sys::{self, Dir, accounts, child, durable, users},
};

/// The user whom sinks log in as, where the home is the usual one.
const SOURCE_USER: &str = "dataBackupSource";
/// The same for logs.
const LOGS_USER: &str = "logBackupSource";

/// Why something was not made: the exit code and the text.
type Failed = (Exit, String);

fn configuration(e: &dyn std::fmt::Display) -> Failed {
    (Exit::Configuration, e.to_string())
}

fn of_system(e: &sys::Error) -> Failed {
    (if e.is_storage() { Exit::Storage } else { Exit::Configuration }, e.to_string())
}

/// Says what is done, or would be.
struct Steps<'a> {
    context: &'a Context,
    dry_run: bool,
    any: bool,
}

impl<'a> Steps<'a> {
    fn new(context: &'a Context, dry_run: bool) -> Self {
        Self { context, dry_run, any: false }
    }

    fn say(&mut self, text: &dyn std::fmt::Display) {
        self.any = true;
        if self.dry_run {
            show::talk(&format!("would {text}"));
        } else if !self.context.quiet {
            show::talk(&text.to_string());
        }
    }

    fn end(&self, nothing: &str) -> Exit {
        if !self.any && !self.context.quiet {
            show::talk(nothing);
        }
        Exit::Ok
    }

    /// The user: the one that was named, or the usual one where the home is the usual one. `None` leaves all to whoever
    /// runs this.
    fn user(&mut self, named: Option<&str>, home: &Path, usual: &str, login: bool) -> Result<Owner, Failed> {
        let name = match named {
            Some(_) if !users::is_root() => {
                let text = "only root can give folders to another user: leave --user out".to_owned();
                return Err((Exit::Usage, text));
            }
            Some(name) => name,
            None if users::is_root() && home == Path::new("/home").join(usual) => usual,
            None => return Ok(Owner::Us),
        };
        for step in accounts::plan(name, home, login).map_err(|e| of_system(&e))? {
            self.say(&step);
            if !self.dry_run {
                step.run().map_err(|e| configuration(&e))?;
            }
        }
        match users::find(name).map_err(|e| of_system(&e))? {
            Some(user) => Ok(Owner::User(user)),
            None if self.dry_run => Ok(Owner::ToBeMade),
            None => Err((Exit::Configuration, format!("the user {name} was made and is not in /etc/passwd"))),
        }
    }

    /// A folder with its owner and mode.
    fn folder(&mut self, path: &Path, owner: &Owner, mode: u32) -> Result<(), Failed> {
        let shown = sys::show(path.as_os_str().as_encoded_bytes());
        let (uid, gid) = owner.ids();
        let dir = match Dir::open(path) {
            Err(e) if e.is_not_found() => {
                self.say(&format_args!("make the folder {shown}"));
                if self.dry_run {
                    return Ok(());
                }
                Dir::create_all(path, mode).map_err(|e| of_system(&e))?
            }
            other => other.map_err(|e| of_system(&e))?,
        };
        let stat = dir.stat_self().map_err(|e| of_system(&e))?;
        if (stat.st_uid, stat.st_gid) != (uid, gid) && !matches!(owner, Owner::ToBeMade) {
            self.say(&format_args!("give {shown} to user {uid}, group {gid}"));
            if !self.dry_run {
                dir.give_to(uid, gid).map_err(|e| of_system(&e))?;
            }
        }
        if stat.st_mode & 0o7777 != mode {
            self.say(&format_args!("set the mode of {shown} to {mode:04o}"));
            if !self.dry_run {
                dir.set_mode(mode).map_err(|e| of_system(&e))?;
            }
        }
        match path.parent().filter(|_| !self.dry_run) {
            Some(parent) => {
                Dir::open(parent).and_then(|dir| durable::sync_dir(&dir)).map_err(|e| of_system(&e))
            }
            None => Ok(()),
        }
    }
}

/// Whose what is made becomes.
enum Owner {
    /// Of whoever runs this.
    Us,
    /// Of a user who is there.
    User(users::User),
    /// Of a user who would be made.
    ToBeMade,
}

impl Owner {
    fn ids(&self) -> (u32, u32) {
        match self {
            Self::User(user) => (user.uid, user.gid),
            Self::Us | Self::ToBeMade => (users::euid(), users::egid()),
        }
    }
}

/// `handover source init`.
pub(super) fn source(context: &Context, source: &config::Source, users: &SourceUsers, dry_run: bool) -> Exit {
    let mut steps = Steps::new(context, dry_run);
    for (channel, home) in channels(source) {
        let (named, usual) = match channel {
            Channel::Data => (users.user.as_deref(), SOURCE_USER),
            Channel::Logs => (users.logs_user.as_deref(), LOGS_USER),
        };
        if let Err((exit, text)) = make_source(&mut steps, channel, home, (named, usual)) {
            return fail(exit, &text);
        }
    }
    steps.end("nothing to do: all is as it should be")
}

/// One channel's home.
fn make_source(
    steps: &mut Steps<'_>,
    channel: Channel,
    home: &Path,
    (named, usual): (Option<&str>, &str),
) -> Result<(), Failed> {
    let owner = steps.user(named, home, usual, true)?;
    let ids = if let Owner::User(user) = &owner { Some((user.uid, user.gid)) } else { None };
    let changes = if steps.dry_run {
        HandoverPoint::plan(home, channel, ids)
    } else {
        HandoverPoint::create(home, channel, ids)
    };
    let changes = changes.map_err(|e| {
        let exit = if e.is_storage() { Exit::Storage } else { Exit::Configuration };
        (exit, e.to_string())
    })?;
    changes.iter().for_each(|change| steps.say(change));
    match owner {
        // Root's, so that the transport user cannot let anybody in by itself.
        Owner::User(_) | Owner::ToBeMade if users::is_root() => {
            steps.folder(&home.join(".ssh"), &Owner::Us, 0o755)
        }
        _ => Ok(()),
    }
}

/// `handover sink init`, or that of the logs.
pub(super) fn sink(
    context: &Context,
    config: &Config,
    sink: &Sink<'_>,
    user: Option<&str>,
    dry_run: bool,
) -> Exit {
    let mut steps = Steps::new(context, dry_run);
    match make_sink(&mut steps, config, sink, user) {
        Ok(keys) => {
            let exit = steps.end("nothing to do: the store is ready");
            tell_keys(context, sink.config.role, &keys);
            exit
        }
        Err((exit, text)) => fail(exit, &text),
    }
}

fn make_sink(
    steps: &mut Steps<'_>,
    config: &Config,
    sink: &Sink<'_>,
    user: Option<&str>,
) -> Result<Vec<PathBuf>, Failed> {
    let (home, role) = (&sink.config.home, sink.config.role);
    // A source on this host can be read by root alone: then the sink is root's.
    let here = sink.config.sources.iter().any(|source| matches!(source.place, Place::Path(_)));
    let owner =
        if here && user.is_none() { Owner::Us } else { steps.user(user, home, role.user(), false)? };
    let keys: Vec<PathBuf> = sink.config.identities().into_iter().collect();
    for identity in &keys {
        let shown = sys::show(identity.as_os_str().as_encoded_bytes());
        if !identity.exists() {
            steps.say(&format_args!("make the key {shown}"));
        }
        if !steps.dry_run {
            let comment = format!("handover-{role}@{}", host());
            key::ensure(identity, &comment, owner.ids()).map_err(|e| configuration(&e))?;
        }
    }
    if let Owner::Us = owner {
        make_store(steps, sink)?;
        return Ok(keys);
    }
    steps.folder(home, &owner, 0o700)?;
    if Dir::open(&config.state).is_err() {
        steps.folder(&config.state, &Owner::Us, 0o755)?;
    }
    steps.folder(&sink.state, &owner, 0o700)?;
    match &owner {
        Owner::User(user) if !steps.dry_run => make_store_as(steps, sink, user)?,
        _ => steps.say(&format_args!("make the store in {}", sys::show(home.as_os_str().as_encoded_bytes()))),
    }
    Ok(keys)
}

/// A store that was made once is only opened: an empty folder where its disk is not mounted must not become another.
fn make_store(steps: &mut Steps<'_>, sink: &Sink<'_>) -> Result<(), Failed> {
    let home = sys::show(sink.config.home.as_os_str().as_encoded_bytes());
    let refused = |e: &crate::store::Error| {
        let finding = crate::sink::fetch::store_finding(sink.config.role, "store", e);
        (finding.kind.exit(), format!("{}\n  -> {}", finding.text, finding.fix.unwrap_or_default()))
    };
    if steps.dry_run {
        if SinkStore::open(&sink.config.home, None).is_err() {
            steps.say(&format_args!("make the store in {home}"));
        }
        return Ok(());
    }
    let noted = run::is_noted(&sink.state).map_err(|e| of_system(&e))?;
    if noted {
        return run::open_store(sink.config, &sink.state).map(|_| ()).map_err(|e| refused(&e));
    }
    let store = SinkStore::create(&sink.config.home).map_err(|e| refused(&e))?;
    run::note_store(&store, &sink.state).map_err(|e| of_system(&e))?;
    steps.say(&format_args!("the store in {home} is ready; its marker is {}", store.id()));
    Ok(())
}

/// By this program as that user: root makes nothing in a folder that is another's.
fn make_store_as(steps: &mut Steps<'_>, sink: &Sink<'_>, user: &users::User) -> Result<(), Failed> {
    let noted = run::is_noted(&sink.state).map_err(|e| of_system(&e))?;
    let handover = authorize::own_path().map_err(|e| configuration(&e))?;
    let argv: Vec<String> = [
        handover.to_string_lossy().as_ref(),
        "--quiet",
        "--config",
        steps.context.config.to_string_lossy().as_ref(),
        sink.config.role.name(),
        "init",
    ]
    .map(str::to_owned)
    .to_vec();
    let job = child::Job { argv: &argv, user: Some(&user.name), env: &[], timeout: Duration::from_secs(120) };
    child::run(&job, None, None).map_err(|e| configuration(&e))?;
    if !noted {
        let home = sys::show(sink.config.home.as_os_str().as_encoded_bytes());
        steps.say(&format_args!("the store in {home} is ready, as user {}", user.name));
    }
    Ok(())
}

fn tell_keys(context: &Context, role: SinkRole, keys: &[PathBuf]) {
    if context.quiet {
        return;
    }
    let channel = match role {
        SinkRole::Data => "",
        SinkRole::Logs => " --channel logs",
    };
    for identity in keys {
        // In a dry run there may be none.
        let Ok(public) = key::public(identity) else { continue };
        show::talk("on each source, as root:");
        show::data(&format!(
            "echo '{}' | handover source authorize{channel} -",
            sys::show(public.as_bytes())
        ));
    }
}
