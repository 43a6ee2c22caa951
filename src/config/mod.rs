//! The configuration: a file as written, checked and resolved.
//!
//! The file is read in two passes. The first gives the tables as they are written, with the place of every value in the
//! text; the second takes each known key from them with its default and gives structs without `Option` wherever there
//! is a default. A mistake does not end the second pass, so that all are reported at once, each with its line, its key
//! and the fix. What nobody took is an unknown key, and an error: a misspelt `keep` must not be a default in silence.
//!
//! Every key is described in `docs/configuration.md`; a test compares.

mod anomaly;
mod dump;
mod element;
mod error;
mod files;
mod keep;
mod logs;
mod mail;
mod ping;
mod place;
pub mod reference;
mod reserve;
mod restore;
mod schedule;
mod secrets;
mod sink;
mod sink_role;
mod sink_source;
mod source;
mod steps;
mod table;
mod value;
mod window;

use std::{
    ffi::OsString,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::DeTable;

pub use anomaly::Anomaly;
pub use dump::{Dump, Output};
pub use element::{Element, ElementKind};
pub use error::{Errors, Problem};
pub use files::{Files, matcher};
pub use keep::{Keep, Limits};
pub use logs::Logs;
pub use mail::{Mail, MailServer, MailWay, Secret, Security};
pub use ping::{Ping, PingRole, PingUrl};
pub use place::{Host, Place};
pub use reserve::Reserve;
pub use restore::{GENERATION, Restore};
pub use schedule::{Cron, Rhythm, Schedule};
pub use secrets::without_secrets;
pub use sink::{Sandbox, Sink, Verify};
pub use sink_role::SinkRole;
pub use sink_source::SinkSource;
pub use source::Source;
pub use steps::Steps;
pub use value::{Command, duration_of_text};
pub use window::Window;

use error::Problems;
use table::Table;

/// Where the file is if nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/handover/handover.toml";
/// Where state is kept if nothing else is said.
pub const DEFAULT_STATE: &str = "/var/lib/handover";
/// A larger file is refused: it is embedded in every generation.
const LARGEST_FILE: u64 = 1024 * 1024;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A day and two hours: a run that is late alarms nobody, a run that is missing does.
const ALARM_AFTER: Duration = Duration::from_secs(26 * 3600);

/// Every table of the file with its known keys.
pub const TABLES: [(&str, &[&str]); 14] = [
    ("the top of the file", &["state", "mail", "ping", "source", "sink", "logsink", "restore"]),
    (mail::HEADER, mail::KEYS),
    (ping::HEADER, ping::KEYS),
    (source::HEADER, source::KEYS),
    (element::HEADER, element::KEYS),
    (logs::HEADER, logs::KEYS),
    (restore::HEADER, restore::KEYS),
    ("[sink]", sink::KEYS),
    ("[[sink.source]]", sink_source::KEYS),
    ("[logsink]", sink::LOG_KEYS),
    ("[[logsink.source]]", sink_source::LOG_KEYS),
    ("keep = { .. }", keep::KEEP),
    ("limits = { .. }", keep::LIMITS),
    ("anomaly = { .. }", anomaly::KEYS),
];

/// Whose sections are read: a role is not stopped by a mistake in another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `handover source`.
    Source,
    /// `handover sink`.
    Sink,
    /// None: only who is told when something is wrong with the rest of the file.
    Mail,
    /// `handover logsink`.
    Logsink,
    /// `handover restore`: what is collected here says where it goes back to.
    Restore,
    /// All of them, as `handover check` does.
    All,
}

/// What the configuration needs to know of the process that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// `$STATE_DIRECTORY`, which systemd sets: it wins over `state`.
    pub state_directory: Option<OsString>,
    /// Processors that can be used.
    pub processors: usize,
}

impl Surroundings {
    /// Those of this process: the one place that asks for them.
    pub fn here() -> Self {
        Self {
            state_directory: std::env::var_os("STATE_DIRECTORY"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The file, checked and resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Cache, ledger, spool, locks, status: a folder for each role below it.
    pub state: PathBuf,
    /// Homes and state of this host, whose content is never collected: a backup must not contain itself. A tree that
    /// holds one of them leaves it out and says so.
    pub own: Vec<PathBuf>,
    /// `[mail]`, if it is there: without it, no mail is sent.
    pub mail: Option<Mail>,
    /// Each `[[ping]]`.
    pub pings: Vec<Ping>,
    /// `[source]`, if it is there.
    pub source: Option<Source>,
    /// `[sink]`, if it is there.
    pub sink: Option<Sink>,
    /// `[logsink]`, if it is there.
    pub logsink: Option<Sink>,
    /// `[restore]`, or its defaults.
    pub restore: Restore,
    /// The file's text without secrets, for `generation.toml`.
    pub without_secrets: String,
}

impl Config {
    /// What is collected here.
    pub fn source(&self) -> Result<&Source, Errors> {
        let fix = "add it with a name, and [[source.element]] with name, kind and paths or command, or [source.logs]";
        self.source.as_ref().ok_or_else(|| self.missing(source::HEADER, fix))
    }

    /// The data that is fetched here.
    pub fn sink(&self) -> Result<&Sink, Errors> {
        self.sink_of(SinkRole::Data)
    }

    /// What is fetched here: data, or logs.
    pub fn sink_of(&self, role: SinkRole) -> Result<&Sink, Errors> {
        let fix = format!("add it, and {} with name and host or path", role.source_header());
        self.sinks().find(|sink| sink.role == role).ok_or_else(|| self.missing(role.header(), &fix))
    }

    /// The sinks that are configured.
    pub fn sinks(&self) -> impl Iterator<Item = &Sink> {
        self.sink.iter().chain(&self.logsink)
    }

    fn missing(&self, section: &str, fix: &str) -> Errors {
        Problem::of_file(&self.file, format!("there is no {section} section; {fix}")).into()
    }
}

/// Reads a file for a role. All mistakes that concern the role are reported at once.
pub fn load(file: &Path, surroundings: &Surroundings, role: Role) -> Result<Config, Errors> {
    load_with_text(file, surroundings, role).map(|(config, _)| config)
}

/// As [`load`], with the text that was read: it may hold secrets.
pub fn load_with_text(
    file: &Path,
    surroundings: &Surroundings,
    role: Role,
) -> Result<(Config, Vec<u8>), Errors> {
    let bytes = read_bytes(file)?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(e) => {
            let before = bytes.iter().take(e.valid_up_to()).filter(|byte| **byte == b'\n').count();
            let mut problem = Problem::of_file(file, "this line is not UTF-8; save the file as UTF-8");
            problem.line = Some(before + 1);
            return Err(problem.into());
        }
    };
    let config = parse(text, file, surroundings, role)?;
    Ok((config, bytes))
}

fn read_bytes(file: &Path) -> Result<Vec<u8>, Errors> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file);
    match opened.and_then(|opened| opened.take(LARGEST_FILE + 1).read_to_end(&mut bytes)) {
        Err(e) => {
            let next = match e.kind() {
                std::io::ErrorKind::NotFound => "create it, or name another one with --config",
                std::io::ErrorKind::PermissionDenied => {
                    "run this as a user who may read it (root, or the owner of the store), or name another one with --config"
                }
                _ => "look what it is, or name another one with --config",
            };
            let text = format!("cannot be read: {e}; {next}");
            Err(Problem::of_file(file, text).into())
        }
        Ok(_) if bytes.len() as u64 > LARGEST_FILE => {
            let text = "larger than 1 MiB; is this the right file? It is copied into every generation";
            Err(Problem::of_file(file, text).into())
        }
        Ok(_) => Ok(bytes),
    }
}

/// Reads a text as if it stood in `file`.
pub fn parse(text: &str, file: &Path, surroundings: &Surroundings, role: Role) -> Result<Config, Errors> {
    let problems = Problems::new(file, text);
    let (document, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        let what = crate::sys::show(error.message().replace('\n', ", ").as_bytes());
        let fix = match what.as_str() {
            "duplicate key" => "remove one of the two",
            _ => "texts stand in quotes, each key on a line of its own",
        };
        let text = format!("not TOML: {what}; {fix}");
        problems.add(error.span().map_or(0, |span| span.start), "", String::new(), text);
    }
    if !broken.is_empty() {
        return Err(Errors(problems.into_vec()));
    }
    let mut config = resolve(&document, file, text, &problems, surroundings);
    match role {
        Role::Source | Role::Restore => (config.sink, config.logsink) = (None, None),
        Role::Sink => (config.source, config.logsink) = (None, None),
        Role::Logsink => (config.source, config.sink) = (None, None),
        Role::Mail => (config.source, config.sink, config.logsink) = (None, None, None),
        Role::All => {}
    }
    let found: Vec<_> = problems.into_vec().into_iter().filter(|problem| problem.concerns(role)).collect();
    if found.is_empty() { Ok(config) } else { Err(Errors(found)) }
}

fn resolve(
    document: &toml::Spanned<DeTable<'_>>,
    file: &Path,
    text: &str,
    problems: &Problems<'_>,
    surroundings: &Surroundings,
) -> Config {
    let root = Table::root(document, TABLES[0].1, problems);
    let state = state(&root, surroundings);
    let mut own = vec![state.clone()];
    let mail = root.section("mail", mail::HEADER, mail::KEYS).and_then(|table| {
        let mail = Mail::read(&table);
        table.refuse_unknown();
        mail
    });
    let pings = root.sections("ping", ping::HEADER, ping::KEYS).into_iter().filter_map(|table| {
        let ping = Ping::read(&table);
        table.refuse_unknown();
        ping
    });
    let pings = pings.collect();
    let [sink, logsink] = SinkRole::ALL.map(|role| {
        let table = root.section(role.name(), role.header(), sink::keys(role))?;
        let sink = Sink::read(role, &table);
        table.refuse_unknown();
        own.push(sink.home.clone());
        Some(sink)
    });
    let restore = root.section("restore", restore::HEADER, restore::KEYS).map(|table| {
        let restore = restore::Written::read(&table, &mut own);
        table.refuse_unknown();
        restore
    });
    let source = root.section("source", source::HEADER, source::KEYS).and_then(|table| {
        let source = Source::read(&table, surroundings.processors, &mut own);
        table.refuse_unknown();
        source
    });
    root.refuse_unknown();
    let mut homes: Vec<(&str, &Path)> = Vec::new();
    homes.extend(source.iter().map(|source| (source::HEADER, source.home.as_path())));
    let logs = source.iter().filter_map(|source| source.logs.as_ref());
    homes.extend(logs.map(|logs| (logs::HEADER, logs.home.as_path())));
    homes.extend(sink.iter().chain(&logsink).map(|sink| (sink.role.header(), sink.home.as_path())));
    refuse_shared(&root, &homes);
    if let (Some(sink), Some(logsink)) = (&sink, &logsink) {
        refuse_shared_keys(&root, sink, logsink);
    }
    let restore = restore.unwrap_or_default().resolve(source.as_ref().map(|source| source.home.as_path()));
    let without_secrets = without_secrets(text);
    Config { file: file.to_owned(), state, own, mail, pings, source, sink, logsink, restore, without_secrets }
}

/// Each role has a home of its own.
fn refuse_shared(root: &Table<'_>, homes: &[(&str, &Path)]) {
    for (i, (first, home)) in homes.iter().enumerate() {
        for (second, other) in homes.iter().skip(i + 1) {
            if home.starts_with(other) || other.starts_with(home) {
                root.wrong(format!(
                    "{first} and {second} need homes of their own, neither in the other: their stores would mix; change one `home`"
                ));
            }
        }
    }
}

/// A key that a source lets in to its data must not open its logs, nor the other way round.
fn refuse_shared_keys(root: &Table<'_>, sink: &Sink, logsink: &Sink) {
    let shared = sink.identities().into_iter().find(|key| logsink.identities().contains(key));
    if let Some(key) = shared.filter(|key| !key.as_os_str().is_empty()) {
        root.wrong(format!(
            "[sink] and [logsink] need keys of their own, so that the one for logs opens no data; change one identity = \"{}\"",
            crate::sys::show(key.as_os_str().as_encoded_bytes())
        ));
    }
}

/// `$STATE_DIRECTORY`, or what the file says. Of several folders, which systemd separates with colons, the first.
fn state(root: &Table<'_>, surroundings: &Surroundings) -> PathBuf {
    let written = root.or("state", DEFAULT_STATE.into(), value::home);
    let Some(given) = surroundings.state_directory.as_ref().filter(|given| !given.is_empty()) else {
        return written;
    };
    use std::os::unix::ffi::OsStrExt as _;
    let first = given.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    let path: PathBuf = Path::new(std::ffi::OsStr::from_bytes(first)).components().collect();
    if !path.is_absolute() || path.parent().is_none() {
        root.wrong("$STATE_DIRECTORY must be an absolute path of a folder; systemd sets it so for StateDirectory=handover");
    }
    path
}
