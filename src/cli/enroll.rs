//! `handover sink enroll` and `handover logsink enroll`.

use super::{Context, args::EnrollArgs, ask, fail, schedule::difference, show, sink::Sink};
use crate::{
    config::{self, Config, Place, Surroundings},
    remote::{self, Tools},
    report::Exit,
    sink::{
        channel,
        enroll::{self, Entry, Error, HostKey},
    },
    sys::{self, clock, users},
};

type Failed = (Exit, String);

/// Enrolls a source: every step can be cut and done again.
pub(super) fn run(context: &Context, config: &Config, sink: &Sink<'_>, args: &EnrollArgs) -> Exit {
    match steps(context, config, sink, args) {
        Ok(exit) => exit,
        Err((exit, text)) => fail(exit, &text),
    }
}

/// Why it could not be written, with its exit code.
pub(super) fn failed(e: &Error) -> Failed {
    let exit = match e {
        Error::Sys(inner) if inner.is_storage() => Exit::Storage,
        Error::NoKey(_) => Exit::Unreachable,
        Error::Sys(_) | Error::Program(_) | Error::OtherPinned { .. } | Error::Config(_) => {
            Exit::Configuration
        }
    };
    (exit, e.to_string())
}

fn steps(context: &Context, config: &Config, sink: &Sink<'_>, args: &EnrollArgs) -> Result<Exit, Failed> {
    let entry = Entry {
        name: args.name.clone(),
        host: args.host.clone(),
        port: args.port,
        user: args.user.clone(),
        jump: args.jump.clone(),
    };
    let written = std::fs::read_to_string(&config.file).map_err(|e| (Exit::Configuration, e.to_string()))?;
    let text = enroll::added(&written, sink.config.role, &entry).map_err(|e| failed(&e))?;
    // What would be wrong in the file is refused before anything is pinned or written.
    let after = config::parse(
        text.as_ref().unwrap_or(&written),
        &config.file,
        &Surroundings::here(),
        sink.config.role.into(),
    )
    .map_err(|e| (Exit::Configuration, e.to_string()))?;
    let after_section = after.sink_of(sink.config.role).ok();
    let source = after_section.and_then(|s| s.sources.iter().find(|s| s.name == args.name));
    let Some((source, Place::Host(place))) = source.map(|source| (source, &source.place)) else {
        return Err((Exit::Internal, "the source was added and is not there".to_owned()));
    };
    let host = super::sink::host_of(sink.config, &source.name, place);
    pin(context, args, &host)?;
    match &text {
        Some(text) if args.dry_run => {
            let file = sys::show(config.file.as_os_str().as_encoded_bytes());
            say(context, &format!("would add {} to {file}:", args.name));
            difference(&written, text).iter().for_each(|line| say(context, line));
        }
        Some(text) => {
            enroll::write(&config.file, text).map_err(|e| failed(&e))?;
            say(
                context,
                &format!(
                    "{} was added to {}",
                    args.name,
                    sys::show(config.file.as_os_str().as_encoded_bytes())
                ),
            );
        }
        None => say(context, &format!("{} is in the configuration", args.name)),
    }
    if args.dry_run {
        return Ok(Exit::Ok);
    }
    let after = Sink { config: after_section.unwrap_or(sink.config), state: private_state(config, sink) };
    try_it(context, &after, source)
}

/// Where root keeps the sockets of its own connections: the sink's folder is the sink's user's.
pub(super) fn private_state(config: &Config, sink: &Sink<'_>) -> std::path::PathBuf {
    if users::is_root() { config.state.join("admin") } else { sink.state.clone() }
}

fn say(context: &Context, text: &str) {
    if !context.quiet {
        show::talk(text);
    }
}

/// Pins the host key that somebody has compared.
fn pin(context: &Context, args: &EnrollArgs, host: &remote::ssh::Host) -> Result<(), Failed> {
    let known_as = host.known_as();
    let file = &host.known_hosts;
    let shown = sys::show(file.as_os_str().as_encoded_bytes());
    let there = enroll::pinned(file, &known_as).map_err(|e| failed(&e))?;
    if host.jump.is_some() {
        if there.is_empty() {
            // The same in a dry run: it would end here.
            let text = format!(
                "a host behind others cannot be asked for its key from here: on the last host before it, run \
                 `ssh-keyscan -t ed25519 -p {} {}`, compare, add the line to {shown}, with those of the hosts on the way, \
                 and run this again",
                host.port, host.host
            );
            return Err((Exit::Configuration, text));
        }
        return Ok(());
    }
    let keys = enroll::scan(&host.host, host.port, host.connect_timeout).map_err(|e| failed(&e))?;
    if let Some(key) = keys.iter().find(|key| there.contains(&key.key)) {
        say(context, &format!("the host key {} is pinned in {shown}", key.fingerprint));
        return Ok(());
    }
    let key = if args.dry_run && args.fingerprint.is_none() {
        keys.first().ok_or((Exit::Unreachable, "no host key".to_owned()))?
    } else {
        chosen(context, args, &keys)?
    };
    if args.dry_run {
        let other = if there.is_empty() { "" } else { ", where another one is pinned: it would be refused" };
        say(context, &format!("would pin the host key {} in {shown}{other}", key.fingerprint));
        return Ok(());
    }
    match enroll::pin(file, &known_as, key) {
        Err(e @ Error::OtherPinned { .. }) => Err((
            Exit::VerificationFailed,
            format!(
                "{e}\n  -> ask who runs it. Only if it was set up anew: `ssh-keygen -R '{known_as}' -f {shown}`, then this again"
            ),
        )),
        Err(e) => Err(failed(&e)),
        Ok(_) => {
            say(context, &format!("the host key {} was pinned in {shown}", key.fingerprint));
            Ok(())
        }
    }
}

fn chosen<'a>(context: &Context, args: &EnrollArgs, keys: &'a [HostKey]) -> Result<&'a HostKey, Failed> {
    let offered = || keys.iter().map(|key| key.fingerprint.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = &args.fingerprint {
        return keys.iter().find(|key| key.fingerprint == *wanted).ok_or_else(|| {
            let text = format!(
                "{} does not have the key {wanted}; it shows {}: nothing was pinned",
                sys::show(args.host.as_bytes()),
                offered()
            );
            (Exit::VerificationFailed, text)
        });
    }
    let first = keys.first().ok_or((Exit::Unreachable, "no host key".to_owned()))?;
    if args.yes {
        return Ok(first);
    }
    let kind = first.key.split(' ').next().unwrap_or_default().trim_start_matches("ssh-").to_owned();
    show::talk(&format!(
        "{} shows the {kind} host key {}",
        sys::show(args.host.as_bytes()),
        first.fingerprint
    ));
    show::talk(&format!(
        "  compare on the host itself: ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub",
        kind.split('-').next().unwrap_or_default()
    ));
    match ask::answer(context, "is it the same? [y/N]").as_deref() {
        Some("y" | "Y" | "yes") => Ok(first),
        Some(_) => Err((Exit::Usage, "nothing was pinned".to_owned())),
        None => {
            let text = format!(
                "nobody is here to compare: give --fingerprint {}, if that is right",
                first.fingerprint
            );
            Err((Exit::Usage, text))
        }
    }
}

/// The first connection: what does not work yet is said with the next step, and is no failure of the enrolment.
fn try_it(context: &Context, sink: &Sink<'_>, source: &config::SinkSource) -> Result<Exit, Failed> {
    let tools = Tools::find(false).map_err(|e| (Exit::Configuration, e.to_string()))?;
    let asked =
        super::sink::connect(sink.config, &sink.state, source, &tools).and_then(|remote| remote.offers());
    match asked {
        Ok(offers) if offers.name != source.name.as_str() => Err((
            Exit::Configuration,
            format!(
                "it calls itself {}: enroll it by that name, and remove {} from the configuration",
                offers.name, source.name
            ),
        )),
        Ok(offers) if offers.channel != channel(sink.config.role) => Err((
            Exit::Configuration,
            format!(
                "it hands over {} there, and {} is fetched here: enroll it with --user {}, and remove {} from the configuration",
                offers.channel,
                channel(sink.config.role),
                sink.config.role.source_user(),
                source.name
            ),
        )),
        Ok(offers) => {
            let skew = offers.clock.duration_since(clock::now()).as_secs().abs();
            let clocks = if skew > 300 { format!("; its clock differs by {skew} s") } else { String::new() };
            let waiting = show::count(offers.offers.len() as u64, "generation waits", "generations wait");
            say(
                context,
                &format!(
                    "connected: {waiting} there{clocks}. `handover {} run {}` fetches",
                    sink.config.role, source.name
                ),
            );
            Ok(Exit::Ok)
        }
        Err(e) => {
            say(context, &format!("it is enrolled, and not ready yet: {e}"));
            match e.fix() {
                Some(fix) => say(context, &format!("  -> {fix}")),
                None if matches!(e, remote::Error::Gate(_)) => {
                    say(context, "  -> on the source, run `handover source run`")
                }
                None => {}
            }
            Ok(Exit::Ok)
        }
    }
}
