//! The command line. The doc comments are the help texts.

mod daemon;
mod init;
mod logsink;
mod restore;
mod retire;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::daemon::{DaemonArgs, SourceDaemonArgs};
pub use self::init::{Schedule, ScheduleArgs, SinkInitArgs, SourceInitArgs, SourceUsers};
pub use self::logsink::{CatArgs, LogsinkAction, LogsinkArgs};
pub use self::restore::{
    CleanArgs, DrillArgs, ListArgs, RestoreAction, RestoreArgs, RestoreGateArgs, RestoreGrantArgs,
    RestoreRunArgs,
};
pub use self::retire::{DiscardArgs, ForgetArgs, RenameArgs};
pub use super::when::When;
use crate::{
    manifest::{Channel, GenerationId},
    sys::name::Name,
};

/// Pull-based backup: a source hands its data over, a sink fetches, proves and keeps it, and brings it back.
///
/// Exit codes: 0 ok, 3 some elements or sources failed, 4 done but the previous transport had failed, 10 configuration,
/// 11 busy, 12 far end unreachable, 13 verification failed, 14 storage, 15 restore refused, 16 alarm not delivered,
/// 130 interrupted.
/// Any other code is a failure.
#[derive(Debug, Parser)]
#[command(name = "handover", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "HANDOVER_CONFIG",
        default_value = "/etc/handover/handover.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// Print what is listed or reported as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing on the terminal when all is well, as under cron
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say each step as it begins, a line each: `phase: NAME: STEP`
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// What to do
    #[command(subcommand)]
    pub role: Role,
}

/// The roles.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Collect this host's data and hand it over (on the application host)
    Source(SourceArgs),
    /// Fetch, prove, store and prune the backups of other hosts (on the backup host)
    Sink(SinkArgs),
    /// Fetch, prove, store and prune the logs of other hosts, and print them (on the backup host)
    Logsink(LogsinkArgs),
    /// Bring a generation back: into the running application, or below a folder
    Restore(Box<RestoreArgs>),
    /// Check the configuration; say what is wrong, where, and how to mend it
    Check {
        /// Also all that it points to: folders, users, programs, room, keys, and the way to every source
        #[arg(long)]
        live: bool,
        /// Send a mail through the mail server of [mail], and say what it answers
        #[arg(long, conflicts_with = "live")]
        send_test_mail: bool,
    },
    /// Print the reference of the configuration: every key with its type, default, meaning and an example
    Configuration {
        /// A section (`sink`), a key (`keep`), or both (`sink.keep`); without it: all
        word: Option<String>,
    },
    /// Tell the whole life of one generation as this host knows it, where it is now, and why it stays or goes
    Explain {
        /// The source: one that this host fetches from, or this host's own name
        name: Name,
        /// The generation, or `newest`
        #[arg(default_value = "newest")]
        id: Which,
    },
    /// Say in one line whether the daemons of this host work and what they look after is well: 0, else 1. For a container
    Health,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder
        dir: PathBuf,
    },
}

/// `handover source`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SourceArgs {
    /// What to do; without it: run
    #[command(subcommand)]
    pub action: Option<SourceAction>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub run: SourceRunArgs,
}

/// What `handover source` can do.
#[derive(Debug, Subcommand)]
pub enum SourceAction {
    /// Collect, seal and publish a generation (the default)
    Run(SourceRunArgs),
    /// Make what is missing: the transport user, the folders of the home, the schedule; says what remains to be done
    Init(SourceInitArgs),
    /// Let a sink in, or no more: bind its public key to the gate, so that it can fetch and acknowledge, and nothing else
    Authorize(AuthorizeArgs),
    /// Answer one request of a sink: what the key of a sink is bound to, not a command for people
    #[command(hide = true)]
    Gate(GateArgs),
    /// Give up a generation that waits and will never be fetched; it can be taken back until `undo_for` is over
    Discard(DiscardArgs),
    /// Take back a generation that this host condemned: to the Source-Store if the sink had accepted it, else to wait
    Undo {
        /// The generation
        id: GenerationId,
        /// Of which channel; without it: data
        #[arg(long, value_enum)]
        channel: Option<GateChannel>,
        /// Show where it would come to, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what waits, what is stored here, and how the last runs went
    Status(StatusArgs),
    /// Look for what did not happen: nobody fetches, nothing is collected. For cron or a timer; mails what has changed
    Watch,
    /// Run and watch by the schedule of the configuration, until it is asked to stop: where there is no cron and no timer
    Daemon(SourceDaemonArgs),
}

/// For whom a status is.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// One line with numbers for Nagios, and its exit codes: 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long, conflicts_with_all = ["json", "prometheus"])]
    pub nagios: bool,
    /// Write the metrics into this file, for node_exporter's textfile collector; `-` prints them
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub prometheus: Option<PathBuf>,
}

impl StatusArgs {
    /// Whether it is for people, or for a program as JSON, and not for a monitoring system.
    pub fn is_for_people(&self) -> bool {
        !self.nagios && self.prometheus.is_none()
    }
}

/// `handover source authorize`.
#[derive(Debug, Args)]
pub struct AuthorizeArgs {
    /// A file with the sink's public key, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub key: PathBuf,
    /// What it is let in to; the log key cannot see data, and the data key no logs. Without it: data, or logs where there
    /// are only logs
    #[arg(long, value_enum)]
    pub channel: Option<GateChannel>,
    /// Let it in no more: its line goes, all others stay
    #[arg(long, conflicts_with = "from")]
    pub remove: bool,
    /// Let it in only from these addresses, as sshd's `from=` takes them
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// The file to add it to, where sshd does not look in the user's home (its `AuthorizedKeysFile`)
    #[arg(long, value_name = "FILE")]
    pub authorized_keys: Option<PathBuf>,
    /// Show what would be changed, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover source gate`.
#[derive(Debug, Args)]
pub struct GateArgs {
    /// The channel whose gate it is
    #[arg(long, value_enum)]
    pub channel: GateChannel,
    /// The home, instead of that of the user who runs this
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// The channel of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GateChannel {
    /// Data.
    Data,
    /// Logs.
    Logs,
}

impl From<GateChannel> for Channel {
    fn from(channel: GateChannel) -> Self {
        match channel {
            GateChannel::Data => Self::Data,
            GateChannel::Logs => Self::Logs,
        }
    }
}

/// `handover source run`.
#[derive(Debug, Args)]
pub struct SourceRunArgs {
    /// Show what would be collected and what waits, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Say on stderr where the time went
    #[arg(long)]
    pub timings: bool,
}

/// `handover sink`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SinkArgs {
    /// What to do; without it: run
    #[command(subcommand)]
    pub action: Option<SinkAction>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub run: SinkRunArgs,
}

/// `handover sink run`.
#[derive(Debug, Args)]
pub struct SinkRunArgs {
    /// Only these sources; without a name: all
    #[arg(value_name = "NAME")]
    pub names: Vec<Name>,
    /// Show what would be fetched and pruned, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Say on stderr where the time went
    #[arg(long)]
    pub timings: bool,
}

/// What `handover sink` can do.
#[derive(Debug, Subcommand)]
pub enum SinkAction {
    /// Fetch, check, store, accept, prune (the default)
    Run(SinkRunArgs),
    /// Make what is missing: the sink's user, its home, the store's marker, its key, the schedule; tells what sources must
    /// know
    Init(SinkInitArgs),
    /// Add a source on another host: pin its host key, write it into the configuration, try the connection
    Enroll(EnrollArgs),
    /// Show for each source how old its newest verified generation is
    Status {
        /// Only these sources
        #[arg(value_name = "NAME")]
        names: Vec<Name>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
        how: StatusArgs,
    },
    /// Look for what did not happen: sources whose newest verified generation is too old. For cron or a timer; mails
    /// what has changed
    Watch {
        /// Only these sources
        #[arg(value_name = "NAME")]
        names: Vec<Name>,
    },
    /// Run and watch by the schedule of the configuration, until it is asked to stop: where there is no cron and no timer
    Daemon(DaemonArgs),
    /// List the generations of a source, or of all
    List {
        /// Only these sources
        #[arg(value_name = "NAME")]
        names: Vec<Name>,
    },
    /// List what is in a generation
    Ls {
        /// The source
        name: Name,
        /// The generation, or `newest`; a path here is a path in the newest
        #[arg(value_name = "ID", default_value = "newest")]
        which: WhichOrPath,
        /// Only this path and what is below it
        path: Option<PathBuf>,
    },
    /// Find the generations that hold a file, and where it changed
    Find {
        /// The source
        name: Name,
        /// A path, or a pattern in gitignore syntax
        pattern: String,
    },
    /// Show what differs between two generations
    Diff {
        /// The source
        name: Name,
        /// The elder generation
        old: GenerationId,
        /// The younger generation, or `newest`
        #[arg(default_value = "newest")]
        new: Which,
    },
    /// Print the content of a file in a generation
    Dump {
        /// The source
        name: Name,
        /// The generation, or `newest`
        id: Which,
        /// The path as `ls` prints it
        path: PathBuf,
    },
    /// Read stored generations again and compare every hash
    Verify {
        /// Only this source
        name: Option<Name>,
        /// Only these generations, or `newest`
        id: Vec<Which>,
        /// Put back what is damaged: from another generation of the source, from `--from`, from the source itself
        #[arg(long)]
        heal: bool,
        /// Show what is damaged and what of it would be put back; change nothing, and ask no source
        #[arg(long, requires = "heal")]
        dry_run: bool,
        /// Heal also from a generation in this folder, or from those below it: any copy of a store, as the provider's
        #[arg(long, value_name = "DIR", requires = "heal")]
        from: Option<PathBuf>,
        /// A generation in any folder instead, as a copy that the provider gave back; nothing is written there
        #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "id", "heal", "from", "dry_run"])]
        path: Option<PathBuf>,
    },
    /// Apply the retention; says for each generation why it stays or goes
    Prune {
        /// Only these sources
        #[arg(value_name = "NAME")]
        names: Vec<Name>,
        /// Show it, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a condemned generation back
    Undo {
        /// The source
        name: Name,
        /// The generation
        #[arg(required_unless_present = "all")]
        id: Option<GenerationId>,
        /// All that are condemned, as after `forget`
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// Show what would come back, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say that what looks suspicious is as it should be; nothing of a source goes before
    Trust {
        /// The source
        name: Name,
        /// Only this generation; without it, all of the source
        id: Option<GenerationId>,
        /// Only say what would be trusted
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep a generation whatever the retention says
    Pin {
        /// The source
        name: Name,
        /// The generation
        id: GenerationId,
        /// Why
        #[arg(long, default_value = "pinned")]
        label: String,
        /// Let the retention have it again
        #[arg(long)]
        remove: bool,
        /// Show what would be changed, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Let go of a source that is no more: what is stored of it is condemned, and deleted once `undo_for` is over
    Forget(ForgetArgs),
    /// Give what is kept of a source, and its place in the configuration, another name
    Rename(RenameArgs),
    /// Send a generation back to its source, or to a new host, to be restored there; the host must have granted it
    Deliver(DeliverArgs),
    /// What was put aside because it failed its check
    Quarantine {
        /// What to do
        #[command(subcommand)]
        action: QuarantineAction,
    },
}

/// `handover sink enroll`.
#[derive(Debug, Args)]
pub struct EnrollArgs {
    /// The name that the source gives itself
    pub name: Name,
    /// Its host name or address
    pub host: String,
    /// The port of its ssh server
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// The transport user there, if it is not dataBackupSource (for logs logBackupSource)
    #[arg(long)]
    pub user: Option<String>,
    /// Hosts on the way there, as user@host:port, with commas. Their keys and that of the source must be in known_hosts
    #[arg(long)]
    pub jump: Option<String>,
    /// The fingerprint of its host key, as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows it there
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<String>,
    /// Pin the host key that the network shows without asking: only where the network can be trusted
    #[arg(long, conflicts_with = "fingerprint")]
    pub yes: bool,
    /// Show which host key would be pinned and what would be written; ask nobody, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover sink deliver`.
#[derive(Debug, Args)]
pub struct DeliverArgs {
    /// The source whose generation it is
    pub name: Name,
    /// The generation, or `newest`
    #[arg(default_value = "newest")]
    pub id: Which,
    /// Another host than that of the source: a new one, of which only `handover source init` is expected
    #[arg(long, value_name = "HOST")]
    pub to: Option<String>,
    /// The port of its ssh server
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The transport user there
    #[arg(long)]
    pub user: Option<String>,
    /// Hosts on the way there, as user@host:port, with commas
    #[arg(long)]
    pub jump: Option<String>,
    /// The fingerprint of its host key, where known_hosts does not have it, as
    /// `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows it there
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<String>,
    /// Print the public key by which this sink delivers, for `handover restore grant` there
    #[arg(long, conflicts_with_all = ["to", "port", "user", "jump", "fingerprint", "dry_run", "no_verify"])]
    pub show_key: bool,
    /// Do not read the generation here before it is sent: it is proven there in any case
    #[arg(long)]
    pub no_verify: bool,
    /// With --no-verify: send it although damage is known in it here. There it is published only if it is whole after all
    #[arg(long, requires = "no_verify")]
    pub allow_damaged: bool,
    /// Show what would be sent, and whether it may; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What can be done with what was put aside.
#[derive(Debug, Subcommand)]
pub enum QuarantineAction {
    /// Show it
    List,
    /// Take it back, so that the next run goes on with the generation if the source still offers it
    Retry {
        /// The source
        name: Name,
        /// Show what would be taken back, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove it from the disk for good; asks on a terminal
    Drop {
        /// The source
        name: Name,
        /// Do not ask: needed where nobody sits at a terminal
        #[arg(long)]
        yes: bool,
        /// Show what would be removed, change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// A generation on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Newest,
    /// This one.
    Id(GenerationId),
}

/// A generation, or a path in the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichOrPath {
    /// The generation.
    Which(Which),
    /// A path: it has a slash, which no id has.
    Path(PathBuf),
}

impl std::str::FromStr for WhichOrPath {
    type Err = crate::manifest::id::BadId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') { Ok(Self::Path(text.into())) } else { text.parse().map(Self::Which) }
    }
}

impl std::str::FromStr for Which {
    type Err = crate::manifest::id::BadId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "newest" { Ok(Self::Newest) } else { text.parse().map(Self::Id) }
    }
}
