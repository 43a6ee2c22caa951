//! `handover sink deliver`.

use std::{
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Context,
    args::{DeliverArgs, Which},
    fail,
    progress::Display,
    show,
    sink::{Outcome, Sink, host_of},
};
use crate::{
    config::{self, Place, SinkRole, SinkSource},
    remote::{self, Deadlines, Delivery, DropFolder, Ssh, Tools, ssh},
    report::{Exit, Finding, Kind},
    restore::gate::RestoreGate,
    sink::{
        deliver::{self, Delivered, Failed},
        enroll::{self, Error},
        key,
    },
    sys::{self, clock, progress::Progress, syslog},
};

type Refused = (Exit, String);

#[derive(Serialize)]
struct Report<'a> {
    source: &'a str,
    to: String,
    delivered: Option<&'a Delivered>,
    findings: Vec<Finding>,
    exit: Exit,
}

/// Delivers, or shows the key by which it will.
pub(super) fn run(context: &Context, sink: &Sink<'_>, args: &DeliverArgs) -> Outcome {
    if sink.config.role == SinkRole::Logs {
        let text = "logs are not brought back into an application: `handover logsink cat` prints them";
        return Err(fail(Exit::Usage, &text));
    }
    let source = sink.one(&args.name)?;
    if args.show_key {
        return show_key(sink.config, source).map_err(|(exit, text)| fail(exit, &text));
    }
    let required = sink.config.sandbox == config::Sandbox::Required;
    let tools = Tools::find(required).map_err(|e| fail(Exit::Configuration, &e))?;
    let to = Target::of(sink, source, args).map_err(|(exit, text)| fail(exit, &text))?;
    let (store, _lock) = sink.locked(&source.name, "deliver")?;
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(source.name.to_string(), Arc::clone(&progress))]);
    let deadlines = Deadlines { stall: sink.config.stall_timeout, total: Some(sink.config.timeout) };
    let delivered = deliver::run(&deliver::Setup {
        store: &store,
        id: match &args.id {
            Which::Newest => None,
            Which::Id(id) => Some(id),
        },
        tools: &tools,
        connect: &|| to.connect(sink, deadlines, &tools),
        bandwidth: source.bandwidth.and_then(NonZeroU64::new),
        compress: to.host.is_some(),
        deadlines,
        verify: !args.no_verify,
        allow_damaged: args.allow_damaged,
        dry_run: args.dry_run,
        clock: &clock::now,
        progress: &progress,
    });
    drop(display);
    Ok(tell(context, source, &to, &delivered))
}

fn tell(context: &Context, source: &SinkSource, to: &Target, delivered: &Result<Delivered, Failed>) -> Exit {
    let name = source.name.as_str();
    let mut findings: Vec<Finding> = Vec::new();
    match delivered {
        Ok(done) => {
            findings.extend(done.notes.iter().map(|note| Finding::new(Kind::Note, name, note.clone())));
            findings.extend((done.known_damage > 0).then(|| {
                let text = format!("damage is known in it here: {}", show::files(done.known_damage));
                let fix = "there it is published only if it is whole after all; `handover sink list` shows the others";
                Finding::new(Kind::Warning, done.id.as_str(), text).with_fix(fix)
            }));
        }
        Err(failed) => findings.push(failed.finding(name)),
    }
    let exit = delivered.as_ref().map_or_else(|failed| failed.exit(name), |_| Exit::Ok);
    log(name, to, delivered);
    if context.json {
        let delivered = delivered.as_ref().ok();
        show::json(&Report { source: name, to: to.shown(), delivered, findings, exit });
        return exit;
    }
    show::findings(name, &findings, context.quiet);
    if let Ok(done) = delivered
        && !context.quiet
    {
        say(done, to);
    }
    exit
}

fn say(done: &Delivered, to: &Target) {
    let what = format!("{}, {}", show::count(done.files, "file", "files"), show::size(done.bytes));
    let next = format!("next, on {}, as root: handover restore", to.shown());
    match (done.outcome, done.free) {
        ("would send", free) => show::talk(&format!(
            "would send {} ({what}) to {}, where {} are free",
            done.id,
            to.shown(),
            show::size(free.unwrap_or_default())
        )),
        ("already", _) => show::talk(&format!(
            "{} ({what}) was there, every file proven; seal {}\n{next}",
            done.id, done.seal
        )),
        _ => show::talk(&format!(
            "{} ({what}) delivered, every file proven there: {} sent over the line; seal {}\n{next}",
            done.id,
            show::size(done.wire),
            done.seal
        )),
    }
}

/// For the history of this host: what left it, and where to.
fn log(name: &str, to: &Target, delivered: &Result<Delivered, Failed>) {
    let text = match delivered {
        Ok(done) if done.outcome == "would send" => return,
        Ok(done) => {
            format!("{name}: generation {}, seal {}, to {}: {}", done.id, done.seal, to.shown(), done.outcome)
        }
        Err(failed) => format!("{name}: nothing was delivered to {}: {failed}", to.shown()),
    };
    let log = syslog::Log::open(Path::new(syslog::SOCKET), "handover-deliver");
    if log.and_then(|log| log.info(&text, clock::now())).is_err() {
        // A host without a log.
    }
}

/// Where it goes.
struct Target {
    /// Another host, by ssh; none for a home on this one.
    host: Option<ssh::Host>,
    home: PathBuf,
    /// Keeps the pinned key of this run.
    _pinned: Option<tempfile::TempDir>,
}

impl Target {
    fn of(sink: &Sink<'_>, source: &SinkSource, args: &DeliverArgs) -> Result<Self, Refused> {
        let elsewhere =
            args.port.is_some() || args.user.is_some() || args.jump.is_some() || args.fingerprint.is_some();
        match (&source.place, &args.to) {
            (Place::Path(home), None) if !elsewhere => {
                Ok(Self { host: None, home: home.clone(), _pinned: None })
            }
            (Place::Path(_), None) => {
                Err((Exit::Usage, "the source is on this host: name another one with --to".to_owned()))
            }
            _ => Self::by_ssh(sink, source, args),
        }
    }

    fn by_ssh(sink: &Sink<'_>, source: &SinkSource, args: &DeliverArgs) -> Result<Self, Refused> {
        let (identity, known_hosts) = keys(sink.config, source)?;
        let usual = config::Host {
            host: args.to.clone().unwrap_or_default(),
            port: 22,
            user: sink.config.role.source_user().to_owned(),
            jump: None,
            identity: identity.clone(),
            known_hosts,
        };
        // What the configuration says of the old host is no word about a new one.
        let mut place = match (&source.place, &args.to) {
            (Place::Host(place), None) => place.clone(),
            _ => usual,
        };
        place.identity = identity;
        place.port = args.port.unwrap_or(place.port);
        place.user = args.user.clone().unwrap_or(place.user);
        place.jump = args.jump.clone().or(place.jump);
        place.check().map_err(|why| (Exit::Usage, why))?;
        let mut host = host_of(sink.config, &source.name, &place);
        host.purpose = ssh::Purpose::Deliver;
        let pinned = match &args.fingerprint {
            None => None,
            Some(wanted) => Some(pin(sink, &mut host, wanted)?),
        };
        Ok(Self { host: Some(host), home: PathBuf::new(), _pinned: pinned })
    }

    fn connect(
        &self,
        sink: &Sink<'_>,
        deadlines: Deadlines,
        tools: &Tools,
    ) -> remote::Result<Box<dyn Delivery>> {
        match &self.host {
            Some(host) => Ok(Box::new(Ssh::connect(host.clone(), &sink.state.join("ssh"), deadlines)?)),
            None => {
                let gate = RestoreGate::open(&self.home).map_err(|e| remote::Error::Access {
                    why: format!("its drop point cannot be opened: {e}"),
                    fix: "mount the disk of its home; where there never was one: `handover source init` on this host".to_owned(),
                })?;
                Ok(Box::new(DropFolder::new(Box::new(gate), tools.clone())))
            }
        }
    }

    fn shown(&self) -> String {
        match &self.host {
            Some(host) => sys::show(host.host.as_bytes()),
            None => format!("this host ({})", sys::show(self.home.as_os_str().as_encoded_bytes())),
        }
    }
}

/// The key by which this sink delivers, and the pinned host keys.
fn keys(sink: &config::Sink, source: &SinkSource) -> Result<(PathBuf, PathBuf), Refused> {
    let (identity, known_hosts) = match &source.place {
        Place::Host(place) => (Some(&place.identity), Some(&place.known_hosts)),
        Place::Path(_) => (sink.identity.as_ref(), sink.known_hosts.as_ref()),
    };
    match (identity, known_hosts) {
        (Some(identity), Some(known_hosts)) => Ok((key::for_delivery(identity), known_hosts.clone())),
        _ => Err((
            Exit::Configuration,
            "to reach another host, [sink] needs `identity` and `known_hosts`: add them, then run `handover sink init`"
                .to_owned(),
        )),
    }
}

/// Pins the host key with this fingerprint, for this run alone.
fn pin(sink: &Sink<'_>, host: &mut ssh::Host, wanted: &str) -> Result<tempfile::TempDir, Refused> {
    let failed = |e: &Error| (Exit::Unreachable, e.to_string());
    if host.jump.is_some() {
        let text = format!(
            "a host behind others cannot be asked for its key from here: add its line to {} by hand, without --fingerprint",
            sys::show(host.known_hosts.as_os_str().as_encoded_bytes())
        );
        return Err((Exit::Usage, text));
    }
    let keys = enroll::scan(&host.host, host.port, host.connect_timeout).map_err(|e| failed(&e))?;
    let Some(key) = keys.iter().find(|key| key.fingerprint == wanted) else {
        let shows = keys.iter().map(|key| key.fingerprint.as_str()).collect::<Vec<_>>().join(", ");
        let host = sys::show(host.host.as_bytes());
        let text = format!(
            "{host} does not have the key {}; it shows {shows}: nothing was sent",
            sys::show(wanted.as_bytes())
        );
        return Err((Exit::VerificationFailed, text));
    };
    let folder = tempfile::Builder::new()
        .prefix("pinned-")
        .tempdir_in(&sink.state)
        .map_err(|e| (Exit::Storage, format!("the host key cannot be noted: {e}")))?;
    host.known_hosts = folder.path().join("known_hosts");
    enroll::pin(&host.known_hosts, &host.known_as(), key).map_err(|e| failed(&e))?;
    Ok(folder)
}

fn show_key(sink: &config::Sink, source: &SinkSource) -> Result<Exit, Refused> {
    let (identity, _) = keys(sink, source)?;
    let public = key::public(&identity).map_err(|e| {
        (Exit::Configuration, format!("there is no key to deliver with yet ({e}): run `handover sink init`"))
    })?;
    show::data(&sys::show(public.as_bytes()));
    Ok(Exit::Ok)
}
