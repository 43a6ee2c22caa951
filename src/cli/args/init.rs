//! `handover source init`, `handover sink init`, `handover logsink init`.

use std::path::PathBuf;

use clap::Args;

/// `handover source init`.
#[derive(Debug, Args)]
pub struct SourceInitArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub users: SourceUsers,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub schedule: ScheduleArgs,
    /// Make a new, empty home although this host had one: only where that is gone for good, and not merely unmounted.
    /// Lineage and sequence go on
    #[arg(long)]
    pub new_home: bool,
    /// Show what would be changed, with the content of every file; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover sink init`.
#[derive(Debug, Args)]
pub struct SinkInitArgs {
    /// The user whom the sink runs as; as root only. Without it: dataBackupSink (for logs logBackupSink) where the
    /// home is the usual one and no source is on this host, else whoever runs this. Root then goes on as the owner of
    /// the store
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub schedule: ScheduleArgs,
    /// Make a new, empty store although this host had one: only where that is gone for good, and not merely unmounted
    #[arg(long)]
    pub new_home: bool,
    /// Show what would be changed, with the content of every file; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What makes it run by itself.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// What makes it run every night, and look every hour. Without it: systemd where it runs, else cron; for root with
    /// the configuration in its usual place
    #[arg(long, value_enum)]
    pub schedule: Option<Schedule>,
    /// Replace units or a cron file that somebody changed; the old one is kept in `replaced/` of the state folder
    #[arg(long)]
    pub force: bool,
    /// Write units or the cron file below this folder instead of /, and start nothing: for images
    #[arg(long, value_name = "DIR", requires = "schedule")]
    pub root: Option<PathBuf>,
}

/// What makes it run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Schedule {
    /// Timers of systemd
    Systemd,
    /// A file in /etc/cron.d
    Cron,
    /// Nothing
    None,
}

/// The transport users of a source.
#[derive(Debug, Args)]
pub struct SourceUsers {
    /// The transport user, whom sinks log in as; as root only. Without it: dataBackupSource where the home is the
    /// usual one, else whoever runs this
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The same for the logs. Without it: logBackupSource where the home is the usual one, else whoever runs this
    #[arg(long, value_name = "USER")]
    pub logs_user: Option<String>,
}
