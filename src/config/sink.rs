//! `[sink]` and `[logsink]`: what is fetched, how it is proven, and how much of it is kept.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{
    Anomaly, Keep, Limits, Place, Reserve, Schedule, SinkRole, SinkSource, sink_source,
    table::{Given, Read, Table},
    value,
};

pub(super) const KEYS: &[&str] = &[
    "home",
    "keep",
    "keep_for",
    "max_per_day",
    "undo_for",
    "verify",
    "relink_max_age",
    "concurrency",
    "sandbox",
    "reserve",
    "connect_timeout",
    "stall_timeout",
    "timeout",
    "alarm_after",
    "bandwidth",
    "limits",
    "identity",
    "known_hosts",
    "schedule",
    "every",
    "jitter",
    "watch_every",
    "source",
    "anomaly",
];
/// The keys of `[logsink]`: each generation of logs holds other lines, so nothing tells a strange one.
pub(super) const LOG_KEYS: &[&str] = KEYS.split_at(KEYS.len() - 1).0;
/// The keys of a role.
pub(super) fn keys(role: SinkRole) -> &'static [&'static str] {
    match role {
        SinkRole::Data => KEYS,
        SinkRole::Logs => LOG_KEYS,
    }
}
/// So long the programs of a transport may say nothing while all is well.
const SILENCE: Duration = Duration::from_secs(150);
/// The most sources that are fetched at once.
const MOST_CONCURRENCY: u32 = 64;

/// What is fetched, how it is proven, and how much of it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Sink {
    /// Which of the two sinks it is.
    pub role: SinkRole,
    /// Home of the sink's user: the Sink-Store.
    pub home: PathBuf,
    /// Generations kept of a source that says nothing else.
    pub keep: Keep,
    /// Nothing younger is condemned, however many a hacked source may offer.
    pub keep_for: Duration,
    /// No more generations are taken from a source in a day; at least 1.
    pub max_per_day: u32,
    /// What makes a generation suspicious, of a source that says nothing else.
    pub anomaly: Anomaly,
    /// How long a condemned generation can be taken back.
    pub undo_for: Duration,
    /// What is hashed on arrival.
    pub verify: Verify,
    /// A linked file whose last proof is older is read again.
    pub relink_max_age: Duration,
    /// Sources fetched at once; at least 1.
    pub concurrency: u32,
    /// Whether rsync may run without its cage where the kernel has none.
    pub sandbox: Sandbox,
    /// What stays free of the file system.
    pub reserve: Reserve,
    /// A source that has not answered by then is unreachable.
    pub connect_timeout: Duration,
    /// A transport without any progress for so long is ended.
    pub stall_timeout: Duration,
    /// The transport of one generation takes no longer; it is resumed in the next run.
    pub timeout: Duration,
    /// A source of which nothing new came for so long: alarm, where it says nothing else.
    pub alarm_after: Duration,
    /// Bytes in a second from a source that says nothing else; unlimited if there is none.
    pub bandwidth: Option<u64>,
    /// How much is taken from a source that says nothing else.
    pub limits: Limits,
    /// The key of a source on another host that names none itself.
    pub identity: Option<PathBuf>,
    /// The pinned host keys of a source on another host that names none itself.
    pub known_hosts: Option<PathBuf>,
    /// When the role's daemon runs.
    pub schedule: Schedule,
    /// Where it fetches from, with all that they inherit filled in; each with a name of its own. Before
    /// the first is enrolled there is none.
    pub sources: Vec<SinkSource>,
}

/// What is hashed on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: rsync's own checksum is trusted, and the receipt says so.
    None,
    /// Every file that was fetched.
    Transferred,
    /// Those, and every file that is only linked.
    All,
}

/// Whether rsync may run without its cage where the kernel has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// It may, with a warning.
    Auto,
    /// It may not: an error.
    Required,
}

impl Sink {
    /// Reads the section of a role.
    pub(super) fn read(role: SinkRole, table: &Table<'_>) -> Self {
        let mut sink = Self {
            role,
            home: table.or("home", role.usual_home().into(), value::home),
            keep: Keep::read(table, role, Keep::last(role.keep())),
            keep_for: table.or("keep_for", Duration::ZERO, value::duration("7d")),
            max_per_day: table.or("max_per_day", role.max_per_day(), |given| {
                value::count(given, 1..=u32::MAX, "nothing could be fetched then", role.max_per_day())
            }),
            anomaly: Anomaly::read(table, role, Anomaly::default()),
            undo_for: table.or("undo_for", super::DAY, value::duration("24h")),
            verify: table.or("verify", Verify::Transferred, |given| {
                let words =
                    [("transferred", Verify::Transferred), ("all", Verify::All), ("none", Verify::None)];
                value::word(given, &words)
            }),
            relink_max_age: table.or("relink_max_age", super::DAY * 30, value::duration("30d")),
            concurrency: table.or("concurrency", 4, |given| {
                value::count(given, 1..=MOST_CONCURRENCY, "nothing could be fetched then", 4)
            }),
            sandbox: table.or("sandbox", Sandbox::Auto, |given| {
                value::word(given, &[("auto", Sandbox::Auto), ("required", Sandbox::Required)])
            }),
            reserve: table.or("reserve", Reserve::Percent(1.0), Reserve::read),
            connect_timeout: table.or("connect_timeout", Duration::from_secs(30), value::deadline("30s")),
            stall_timeout: table.or("stall_timeout", Duration::from_secs(600), stall_timeout),
            timeout: table.or("timeout", super::DAY, value::deadline("24h")),
            alarm_after: table.or("alarm_after", super::ALARM_AFTER, value::deadline("26h")),
            bandwidth: table.optional("bandwidth", sink_source::bandwidth),
            limits: Limits::read(table, Limits::default()),
            identity: inherited(table, "identity"),
            known_hosts: inherited(table, "known_hosts"),
            schedule: Schedule::read(table),
            sources: Vec::new(),
        };
        sink.sources = sources(table, &sink);
        sink
    }

    /// The private keys that are named, each once.
    pub fn identities(&self) -> BTreeSet<PathBuf> {
        let of_sources = self.sources.iter().filter_map(|source| match &source.place {
            Place::Host(host) => Some(&host.identity),
            Place::Path(_) => None,
        });
        self.identity.iter().chain(of_sources).cloned().collect()
    }
}

/// While it compares or waits, an rsync is silent for up to 150 s; who gives up earlier ends what is well.
fn stall_timeout(given: &Given<'_>) -> Read<Duration> {
    match value::deadline("10m")(given)? {
        time if time <= SILENCE => Err(format!(
            "rsync and ssh may be silent for {} s while all is well; write a longer time, as stall_timeout = \"10m\"",
            SILENCE.as_secs()
        )),
        time => Ok(time),
    }
}

/// A path that sources inherit. A wrong one, which is reported here, stands for one, so that it is not reported as
/// missing with each source once more.
fn inherited(table: &Table<'_>, key: &'static str) -> Option<PathBuf> {
    table.optional(key, value::path).or_else(|| table.has(key).then(PathBuf::new))
}

fn sources(table: &Table<'_>, sink: &Sink) -> Vec<SinkSource> {
    let mut sources: Vec<SinkSource> = Vec::new();
    let tables = table.sections("source", sink.role.source_header(), sink_source::keys(sink.role));
    for table in tables {
        let source = SinkSource::read(&table, sink);
        table.refuse_unknown();
        let Some(source) = source else { continue };
        if sources.iter().any(|other| other.name == source.name) {
            table.wrong_key("name", "another source above has this name; each source has one of its own");
        }
        sources.push(source);
    }
    sources
}
