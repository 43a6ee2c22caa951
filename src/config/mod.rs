//! The configuration: a file as written, checked and resolved.
//!
//! The file is read in two passes. The first gives the tables as they are written, with the place of every value in the
//! text; the second takes each known key from them with its default and gives structs without `Option` wherever there
//! is a default. A mistake does not end the second pass, so that all are reported at once, each with its line, its key
//! and the fix. What nobody took is an unknown key, and an error: a misspelt `keep` must not be a default in silence.
//!
//! Every key is described in `docs/configuration.md`; a test compares.

mod dump;
mod element;
mod error;
mod files;
mod keep;
mod logs;
mod place;
mod reserve;
mod secrets;
mod sink;
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

pub use dump::{Dump, Output};
pub use element::{Element, ElementKind};
pub use error::{Errors, Problem};
pub use files::Files;
pub use keep::{Keep, Limits};
pub use logs::Logs;
pub use place::{Host, Place};
pub use reserve::Reserve;
pub use secrets::without_secrets;
pub use sink::{Sandbox, Sink, Verify};
pub use sink_source::SinkSource;
pub use source::Source;
pub use steps::Steps;
pub use value::Command;
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
pub const TABLES: [(&str, &[&str]); 8] = [
    ("the top of the file", &["state", "source", "sink"]),
    (source::HEADER, source::KEYS),
    (element::HEADER, element::KEYS),
    (logs::HEADER, logs::KEYS),
    (sink::HEADER, sink::KEYS),
    (sink_source::HEADER, sink_source::KEYS),
    ("keep = { .. }", keep::KEEP),
    ("limits = { .. }", keep::LIMITS),
];

/// Whose sections are read: a role is not stopped by a mistake in another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `handover source`.
    Source,
    /// `handover sink`.
    Sink,
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
    /// `[source]`, if it is there.
    pub source: Option<Source>,
    /// `[sink]`, if it is there.
    pub sink: Option<Sink>,
    /// The file's text without secrets, for `generation.toml`.
    pub without_secrets: String,
}

impl Config {
    /// What is collected here.
    pub fn source(&self) -> Result<&Source, Errors> {
        let fix = "add it with a name, and [[source.element]] with name, kind and paths or command, or [source.logs]";
        self.source.as_ref().ok_or_else(|| self.missing(source::HEADER, fix))
    }

    /// What is fetched here.
    pub fn sink(&self) -> Result<&Sink, Errors> {
        let fix = "add it, and [[sink.source]] with name and host or path";
        self.sink.as_ref().ok_or_else(|| self.missing(sink::HEADER, fix))
    }

    fn missing(&self, section: &str, fix: &str) -> Errors {
        Problem::of_file(&self.file, format!("there is no {section} section; {fix}")).into()
    }
}

/// Reads a file for a role. All mistakes that concern the role are reported at once.
pub fn load(file: &Path, surroundings: &Surroundings, role: Role) -> Result<Config, Errors> {
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
    parse(text, file, surroundings, role)
}

fn read_bytes(file: &Path) -> Result<Vec<u8>, Errors> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file);
    match opened.and_then(|opened| opened.take(LARGEST_FILE + 1).read_to_end(&mut bytes)) {
        Err(e) => {
            let text = format!("cannot be read: {e}; create it, or name another one with --config");
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
        Role::Source => config.sink = None,
        Role::Sink => config.source = None,
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
    let sink = root.section("sink", sink::HEADER, sink::KEYS).map(|table| {
        let sink = Sink::read(&table);
        table.refuse_unknown();
        own.push(sink.home.clone());
        sink
    });
    let source = root.section("source", source::HEADER, source::KEYS).and_then(|table| {
        let source = Source::read(&table, surroundings.processors, &mut own);
        table.refuse_unknown();
        source
    });
    root.refuse_unknown();
    let mixed = |sink: &Sink, home: &Path| home.starts_with(&sink.home) || sink.home.starts_with(home);
    if let (Some(source), Some(sink)) = (&source, &sink)
        && (mixed(sink, &source.home) || source.logs.as_ref().is_some_and(|logs| mixed(sink, &logs.home)))
    {
        root.wrong("[source] and [sink] need homes of their own, neither in the other: their stores would mix; change one `home`");
    }
    Config { file: file.to_owned(), state, own, source, sink, without_secrets: without_secrets(text) }
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
