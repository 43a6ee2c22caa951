//! `handover source init`, `handover sink init`, `handover logsink init`: what is missing is made, and what is there is left as it is.

mod remains;
mod steps;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use self::steps::Owner;
pub(super) use self::steps::{Failed, Steps, configuration, of_system};
use super::{
    Context,
    args::{ScheduleArgs, SinkInitArgs, SourceInitArgs},
    authorize, host, schedule,
    schedule::Facts,
    sink::Sink,
};
use crate::{
    config::{self, Config, Place, SinkRole},
    manifest::Channel,
    report::Exit,
    sink::{key, run},
    source::{channels, home, run as run_of_source},
    store::{self, handover_point::HandoverPoint, sink_store::SinkStore},
    sys::{self, Dir, child, users},
};

/// The user whom sinks log in as, where the home is the usual one.
const SOURCE_USER: &str = "dataBackupSource";
/// The same for logs.
const LOGS_USER: &str = "logBackupSource";

/// `handover source init`.
pub(super) fn source(
    context: &Context,
    config: &Config,
    source: &config::Source,
    args: &SourceInitArgs,
) -> Exit {
    let mut steps = Steps::new(context, args.dry_run);
    let made = may_be_scheduled(config, &args.schedule, ("source", Vec::new(), None))
        .and_then(|()| make_all_of_source(&mut steps, config, source, args));
    if made.is_ok() {
        steps.settle("nothing to do: all is as it should be");
        remains::of_source(&mut steps, source);
    }
    steps.end(made)
}

fn make_all_of_source(
    steps: &mut Steps<'_>,
    config: &Config,
    source: &config::Source,
    args: &SourceInitArgs,
) -> Result<(), Failed> {
    for (channel, home) in channels(source) {
        let (named, usual) = match channel {
            Channel::Data => (args.users.user.as_deref(), SOURCE_USER),
            Channel::Logs => (args.users.logs_user.as_deref(), LOGS_USER),
        };
        let state = super::source::state(config);
        if !args.new_home {
            HandoverPoint::check_known(home, channel, &state).map_err(|e| of_home(&e))?;
        }
        make_source(steps, channel, home, (named, usual))?;
    }
    if users::is_root() && Dir::open(&config.state).is_err() {
        steps.folder(&config.state, &Owner::Us, 0o755)?;
    }
    // From here on it is missed when it is gone.
    for (channel, home) in channels(source).into_iter().filter(|_| !steps.dry_run) {
        home::note(source, channel, home, &super::source::state(config), args.new_home)
            .map_err(|e| (run_of_source::finding_of(&e, source.name.as_str()).kind.exit(), e.to_string()))?;
    }
    let logs = source.logs.as_ref().map(|logs| ("/home/logBackupSource", logs.home.as_path()));
    let data = ("/home/dataBackupSource", source.home.as_path());
    let homes = std::iter::once(data).chain(logs).collect();
    make_schedule(steps, config, &args.schedule, ("source", homes, None))
}

type Usual<'a> = (&'static str, Vec<(&'static str, &'a Path)>, Option<(&'static str, String)>);

/// What root's schedule would name must be root's alone: looked at before anything is made.
fn may_be_scheduled(
    config: &Config,
    args: &ScheduleArgs,
    (role, homes, user): Usual<'_>,
) -> Result<(), Failed> {
    let handover = authorize::own_path().map_err(|e| configuration(&e))?;
    let (file, state) = (config.file.as_path(), config.state.as_path());
    let facts = Facts { role, handover: &handover, config: file, state, homes, user };
    if !schedule::is_wanted(args, &facts) {
        return Ok(());
    }
    [handover.as_path(), file]
        .into_iter()
        .try_for_each(|path| authorize::roots_alone(path).map_err(|e| configuration(&e)))
}

fn make_schedule(
    steps: &mut Steps<'_>,
    config: &Config,
    args: &ScheduleArgs,
    (role, homes, user): Usual<'_>,
) -> Result<(), Failed> {
    let handover = authorize::own_path().map_err(|e| configuration(&e))?;
    let (config, state) = (config.file.as_path(), config.state.as_path());
    schedule::install(steps, args, &Facts { role, handover: &handover, config, state, homes, user })
}

/// Why a home cannot be made, with the next step.
fn of_home(e: &store::Error) -> Failed {
    let exit = if e.is_storage() { Exit::Storage } else { Exit::Configuration };
    match e {
        store::Error::HomeGone { .. } => (exit, format!("{e}\n  -> {}", store::Error::HOME_GONE)),
        _ => (exit, e.to_string()),
    }
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
    let changes = changes.map_err(|e| of_home(&e))?;
    changes.iter().for_each(|change| steps.say(change));
    match owner {
        // Root's, so that the transport user cannot let anybody in by itself.
        Owner::User(_) | Owner::ToBeMade(_) if users::is_root() => {
            steps.folder(&home.join(".ssh"), &Owner::Us, 0o755)
        }
        _ => Ok(()),
    }
}

/// `handover sink init`, or that of the logs.
pub(super) fn sink(context: &Context, config: &Config, sink: &Sink<'_>, args: &SinkInitArgs) -> Exit {
    let mut steps = Steps::new(context, args.dry_run);
    let made = may_be_scheduled(config, &args.schedule, (sink.config.role.name(), Vec::new(), None))
        .and_then(|()| make_sink(&mut steps, config, sink, args))
        .and_then(|(keys, user)| {
            let role = sink.config.role;
            let homes = vec![(role.usual_home(), sink.config.home.as_path())];
            let usual = (role.name(), homes, Some((role.user(), user)));
            make_schedule(&mut steps, config, &args.schedule, usual)?;
            Ok(keys)
        });
    let made = made.map(|keys| {
        steps.settle("nothing to do: the store is ready");
        remains::of_sink(&mut steps, sink.config, &keys);
    });
    steps.end(made)
}

fn make_sink(
    steps: &mut Steps<'_>,
    config: &Config,
    sink: &Sink<'_>,
    args: &SinkInitArgs,
) -> Result<(Vec<PathBuf>, String), Failed> {
    let (home, role, user) = (&sink.config.home, sink.config.role, args.user.as_deref());
    // Before anything is made where its disk may not be mounted.
    if !args.new_home {
        run::check_store(sink.config, &sink.state).map_err(|e| of_store(role, &e))?;
    }
    // A source on this host can be read by root alone: then the sink is root's.
    let here = sink.config.sources.iter().any(|source| matches!(source.place, Place::Path(_)));
    let owner =
        if here && user.is_none() { Owner::Us } else { steps.user(user, home, role.user(), false)? };
    let keys: Vec<PathBuf> = sink.config.identities().into_iter().collect();
    // Logs are not brought back into an application.
    let delivers = role == SinkRole::Data;
    let for_delivery: BTreeSet<PathBuf> =
        keys.iter().filter(|_| delivers).map(|identity| key::for_delivery(identity)).collect();
    for identity in keys.iter().chain(&for_delivery) {
        let shown = sys::show(identity.as_os_str().as_encoded_bytes());
        if !identity.exists() {
            steps.say(&format_args!("make the key {shown}"));
        }
        if !steps.dry_run {
            let role = if for_delivery.contains(identity) { "restore" } else { role.name() };
            let comment = format!("handover-{role}@{}", host());
            key::ensure(identity, &comment, owner.ids()).map_err(|e| configuration(&e))?;
        }
    }
    if let Owner::Us = owner {
        make_store(steps, sink, args.new_home)?;
        return Ok((keys, owner.name()));
    }
    steps.folder(home, &owner, 0o700)?;
    if Dir::open(&config.state).is_err() {
        steps.folder(&config.state, &Owner::Us, 0o755)?;
    }
    steps.folder(&sink.state, &owner, 0o700)?;
    match &owner {
        Owner::User(user) if !steps.dry_run => make_store_as(steps, sink, user, args.new_home)?,
        _ => steps.say(&format_args!("make the store in {}", sys::show(home.as_os_str().as_encoded_bytes()))),
    }
    Ok((keys, owner.name()))
}

/// What the store refused, with the next step.
fn of_store(role: SinkRole, e: &store::Error) -> Failed {
    let finding = crate::sink::fetch::store_finding(role, "store", e);
    (finding.kind.exit(), format!("{}\n  -> {}", finding.text, finding.fix.unwrap_or_default()))
}

/// A store that was made once is only opened: an empty folder where its disk is not mounted must not become another, unless
/// somebody says so (`anew`).
fn make_store(steps: &mut Steps<'_>, sink: &Sink<'_>, anew: bool) -> Result<(), Failed> {
    let home = sys::show(sink.config.home.as_os_str().as_encoded_bytes());
    let refused = |e: &store::Error| of_store(sink.config.role, e);
    if steps.dry_run {
        if SinkStore::look(&sink.config.home, None).is_err() {
            steps.say(&format_args!("make the store in {home}"));
        }
        return Ok(());
    }
    let noted = run::is_noted(&sink.state).map_err(|e| of_system(&e))?;
    if noted && !(anew && run::check_store(sink.config, &sink.state).is_err()) {
        return run::open_store(sink.config, &sink.state).map(|_| ()).map_err(|e| refused(&e));
    }
    let store = SinkStore::create(&sink.config.home).map_err(|e| refused(&e))?;
    run::note_store(&store, &sink.state).map_err(|e| of_system(&e))?;
    steps.say(&format_args!("the store in {home} is ready; its marker is {}", store.id()));
    Ok(())
}

/// By this program as that user: root makes nothing in a folder that is another's.
fn make_store_as(
    steps: &mut Steps<'_>,
    sink: &Sink<'_>,
    user: &users::User,
    anew: bool,
) -> Result<(), Failed> {
    let noted = run::is_noted(&sink.state).map_err(|e| of_system(&e))?;
    let handover = authorize::own_path().map_err(|e| configuration(&e))?;
    let mut argv: Vec<String> = [
        handover.to_string_lossy().as_ref(),
        "--quiet",
        "--config",
        steps.context.config.to_string_lossy().as_ref(),
        sink.config.role.name(),
        "init",
        "--schedule",
        "none",
    ]
    .map(str::to_owned)
    .to_vec();
    argv.extend(anew.then(|| "--new-home".to_owned()));
    let job = child::Job { argv: &argv, user: Some(&user.name), env: &[], timeout: Duration::from_secs(120) };
    child::run(&job, None, None).map_err(|e| configuration(&e))?;
    if !noted {
        let home = sys::show(sink.config.home.as_os_str().as_encoded_bytes());
        steps.say(&format_args!("the store in {home} is ready, as user {}", user.name));
    }
    Ok(())
}
